"""The trail folded into a tree: stages, the modules in them, the statements outside of modules, and the operations of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from itertools import groupby
from typing import Any, Literal

from vaelint.late import dataclass

Kind = Literal["stage", "module", "statement", "operation", "failed"]

STAGES = {
    "input": "input",
    "encoder": "encoder",
    "heads": "posterior",
    "reparameterization": "reparameterization",
    "decoder": "decoder",
    "network": "network",
    "loss": "loss",
    "other": "beside the loss",
}
"""The stages in the order of the way, as people read them."""


@dataclass
class Row:
    """A part of the way, with what it costs in all. The shape is that of its last value."""

    kind: Kind
    title: str
    stage: str
    steps: tuple[dict[str, Any], ...]
    children: list[Row] = field(default_factory=list)
    detail: str = ""

    @property
    def last(self) -> dict[str, Any]:
        """The step whose value leaves it."""
        return self.steps[-1]

    @property
    def role(self) -> str:
        """What its value is: mu, logvar, eps, z, ..."""
        return self.last.get("role") or ""

    @property
    def shape(self) -> str:
        """`(B, 20)`."""
        return shape_text(self.last["shape"]) if self.kind != "failed" else ""

    @property
    def parameters(self) -> int:
        """Elements of the parameters read, as often as they are read."""
        return sum(s["parameters"] for s in self.steps)

    @property
    def flops(self) -> int:
        """Of the operations that are counted."""
        return sum(s["flops"] or 0 for s in self.steps)

    @property
    def activation_bytes(self) -> int:
        """Kept for the backward pass."""
        return sum(s["activation_bytes"] for s in self.steps)


def shape_text(shape: Sequence[str]) -> str:
    """`(B, 20)`; one number is a `scalar`."""
    return "(" + ", ".join(shape) + ")" if shape else "scalar"


def fold(trail: dict[str, Any]) -> list[Row]:
    """One row a stage, in the order of the way; the stages that nothing ran in are left out."""
    steps, calls = trail["steps"], trail["calls"]
    chains = _chains(steps)
    rows = []
    failed = trail["failed"]
    for stage, title in STAGES.items():
        own = tuple(s for s in steps if s["stage"] == stage)
        children = _level(own, 0, chains, calls)
        if failed is not None and failed["stage"] == stage:
            children.append(_failed(failed))
        if children:
            rows.append(Row("stage", title, stage, own or children[0].steps, children))
    return rows


def _failed(failed: dict[str, Any]) -> Row:
    """The operation that raised, as a row without a value."""
    nothing = {
        "shape": [], "taken": [o["shape"] for o in failed["operands"]], "size": [],
        "dtype": "", "device": "", "role": None, "parameters": 0, "flops": 0, "activation_bytes": 0,
        "operation": failed["operation"] or "", "expression": failed["expression"], "span": failed["span"], "stage": failed["stage"],
        "name": "", "id": None, "from": [o["step"] for o in failed["operands"] if o["step"] is not None],
    }  # fmt: skip
    parts = [failed["module"] or "", failed["operation"] or ""]
    return Row("failed", failed["expression"] or "?", failed["stage"], (nothing,), [], " ".join(p for p in parts if p))


def _chains(steps: Sequence[dict[str, Any]]) -> Callable[[dict[str, Any]], list[int]]:
    """The calls that a step is folded into: those that lie within one stage."""
    where: dict[int, set[str]] = {}
    for s in steps:
        for c in s["calls"]:
            where.setdefault(c, set()).add(s["stage"])
    return lambda step: [c for c in step["calls"] if len(where[c]) == 1]


def _level(
    steps: Sequence[dict[str, Any]], level: int, chains: Callable[[dict[str, Any]], list[int]], calls: Sequence[dict[str, Any]]
) -> list[Row]:
    def key(step: dict[str, Any]) -> int | None:
        chain = chains(step)
        return chain[level] if len(chain) > level else None

    rows: list[Row] = []
    for call, group in groupby(steps, key):
        run = tuple(group)
        if call is None:
            rows += _statements(run)
            continue
        about = calls[call]
        inner = _level(run, level + 1, chains, calls)
        if all(r.kind == "statement" for r in inner) and len({tuple(s["statement"] or ()) for s in run}) == 1:
            inner = [Row("operation", s["operation"], s["stage"], (s,)) for s in run]  # torch's own code: no statement of the user's
        rows.append(Row("module", about["path"], run[0]["stage"], run, inner, about["text"]))
    return rows


def _statements(steps: Sequence[dict[str, Any]]) -> list[Row]:
    """One row a statement of the user's, and a term of the loss; a value with a role (mu, eps, z, ...) ends its row."""
    rows: list[Row] = []
    for _, group in groupby(steps, lambda s: (s["statement"], s["part"])):
        run: list[dict[str, Any]] = []
        for step in group:
            run.append(step)
            if step["role"] or step["operation"] == "placeholder":
                rows.append(_statement(run))
                run = []
        if run:
            rows.append(_statement(run))
    return rows


def _statement(run: Sequence[dict[str, Any]]) -> Row:
    last = run[-1]
    if last["operation"] == "placeholder":
        return Row("statement", last["name"], last["stage"], tuple(run))
    named = last["name"] and last["name"] != last["expression"]
    title = f"{last['name']} = {last['expression']}" if named else last["expression"] or last["operation"]
    inner = [Row("operation", _operation(s), s["stage"], (s,)) for s in run] if len(run) > 1 else []
    return Row("statement", title, last["stage"], tuple(run), inner)


def _operation(step: dict[str, Any]) -> str:
    return f"{step['operation']}: {step['expression']}" if step["expression"] else str(step["operation"])


def cut(rows: Sequence[Row], depth: int) -> list[Row]:
    """The tree with `depth` levels below the stages; operations count as a level."""
    return [Row(r.kind, r.title, r.stage, r.steps, cut(r.children, depth - 1) if depth > 0 else [], r.detail) for r in rows]


def without_operations(rows: Sequence[Row]) -> list[Row]:
    """The tree down to modules and statements."""
    return [
        Row(r.kind, r.title, r.stage, r.steps, without_operations([c for c in r.children if c.kind != "operation"]), r.detail) for r in rows
    ]


def leaves(rows: Sequence[Row]) -> list[Row]:
    """The rows that nothing is folded under, in the order of the way."""
    return [leaf for r in rows for leaf in (leaves(r.children) if r.children else [r])]


def count(number: int) -> str:
    """`100,480`; nothing for none."""
    return f"{number:,}" if number else ""


def amount(number: int) -> str:
    """FLOPs in thousands, millions, ...: `6.42 M`; nothing for none."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number < 999.5 * size else f"{number / size:.0f} {unit}"
    return str(number) if number else ""


def memory(size: int) -> str:
    """`16 KiB`; nothing for none."""
    if size < 1024:
        return f"{size} B" if size else ""
    for unit, n in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= n:
            return f"{size / n:.3g} {unit}" if size < 999.5 * n else f"{size / n:.0f} {unit}"
    return ""
