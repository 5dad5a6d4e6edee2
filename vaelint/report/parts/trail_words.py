"""What all forms of a trail say in words."""

from __future__ import annotations

from typing import Any

from vaelint.core.result import TargetResult
from vaelint.report.parts.fold import amount, count, cut, fold, leaves, memory, without_operations
from vaelint.report.parts.places import place_in


def one_kind(trail: dict[str, Any]) -> str | None:
    """`float32 on cpu`, where that holds for every value that leaves a module or a statement."""
    rows = leaves(cut(without_operations(fold(trail)), 1))  # a counter inside a layer is no news
    kinds = {(r.last["dtype"], r.last["device"]) for r in rows if r.kind != "failed"}
    return " on ".join(next(iter(kinds))) if len(kinds) == 1 else None


def born(span: dict[str, Any] | None, lead: str = "") -> str:
    """`model.py:12` after `lead`; nothing where the place is not known."""
    return f"{lead}{place_in(span)}" if span else ""


def totals_sentence(trail: dict[str, Any], *, partly: bool = False) -> str:
    """Parameters, FLOPs and memory in one sentence."""
    t = trail["totals"]
    size = ", ".join(f"{k}={v}" for k, v in trail["sizes"].items())
    parts = [
        f"{count(t['parameters']) or 'no'} parameters ({memory(t['parameter_bytes']) or '0 B'})",
        f"{amount(t['flops']) or '0'} FLOPs forward",
        f"{memory(t['activation_bytes']) or '0 B'} kept for the backward pass",
    ]
    return ", ".join(parts) + (f", at {size}" if size else "") + (", up to the failing operation" if partly else "")


def fits_lines(result: TargetResult) -> list[str]:
    """Which inputs fit, one sentence a constraint."""
    return [str(c["text"]) for c in result.fits]
