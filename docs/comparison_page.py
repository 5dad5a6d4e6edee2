"""The page of the comparison: which of the gallery's bugs the nearest peers see, at which line, and how long they take."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from gallery_sources import FOLDER, bugs

MEASURED = FOLDER.parent / "comparison" / "measured.json"

_WHAT = {
    "vaelint": "traces the model and its training step, then measures",
    "torchtest2": "runs a battery of checks on a batch, the loss and the optimizer",
    "torch-audit": "audits five training steps while they run",
    "torchtyc": "traces annotated functions on meta tensors",
    "Pyrefly": "types annotated code, with its stubs of torch; nothing runs",
    "jaxtyping": "checks annotated functions while a step runs, with beartype",
    "TrainCheck": "learns what holds in a right run, and checks another run against it",
    "torch.export": "exports model and loss with a symbolic batch",
}


def comparison_page() -> str:
    """The whole page, in MyST."""
    measured: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    names = list(measured)
    head = """# Beside other tools

The twenty bugs of the [gallery](gallery.md), given to the tools that are nearest. Each tool is used as its documentation says. Those that
read annotations got the model with the shapes that its author meant on all four functions; those that run it got the batch, the loss and
the optimizer. `python benchmarks/comparison.py` runs all of them again.

A tool sees a bug where it reports something that it does not report on the right model: ● at the line or at most two beside it, ○ without
the line. The seconds are of one process on one machine with other work on it, the median of 21: `import torch` is most of many of them.

| tool | version | what it does | sees | with the line | reports on the right model | seconds |
|---|---|---|---|---|---|---|
"""
    rows = "".join(_row(name, measured[name]) for name in names)
    table = "\n| bug | " + " | ".join(names) + " |\n|---|" + "---|" * len(names) + "\n"
    cells = "".join(
        f"| [{b.title}](gallery.md#{b.name}) | " + " | ".join(_mark(measured[n]["bugs"][b.name]) for n in names) + " |\n" for b in bugs()
    )
    return head + rows + table + cells + _WORDS + "".join(_said(name, measured[name]) for name in names)


def _row(name: str, result: dict[str, Any]) -> str:
    seen, lines = (sum(b[key] for b in result["bugs"].values()) for key in ("sees", "line"))
    version = "this one" if name == "vaelint" else result["version"].partition("+")[0]
    return f"| {name} | {version} | {_WHAT[name]} | {seen} | {lines} | {len(result['right'])} | {median(result['seconds']):.1f} |\n"


def _mark(bug: dict[str, Any]) -> str:
    return "●" if bug["line"] else "○" if bug["sees"] else ""


_WORDS = """
## Read it with care

The gallery is ours: it holds what VAEs get wrong and what vaelint is made for. The others are made for other faults, and are better at
them.

- **torchtest2** needs no VAE. It checks any model for parts that are never called, inputs without influence, samples that mix, parameters
  that the optimizer misses and a batch that cannot be learnt by heart.
- **torch-audit** and **TrainCheck** watch long runs: gradients that explode, devices, dtypes, and with TrainCheck whatever used to
  hold. vaelint looks at a few steps and not at a whole training.
- **torchtyc**, **Pyrefly** and **jaxtyping** check all shapes that are written down, in any code. Pyrefly takes a fraction of a second,
  since nothing is imported.
- **torch.export** says whether the model can be exported, which vaelint does not.

PyTea (shapes of PyTorch code by symbolic execution) is not in the table: the package of that name on PyPI is another one.

## What each says
"""


def _said(name: str, result: dict[str, Any]) -> str:
    """What a tool says of the bugs that it sees, and of the right model."""
    if name == "vaelint":
        return ""
    titles = {b.name: b.title for b in bugs()}
    lines = [f"- {titles[bug]}: `{_short(found['says'])}`" for bug, found in result["bugs"].items() if found["sees"]]
    right = [f"- on the right model: `{_short(what)}`" for what in result["right"][:3]]
    return f"\n### {name}\n\n" + ("\n".join([*lines, *right]) or "Nothing.") + "\n"


def _short(text: str) -> str:
    text = text.replace("`", "'").replace("|", "/")
    return text if len(text) <= 110 else text[:109] + "…"
