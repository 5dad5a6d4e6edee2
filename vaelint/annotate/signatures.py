"""Edits of signatures: annotations put into a definition, and the imports they need. Nothing else is touched. Imports no torch."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Sequence

from vaelint.core.edits import Edit
from vaelint.core.finding import Span
from vaelint.source.spot import Code, Spot

Leaf = tuple[str, str]
"""The array type and the axes of one tensor: ("Float", "batch latent")."""
Form = str | Leaf | list["Form"] | None
"""A value's make: a tensor, a name of a type, a tuple of such (a list here), or None for what no annotation is written for."""

KINDS = ("Bool", "Complex", "Float", "Int", "UInt")
_PLAIN = frozenset({"int", "float", "str", "bool", "NoneType"})


class Signature:
    """One definition, to be annotated."""

    def __init__(self, code: Code, function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.code, self.function = code, function
        self.tensor = code.spelling("torch.Tensor")

    def argument(self, name: str, form: Form, optional: bool = False) -> list[Edit]:
        """The edits that annotate an argument; none where what stands there says something else."""
        arguments = self.function.args
        found = next((a for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs) if a.arg == name), None)
        if found is None or not _leaves(form):
            return []  # what else was passed in one run is no word on what may be
        if found.annotation is not None:
            return self._into(found.annotation, form)
        text = self.text(form)
        end = self.code.file.column(found.lineno, found.col_offset) + len(name)
        spaced = self._default_follows(found.lineno, end)
        whole = f": {text} | None" if optional else f": {text}"
        return [Edit(Span(self.code.name, found.lineno, end, found.lineno, end), whole + (" " if spaced else "")), *spaced] if text else []

    def result(self, form: Form) -> list[Edit]:
        """The edits that annotate what the function returns."""
        if not _leaves(form):
            return []
        if self.function.returns is not None:
            return self._into(self.function.returns, form)
        text, place = self.text(form), self._colon()
        return [Edit(place, f" -> {text}")] if text and place is not None else []

    def text(self, form: Form) -> str:
        """An annotation as source; "" where a part of it is not known."""
        if isinstance(form, list):
            parts = [self.text(f) for f in form]
            return f"tuple[{', '.join(parts)}]" if all(parts) else ""
        if isinstance(form, tuple):
            axes = f" {form[1]}" if form[1].isidentifier() else form[1]  # a lone word would read as a forward reference to linters
            return f'{form[0]}[{self.tensor or "Tensor"}, "{axes}"]'
        if isinstance(form, str) and form in _PLAIN:
            return "None" if form == "NoneType" else str(form)
        return ""

    def _into(self, annotation: ast.expr, form: Form) -> list[Edit]:
        """Shapes in the place of the bare tensors of an annotation that is there already, one for each."""
        spot = Spot(self.code, annotation)
        bare = [s for s in spot.inside() if isinstance(s.node, ast.Name | ast.Attribute) and self.tensor and s.text == self.tensor]
        bare += [s for s in _functions_of(spot) if s.text == self.tensor]
        bare = sorted(set(bare), key=lambda s: (s.span.line, s.span.column))
        leaves = _leaves(form)
        if len(bare) == 1 and len(set(leaves)) == 1:
            leaves = leaves[:1]
        if len(bare) != len(leaves) or any(_typed(around) for s in bare for around in s.around()):
            return []
        return [Edit(s.span, self.text(leaf)) for s, leaf in zip(bare, leaves, strict=True)]

    def _default_follows(self, line: int, column: int) -> list[Edit]:
        """`x=None` becomes `x: T = None`: the edit that puts the space behind the equals sign, where none is."""
        text = self.code.file.lines[line - 1]
        if not text[column - 1 :].startswith("=") or text[column : column + 1] == "=":
            return []
        after = text[column : column + 1]
        place = Span(self.code.name, line, column + 1, line, column + 1)
        return [Edit(place, "" if after == " " else " ")]

    def _colon(self) -> Span | None:
        """The colon that ends the signature."""
        depth, seen = 0, False
        lines = iter([line + "\n" for line in self.code.file.lines[self.function.lineno - 1 :]])
        for token in tokenize.generate_tokens(lambda: next(lines, "")):
            seen = seen or token.string == "def"
            if token.type == tokenize.OP:
                depth += token.string in "([{"
                depth -= token.string in ")]}"
                if seen and depth == 0 and token.string == ":":
                    line, column = token.start[0] + self.function.lineno - 1, token.start[1] + 1
                    return Span(self.code.name, line, column, line, column)
        return None


def imports(code: Code, written: Sequence[Edit]) -> list[Edit]:
    """The edits that import what annotations need, into an import of jaxtyping that is there, else behind the first imports."""
    missing = [k for k in KINDS if any(re.search(rf"\b{k}\[", e.new) for e in written) and k not in code.names]
    tensor = code.spelling("torch.Tensor")
    edits: list[Edit] = []
    lines: list[str] = []
    own = next((n for n in code.file.tree.body if isinstance(n, ast.ImportFrom) and n.module == "jaxtyping"), None)
    if missing and own is not None:
        last = own.names[-1]
        end = code.file.column(last.end_lineno or last.lineno, last.end_col_offset or 0)
        edits.append(Edit(Span(code.name, last.end_lineno or 1, end, last.end_lineno, end), "".join(f", {m}" for m in missing)))
    elif missing:
        lines.append(f"from jaxtyping import {', '.join(missing)}\n")
    if tensor is None:
        lines.append("from torch import Tensor\n")
    if lines:
        line = _import_place(code.file.tree)
        edits.append(Edit(Span(code.name, line, 1, line, 1), "".join(lines)))
    return edits


def _import_place(tree: ast.Module) -> int:
    """The line for an import of jaxtyping: in the first run of imports, before a `from torch import`, else behind all of them."""
    line = 1
    for node in tree.body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if not isinstance(node, ast.Import | ast.ImportFrom) and not docstring:
            break
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torch":
            return node.lineno
        line = (node.end_lineno or node.lineno) + 1
    return line


def _leaves(form: Form) -> list[Leaf]:
    if isinstance(form, list):
        return [leaf for part in form for leaf in _leaves(part)]
    return [form] if isinstance(form, tuple) else []


def _functions_of(spot: Spot) -> list[Spot]:
    return [spot] if isinstance(spot.node, ast.Name | ast.Attribute) else []


def _typed(spot: Spot) -> bool:
    """Whether a subscript is an array type already."""
    node = spot.node
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Tuple)
        and any(isinstance(e, ast.Constant) and isinstance(e.value, str) for e in node.slice.elts)
    )


def tokens_kept(before: str, after: str, added: Sequence[str]) -> bool:
    """Whether a text's statements are those of another one, annotations and imports of `added` modules aside: the law of this folder."""
    return ast.dump(_bare(before, added)) == ast.dump(_bare(after, added))


def _bare(text: str, added: Sequence[str]) -> ast.Module:
    tree = ast.parse(text)
    tree.body = [n for n in tree.body if not (isinstance(n, ast.ImportFrom) and n.module in added)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                argument.annotation = None
    return tree
