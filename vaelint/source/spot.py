"""Expressions of the user's source as things to read and to edit, whatever way an operation is spelled. Imports no torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property

from vaelint.core.edits import Edit, Proposal, applied, parses
from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.source.written import SourceFile

_MODULES = frozenset({"torch.nn", "torch.nn.functional", "torch.optim", "torch.distributions"})
_MODULES |= {f"{top}.{part}" for top in ("keras", "tensorflow.keras") for part in ("backend", "ops", "random")}
_ATOMS = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant, ast.List, ast.Tuple, ast.Dict)


class Code:
    """One source file, with parents and imported names."""

    def __init__(self, file: SourceFile, name: str) -> None:
        self.file, self.name = file, name

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """The node above each node."""
        return {child: node for node in ast.walk(self.file.tree) for child in ast.iter_child_nodes(node)}

    @cached_property
    def modules(self) -> dict[str, str]:
        """Names that stand for modules: {"F": "torch.nn.functional", "torch": "torch"}."""
        found: dict[str, str] = {}
        for node in ast.walk(self.file.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    found[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    if whole in _MODULES:
                        found[alias.asname or alias.name] = whole
        return found

    @cached_property
    def names(self) -> dict[str, str]:
        """Single names imported from modules: {"randn": "torch.randn"}."""
        return {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in ast.walk(self.file.tree)
            if isinstance(node, ast.ImportFrom) and node.module and not node.level
            for alias in node.names
        }

    def spelling(self, dotted: str) -> str | None:
        """How this file can write `torch.randn_like`: through a module it has imported, or by the name itself. None if it cannot."""
        for name, whole in self.names.items():
            if whole == dotted:
                return name
        best = [(len(whole), name, whole) for name, whole in self.modules.items() if dotted.startswith(whole + ".")]
        if not best:
            return None
        _, name, whole = max(best)
        return name + dotted[len(whole) :]

    def module_of(self, node: ast.expr) -> str:
        """The module an expression stands for: "torch.nn.functional" for `F` and `torch.nn.functional`, "" for a value."""
        text = ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""
        head, _, rest = text.partition(".")
        known = self.modules.get(head)
        return (known + ("." + rest if rest else "")) if known else ""

    def span(self, node: ast.AST) -> Span:
        """Where a node stands."""
        assert isinstance(node, ast.expr | ast.stmt | ast.keyword)
        column, end = self.file.column, node.end_lineno or node.lineno
        return Span(self.name, node.lineno, column(node.lineno, node.col_offset), end, column(end, node.end_col_offset or 0))

    def changed(self, edits: tuple[Edit, ...]) -> bool:
        """Whether the file is still Python with these edits."""
        return parses(applied(self.file.text, (e for e in edits if e.span.file == self.name)))


@dataclass(frozen=True)
class Spot:
    """One node of a file's syntax tree."""

    code: Code
    node: ast.AST

    @property
    def span(self) -> Span:
        """Its place."""
        return self.code.span(self.node)

    @property
    def text(self) -> str:
        """It as written."""
        span = self.span
        lines = self.code.file.text.split("\n")[span.line - 1 : span.end_line]
        lines[-1] = lines[-1][: (span.end_column or 1) - 1]
        lines[0] = lines[0][span.column - 1 :]
        return "\n".join(lines)

    @property
    def atom(self) -> str:
        """It as an operand of anything: in parentheses where it needs them."""
        return self.text if isinstance(self.node, _ATOMS) else f"({self.text})"

    @property
    def parent(self) -> Spot | None:
        """The node around it."""
        above = self.code.parents.get(self.node)
        return Spot(self.code, above) if above is not None else None

    def spot(self, node: ast.AST) -> Spot:
        """Another node of the same file."""
        return Spot(self.code, node)

    def around(self) -> Iterator[Spot]:
        """Itself and the nodes around it, outwards."""
        here: Spot | None = self
        while here is not None:
            yield here
            here = here.parent

    def statement(self) -> Spot:
        """The statement it is in."""
        return next(s for s in self.around() if isinstance(s.node, ast.stmt))

    def function(self) -> Spot | None:
        """The function it is in."""
        return next((s for s in self.around() if isinstance(s.node, ast.FunctionDef | ast.AsyncFunctionDef)), None)

    def owner(self) -> Spot | None:
        """The class it is in."""
        return next((s for s in self.around() if isinstance(s.node, ast.ClassDef)), None)

    def inside(self) -> Iterator[Spot]:
        """Itself and all expressions in it, outermost first; calls name functions, which are left out."""
        functions = {n.func for n in ast.walk(self.node) if isinstance(n, ast.Call)}
        return (Spot(self.code, n) for n in ast.walk(self.node) if isinstance(n, ast.expr) and (n not in functions or not _is_name(n)))

    # --- reading a call ---------------------------------------------------------------------------------------------

    @property
    def called(self) -> str:
        """The last name of what is called: `randn` for `torch.randn(...)`; "" for anything else."""
        if not isinstance(self.node, ast.Call):
            return ""
        func = self.node.func
        return func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""

    @property
    def receiver(self) -> Spot | None:
        """What a method is called on; None for functions of modules and for layers of `self`."""
        func = self.node.func if isinstance(self.node, ast.Call) else None
        if not isinstance(func, ast.Attribute) or self.code.module_of(func.value):
            return None
        if isinstance(func.value, ast.Name) and func.value.id in ("self", "cls"):
            return None
        return self.spot(func.value)

    @property
    def arguments(self) -> list[Spot]:
        """The positional arguments."""
        return [self.spot(a) for a in self.node.args] if isinstance(self.node, ast.Call) else []

    @property
    def operands(self) -> list[Spot]:
        """What an operation is applied to, in any spelling: `exp(x)`, `x.exp()`, `self.relu(x)`, `-x`, `a * b`, `x.data`."""
        node = self.node
        if isinstance(node, ast.Call):
            return ([self.receiver] if self.receiver is not None else []) + self.arguments
        if isinstance(node, ast.BinOp):
            return [self.spot(node.left), self.spot(node.right)]
        if isinstance(node, ast.UnaryOp):
            return [self.spot(node.operand)]
        if isinstance(node, ast.Attribute):
            return [self.spot(node.value)]
        return []

    def keyword(self, *names: str) -> Spot | None:
        """The value of a keyword argument."""
        if not isinstance(self.node, ast.Call):
            return None
        return next((self.spot(k.value) for k in self.node.keywords if k.arg in names), None)

    def argument(self, position: int, *names: str) -> Spot | None:
        """An argument by its names, or by its position after what the operation is applied to (a method's receiver, else the first)."""
        given = self.arguments[position - (self.receiver is not None) :]
        return self.keyword(*names) or (given[0] if given else None)

    # --- editing ----------------------------------------------------------------------------------------------------

    def to(self, new: str) -> Edit:
        """Something else in its place, in parentheses where the neighbours bind more tightly."""
        bare, safe = Edit(self.span, new), Edit(self.span, f"({new})")
        try:
            if isinstance(ast.parse(new, mode="eval").body, _ATOMS):
                return bare
            trees = [ast.dump(ast.parse(applied(self.code.file.text, (e,)) or "")) for e in (bare, safe)]
        except SyntaxError:
            return bare
        return bare if trees[0] == trees[1] else safe

    def named(self, new: str) -> Edit:
        """The same call of another function of the same module, or of another method."""
        assert isinstance(self.node, ast.Call)
        func = self.node.func
        span = self.code.span(func)
        if isinstance(func, ast.Attribute) and span.end_column is not None:
            return Edit(Span(span.file, span.end_line or span.line, span.end_column - len(func.attr), span.end_line, span.end_column), new)
        name = next((n for n, whole in self.code.names.items() if whole.rpartition(".")[2] == new), None)
        whole = self.code.names.get(func.id) if isinstance(func, ast.Name) else None
        spelled = self.code.spelling(f"{whole.rpartition('.')[0]}.{new}") if whole else None
        return Edit(span, name or spelled or new)

    def keyword_named(self, old: str, new: str) -> Edit | None:
        """A keyword under another name."""
        for keyword in self.node.keywords if isinstance(self.node, ast.Call) else ():
            if keyword.arg == old:
                span = self.code.span(keyword)
                return Edit(Span(span.file, span.line, span.column, span.line, span.column + len(old)), new)
        return None

    def with_argument(self, text: str) -> Edit | None:
        """A further argument at the end of a call."""
        span = self.span
        if span.end_column is None:
            return None
        close = Span(span.file, span.end_line or span.line, span.end_column - 1, span.end_line, span.end_column - 1)
        empty = isinstance(self.node, ast.Call) and not self.node.args and not self.node.keywords
        for lead in ("",) if empty else (", ", " ", ""):
            edit = Edit(close, lead + text)
            if self.code.changed((edit,)):
                return edit
        return None

    def before(self, text: str) -> Edit:
        """Text put in front of it."""
        span = self.span
        return Edit(Span(span.file, span.line, span.column, span.line, span.column), text)


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name | ast.Attribute)


def propose(says: str, *edits: Edit | None) -> Iterator[Proposal]:
    """A proposal, if all its edits could be made."""
    made = tuple(e for e in edits if e is not None)
    if made and len(made) == len(edits):
        yield Proposal(says, made)
