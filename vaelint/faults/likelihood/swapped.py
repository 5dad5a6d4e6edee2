"""Where mean and log-variance are exchanged, on the way to the KL or to the draw.

Measurement shows that the two disagree, and cannot show which of them is meant: either is right by itself. Names, of values against those
of parameters, settle which place is pointed at, and what settles it is part of the answer.
"""

from __future__ import annotations

import ast
import itertools
import re
from typing import TYPE_CHECKING, Literal

from torch import fx

from vaelint.anatomy.loss.facts import KlFact
from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record.record import route

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_MEAN = re.compile(r"(?:^|_)(?:mus?|means?|locs?|m|avg|centers?|centres?)\d*(?:_|$)")
_SPREAD = re.compile(r"var(?!ia[bt])|std|dev(?!ice)|sigma|scale|(?:^|_)(?:lv|ls|rho)\d*(?:_|$)")


@dataclass(frozen=True)
class Swap:
    """Where mean and log-variance are exchanged, as far as can be told, and what tells it."""

    place: Span | None
    tie: str


_BY_NAME = "sampler and KL are each right by themselves, and only names say that they are exchanged here"
_OPEN = "sampler and KL are each right by themselves: if the KL's order is the intended one, exchange the two in the sampler instead"


def find_swap(model: Model, fact: KlFact) -> Swap:
    """The call or the formula that exchanges the two.

    A call that gives one the other's name, on the KL's way or on the draw's; else the draw itself, where it adds what was made as a
    scale; else the KL's formula, where the names say that its call is right, and the call just outside where they say nothing.
    """
    stack = route(fact.term.core) if fact.term.core is not None else ()
    verdicts = [(_verdict(model, inner, outer), outer) for inner, outer in itertools.pairwise(stack)]
    crossed = [place for verdict, place in verdicts if verdict == "crossed"] + _crossed_on_the_way(model, fact)
    if crossed:
        return Swap(crossed[0], _BY_NAME)
    right = any(verdict == "right" for verdict, _ in verdicts)
    place = stack[0] if stack and (right or len(stack) < 2) else stack[1] if stack else None
    return Swap(place, _BY_NAME if right else _OPEN)


def crossed_call(model: Model, node: fx.Node) -> Span | None:
    """The call on the way to a node that gives one parameter what another is named after; None where no call does."""
    pairs = itertools.pairwise(route(node))
    return next((outer for inner, outer in pairs if _verdict(model, inner, outer) == "crossed"), None)


def _crossed_on_the_way(model: Model, fact: KlFact) -> list[Span]:
    """Where the draw's side exchanges them: its calls, or its own formula."""
    site = fact.site
    if site is None:
        return []
    stack = route(site.z)
    crossed = [outer for inner, outer in itertools.pairwise(stack) if _verdict(model, inner, outer) == "crossed"]
    if crossed or len(site.mu_heads) != 1 or len(site.scale_heads) != 1:
        return crossed
    made = _sense(_made_as(model, site.mu_heads[0])), _sense(_made_as(model, site.scale_heads[0]))
    return [stack[0]] if stack and made == ("spread", "mean") else []


def _made_as(model: Model, head: fx.Node) -> str:
    """The name of a head where it is made, or of the layer that makes it."""
    return model.written(head).rpartition(".")[2].partition("(")[0]


def _verdict(model: Model, inner: Span, outer: Span) -> Literal["crossed", "right", "open"]:
    """Whether the call `outer` of the function that `inner` stands in gives each parameter the value of its own name."""
    pairs = _passed(model, inner, outer)
    names = {taken for _, taken in pairs}
    senses = {(_sense(given), _sense(taken)) for given, taken in pairs}
    if any(given != taken and given in names for given, taken in pairs) or {("mean", "spread"), ("spread", "mean")} <= senses:
        return "crossed"
    return "right" if sum(given == taken for given, taken in pairs) > 1 or {("mean", "mean"), ("spread", "spread")} <= senses else "open"


def _sense(name: str) -> Literal["mean", "spread", ""]:
    """What a name says a value is."""
    name = name.lower()
    return "spread" if _SPREAD.search(name) else "mean" if _MEAN.search(name) else ""


def _passed(model: Model, inner: Span, outer: Span) -> list[tuple[str, str]]:
    """The names given and taken at the call `outer` of the function that `inner` stands in."""
    call = model.source.file(outer.file).at(outer)
    function = model.source.function(inner)
    if not isinstance(call, ast.Call) or function is None:
        return []
    taken = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    if taken and taken[0] in ("self", "cls") and len(taken) > len(call.args):
        taken = taken[1:]
    given = [*zip(call.args, taken, strict=False), *((k.value, k.arg) for k in call.keywords if k.arg is not None)]
    return [(_last(value), name) for value, name in given if _last(value)]


def _last(value: ast.expr) -> str:
    """A name, or the last part of an attribute."""
    return value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
