"""What an expression is, as an editor shows it where the pointer is. Imports no torch."""

from __future__ import annotations

from vaelint.core.result import TargetResult
from vaelint.core.visible import visible
from vaelint.server.values_seen import Value

_ROLES = {
    "mu": "mean of the posterior",
    "logvar": "log-variance of the posterior",
    "std": "standard deviation of the posterior",
    "var": "variance of the posterior",
    "eps": "noise (epsilon)",
    "z": "latent sample",
    "reconstruction": "reconstruction",
    "loss": "loss",
    "input": "input",
}
_LONG = 80


def hover_words(value: Value, result: TargetResult) -> str:
    """Markdown: the expression with its shape, then role and weight."""
    text = value.text if len(value.text) <= _LONG else value.text[: _LONG - 3] + "..."
    shapes = ", then ".join(value.shapes[:4]) + (", ..." if len(value.shapes) > 4 else "")
    own = f" = {value.sizes}" if value.sizes and len(value.shapes) == 1 and value.sizes != shapes else ""
    lines = ["```python", f"{visible(text)}: {shapes}{own} {value.dtype}", "```"]
    if value.role:
        lines.append(f"role: {_ROLES.get(value.role, value.role)}")
    elif value.stage not in ("", "other"):
        lines.append(f"stage: {value.stage}")
    lines += [visible(w) for w in value.weights]
    if value.weights and (beta := result.loss.get("beta", {}).get("expression")):
        lines.append(f"effective beta: {beta}")
    lines.append(f"*{visible(result.target)}*")
    return "  \n".join(lines[:3]).replace("  \n", "\n") + "\n" + "  \n".join(lines[3:])
