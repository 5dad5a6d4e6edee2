"""The rules as text: listing, explaining, selecting. Loads the rule files, which import no torch."""

from __future__ import annotations

import difflib
import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from vaelint.core.errors import UsageError
from vaelint.core.families import FAMILIES as FAMILIES  # also by this name: it is part of what the catalogue says
from vaelint.core.pages import address
from vaelint.core.result import ADVICE
from vaelint.core.visible import json_escaped

if TYPE_CHECKING:
    from vaelint.rule import Rule

_ITSELF = ("rule", "reported")  # parts that have no name beside the rule's own
_SELECTOR = re.compile(r"[A-Z]{1,4}\d{0,3}")


def all_rules() -> list[Rule]:
    """Every rule of every installed package, by code."""
    from vaelint.rule_packages import load_rules

    return load_rules()


def find(word: str) -> Rule:
    """A rule by code or name. Raises UsageError that names the nearest."""
    from vaelint.rule_packages import own_rule

    if (own := own_rule(word)) is not None:
        return own
    rules = all_rules()
    for rule in rules:
        if word.upper() == rule.code or word.lower() == rule.name:
            return rule
    raise UsageError(f"there is no rule {word!r}", _nearest(word, rules))


def _nearest(word: str, rules: Sequence[Rule]) -> str:
    """The rule that was most likely meant: codes agree at their beginning, names anywhere."""

    def shared(code: str) -> int:
        return next((i for i, (a, b) in enumerate(zip(code, word.upper(), strict=False)) if a != b), min(len(code), len(word)))

    near = max((r.code for r in rules), key=shared, default="")
    if not near.startswith(word[:4].upper()) or len(word) < 4:
        near = next(iter(difflib.get_close_matches(word.lower(), [r.name for r in rules], n=1)), "")
    return f"did you mean {near}?" if near else "vaelint rules lists them all"


def defaults() -> tuple[str, ...]:
    """Prefixes of what runs when nothing is selected: all but advice."""
    return tuple(sorted({r.code[:4] for r in all_rules()} - {ADVICE}))


def explain(rule: Rule) -> str:
    """The rule's page: Markdown, as written in its file, under a heading, and where its parts are."""
    from vaelint.rule_parts import parts

    places = "".join(f"- {part.kind}{f' {part.name}' if part.kind not in _ITSELF else ''}: {part.place}\n" for part in parts(rule))
    return f"# {rule.code} {rule.name} ({rule.severity.value})\n\n{textwrap.dedent(rule.doc).strip()}\n\n## Where it is\n{places}"


def explain_part(name: str) -> str:
    """The place of a fact, an experiment, a repair or a law, and the rules that it is a part of; "" if there is none of that name."""
    from vaelint.rule_parts import rules_with

    found = rules_with(name, all_rules())
    text = ""
    for part in dict.fromkeys(part for _, part in found):
        rows = "".join(f"- {rule.code} {rule.name}\n" for rule, its in found if its == part)
        text += ("\n" if text else "") + f"# {part.name} ({part.kind})\n\n{part.place}\n\n## Rules\n{rows}"
    return text


def listing(rules: Sequence[Rule], room: int | None = None) -> str:
    """Rules by family, one line each; those of other packages last. Where a line has no `room`, the summary follows below."""
    width = max((len(r.name) for r in rules), default=0)
    lines: list[str] = []
    family = None
    for rule in sorted(rules, key=lambda r: r.code[:4] not in FAMILIES):
        new = FAMILIES.get(rule.code[:4], "from other packages")
        if new != family:
            lines += [*([""] if lines else []), f"{rule.code[:4]}xx {new}" if rule.code[:4] in FAMILIES else new]
            family = new
        line = f"  {rule.code}  {rule.name:<{width}}  {rule.severity.value:<7}  {rule.summary}"
        if room is None or len(line) <= room:
            lines.append(line)
        else:
            lines.append(f"  {rule.code}  {rule.name}  {rule.severity.value}")
            lines += textwrap.wrap(rule.summary, room, initial_indent=" " * 10, subsequent_indent=" " * 10, break_long_words=False)
    return "\n".join(lines) + "\n"


def as_json(rules: Sequence[Rule], docs: str, *, whole: bool = False) -> str:
    """The same for programs, with the addresses of the pages, vaelint's own below `docs`, and where the parts are.

    `whole` adds their text.
    """
    from vaelint.rule_parts import parts

    rows = [
        {"code": r.code, "name": r.name, "severity": r.severity.value, "summary": r.summary, "url": address(r.code, r.url, docs)}
        | {"parts": [asdict(part) for part in parts(r)]}
        | ({"doc": r.doc} if whole else {})
        for r in rules
    ]
    return json_escaped(json.dumps(rows, indent=1, ensure_ascii=False)) + "\n"


def as_markdown(rules: Sequence[Rule]) -> str:
    """A table for the README."""
    rows = [f"| {r.code} | {r.name} | {r.severity.value} | {r.summary.replace('|', chr(92) + '|')} |" for r in rules]
    return "\n".join(["| code | name | severity | what it finds |", "|---|---|---|---|", *rows]) + "\n"


def selectors(words: Iterable[str], option: str) -> tuple[str, ...]:
    """Codes and prefixes of `--select` and its kin, checked. A rule's name stands for its code, `ALL` for every rule.

    Raises:
        UsageError: a word that selects nothing.
    """
    wanted = [w.strip() for item in words for w in item.split(",") if w.strip()]
    rules = all_rules() if wanted else []
    found: list[str] = []
    for word in wanted:
        code = next((r.code for r in rules if r.name == word.lower()), word.upper())
        if code == "ALL":
            found += sorted({re.match(r"[A-Z]+", r.code)[0] for r in rules})  # type: ignore[index]
        elif _SELECTOR.fullmatch(code) and any(r.code.startswith(code) for r in rules):
            found.append(code)
        else:
            raise UsageError(f"{option}: no rule is selected by {word!r}", _nearest(word, rules))
    return tuple(dict.fromkeys(found))
