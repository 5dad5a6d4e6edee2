"""Texts of user code, however long and whatever they do when asked for: cut before anything reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vaelint
from vaelint.core.messages import LONGEST, all_cut, cut, message_of
from vaelint.process.protocol import LONGEST_LINE, Final, Lines, Stage, encode

MODEL = """import torch
from torch import nn


class Odd(ValueError):
    def __str__(self):
        return {text}


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        {constructor}
        self.enc, self.dec = nn.Linear(6, 4), nn.Linear(2, 6)

    def forward(self, x):
        {forward}
        mu, logvar = self.enc(x).chunk(2, dim=1)
        return self.dec(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)), mu, logvar


def loss_fn(recon, x, mu, logvar):
    {loss}
    return ((recon - x) ** 2).sum(1).mean() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
"""
TEXTS = {"one word": "'x' * 5_000_000", "words": "'x y ' * 1_000_000", "lines": "'x\\n' * 1_000_000", "no text": "1 / 0"}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("place", ["constructor", "forward", "loss"])
def test_a_report_holds_the_beginning_of_a_message(tmp_path: Path, place: str, text: str) -> None:
    filled = dict.fromkeys(("constructor", "forward", "loss"), "pass") | {place: "raise Odd()", "text": TEXTS[text]}
    (tmp_path / "model.py").write_text(MODEL.format(**filled))
    report = vaelint.check(f"{tmp_path / 'model.py'}:VAE", input="5x6", loss="loss_fn", device="cpu")
    assert report.status in ("failed", "findings", "incomplete")
    assert "Odd" in report.findings[0].message + report.findings[0].label
    assert len(json.dumps(report.to_json())) < 10 * LONGEST
    assert len(str(report)) < 10 * LONGEST


@settings(max_examples=20, deadline=None)
@given(st.one_of(st.text(max_size=50), st.text(max_size=5).map(lambda t: t * LONGEST)))
def test_what_is_short_stays_as_it_is(text: str) -> None:
    assert cut(text).startswith(text[:LONGEST])
    assert cut(text) == text if len(text) <= LONGEST else len(cut(text)) < LONGEST + 50
    assert all_cut({"a": [text, 1, None]}) == {"a": [cut(text), 1, None]}


def test_an_exception_that_cannot_be_read_says_so() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise KeyError("no")

    assert message_of(Odd()) == "its text cannot be read: __str__ raises KeyError"


def test_a_line_without_an_end_takes_no_memory_and_no_time() -> None:
    lines, chunk = Lines(), b"x" * (1 << 20)
    for _ in range(2 * LONGEST_LINE >> 20):
        assert list(lines.feed(chunk)) == []
    assert sum(map(len, lines._parts)) <= LONGEST_LINE
    assert list(lines.feed(b"\n" + encode(Stage("trace")))) == [Stage("trace")]


def test_a_long_message_in_small_parts_is_put_together_once() -> None:
    stream, lines = encode(Final({"a": "y" * 5_000_000})), Lines()
    assert [m for i in range(0, len(stream), 256) for m in lines.feed(stream[i : i + 256])] == [Final({"a": "y" * 5_000_000})]
