"""The factors that stand between a term and the loss: which are numbers in the code, which are named, which come from sizes."""

from __future__ import annotations

import torch
from torch import fx

from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.fills import filled_with
from vaelint.record.record import span
from vaelint.record.walk import behind
from vaelint.source.written import Source
from vaelint.trace.lift import SymbolPower


@dataclass(frozen=True)
class Factor:
    """One factor on the way from a term up to the loss."""

    node: fx.Node
    value: float | None  # its value in the recorded run; None for a tensor
    text: str
    origin: str  # "literal", "named", "size", "tensor"


def factors(chain: tuple[fx.Node, ...], source: Source) -> list[Factor]:
    """The factors along a chain from the loss down to a term, outermost first."""
    found: list[Factor] = []
    for node in chain:
        name = ops.op(node)
        if name not in ops.MUL | ops.DIV:
            continue
        for arg in (*node.args, *node.kwargs.values()):
            if arg in chain or (isinstance(arg, fx.Node) and arg.meta.get("grad") and not arg.meta.get("scalar")):
                continue
            factor = _factor(node, arg, name in ops.DIV, source)
            if factor is not None:
                found.append(factor)
    return found


def _factor(node: fx.Node, arg: object, divides: bool, source: Source) -> Factor | None:
    written = source.factors(span(node))
    text, literal = next(((t, lit) for t, lit in written if lit), ("", False))
    if isinstance(arg, SymbolPower):
        return Factor(node, _number(float(arg), divides), next((t for t, _ in written if t), ""), "size")
    if isinstance(arg, bool) or (not isinstance(arg, int | float | fx.Node)):
        return None
    if isinstance(arg, fx.Node):
        if arg.meta.get("scalar"):
            return Factor(node, _number(arg.meta.get("val"), divides), arg.name, "size" if not arg.meta.get("read") else "tensor")
        if source.is_inside_a_call(span(node)) and not arg.meta.get("input"):
            return None  # a parameter of a distribution, not a weight
        val = arg.meta.get("val")
        if _is_mask(arg) or filled_with(arg) == 1:
            return None
        return Factor(node, None, source.expression(span(arg)) or arg.name, "tensor") if isinstance(val, torch.Tensor) else None
    value = _number(arg, divides)
    if source.is_inside_a_call(span(node)):
        return Factor(node, value, "", "literal")  # the 1/2 of torch's own kl_divergence
    if literal and _same(text, arg):
        return Factor(node, value, text, "literal")
    return Factor(node, value, _written(node, written, source), "named")


def _written(node: fx.Node, written: list[tuple[str, bool]], source: Source) -> str:
    """How the operand that is a number is written: the side of the product that is not the recorded tensor, as far as that can be told."""
    tensors = {t for n in node.all_input_nodes for t in (source.assigned(span(n)), source.expression(span(n)))}
    sides = [t for t, literal in written if not literal]
    return next((t for t in sides if t not in tensors), next(iter(sides), ""))


def _is_mask(node: fx.Node) -> bool:
    """Whether a tensor says which elements count, as comparisons do, in place of how much."""
    node = behind(node, ops.CAST | ops.SHAPE | {"getitem"})
    val = node.meta.get("val")
    return ops.op(node) in ops.COMPARE | {"ones_like", "ones", "new_ones"} or (isinstance(val, torch.Tensor) and val.dtype == torch.bool)


def _number(value: object, divides: bool) -> float | None:
    if not isinstance(value, int | float):
        return None
    return (1 / value if value else None) if divides else float(value)


def _same(text: str, value: int | float) -> bool:
    """Whether a literal's text has the value that was recorded."""
    try:
        parsed = eval(compile(text, "<literal>", "eval"), {"__builtins__": {}})
    except (SyntaxError, ArithmeticError, TypeError, NameError):
        return False
    return isinstance(parsed, int | float) and abs(parsed - value) <= 1e-12 * max(1.0, abs(value))
