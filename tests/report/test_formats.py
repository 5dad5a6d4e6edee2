"""The formats for other programs, each held against its schema or against what its reader does with it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from givenformats import DATA, GITLAB, JUNIT, OWN, RDJSON, SARIF, failed, pages, sarif_run, shared
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from results import crossed, refuted, result, shared_noise

from vaelint.core.finding import Certainty, Finding, Label, Severity, Span
from vaelint.core.result import TargetResult
from vaelint.report import github, gitlab, grouped, json_lines, junit, markdown, rdjson
from vaelint.report.formats import FORMATS
from vaelint.report.parts.view import View


@pytest.fixture(autouse=True)
def in_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are relative to the working directory."""
    monkeypatch.chdir(DATA)


TEXTS = st.text(
    st.one_of(st.sampled_from("\n\r\t:,%#[]|<>&`*_{}()!~@\\\"'$-.0 \x00\x07\x1b\u2028\ud800\ufffe変é😀"), st.characters()), max_size=40
)
COMMANDS = st.sampled_from(
    ["::error::pwned", "\n::set-env name=A::b", "x%0A::error::y", "##[error]no", "]]>", "</details><b>", "|\n|", "{0} [a](http://b)"]
)
ANY = st.one_of(TEXTS, COMMANDS, st.tuples(TEXTS, COMMANDS, TEXTS).map("".join))


HOSTILE = st.tuples(
    st.lists(ANY, min_size=10, max_size=10),
    st.tuples(st.integers(1, 60), st.integers(1, 90), st.one_of(st.none(), st.integers(0, 3))),
    st.sampled_from(Severity),
)


def hostile(pieces: tuple[list[str], tuple[int, int, int | None], Severity]) -> TargetResult:
    """A result whose every text is what user code made of it."""
    texts, (line, column, more), severity = pieces
    file, message, label, other, when, why, note, help, target, reason = texts
    end = (None, None) if more is None else (line + more, column + 4)
    span = Span(file.replace("\0", "") or "m.py", line, column, *end)
    made = Finding(
        "VAE007",
        "code-raises",
        severity,
        message,
        span,
        Certainty.PROVED,
        label,
        (Label(span, other),),
        when=when,
        why=why,
        notes=(note,),
        help=help,
        fingerprint="00",
    )
    return TargetResult(target, findings=[made], notes=[note], not_applicable=[{"code": "VAE312", "reason": reason}])


def read_command(line: str) -> tuple[str, dict[str, str], str]:
    """A line as GitHub's runner reads it (actions/runner, ActionCommand.TryParseV2): command, properties, message."""
    m = re.fullmatch(r"::(\w+) ([^:]*)::(.*)", line, re.S)
    assert m, line
    pairs = dict(p.split("=", 1) for p in m[2].split(","))
    back = [("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")]

    def unescape(text: str, pairs: list[tuple[str, str]]) -> str:
        for written, meant in pairs:
            text = text.replace(written, meant)
        return text

    return m[1], {k: unescape(v, back) for k, v in pairs.items()}, unescape(m[3], [b for b in back if b[1] in "\r\n%"])


def test_github_annotates_the_line() -> None:
    first, second = github.render([result()]).splitlines()
    level, where, message = read_command(first)
    assert (level, where["file"], where["line"], where["col"], where["endColumn"]) == ("error", "vae_three_bugs.py", "19", "15", "61")
    assert where["title"] == "vaelint (VAE201)"
    assert message.splitlines()[0] == "vae_three_bugs.py:19:15: VAE201 shared-noise: one noise vector serves the whole batch"
    assert "VAE301" in second
    over_lines = replace(crossed(), span=Span("m.py", 3, 5, 4, 2), severity=Severity.INFO)
    level, where, _ = read_command(github.render([TargetResult("m.py:VAE", findings=[over_lines])]).rstrip("\n"))
    assert (level, where["endLine"], set(where) & {"col", "endColumn"}) == ("notice", "4", set())


@settings(max_examples=200, deadline=None)
@given(HOSTILE)
def test_nothing_in_a_finding_is_a_workflow_command(pieces: Any) -> None:
    made = hostile(pieces)
    (f,) = made.findings
    text = github.render([made])
    assert text.count("\n") == 1 and text.endswith("\n")
    assert "\r" not in text
    level, where, message = read_command(text[:-1])
    assert level == {"error": "error", "warning": "warning", "info": "notice"}[f.severity.value]
    assert set(where) <= {"file", "line", "col", "endLine", "endColumn", "title"}
    assert (where["line"], where["title"]) == (str(f.span.line), "vaelint (VAE007)")
    assert f"VAE007 code-raises: {''.join(f.message.split())}"[:19] in message


def test_a_file_of_no_possible_name_has_no_lines() -> None:
    made = hostile((["\ud800", *[""] * 9], (1, 1, None), Severity.ERROR))
    for name in ("full", "concise", "markdown", "github", "sarif", "rdjson", "gitlab"):
        assert FORMATS[name].load()([made], View(pages=pages))


@settings(max_examples=100, deadline=None)
@given(HOSTILE)
def test_every_document_stands_what_user_code_says(pieces: Any) -> None:
    made = hostile(pieces)
    count = len(made.findings)
    for name in ("json", "json-lines", "gitlab", "rdjson", "sarif", "junit", "markdown"):
        text = FORMATS[name].load()([made], View(pages=pages))
        text = text.encode("utf-8", "backslashreplace").decode()
        assert "##[" not in text, name
        assert not [line for line in text.split("\n") if line.strip().startswith("::")], name
        if name == "sarif":
            SARIF.validate(json.loads(text))
            for said in re.findall(r'"message": \{\s*"text": ("(?:[^"\\]|\\.)*")', text):
                assert not re.search(r"(?<!\{)(?:\{\{)*\{(?!\{)|\]\(", json.loads(said)), "neither placeholders nor links"
        elif name == "rdjson":
            RDJSON.validate(json.loads(text))
        elif name == "gitlab":
            GITLAB.validate(json.loads(text))
        elif name == "junit":
            JUNIT.validate(text)
            assert len(ET.fromstring(text).findall(".//testcase")) == count + 1
        elif name == "markdown":
            assert table_sizes(text) == [2, count + 1]
    for name in ("concise", "grouped", "full"):
        lines = FORMATS[name].load()([made], View()).encode("utf-8", "replace").decode()
        assert not set(map(ord, lines)) & ({*range(32), 127} - {10}), name


def test_what_was_refuted_is_shown_as_a_remark() -> None:
    made, view = [TargetResult("m.py:VAE", findings=[refuted()])], View(show_refuted=True)
    assert read_command(github.render(made, view).rstrip("\n"))[0] == "notice"
    assert json.loads(gitlab.render(made, view))[0]["severity"] == "info"
    assert json.loads(rdjson.render(made, view))["diagnostics"][0]["severity"] == "INFO"


def test_gitlab_names_each_issue_once() -> None:
    issues = json.loads(gitlab.render([*shared(), TargetResult("m.py:VAE", findings=[shared_noise(), replace(shared_noise(), label="b")])]))
    GITLAB.validate(issues)
    assert len(issues) == 3, "what two targets share is one issue"
    assert len({i["fingerprint"] for i in issues}) == len(issues)
    for issue in issues:  # docs.gitlab.com, "Code Quality report format"
        assert issue["severity"] in {"info", "minor", "major", "critical", "blocker"}
        assert not issue["location"]["path"].startswith(("./", "/"))
        assert issue["check_name"] and issue["description"] and issue["location"]["lines"]["begin"] >= 1


def test_rdjson_follows_its_schema_and_counts_bytes(tmp_path: Path) -> None:
    document = json.loads(rdjson.render([result()]))
    RDJSON.validate(document)
    assert document["diagnostics"][0]["suggestions"] == [
        {"range": {"start": {"line": 19}, "end": {"line": 19}}, "text": "        eps = torch.randn_like(std)"}
    ]
    file = tmp_path / "wide.py"
    file.write_text("é = '変😀'; kl = f(é)\n", encoding="utf-8")
    wide = replace(crossed(), span=Span(str(file), 1, 11, 1, 20), labels=())
    (found,) = json.loads(rdjson.render([TargetResult("m.py:VAE", findings=[wide])], View(root=tmp_path)))["diagnostics"]
    data = file.read_bytes()
    place = found["location"]["range"]
    assert data[place["start"]["column"] - 1 : place["end"]["column"] - 1].decode() == "kl = f(é)"
    assert found["location"]["path"] == "wide.py"


def test_junit_has_a_test_for_each_target_and_each_finding() -> None:
    text = junit.render(shared(), View(pages=pages))
    JUNIT.validate(text)
    root = ET.fromstring(text)
    assert [s.get("name") for s in root] == [r.target for r in shared()]
    first = root[0]
    assert (first.get("tests"), first.get("failures"), first.get("errors")) == ("3", "2", "0")
    assert [c.get("name") for c in first] == [
        "vae_three_bugs.py:VAE",
        "VAE201 shared-noise at vae_three_bugs.py:19:15",
        "VAE301 crossed-broadcast at vae_three_bugs.py:32:11",
    ]
    (failure,) = first[1]
    assert failure.text and "vae_three_bugs.py:19:15: VAE201 shared-noise" in failure.text
    clean = ET.fromstring(junit.render([TargetResult("m.py:VAE", quiet=["VAE201", "VAE202"])]))
    assert [(c.get("name"), len(c)) for c in clean[0]] == [("m.py:VAE", 0)]


def test_junit_counts_what_was_not_analysed_as_an_error() -> None:
    root = ET.fromstring(junit.render([failed()]))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("1", "0", "1")
    (error,) = root[0][0]
    assert (error.tag, error.get("message")) == ("error", "VAE006 analysis-incomplete: not done within 1 s")
    part = TargetResult("m.py:VAE", quiet=["VAE201"])
    part.leave_out("too large", "a smaller size", code="VAE202")
    (error,) = ET.fromstring(junit.render([part]))[0][0]
    assert error.get("type") == "incomplete" and "VAE202" in str(error.get("message"))


def test_junit_fails_what_makes_the_exit_code_1() -> None:
    warned = TargetResult("m.py:VAE", findings=[replace(shared_noise(), severity=Severity.WARNING), crossed()])
    root = ET.fromstring(junit.render([warned], View(bar=Severity.ERROR)))
    assert [[e.tag for e in c] for c in root[0]] == [[], ["system-out"], ["failure"]]
    info = TargetResult("m.py:VAE", findings=[replace(shared_noise(), severity=Severity.INFO)])
    assert 'failures="0"' in junit.render([info])
    assert 'failures="1"' in junit.render([info], View(bar=Severity.INFO))


def table_sizes(text: str) -> list[int]:
    """How many rows the tables of a Markdown document have; fails where it has links, images or HTML that are not ours."""
    sizes: list[int] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        sizes += [0] if token.type == "table_open" else []
        sizes[-1:] = [sizes[-1] + 1] if token.type == "tr_open" else sizes[-1:]
        parts = [token, *(token.children or ())]
        assert not [t for t in parts if t.type in ("link_open", "image", "code_inline", "fence", "em_open", "strong_open")]
        for part in (t.content for t in parts if t.type in ("html_inline", "html_block")):
            assert set(re.findall(r"</?([^\s>/]+)", part)) <= {"code", "br", "details", "summary"}, part
    return sizes


def test_markdown_is_two_tables_and_details() -> None:
    text = markdown.render(shared())
    assert table_sizes(text) == [1 + 4, 1 + 3]
    assert text.startswith("## vaelint: 4 targets")
    assert text.count("<details>") == text.count("</details>") == 3
    many = [replace(shared_noise(), span=Span("m.py", n), why="w" * 1000) for n in range(1, 2000)]
    long = markdown.render([TargetResult("m.py:VAE", findings=many)])
    assert len(long.encode()) < 1 << 20
    assert "more findings do not fit here" in long
    assert table_sizes(markdown.render([TargetResult("m.py:VAE")])) == [2]


def test_json_lines_have_the_keys_of_the_schema() -> None:
    rows = [json.loads(line) for line in json_lines.render(shared()).splitlines()]
    assert [r.pop("kind") for r in rows] == ["finding"] * 3 + ["target"] + ["finding"] * 3 + ["target"] + ["finding", "target", "target"]
    for row in rows:
        kind = "finding" if "code" in row else "target"
        row = {k: v for k, v in row.items() if k != "target"} if kind == "finding" else row | {"findings": []}
        jsonschema.validate(row, {"$ref": f"#/$defs/{kind}", "$defs": OWN["$defs"]}, jsonschema.Draft202012Validator)


def test_grouped_is_by_file_and_line() -> None:
    early = replace(shared_noise(), span=Span("a.py", 2, 1))
    made = replace(result(), findings=[crossed(), shared_noise(), early])
    assert grouped.render([made]).splitlines() == [
        "a.py:",
        "  2:1  error VAE201 shared-noise: one noise vector serves the whole batch",
        "",
        "vae_three_bugs.py:",
        "  19:15  error VAE201 shared-noise: one noise vector serves the whole batch",
        "  32:11  error VAE301 crossed-broadcast: each reconstruction is compared with every input of the batch",
        "",
        "vae_three_bugs.py:VAE: 3 errors; 2 of 3 confirmed by running",
    ]
    assert grouped.render(shared()).splitlines()[-1] == "4 targets: 1 clean, 2 with findings, 1 not analysed"


def test_paths_are_those_of_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    here = View(root=DATA.parent)
    assert "file=data/vae_three_bugs.py," in github.render([result()], here)
    assert json.loads(gitlab.render([result()], here))[0]["location"]["path"] == "data/vae_three_bugs.py"
    assert sarif_run([result()], here)["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == (
        "data/vae_three_bugs.py"
    )


@pytest.mark.parametrize("name", FORMATS)
def test_same_results_same_text(name: str) -> None:
    render = FORMATS[name].load()
    assert render(shared(), View(pages=pages)) == render(shared(), View(pages=pages))
    assert render([], View()) == render([], View()), "no targets are no error"


def test_every_finding_carries_the_address_of_its_page() -> None:
    view = View(pages=lambda: (), docs="https://docs.my.org/v/")
    page = "https://docs.my.org/v/rules/VAE201.html"
    of_others = replace(shared_noise(), code="ACM101", name="theirs", url="https://acme.org/ACM101", span=Span("a.py", 1))
    made = [TargetResult("vae_three_bugs.py:VAE", findings=[shared_noise(), of_others])]

    def text(name: str, view: View = view) -> str:
        return FORMATS[name].load()(made, view)

    assert [f["url"] for f in json.loads(text("json"))["targets"][0]["findings"]] == [page, "https://acme.org/ACM101"]
    assert [json.loads(line).get("url") for line in text("json-lines").splitlines()] == [page, "https://acme.org/ACM101", None]
    rules = sarif_run(made, view)["tool"]["driver"]["rules"]
    assert [(r["id"], r["helpUri"]) for r in rules] == [("ACM101", "https://acme.org/ACM101"), ("VAE201", page)]
    assert [d["code"]["url"] for d in json.loads(text("rdjson"))["diagnostics"]] == [page, "https://acme.org/ACM101"]
    assert f"more: vaelint explain VAE201\n      {page}\n" in text("full")
    assert f'href="{page}"' in text("html")
    for name in ("github", "junit"):
        assert page in text(name), name
    assert [unescape(a) for a in re.findall(r'<a href="([^"]+)">', text("markdown"))] == [page, "https://acme.org/ACM101"]
    for name in ("full", "html", "github", "junit", "markdown"):
        assert ".invalid" not in text(name, View()), f"{name} shows people an address that leads nowhere"


def test_a_rule_without_a_page_has_no_address() -> None:
    bare = TargetResult("m.py:VAE", findings=[replace(shared_noise(), code="ACM101", url="")])
    assert json.loads(FORMATS["json"].load()([bare], View()))["targets"][0]["findings"][0]["url"] == ""
    (rule,) = sarif_run([bare])["tool"]["driver"]["rules"]
    assert "helpUri" not in rule
