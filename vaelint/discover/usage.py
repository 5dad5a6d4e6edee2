"""What a repository feeds its models: data sets, and the plain values of a file. Imports no torch."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vaelint.late import dataclass
from vaelint.source.notebook import source_of_file

_DATASETS: dict[str, tuple[int, int]] = {
    "MNIST": (1, 28), "FashionMNIST": (1, 28), "KMNIST": (1, 28), "EMNIST": (1, 28), "QMNIST": (1, 28), "USPS": (1, 16),
    "CIFAR10": (3, 32), "CIFAR100": (3, 32), "SVHN": (3, 32), "STL10": (3, 96), "CelebA": (3, 64), "Omniglot": (1, 105),
}  # fmt: skip
"""Channels and side of the images of torchvision's data sets."""


@dataclass(frozen=True)
class Usage:
    """What the repository says: constructor arguments that it builds the class with, and image shapes that its files load."""

    inits: tuple[dict[str, object], ...]
    images: tuple[tuple[int, int], ...]  # channels, side; the most telling first
    unit: bool  # the images are in [0, 1]: ToTensor, and no Normalize


class Unknown(Exception):
    """An expression whose value the code does not tell."""


def usage(files: Sequence[Path], own: Path) -> Usage:
    """Reads the target's own file and those that load data sets. Values that are computed at run time are left out."""
    images: dict[tuple[int, int], None] = {}
    unit = normalised = False
    for path in sorted(files, key=lambda f: f != own):
        try:
            text = source_of_file(path).decode("utf-8", "replace")
            if path != own and not any(d in text for d in _DATASETS):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
        except (OSError, SyntaxError, ValueError):
            continue
        images.update(dict.fromkeys(_images(tree, constants(tree))))
        unit |= "ToTensor(" in text
        normalised |= "Normalize(" in text
    return Usage((), tuple(images), unit and not normalised)


def constants(tree: ast.Module) -> dict[str, Any]:
    """The names of a file whose values are plain: assigned once at the top level, and `args.NAME` by its command-line default."""
    known: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                known[node.targets[0].id] = value_of(node.value, known)
            except Unknown:
                known.pop(node.targets[0].id, None)
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument":
            default = next((k.value for k in call.keywords if k.arg == "default"), None)
            names = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            long = next((n for n in names if n.startswith("--")), names[0] if names else "")
            if default is not None and long:
                try:
                    known["." + long.lstrip("-").replace("-", "_")] = value_of(default, known)
                except Unknown:
                    continue
    return known


def value_of(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """The value of a literal, a known name, an attribute that is a command-line option, or arithmetic of such. Raises Unknown."""
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    if isinstance(node, ast.Attribute) and f".{node.attr}" in known:
        return known[f".{node.attr}"]
    if isinstance(node, ast.List | ast.Tuple):
        values = [value_of(e, known) for e in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if isinstance(node, ast.BinOp):
        a, b = value_of(node.left, known), value_of(node.right, known)
        plain = isinstance(a, int | float) and isinstance(b, int | float)
        for kind, sign in ((ast.Add, "+"), (ast.Sub, "-"), (ast.Mult, "*"), (ast.FloorDiv, "//")):
            if isinstance(node.op, kind) and plain and not (sign == "//" and b == 0):
                return {"+": a + b, "-": a - b, "*": a * b, "//": a // b if b else 0}[sign]
        raise Unknown
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise Unknown from None


def _images(tree: ast.Module, known: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """Images by the data set's name, at the size that the file brings them to."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    names = {ast.unparse(c.func).rpartition(".")[2] for c in calls} | {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    sides: list[int] = []
    for call in calls:
        if ast.unparse(call.func).rpartition(".")[2] in ("Resize", "CenterCrop", "RandomCrop", "RandomResizedCrop") and call.args:
            try:
                side = value_of(call.args[0], known)
            except Unknown:
                continue
            side = side[0] if isinstance(side, tuple | list) and side else side
            sides += [side] if isinstance(side, int) else []
    sets = [v for k, v in _DATASETS.items() if k in names]
    for channels, side in sets:
        yield channels, sides[-1] if sides else side
    if sides and not sets:
        yield from ((channels, sides[-1]) for channels in (3, 1))
