"""All that a rule may touch. A rule file imports this and nothing else; it starts without torch.

A rule is a plain function over a `Model`, declared with `@rule`. It yields `Found`s; code, name, severity and headline are the
declaration's, so the same bug always has the same headline.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vaelint.finding import Certainty as Certainty
from vaelint.finding import Finding, Label, ShapeRow
from vaelint.finding import Severity as Severity
from vaelint.finding import Span as Span
from vaelint.finding import Suggestion as Suggestion

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model as Model
else:
    Model = Any  # the real one needs torch, and listing the rules must not

__all__ = [
    "Certainty",
    "Claim",
    "Findings",
    "Found",
    "Label",
    "Model",
    "Repair",
    "Rule",
    "RuleError",
    "Severity",
    "ShapeRow",
    "Span",
    "Suggestion",
    "rule",
]

SECTIONS = ("What it does", "Why is this bad", "Example", "Use instead", "When to ignore")
"""Every rule's docstring has these, in this order, after a one-line summary."""

NEEDS = {
    "site": "nothing is drawn from a posterior on the way to the loss",
    "draw": "nothing is drawn",
    "gaussian": "the posterior is not Gaussian",
    "loss": "no loss is known",
    "kl": "no KL term was found",
    "reconstruction": "no reconstruction term was found",
    "beta": "the weights of KL and reconstruction are not both known",
    "perturbation": "other constructor arguments are tried with --perturb only",
}
"""What a rule may need, and why it does not apply without it."""


@dataclass(frozen=True)
class Claim:
    """What a finding predicts of a real run: the name of an experiment, what it is about, and the prediction in words."""

    experiment: str
    predicted: str
    about: dict[str, Any] = field(default_factory=dict)  # nodes, numbers, names; read by the experiment


@dataclass(frozen=True)
class Repair:
    """How a finding can be mended: the name of a repair, and what it is about. Edits are made only when they are asked for."""

    kind: str
    about: dict[str, Any] = field(default_factory=dict)  # nodes, places, numbers; read by the repair


@dataclass(frozen=True)
class Found:
    """What a rule's check yields: a place and the facts there."""

    span: Span | None
    label: str = ""
    labels: tuple[Label, ...] = ()
    shapes: tuple[ShapeRow, ...] = ()
    when: str = ""
    why: str = ""
    notes: tuple[str, ...] = ()
    help: str = ""
    fix: Suggestion | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    claim: Claim | None = None
    severity: Severity | None = None  # info in place of the rule's own, where an explicit choice of the user is in the way
    certainty: Certainty = Certainty.PROVED
    repair: Repair | None = None


Findings = Iterator[Found]
Check = Callable[["Model"], Findings]


class RuleError(Exception):
    """A rule is declared wrongly; says where."""


@dataclass(frozen=True)
class Rule:
    """A declared rule."""

    code: str
    name: str
    severity: Severity
    message: str
    needs: tuple[str, ...]
    doc: str
    stem: str
    module: str
    check: Check
    url: str = ""

    @property
    def summary(self) -> str:
        """The first line of the documentation."""
        return self.doc.strip().splitlines()[0] if self.doc.strip() else ""

    def finding(self, found: Found, span: Span) -> Finding:
        """The finished finding, at `span` where the rule named no place."""
        place = found.span or span
        return Finding(
            self.code,
            self.name,
            found.severity or self.severity,
            self.message,
            place,
            found.certainty,
            found.label,
            tuple(x for x in found.labels if x.span != place),
            found.shapes,
            found.when,
            found.why,
            found.notes,
            found.help,
            found.fix,
            None,
            found.facts,
            url=self.url,
        )


_RULES: dict[str, Rule] = {}


def rule(code: str, name: str, severity: Severity, *, message: str, needs: tuple[str, ...] = ()) -> Callable[[Check], Check]:
    """Declares a rule. `needs` names parts of the model it cannot do without: "site", "kl", "reconstruction", "loss".

    A need that is not met is reported as "not applicable", never skipped in silence. Raises `RuleError` for a code met twice.
    """

    def declare(check: Check) -> Check:
        module = check.__module__
        known = _RULES.get(code)
        if known is not None and known.module != module:
            raise RuleError(f"{code} is declared twice: in {known.module} and in {module}")
        doc = sys.modules[module].__doc__ or check.__doc__ or ""
        _RULES[code] = Rule(code, name, severity, message, needs, doc, module.rsplit(".", 1)[-1], module, check)
        return check

    return declare


def declared() -> list[Rule]:
    """All rules declared so far, by code."""
    return [_RULES[c] for c in sorted(_RULES)]
