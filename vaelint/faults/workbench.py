"""What a repair works with: the model, the user's expressions, and the names that hold a value at a place."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from torch import fx

from vaelint.core.claim_and_repair import Repair
from vaelint.core.edits import Proposal
from vaelint.core.finding import Span
from vaelint.core.reach import walked
from vaelint.record import ops
from vaelint.record.record import Record, shape, span
from vaelint.source.spot import Code, Spot
from vaelint.source.written import Source

_MOST_ALIKE = 13
"""Nodes of the same numbers that are looked at, the value itself included."""

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

R = TypeVar("R", bound=Repair)
Build = Callable[["Bench", R], Iterator[Proposal]]

_REPAIRS: dict[type[Repair], Build[Any]] = {}


def repair(kind: type[R]) -> Callable[[Build[R]], Build[R]]:
    """Registers what proposes the edits of repairs of a type, the likeliest first; each is checked before it is offered."""

    def register(build: Build[R]) -> Build[R]:
        _REPAIRS[kind] = build
        return build

    return register


def proposed(bench: Bench, wanted: Repair) -> Iterator[Proposal]:
    """The edits of a repair; none where nothing is registered for its type, as a rule of another package may ask for."""
    build = _REPAIRS.get(type(wanted))
    return build(bench, wanted) if build is not None else iter(())


def mended() -> list[type[Repair]]:
    """The types of repairs for which edits are proposed."""
    return list(_REPAIRS)


class Bench:
    """The record and the source, asked in nodes and spans."""

    def __init__(self, record: Record, source: Source, model: Model | None) -> None:
        self.record, self.source, self._model = record, source, model
        self._codes: dict[str, Code] = {}

    @property
    def model(self) -> Model:
        """The analysed model; only a step that ran has one."""
        assert self._model is not None
        return self._model

    def code(self, file: str) -> Code:
        """A source file."""
        if file not in self._codes:
            self._codes[file] = Code(self.source.file(file), file)
        return self._codes[file]

    def spot(self, place: fx.Node | Span | None) -> Spot | None:
        """The expression (else the statement) that a node or a span stands for."""
        where = span(place) if isinstance(place, fx.Node) else place
        if where is None:
            return None
        code = self.code(where.file)
        node: ast.AST | None = code.file.at(where)
        if node is None:
            node = next((n for n in ast.walk(code.file.tree) if isinstance(n, ast.stmt) and code.span(n) == where), None)
        if node is None and where.end_column is None:
            node = code.file.statement(where.line)
        return Spot(code, node) if node is not None else None

    # --- names ---------------------------------------------------------------------------------------------------------

    def scope(self, at: fx.Node | None, place: Span | None = None) -> Mapping[str, fx.Node]:
        """The names that held tensors when `at` ran, in the frame that stands at `place` (the innermost by default)."""
        if at is None:
            return {}
        scopes, stack = at.meta.get("scopes") or (), at.meta.get("stack") or ()
        for names, where in zip(scopes, stack, strict=False):
            if place is None or (where.file, where.line) == (place.file, place.line):
                found: Mapping[str, fx.Node] = names
                return found
        return {}

    def scope_at(self, spot: Spot) -> Mapping[str, fx.Node]:
        """The names that held tensors when a statement last ran: what any node made inside it saw."""
        statement = spot.statement().span
        last = statement.end_line or statement.line
        for node in reversed(self.record.nodes):
            for names, where in zip(node.meta.get("scopes") or (), node.meta.get("stack") or (), strict=False):
                if where.file == statement.file and statement.line <= where.line <= last:
                    found: Mapping[str, fx.Node] = names
                    return found
        return {}

    def name_of(self, value: fx.Node | None, names: Mapping[str, fx.Node]) -> str | None:
        """The name that holds a value, or holds it under another shape or type; locals before attributes."""
        if value is None:
            return None
        for wanted in (value, *self._same(value)):
            found = sorted((n for n, held in names.items() if held is wanted), key=lambda n: n.startswith("self."))
            if found:
                return found[0]
        return None

    def _same(self, value: fx.Node) -> list[fx.Node]:
        """Other nodes of the same numbers: casts, and what the value is after a change in place elsewhere."""

        def near(node: fx.Node) -> list[fx.Node]:
            read = [u for u in node.users if ops.op(u) in ops.CAST | {"effect"}]
            return read + [n for n in ops.value_inputs(node) if ops.op(node) in ops.CAST | {"effect"}]

        return [n for n in islice(walked([value], near), _MOST_ALIKE) if n is not value]

    def like(self, value: fx.Node | None, names: Mapping[str, fx.Node]) -> str | None:
        """A name that holds a value, else one that holds a value of the same shape made from the data."""
        if value is None:
            return None
        if (own := self.name_of(value, names)) is not None:
            return own
        return next((n for n, held in names.items() if shape(held) == shape(value) and held in self.model.flow.data), None)

    def batch_tensor(self, names: Mapping[str, fx.Node]) -> str | None:
        """A name whose first dimension is the batch."""
        found = [n for n, held in names.items() if (self.record.shapes.get(held) or ("",))[0] == "B"]
        return min(found, key=lambda n: n.startswith("self."), default=None)
