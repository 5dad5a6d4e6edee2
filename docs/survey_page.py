"""The page of the survey: what `vaelint check .` says of public repositories, with a reader's verdict on each finding."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from survey_pictures import bars, betas
from survey_readings import of_readings, verdict, words
from survey_words import PAGE

from vaelint.core.families import FAMILIES

DOCS = Path(__file__).parent
FACTS = DOCS.parent / "benchmarks" / "survey.json"
_LOUD = ("VAE6", "VAE501")  # devices, which raise where they matter, and layers that are not used: no bug of what is optimised

REASONS = {
    "time": "the check took longer than its limit",
    "memory": "it needed more memory than its limit",
    "package": "a package is not installed",
    "files": "data or files are not in the repository",
    "arguments": "arguments that only its author knows",
    "raises": "the script or model raises an exception today",
    "shape": "the shape of the input was not guessed",
    "none": "no VAE was recognised",
    "other": "another reason",
}
_OUTCOMES = {"loss": "model and loss", "model": "the model, no loss", "nothing": "nothing"}


def survey_pages() -> dict[str, str]:
    """The page and its pictures, by their names below `docs/`."""
    survey: dict[str, Any] = json.loads(FACTS.read_text(encoding="utf-8"))
    done = [one for one in survey["repositories"] if "outcome" in one]
    return {
        "survey.md": _page(survey, done),
        "output/survey-families.svg": bars("Repositories with a bug, by family", _families(done)),
        "output/survey-beta.svg": betas("Effective beta of each loss that is known", effective(done)),
        "output/survey-analysed.svg": bars("What could be analysed", _analysed(done)),
    }


def effective(done: list[dict[str, Any]]) -> list[float]:
    """Each positive beta once a repository, less those that a reviewer found misread."""
    return [b for one in done for b in sorted({t["beta"] for t in one["targets"] if (t["beta"] or 0) > 0} - {*one.get("misread", ())})]


def _judged(done: list[dict[str, Any]], how: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(one, f) for one in done for f in one["findings"] if verdict(f) == how]


def _families(done: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """By family: repositories with a true finding, and those whose findings are all arguable."""
    sure, open_ = ({(f["code"][:4], one["repo"]) for one, f in _judged(done, how)} for how in ("true", "arguable"))
    counts = [Counter(family for family, _ in found) for found in (sure, open_ - sure)]
    rows = [(name, counts[0][prefix], counts[1][prefix]) for prefix, name in FAMILIES.items() if counts[0][prefix] + counts[1][prefix]]
    return sorted(rows, key=lambda row: (-row[1], -row[2]))


def _analysed(done: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    counts = Counter(one["outcome"] for one in done)
    why = Counter(one["reason"] for one in done if one["outcome"] == "nothing")
    rows = [(_OUTCOMES[o], counts[o], 0) for o in ("loss", "model")]
    return rows + [(_SHORT[reason], n, 0) for reason, n in sorted(why.items(), key=lambda pair: (-pair[1], pair[0]))]


_SHORT = {
    "time": "not: time",
    "memory": "not: memory",
    "package": "not: package missing",
    "files": "not: files missing",
    "arguments": "not: arguments unknown",
    "raises": "not: it raises",
    "shape": "not: shape unknown",
    "none": "not: no VAE recognised",
    "other": "not: another reason",
}


def _page(survey: dict[str, Any], done: list[dict[str, Any]]) -> str:
    counts = Counter(one["outcome"] for one in done)
    figures = {
        "repositories": len(done),
        "observed": sum(any(t["observed"] for t in one["targets"]) for one in done),
        "loss": counts["loss"],
        "model": counts["model"],
        "nothing": counts["nothing"],
        "analysed": counts["loss"] + counts["model"],
        "alt_families": _alt(_families(done)),
        "alt_analysed": _alt(_analysed(done)),
        "packages": survey["packages"],
        "commit": survey["commit"],
        "limit": survey["limit"],
        "reasons": _reasons(done),
    }
    return PAGE.format(**figures, **_of_findings(done, counts["loss"] + counts["model"]), **_of_betas(done))


def _of_findings(done: list[dict[str, Any]], analysed: int) -> dict[str, Any]:
    true, arguable, false = (_judged(done, how) for how in ("true", "arguable", "false"))
    unread = len(_judged(done, ""))
    silent = {one["repo"] for one, f in true if not f["code"].startswith(_LOUD)}
    return of_readings([f for one in done for f in one["findings"]]) | {
        "bug": len(silent),
        "other": len({one["repo"] for one, _ in true} - silent),
        "share": f"{100 * len(silent) / max(analysed, 1):.0f} %",
        "places": len({one["repo"] for one in done if one["findings"]}),
        "fixed": sum(bool(f.get("fixed")) for _, f in false),
        "unread": f" {unread} more were not read and are not listed." if unread else "",
        "kinds": _kinds(true),
        "true_table": _table(true),
        "arguable_table": _table(arguable),
        "false_table": _table(false),
    }


def _of_betas(done: list[dict[str, Any]]) -> dict[str, Any]:
    found = effective(done)
    one = sum(math.isclose(b, 1) for b in found)
    return {
        "betas": len(found),
        "misread": sum(len(one.get("misread", ())) for one in done),
        "one": one,
        "below": sum(b < 1 and not math.isclose(b, 1) for b in found),
        "above": sum(b > 1 and not math.isclose(b, 1) for b in found),
        "least": f"{min(found, default=1):.2g}",
        "most": f"{max(found, default=1):,.0f}",
        "tiny": sum(b <= 0.01 for b in found),
        "large": sum(b >= 100 for b in found),
    }


def _kinds(true: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """What was found, by the number of repositories it was found in."""
    where: dict[tuple[str, str], set[str]] = {}
    for one, f in true:
        where.setdefault((f["code"], f["message"]), set()).add(one["repo"])
    rows = sorted(where.items(), key=lambda row: (-len(row[1]), row[0]))
    return "| finding | repositories |\n|---|---|\n" + "".join(f"| {code} {message} | {len(repos)} |\n" for (code, message), repos in rows)


def _alt(rows: list[tuple[str, int, int]]) -> str:
    return "; ".join(f"{name} {strong}{f' and {pale}' if pale else ''}" for name, strong, pale in rows)


def _reasons(done: list[dict[str, Any]]) -> str:
    counts = Counter((one["reason"], one["outcome"]) for one in done if one["outcome"] != "loss")
    names = sorted({reason for reason, _ in counts}, key=lambda r: (-counts[r, "nothing"], r))
    rows = "".join(f"| {REASONS[r]} | {counts[r, 'nothing']} | {counts[r, 'model']} |\n" for r in names)
    return f"| reason | nothing analysed | model without its loss |\n|---|---|---|\n{rows}"


def _table(found: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    return "| place | finding | the readers' words |\n|---|---|---|\n" + "".join(_rows(found))


def _rows(found: list[tuple[dict[str, Any], dict[str, Any]]]) -> Iterator[str]:
    for one, f in found:
        tree = f"https://github.com/{one['repo']}/blob/{one['commit']}"
        inside = "/".join(p for p in (one.get("folder", ""), f["file"]) if p)
        line = f"[{f['file'].rpartition('/')[2]}:{f['line']}]({tree}/{inside.replace(' ', '%20')}#L{f['line']})"
        line += f" and {', '.join(str(n) for n in f['also'][:4])}{' ...' if len(f['also']) > 4 else ''}" if f.get("also") else ""
        measured = f"<br>`{_cell(f['measured'])}`" if f["measured"] not in ("", "not measured", "could not be measured") else ""
        said, read = f"{f['code']} {_cell(f['message'])}", _cell(words(f)) + (" **Fixed since.**" if f.get("fixed") else "")
        yield f"| {one['repo'].replace('/', '/<wbr>')}<br>`{one['commit'][:7]}`<br>{line} | {said}{measured} | {read} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("`", "'").replace("\n", " ")
