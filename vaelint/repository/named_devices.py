"""Whether a file's code is meant for another device than the CPU, by what it names. Imports no torch."""

from __future__ import annotations

import ast

_DEVICES = ("cuda", "mps", "xpu", "hpu", "gpu")
_SETTINGS = frozenset({"self", "args", "opt", "opts", "options", "config", "cfg", "conf", "hparams", "params", "flags", "settings"})
"""What choices are kept in: their `device` is one, that of a tensor is not."""
_TRAINERS = frozenset({"accelerate", "lightning", "lightning_fabric", "pytorch_lightning", "deepspeed", "ignite"})
"""Packages whose trainers move the model and the batches by themselves."""

WORDS = ("cuda", "mps", "xpu", "hpu", "gpu", "device", "accelerat", "lightning", "deepspeed", "ignite")
"""One of these stands in every file that names a device."""


def names_a_device(tree: ast.AST) -> bool:
    """Whether it asks for an accelerator (`.cuda()`, `torch.device("mps")`, `--gpu`), puts something on a device that is not fixed
    (`.to(device)`, `device=args.device`), or uses a trainer that does.

    `device="cpu"` names none, nor does a word of a comment or docstring, nor a tensor that is asked where it is (`device=x.device`).
    """
    return any(_of_a_name(n) or _of_a_text(n) or _of_a_choice(n) or _of_a_trainer(n) for n in ast.walk(tree))


def _of_a_name(node: ast.AST) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    words = name.lower().split("_")
    return any(w.rstrip("s") in _DEVICES or w in _DEVICES for w in words)


def _of_a_text(node: ast.AST) -> bool:
    """`"cuda:0"`, `"--gpu-id"`."""
    text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
    words = text.lower().lstrip("-").replace(":", "-").replace("_", "-").split("-")
    return " " not in text and any(w in _DEVICES for w in words)


def _of_a_choice(node: ast.AST) -> bool:
    """A device that is kept under a name, read from a tensor or taken from the caller."""
    if isinstance(node, ast.keyword):
        fixed = isinstance(node.value, ast.Constant) and node.value.value in (None, "cpu")
        return node.arg in ("device", "accelerator") and not fixed and not _may_be_the_cpu(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr == "device" and isinstance(node.value, ast.Name) and node.value.id.lower().strip("_") in _SETTINGS
    return isinstance(node, ast.arg) and node.arg == "device"


def _may_be_the_cpu(value: ast.expr) -> bool:
    """`torch.device("cpu")`, a name, or where something else is: what it is worth shows where it is given its value."""
    if isinstance(value, ast.Call):
        return any(isinstance(a, ast.Constant) and a.value == "cpu" for a in value.args)
    return isinstance(value, ast.Name | ast.Attribute)


def _of_a_trainer(node: ast.AST) -> bool:
    modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
    modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
    return any(m.partition(".")[0] in _TRAINERS for m in modules)
