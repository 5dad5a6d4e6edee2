"""What user code may put into a report: nothing that steers a terminal, reorders a line or ends one, in any format."""

from __future__ import annotations

import ast
import json
import tomllib
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results import crossed, result, shared_noise

from vaelint.core.finding import Label, ShapeRow, Span, Suggestion
from vaelint.core.result import TargetResult
from vaelint.core.visible import json_escaped, toml_escaped, visible, visible_lines
from vaelint.discover.proposals import Proposal, table
from vaelint.discover.structure import Shape
from vaelint.report.formats import FORMATS, TRAILS
from vaelint.report.mermaid import _x as in_mermaid
from vaelint.report.parts.view import View
from vaelint.report.svg import _x as in_svg

DATA = Path(__file__).parents[1] / "data"
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
BAD = BIDI + "\u2028\u2029\x1b[31m\x07\x08\r\x85\x9b\ufeff\u200b\U000e0041"
STEERS = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) in ("Cc", "Zl", "Zp", "Cs") or chr(c) in BIDI]


def hostile() -> TargetResult:
    """A result in which every text that may come from user code holds all of them."""
    f = shared_noise()
    said = replace(
        f,
        message=f.message + BAD,
        label=f"a{BAD}b",
        labels=(Label(Span("vae_three_bugs.py", 3), f"c{BAD}"), Label(Span(f"no{BAD}file.py", 3), f"d{BAD}")),
        shapes=(ShapeRow(f"n{BAD}", (f"B{BAD}",), f"r{BAD}"),),
        when=f"w{BAD}", why=f"y{BAD}", notes=(f"n{BAD}",), help=f"h{BAD}",
        fix=Suggestion(f.span.file, f.span.line, f.span.line, f"    x = '{BAD}'\n"),
        facts={f"k{BAD}": f"v{BAD}"},
    )  # fmt: skip
    elsewhere = replace(crossed(), span=Span(f"dir{BAD}/m.py", 4))
    found = replace(result(), target=f"m{BAD}.py:VAE", findings=[said, elsewhere], notes=[f"note{BAD}"])
    found.loss["objective"] = f"o{BAD}"
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_lets_through_what_steers_a_terminal_or_a_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    found = hostile()
    text = FORMATS[name].load()([found], View(verbose=True, output={id(found): f"printed{BAD}\n"}))
    assert set(text) & (set(BAD) - set("[31m")) == set()


def test_a_trail_of_hostile_names_is_drawn_in_plain_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    assert TRAILS["text"].load()([hostile()], View()).isascii()
    assert in_svg(BAD).isascii() and in_mermaid(BAD).isascii()


def test_json_has_the_very_text_nevertheless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    told = json.loads(FORMATS["json"].load()([hostile()], View()))["targets"][0]
    assert told["notes"] == [f"note{BAD}"]


def test_every_character_that_steers_is_an_escape() -> None:
    assert [c for c in STEERS if visible(c) == c or not visible(c).isascii()] == []
    assert visible("naïve 名前 👩\u200d👩\u200d👧") == "naïve 名前 👩\u200d👩\u200d👧"
    assert visible_lines("a\n\tb\x1b") == "a\n\tb\\x1b"


@given(st.text(st.characters(codec="utf-8") | st.sampled_from(BAD)))
def test_escaped_documents_mean_the_same(text: str) -> None:
    assert json.loads(json_escaped(json.dumps({"a": text}, ensure_ascii=False))) == {"a": text}
    basic = toml_escaped(json.dumps(text, ensure_ascii=False))
    assert tomllib.loads(f"a = {basic}") == {"a": text}


def test_a_name_adds_no_table_to_the_configuration() -> None:
    """A file may be called anything, also something that ends a comment."""
    node = ast.parse("class V: pass").body[0]
    assert isinstance(node, ast.ClassDef)
    shape = Shape(Path("x\n[[targets]]\ntarget = 'owned.py:VAE' #.py"), "V", 1, node, (), {}, frozenset(), noise=f"n{BAD}\nowned = 1")
    assert tomllib.loads(table(Proposal(shape, None, because="b\nowned = 2"), "[[targets]]", shape.target)) == {}
