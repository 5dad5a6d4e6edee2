"""All that a rule may touch. A rule file imports this and nothing else; it starts without torch.

A rule is a plain function over a `Model`, declared with `@rule`. It yields `Found`s; code, name, severity and headline are the
declaration's, so the same bug always has the same headline.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from vaelint import claims as claims
from vaelint import repairs as repairs
from vaelint.core.claim_and_repair import Claim, Repair
from vaelint.core.definitions import Definition, definition
from vaelint.core.finding import Certainty as Certainty
from vaelint.core.finding import Label, ShapeRow
from vaelint.core.finding import Severity as Severity
from vaelint.core.finding import Span as Span
from vaelint.core.finding import Suggestion as Suggestion
from vaelint.core.setup import SETUP
from vaelint.core.sign import Found, Kind
from vaelint.core.strength import BEFORE, Basis
from vaelint.late import dataclass

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
    "claims",
    "repairs",
    "rule",
    "setup_rule",
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


Findings = Iterator[Found]
Check = Callable[..., Findings]
"""Takes the model, then what each fact came to that the rule names."""

C = TypeVar("C", bound=Check)

HOME = "vaelint.faults"
"""The package below which facts have their names."""


def fact_place(name: str) -> tuple[str, str]:
    """The module and the function that a name stands for: `family.file.function` below `HOME`, elsewhere `package.module:function`."""
    module, colon, function = name.rpartition(":")
    if colon:
        return module, function
    module, _, function = name.rpartition(".")
    return f"{HOME}.{module}", function


def fact_definition(name: str) -> Definition | None:
    """Where a fact is written; None if it is nowhere."""
    return definition(*fact_place(name))


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
    basis: Basis = ""
    facts: tuple[str, ...] = ()  # what the check takes after the model, by name

    @property
    def summary(self) -> str:
        """The first line of the documentation, else the headline."""
        return self.doc.strip().splitlines()[0] if self.doc.strip() else self.message

    @property
    def kind(self) -> Kind:
        """What its findings have in common."""
        return Kind(self.code, self.name, self.severity, self.message, self.basis, self.url)


_RULES: dict[str, Rule] = {}


class Declaration:
    """A rule without its check: `@rule(...)` over one that reads the model alone, `@rule(...).on(fact, ...)` over one that reads facts."""

    def __init__(self, declare: Callable[[Check, tuple[str, ...]], None]) -> None:
        self._declare = declare

    def __call__(self, check: C) -> C:
        """Over `def check(model)`."""
        self._declare(check, ())
        return check

    def on(self, *facts: str) -> Callable[[C], C]:
        """Names the facts that the check reads; over `def check(model, first, second)`.

        A fact is a function over the model in the file of its detector, found by its name: `schedule.weights.stuck_weights` is
        `stuck_weights` in `vaelint/faults/schedule/weights.py`, and `acme.blur:blurred` is `blurred` in the module `acme.blur`. It is
        imported when a model is first checked, and called once for each model. One that takes more than the model is not called: the
        check gets a function of the rest.
        """

        def over(check: C) -> C:
            self._declare(check, facts)
            return check

        return over


def rule(
    code: str, name: str, severity: Severity, *, message: str, needs: tuple[str, ...] = (), basis: Basis = "", url: str = ""
) -> Declaration:
    """Declares a rule; `.on(...)` names the facts that it reads.

    Args:
        code: two to four capitals and three digits. Those that begin with VAE are vaelint's own.
        name: words with hyphens between them; `--select` and comments take it in place of the code.
        message: the headline of every finding, one line.
        needs: parts of the model that the rule cannot do without: keys of `NEEDS`. One that is not met is reported as "not
            applicable", never skipped in silence.
        basis: what decides a finding before any real run: "shapes" where the recorded shapes, types, devices and connections alone do,
            "replay" where the rule has run the recorded slice again in double precision. Without either, a finding is a suspicion until
            its claim is measured, and one without a claim stays a remark.
        url: the address of the rule's page, for packages that publish one.

    Raises:
        RuleError: a declaration that makes no sense, or a code or a name met twice; it begins with the place.
    """

    def declare(check: Check, facts: tuple[str, ...]) -> None:
        module = check.__module__
        doc = sys.modules[module].__doc__ or check.__doc__ or ""
        made = Rule(code, name, severity, message, needs, doc, module.rsplit(".", 1)[-1], module, check, url, basis, facts)
        if fault := _fault(made):
            raise RuleError(f"{_place(check)}: {fault}")
        _RULES[code] = made

    return Declaration(declare)


def setup_rule(code: str) -> Declaration:
    """Declares the rule of a finding about the check itself, with what the table of those says of it."""
    kind = SETUP[code]
    return rule(code, kind.name, kind.severity, message=kind.message)


def declared_as(name: str) -> Rule | None:
    """The rule of that name; None where it is not installed."""
    return next((r for r in _RULES.values() if r.name == name), None)


def _fault(made: Rule) -> str:
    """What is wrong with a declaration; empty if nothing is."""
    unknown = [n for n in made.needs if n not in NEEDS] if isinstance(made.needs, tuple) else [made.needs]
    for wrong, said in (
        (not re.fullmatch(r"[A-Z]{2,4}[0-9]{3}", made.code), f"the code {made.code!r} must be two to four capitals and three digits"),
        (
            not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", made.name),
            f"the name {made.name!r} must be words in small letters with hyphens between",
        ),
        (not isinstance(made.severity, Severity), f"the severity of {made.code} must be one of Severity, not {made.severity!r}"),
        (not made.message.strip() or not made.message.isprintable(), f"the message of {made.code} must be one line of text"),
        (unknown, f"needs of {made.code} must be a tuple with any of {', '.join(NEEDS)}, not {made.needs!r}"),
        (made.basis not in BEFORE, f"the basis of {made.code} must be one of {', '.join(map(repr, BEFORE))}, not {made.basis!r}"),
        (made.url and not re.fullmatch(r"https?://[!-~]+", made.url), f"the url of {made.code} must be an address, not {made.url!r}"),
    ):
        if wrong:
            return said
    if fault := _fault_of_facts(made):
        return fault
    for known in _RULES.values():
        if known.code != made.code and known.name != made.name:
            continue
        if (known.module, _place(known.check)) != (made.module, _place(made.check)):  # else a module that was loaded anew
            what = made.code if known.code == made.code else repr(made.name)
            return f"{what} is declared twice: in {known.module} and in {made.module}"
    return ""


def _fault_of_facts(made: Rule) -> str:
    """What is wrong with the facts that a rule names, and with what its check takes; empty if nothing is."""
    for name in made.facts:
        module, function = fact_place(name)
        found = fact_definition(name)
        if found is None:
            return f"there is no fact {name!r} for {made.code}: no function {function!r} at the top of the module {module!r}"
        if not found.first:
            return f"the fact {name!r} of {made.code} must take the model: def {function}(model: Model)"
    try:
        inspect.signature(made.check).bind(None, *made.facts)
    except TypeError:
        wanted = ", ".join(["model: Model", *(fact_place(name)[1] for name in made.facts)])
        what = "the model and one argument for each fact" if made.facts else "the model and nothing else"
        return f"the check of {made.code} must take {what}: def {made.check.__name__}({wanted}) -> Findings"
    return ""


def _place(check: Check) -> str:
    code = inspect.unwrap(check).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def declared() -> list[Rule]:
    """All rules declared so far, by code."""
    return [_RULES[c] for c in sorted(_RULES)]
