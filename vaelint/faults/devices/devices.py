"""Tensors that are born on the CPU in a model that will move, and devices that are asked for by name. No accelerator is needed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.attribute_use import kept_as_given, usage_of
from vaelint.core.finding import Span
from vaelint.core.reach import walked
from vaelint.faults.devices.moved import attribute_of, attributes_moved
from vaelint.faults.gradients.unregistered import holder_of, unknown_tensors
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import Record, shape, span
from vaelint.trace import torch_private
from vaelint.trace.recorded_run import Replays
from vaelint.trace.standin import as_if_on_gpu

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_BORN = frozenset(
    [
        "randn",
        "rand",
        "randint",
        "randperm",
        "normal",
        "zeros",
        "ones",
        "empty",
        "full",
        "eye",
        "arange",
        "linspace",
        "logspace",
        "tensor",
        "as_tensor",
        "from_numpy",
        "tril_indices",
        "triu_indices",
        "range",
        "complex",
        "hann_window",
        "hamming_window",
        "blackman_window",
        "bartlett_window",
        "kaiser_window",
        "scalar_tensor",
        "FloatTensor",
        "Tensor",
        "LongTensor",
    ]
)
_INDEXES = frozenset(
    {"getitem", "setitem", "copy", "pack_padded_sequence", "index_put", "broadcast_tensors", "has_compatible_shallow_copy_type"}
)
"""Operations that take tensors of the CPU beside those of an accelerator; the last one is how `layer.to(...)` asks whether it may."""


_GATHERS = ops.JOIN | {"einsum", "meshgrid", "block_diag", "cartesian_prod", "broadcast_tensors"}
"""Operations that take tensors in a list, as tensors."""


@dataclass(frozen=True)
class Stray:
    """A tensor of the CPU that meets tensors of the model."""

    born: fx.Node
    meets: fx.Node
    partner: fx.Node
    span: Span | None  # where it is made
    attribute: str  # its name, when it is kept as a plain attribute


def stray_tensors(model: Model) -> list[Stray]:
    """VAE601: one for each place of birth.

    What user code moves only where a GPU is ("if x.is_cuda", "if torch.cuda.is_available()") shows in a second run, in which the
    answer is yes; what hangs on a switch of the user's own (`args.cuda`) cannot be known here and is left out.
    """
    if torch.get_default_device().type != "cpu":
        return []
    found = _strays(model, model.record)
    if found:
        with as_if_on_gpu():
            again = model.tracer.run(model.step)
        if again.failure is None:
            still = {(s.span, s.attribute) for s in _strays(model, again)}
            found = [s for s in found if (s.span, s.attribute) in still]
    told = {node for node, *_ in unknown_tensors(model)}  # that they do not move is said there
    along = attributes_moved(model) if any(s.attribute for s in found) else set()
    found = [s for s in found if s.born not in told and attribute_of(model.record.model, s.born.meta.get("val")) not in along]
    found = [s for s in found if not _library_is_told(model, s)]
    rest = [s for s in found if not (_moved_by_switch(model, s) or _of_chosen_type(model, s) or _placed_by_constructor(model, s))]
    return [s for s in rest if not _held_where_told(model, s)]


def _held_where_told(model: Model, stray: Stray) -> bool:
    """Whether it is read from an attribute that its class puts where it is told: `self.c = torch.ones(1).to(device)` in the constructor of
    an object that is no module, which is made anew for a GPU; a state that a method fills, `self.h = [torch.zeros(n).to(self.device)]`."""
    if stray.span is None:
        return False
    file = model.source.file(stray.span.file)
    read = file.at(stray.span)
    around = [n for n in ast.walk(file.tree) if isinstance(n, ast.ClassDef) and n.lineno <= stray.span.line <= (n.end_lineno or n.lineno)]
    owner = max(around, key=lambda n: n.lineno, default=None)
    makers = [f for f in owner.body if isinstance(f, ast.FunctionDef)] if owner is not None else []
    names = _attributes_behind(read, _function_at(file.tree, stray.span.line)) if read is not None else set()
    return any(_is_put_where_told(maker, names) for maker in makers)


def _is_put_where_told(maker: ast.FunctionDef, names: set[str]) -> bool:
    """Whether a method gives one of these attributes a value that it puts somewhere, at once or through a list that it fills."""
    given = {a.arg for a in (*maker.args.posonlyargs, *maker.args.args, *maker.args.kwonlyargs)}
    calls = [n for n in ast.walk(maker) if isinstance(n, ast.Call)]
    for kept in (n for n in ast.walk(maker) if isinstance(n, ast.Assign)):
        if not any(isinstance(t, ast.Attribute) and t.attr in names for t in kept.targets):
            continue
        held = kept.value.id if isinstance(kept.value, ast.Name) else ""
        filled = [c for c in calls if held and isinstance(c.func, ast.Attribute) and ast.unparse(c.func.value) == held]
        if any(_says_where(c, given) for part in (kept.value, *filled) for c in ast.walk(part) if isinstance(c, ast.Call)):
            return True
    return False


def _attributes_behind(read: ast.AST, function: ast.FunctionDef | None) -> set[str]:
    """The attributes that an expression reads, by itself and by the names that its function gives values to."""
    names = {n.id for n in ast.walk(read) if isinstance(n, ast.Name)}
    kept = (n for n in ast.walk(function) if isinstance(n, ast.Assign)) if function is not None else ()
    behind = [n.value for n in kept if any(isinstance(t, ast.Name) and t.id in names for t in n.targets)]
    return {n.attr for part in (read, *behind) for n in ast.walk(part) if isinstance(n, ast.Attribute)}


def _of_chosen_type(model: Model, stray: Stray) -> bool:
    """Whether its function makes tensors of a type that the file chooses: `Tensor = torch.cuda.FloatTensor if cuda else ...`."""
    for file, line in {(s.file, s.line) for node in (stray.born, stray.meets) for s in node.meta.get("stack", ())}:
        tree = model.source.file(file).tree
        function = _function_at(tree, line)
        called = {ast.unparse(c.func) for c in ast.walk(function) if isinstance(c, ast.Call)} if function is not None else set()
        chosen = (n for n in ast.walk(tree) if isinstance(n, ast.Assign) and "torch.cuda." in ast.unparse(n.value))
        if any(called & {ast.unparse(t) for t in n.targets} for n in chosen):
            return True
    return False


def _placed_by_constructor(model: Model, stray: Stray) -> bool:
    """Whether the constructor says where an attribute shall be: `self.prior = torch.zeros(n).to(device)`, or `.cuda()`."""
    if not stray.attribute or stray.span is None:
        return False
    file = model.source.file(stray.span.file)
    statement, function = file.statement(stray.span.line), _function_at(file.tree, stray.span.line)
    behind = [statement, *_made_of(statement, function)] if statement is not None and function is not None else []
    calls = [n for part in behind for n in ast.walk(part) if isinstance(n, ast.Call)]
    given = {a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)} if function is not None else set()
    named = any(_same_line(asked, stray.span) for asked, _ in model.record.asked_for_cuda)
    return named or any(_says_where(c, given) for c in calls) or kept_as_given(model, stray.span)


def _made_of(statement: ast.stmt, function: ast.FunctionDef) -> Iterator[ast.stmt]:
    """The assignments of a function that a later one reads: `self.inverse = torch.inverse(self.eye - self.links)`."""

    def sources(part: ast.stmt) -> list[ast.stmt]:
        read = {ast.unparse(n) for n in ast.walk(part) if isinstance(n, ast.Name | ast.Attribute) and isinstance(n.ctx, ast.Load)}
        earlier = (n for n in ast.walk(function) if isinstance(n, ast.Assign) and n.lineno < part.lineno)
        return [n for n in earlier if read & {ast.unparse(t) for t in n.targets}]

    yield from (part for part in walked([statement], sources) if part is not statement)


def _same_line(a: Span, b: Span) -> bool:
    return (a.file, a.line) == (b.file, b.line)


def _says_where(call: ast.Call, given: set[str]) -> bool:
    """Whether a call names a device: `device=...`, `.to(device)`, `.to(what the caller gave)`, `.cuda()`."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    arguments = (*call.args, *(k.value for k in call.keywords))
    moves = name == "to" and any("device" in ast.unparse(a) or (isinstance(a, ast.Name) and a.id in given) for a in arguments)
    return moves or name == "cuda" or any(k.arg == "device" for k in call.keywords)


def _moved_by_switch(model: Model, stray: Stray) -> bool:
    """Whether a function on the way chooses by a question about a GPU, and has a GPU's side of that choice: `.cuda()`, `.to(...)`,
    `torch.cuda.FloatTensor(...)`."""
    places = {(s.file, s.line) for node in (stray.born, stray.meets) for s in node.meta.get("stack", ())}
    for file, line in places:
        tree = model.source.file(file).tree
        function = _function_at(tree, line)
        parts = list(ast.walk(function)) if function is not None else []
        if not any(isinstance(n, ast.If | ast.IfExp) and asks_for_gpu(n.test, tree) for n in parts):
            continue
        called = [c.func for c in parts if isinstance(c, ast.Call) and isinstance(c.func, ast.Attribute)]
        if any(
            f.attr in ("cuda", "to") or ast.unparse(f.value) == "torch.cuda"
            for f in called
            if f.attr not in ("is_available", "device_count")
        ):
            return True
    return False


def _library_is_told(model: Model, stray: Stray) -> bool:
    """Whether it is born in a library, in a call that says where: `batch_of(rows, cuda=args.cuda)`."""
    call = model.source.file(stray.span.file).at(stray.span) if stray.span is not None else None
    return isinstance(call, ast.Call) and any(
        _speaks_of_gpu(k.value) or (k.arg is not None and _speaks_of_gpu(ast.Name(k.arg))) for k in call.keywords
    )


def _function_at(tree: ast.AST, line: int) -> ast.FunctionDef | None:
    """The innermost function around a line."""
    around = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.lineno <= line <= (n.end_lineno or n.lineno)]
    return max(around, key=lambda n: n.lineno, default=None)


def asks_for_gpu(test: ast.expr, tree: ast.AST | None = None) -> bool:
    """Whether a condition is about a GPU, by its own words or by what the file gives the names in it: `on = torch.cuda.is_available()`."""
    if _speaks_of_gpu(test):
        return True
    return tree is not None and any(isinstance(n, ast.Name | ast.Attribute) and last_name(n) in _told_of_gpu(tree) for n in ast.walk(test))


@lru_cache(maxsize=16)
def _told_of_gpu(tree: ast.AST) -> frozenset[str]:
    """The names that a file gives the answer to: `on = torch.cuda.is_available()`."""
    given = (n for n in ast.walk(tree) if isinstance(n, ast.Assign) and _tells_of_gpu(n.value))
    return frozenset(last_name(t) for n in given for t in n.targets if isinstance(t, ast.Name | ast.Attribute))


def last_name(node: ast.Name | ast.Attribute) -> str:
    """`device` of `self.device`."""
    return node.id if isinstance(node, ast.Name) else node.attr


def _speaks_of_gpu(test: ast.expr) -> bool:
    """A switch or a question by name (`args.cuda`, `torch.cuda.is_available()`), or a device's (`kind == "cuda"`), not any text."""
    names = [last_name(n) for n in ast.walk(test) if isinstance(n, ast.Name | ast.Attribute)]
    texts = [n.value for n in ast.walk(test) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return any(word in name.lower() for name in names for word in ("cuda", "gpu", "device")) or any(t.startswith("cuda") for t in texts)


def _tells_of_gpu(value: ast.expr) -> bool:
    """Whether a value is the answer to whether there is a GPU."""
    asked = {last_name(n) for n in ast.walk(value) if isinstance(n, ast.Name | ast.Attribute)}
    return "is_cuda" in asked or ("cuda" in asked and bool(asked & {"is_available", "device_count"}))


def _strays(model: Model, record: Record) -> list[Stray]:
    return list(_Search(model, record).found.values())


class _Search:
    """Where the values of one run are, operation by operation, and the strays that were met."""

    def __init__(self, model: Model, record: Record) -> None:
        self._model, self._record = model, record
        self._home: dict[fx.Node, fx.Node] = {}  # values on the CPU -> where they were born
        self._moved: set[fx.Node] = set()  # values on the model's device
        self.found: dict[object, Stray] = {}
        buffers = {id(b) for b in record.model.buffers()}
        held = (t for guest in record.guests for t in (*guest.parameters(), *guest.buffers()))
        others = {torch_private.storage_of(t) for t in held} - {None}  # whoever made a network beside the model moves it
        for node in record.graph.nodes:
            val = node.meta.get("val")
            if node.op == "placeholder" or (others and isinstance(val, torch.Tensor) and torch_private.storage_of(val) in others):
                self._moved.add(node)
            elif node.op == "get_attr":
                plain = isinstance(val, torch.Tensor) and not isinstance(val, torch.nn.Parameter) and id(val) not in buffers
                self._put(node, node if plain and not node.meta.get("placed") else None)
            elif node.op == "call_function" and not node.meta.get("scalar"):
                self._step(node)

    def _put(self, node: fx.Node, home: fx.Node | None) -> None:
        """Notes where a value is: on the CPU with a place of birth, or on the model's device."""
        if home is not None:
            self._home[node] = home
        else:
            self._moved.add(node)

    def _step(self, node: fx.Node) -> None:
        numbers = _read_as_numbers(node)
        sources = [n for n in dict.fromkeys(ops.value_inputs(node)) if not n.meta.get("scalar") and n not in numbers]
        if ops.op(node) == "effect":  # a tensor after it was changed in place: where it was before
            base = node.args[0]
            self._put(node, self._home.get(base) if isinstance(base, fx.Node) else None)
        elif node.meta.get("placed") or _placed(node):
            self._moved.add(node)
        elif ops.op(node) == "new_tensor":  # a copy of data, on the device of the tensor that is asked
            base = node.args[0]
            self._put(node, self._home.get(base) if isinstance(base, fx.Node) else None)
        elif not sources:
            self._put(node, self._birth(node))
        else:
            self._meet(node, sources)

    def _birth(self, node: fx.Node) -> fx.Node | None:
        """Where a value was born that is made of no other; None for one that is made like another tensor."""
        filled = node.args[0] if ops.raw_name(node) in ops.OVERWRITES and node.args else None
        if isinstance(filled, fx.Node) and filled in self._home:
            return node if str(filled.target).startswith("_constant_") else self._home[filled]
        return node if _is_born(node) else None

    def _meet(self, node: fx.Node, sources: list[fx.Node]) -> None:
        """An operation of other values: those of the CPU must not meet those of the model's device."""
        strays, partners = [n for n in sources if n in self._home], [n for n in sources if n in self._moved]
        indexes = ops.op(node) in _INDEXES
        real = [n for n in strays if shape(n)]
        if partners and real and not indexes:
            self._report(node, self._home[real[0]], partners[0])
        read = [n for n in node.args[:1] if indexes and isinstance(n, fx.Node) and n in self._home]
        stays = read or ([] if partners else strays)  # what is filled, or read with an index, stays where it is
        self._put(node, self._home[stays[0]] if stays else None)

    def _report(self, node: fx.Node, born: fx.Node, partner: fx.Node) -> None:
        place, attribute = _birthplace(self._model, self._record, born)
        if place is None and born.op == "get_attr":
            place = _legacy_constructor(self._model, node)
        if place is None and isinstance(self._model.step, Replays):
            return  # a script had it before the iteration, as a batch that `cycle(loader)` gives again: where it put it was not seen
        if place is not None or (born.op == "get_attr" and span(node) is not None):  # else it is made in the step, not in a file
            key = (place.file, place.line) if place is not None else born
            self.found.setdefault(key, Stray(born, node, partner, place or span(node), attribute))


def _read_as_numbers(node: fx.Node) -> set[fx.Node]:
    """Tensors of one entry among the sizes of an operation, `pad(x, [a, b])`: they become numbers, wherever they lie."""
    if ops.op(node) in _GATHERS:
        return set()
    listed = [n for a in (*node.args, *node.kwargs.values()) if isinstance(a, list | tuple) for n in a if isinstance(n, fx.Node)]
    return {n for n in listed if isinstance(val := n.meta.get("val"), torch.Tensor) and val.numel() == 1}


def _placed(node: fx.Node) -> bool:
    """Whether the user says where the result shall be: `device=`, `.to(device)`, `.cuda()`. A change of type alone says nothing."""
    if "device" in node.kwargs:
        return node.kwargs["device"] is not None
    if ops.op(node) in ("to", "type"):  # a type by its name ("torch.cuda.FloatTensor") says where as well
        return any(not isinstance(a, torch.dtype | bool) for a in node.args[1:])
    return ops.op(node) in ("cuda", "cpu", "type_as")


def _is_born(node: fx.Node) -> bool:
    """A new tensor whose device nothing decides: not `randn_like(x)`, not `x.new_zeros(...)`."""
    return (
        ops.op(node) in _BORN
        and not any(isinstance(a.meta.get("val"), torch.Tensor) for a in node.all_input_nodes)
        and not ops.raw_name(node).endswith("_")
    )


def _legacy_constructor(model: Model, node: fx.Node) -> Span | None:
    """Where a name that an operation's expression reads is given a new `torch.LongTensor(...)` in the same function: such a constructor is
    not announced to what records."""
    place = span(node)
    expression = model.source.file(place.file).at(place) if place is not None else None
    function = model.source.function(place) if place is not None else None
    if place is None or expression is None or function is None:
        return None
    read = {n.id for n in ast.walk(expression) if isinstance(n, ast.Name)}
    for part in ast.walk(function):
        if isinstance(part, ast.Assign) and any(isinstance(t, ast.Name) and t.id in read for t in part.targets):
            for call in ast.walk(part.value):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and _is_legacy(call.func.attr):
                    return Span(place.file, call.lineno, call.col_offset + 1, call.end_lineno, (call.end_col_offset or 0) + 1)
    return None


def _is_legacy(name: str) -> bool:
    """Whether torch has a constructor of this name for tensors of one type."""
    return isinstance(getattr(torch, name, None), type(torch.LongTensor))


def _birthplace(model: Model, record: Record, born: fx.Node) -> tuple[Span | None, str]:
    if born.op != "get_attr":
        return span(born), ""
    path = str(born.target)
    if path.startswith("_constant_"):
        held = holder_of(record.model, born.meta.get("val"))
        return (usage_of(model).assignment(*held), held[1]) if held is not None else (None, "")
    owner, _, name = path.rpartition(".")
    try:
        module = record.model.get_submodule(owner)
    except AttributeError:
        return None, ""
    return usage_of(model).assignment(module, name), path
