"""Importing this puts the package under its types: every call of the modules imported after it is checked."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import install_import_hook

BUSY = frozenset(
    {
        "vaelint.record.ops",
        "vaelint.replay.replay",
        "vaelint.record.record",
        "vaelint.trace.recorder",
        "vaelint.trace.spans",
        "vaelint.trace.standin",
    }
)
"""Called for every node and every frame: nine in ten of all calls, which checked would treble the time of the suite."""


def checked_modules() -> list[str]:
    """All modules but the busy ones, and the rules."""
    package = Path(__file__).parent.parent / "vaelint"
    parts = (f.relative_to(package.parent).with_suffix("").parts for f in package.rglob("*.py") if f.stem != "__init__")
    return [*sorted({".".join(p) for p in parts} - BUSY), "vaelint_rules"]


install_import_hook(checked_modules(), "beartype.beartype")
