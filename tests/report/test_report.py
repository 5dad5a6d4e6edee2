"""The reports: text as people see it, JSON as programs read it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from results import crossed, refuted, result, shared_noise

from vaelint.core.finding import Certainty, Label, Span
from vaelint.core.result import TargetResult
from vaelint.report import as_json, concise, full
from vaelint.report.parts.text import cells, fill, shapes
from vaelint.report.parts.view import View
from vaelint.report.parts.window import Sources, window

DATA = Path(__file__).parents[1] / "data"
SCHEMA = json.loads((Path(__file__).parents[2] / "vaelint" / "report" / "schema.json").read_text())


@pytest.fixture(autouse=True)
def in_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are relative to the working directory."""
    monkeypatch.chdir(DATA)


def snapshot(name: str, text: str) -> None:
    """Compares with the stored text; `make update` stores it anew."""
    file = DATA / "snapshots" / name
    if os.environ.get("VAELINT_UPDATE"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


def failed() -> TargetResult:
    finding = replace(
        crossed(),
        code="VAE006",
        name="analysis-incomplete",
        message="not done within 1 s",
        labels=(),
        shapes=(),
        when="",
        certainty=Certainty.PROVED,
    )
    return TargetResult("vae_three_bugs.py:VAE", "failed", findings=[finding])


def test_full_report_is_the_stored_one() -> None:
    snapshot("full.txt", full.render([result(), failed()]))


def test_full_report_with_everything_shown() -> None:
    made = result()
    view = View(show_refuted=True, verbose=True, output={id(made): "epoch 1\n\x1b[31mloss\t3\n"})
    text = full.render([made], view)
    snapshot("full_verbose.txt", text)
    assert "\x1b" not in text


def test_colour_changes_no_text() -> None:
    plain = full.render([result()])
    colored = full.render([result()], View(color=True))
    assert "\x1b[" in colored
    stripped = re.sub(r"\x1b\[[0-9;]*m", "", colored)
    assert [line.rstrip() for line in stripped.splitlines()] == plain.splitlines()


def test_refuted_findings_are_named_but_not_shown() -> None:
    text = full.render([result()])
    assert "unstable-log" not in text
    assert "refuted by the real pass and not shown: VAE701" in text


def test_carets_stand_under_the_expression() -> None:
    lines, _ = window(shared_noise().span, "here", (), Sources(), 100)
    texts = ["".join(t for t, _ in line) for line in lines]
    row = next(i for i, t in enumerate(texts) if "^" in t)
    start, end = texts[row].index("^"), texts[row].rindex("^") + 1
    assert texts[row - 1][start:end] == "torch.randn(self.latent_dim, device=mu.device)"
    assert texts[row].endswith("^ here")


def test_tabs_and_wide_characters_keep_the_carets_in_place(tmp_path: Path) -> None:
    file = tmp_path / "wide.py"
    file.write_text("def f(x):\n\tname = '変分' ; y = loss(x)\n", encoding="utf-8")
    line = file.read_text(encoding="utf-8").split("\n")[1]
    column = line.index("loss(x)") + 1
    rendered = ["".join(t for t, _ in row) for row in window(Span(str(file), 2, column, 2, column + 7), "", (), Sources(), 100)[0]]
    source, marks = next((a, b) for a, b in pairwise(rendered) if "^" in b)
    assert cells(source[: source.index("loss(x)")]) == marks.index("^")
    assert marks.count("^") == 7


def test_a_file_that_is_gone_leaves_the_words() -> None:
    lost = replace(shared_noise(), span=Span("gone.py", 3, 1, 3, 5), labels=(Label(Span("also/gone.py", 9), "made here"),))
    made = TargetResult("gone.py:VAE", findings=[lost])
    text = full.render([made])
    assert "--> gone.py:3:1" in text
    assert "made here" in text


def test_labels_in_other_files_get_windows_of_their_own(tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("a = 1\nb = make(a)\n")
    text = full.render(
        [TargetResult("x.py:VAE", findings=[replace(crossed(), labels=(Label(Span(str(other), 2, 5, 2, 12), "made here"),))])]
    )
    assert f"::: {other}:2:5" in text
    assert "------- made here" in text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.sampled_from("ab (\t変é\u0301.=\r\n\x07"), max_size=260),
    places=st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 120), st.integers(0, 7), st.integers(1, 120), st.text("xyz 変", max_size=60)),
        min_size=1,
        max_size=4,
    ),
)
def test_any_window_fits_and_says_every_label(tmp_path: Path, text: str, places: list[tuple[int, int, int, int, str]]) -> None:
    file = tmp_path / "any.py"
    file.write_bytes(text.encode())
    spans = [(Span(str(file), a, b, a + more, c), label) for a, b, more, c, label in places]
    (first, label), *rest = spans
    lines = ["".join(t for t, _ in line) for line in window(first, label, [Label(s, x) for s, x in rest], Sources(), 100)[0]]
    assert all(cells(line) <= 100 for line in lines if "-->" not in line)
    said = "".join("".join(lines).split())
    for _, x in spans:
        for word in x.split():
            assert word[:20] in said


def test_json_follows_the_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for made in (result(), failed(), TargetResult("m.py:VAE")):
        jsonschema.validate(json.loads(as_json.render([made])), SCHEMA, jsonschema.Draft202012Validator)


def test_json_comes_back_as_it_was() -> None:
    assert as_json.parse(as_json.render([result()], View(timings=True))) == [result()]
    assert as_json.parse(as_json.render([result()])) == [replace(result(), timing={})]


def test_json_has_no_nan() -> None:
    made = result()
    made.loss["beta"]["value"] = float("nan")
    made.findings[0].facts["spread"] = float("inf")
    document = json.loads(as_json.render([made]), parse_constant=pytest.fail)
    jsonschema.validate(document, SCHEMA)
    assert document["targets"][0]["loss"]["beta"]["value"] == "nan"


def test_schema_refuses_what_it_does_not_know() -> None:
    document: dict[str, Any] = json.loads(as_json.render([result()]))
    document["targets"][0]["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_parse_refuses_another_version() -> None:
    with pytest.raises(ValueError, match="schema 2"):
        as_json.parse('{"schema": 2, "targets": []}')


def test_concise_is_one_line_a_finding() -> None:
    text = concise.render([result()])
    assert text.splitlines() == [
        "vae_three_bugs.py:19:15: VAE201 one noise vector serves the whole batch",
        "vae_three_bugs.py:32:11: VAE301 each reconstruction is compared with every input of the batch",
    ]
    assert "VAE701" in concise.render([result()], View(show_refuted=True))
    assert "VAE701" not in concise.render([TargetResult("m.py:VAE", findings=[refuted()])])


def test_a_saved_report_renders_without_torch_or_rules(tmp_path: Path) -> None:
    saved = tmp_path / "report.json"
    saved.write_text(as_json.render([result()]))
    code = (
        "import sys, pathlib; from vaelint.report import as_json, full, concise; "
        "r = as_json.parse(pathlib.Path(sys.argv[1]).read_text()); sys.stdout.write(full.render(r) + concise.render(r)); "
        "assert not {'torch', 'vaelint_rules', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True, cwd=DATA, check=True)
    assert done.stdout == full.render([result()]) + concise.render([result()])


def test_shapes_line_up_from_the_right() -> None:
    assert shapes([("B", "1", "784"), ("B", "4"), ()]) == ["(B, 1, 784)", "   (B,   4)", "         ()"]


def test_fill_cuts_what_has_no_spaces() -> None:
    assert fill("a" * 25 + " b", 10) == ["a" * 10, "a" * 10, "aaaaa b"]
