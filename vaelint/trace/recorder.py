"""Records each torch call of user code as a torch.fx node, while the user's own Python runs."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch import fx
from torch.overrides import TorchFunctionMode

from vaelint.record import generators
from vaelint.record.filled_weights import fills_unread_weight
from vaelint.record.looked_at import LookedAt
from vaelint.record.marks import attribute, custom_gradient, effect
from vaelint.record.record import Failure, Objective
from vaelint.record.sizes import Expr, NeedsValue, TracedFloat, TracedInt, plain, traced
from vaelint.trace import torch_private
from vaelint.trace.arguments_of_calls import as_it_is, holds_tensor, in_place, mutates_given, names_place, number, without_expressions
from vaelint.trace.autocast import Autocast
from vaelint.trace.by_hand.risen import as_risen
from vaelint.trace.modules import ModuleTracker
from vaelint.trace.spans import SpanFinder
from vaelint.trace.updates import Updates

_T = torch.Tensor
_SIZE_GETTER = _T.shape.__get__  # type: ignore[attr-defined]
_READ = ("item", "__float__", "__int__", "__bool__", "tolist", "numpy", "__index__", "__array__")
VALUE_READERS = {getattr(_T, name): name.strip("_") for name in _READ}
_NUMBERS = {"item", "float", "int", "bool", "index"}
_COUNTERS = {_T.numel, _T.nelement, torch.numel}
_BACKWARD = {_T.backward, torch.autograd.backward}
GRAD_SETTER = _T.grad.__set__  # type: ignore[union-attr]
GRAD_GETTER = _T.grad.__get__  # type: ignore[union-attr]
_SETTERS = {GRAD_SETTER: Updates.put, _T.data.__set__: Updates.put_data}  # type: ignore[attr-defined]
_FLAG_SETTER = _T.requires_grad.__set__  # type: ignore[attr-defined]
_SCALER = "torch.amp.grad_scaler"
_PLACES = {"to", "cuda", "cpu", "type", "type_as"}
_SELECTIONS = {"__getitem__", "select", "narrow"}
_DRAWS = ("rand", "normal", "uniform")  # how their names begin; few enough to note which names hold what beside each


class Recorder(TorchFunctionMode):
    """A torch function mode that writes a graph. `fake` says that tensors have no values."""

    def __init__(
        self,
        spans: SpanFinder,
        modules: ModuleTracker,
        names: dict[int, str],
        *,
        fake: bool,
        watch: bool = False,
        until: Objective | None = None,
        as_is: bool = False,
    ) -> None:
        super().__init__()
        self._watch = watch
        self.updates = Updates(self, modules.trained, until, as_is)
        self.graph = fx.Graph()
        self.spans, self.modules, self.fake = spans, modules, fake
        self._names = names  # id of a parameter, buffer or attribute tensor -> its name in the model
        self.held: dict[int, str] = {}  # id of a tensor that a distribution in the model holds -> its path
        self._nodes: dict[int, fx.Node] = {}
        self._keep: list[Any] = []  # ids stay unique while their owners live
        self._aliases: dict[int, list[torch.Tensor]] = {}  # storage -> tensors seen on it
        self._exprs: dict[int, fx.Node] = {}
        self._selected: dict[tuple[Any, ...], fx.Node] = {}  # what was taken out of a value, by the way it was
        self._read_floats: dict[float, fx.Node] = {}  # values that left through float() and have no expression
        self._scaled: dict[int, torch.Tensor] = {}  # id of a loss that a GradScaler made larger -> the loss
        self.reads: list[fx.Node] = []  # values that left torch, in order
        self.looked_at = LookedAt()
        self.autocast: list[Autocast | None] = []  # the automatic precision in force
        self.over: Callable[[Any, Any, FrameType], bool] | None = None  # after an iteration's passes: whether a call is still recorded
        self.live = False  # whether it is the user's own training that runs: gradients are taken when they are asked for
        self.paused = False  # whether what runs now is none of the step's business, such as what the optimizer computes
        self._numpy_state: tuple[int, int] | None = None
        self._numpy_drew()
        self.current: tuple[Callable[..., Any], Any, Any, Any] | None = None
        modules.count = lambda: len(self.graph.nodes)

    # --- values to nodes -------------------------------------------------------------------------------------------

    def input(self, name: str, tensor: torch.Tensor) -> fx.Node:
        """Registers an input tensor."""
        node = self.graph.placeholder(name)
        self._bind(tensor, node, ())
        node.meta["input"] = name
        return node

    def node_for(self, tensor: torch.Tensor) -> fx.Node | None:
        """The node that made a tensor, if it was seen."""
        return self._nodes.get(id(tensor))

    def known(self, value: object) -> fx.Node | None:
        """The node of a tensor that was seen, or of the value that a number is of."""
        return self._nodes.get(id(value)) or self.looked_at.node_of(value)

    def _bind(self, tensor: torch.Tensor, node: fx.Node, stack: tuple[Any, ...]) -> None:
        self._nodes[id(tensor)] = node
        node.meta.update(val=tensor, grad=tensor.requires_grad, stack=stack, backward=tensor.grad_fn)  # a change in place puts in another
        if self.spans.sampled is not None:
            node.meta["sampled"] = self.spans.sampled
        self._remember(tensor)

    def _remember(self, tensor: torch.Tensor) -> None:
        self._keep.append(tensor)
        key = torch_private.storage_of(tensor)
        if key is not None:
            self._aliases.setdefault(key, []).append(tensor)

    def _known_twin(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """A recorded tensor that an unseen one is another handle of, as `Variable(x)` makes it."""
        if id(tensor) in self._names or (key := torch_private.storage_of(tensor)) is None:
            return None
        layout = (tensor.shape, tensor.stride(), tensor.storage_offset(), tensor.dtype)
        seen = (t for t in reversed(self._aliases.get(key, ())) if (t.shape, t.stride(), t.storage_offset(), t.dtype) == layout)
        return next(seen, None)

    def _leaf(self, tensor: torch.Tensor) -> fx.Node:
        if (twin := self._known_twin(tensor)) is not None:
            node = self._nodes[id(twin)]
            if twin.requires_grad and not tensor.requires_grad:
                node = self.graph.call_function(torch.Tensor.detach, (node,))
                node.meta["module"] = self.modules.path
                self._bind(tensor, node, self._nodes[id(twin)].meta.get("stack", ()))
                return node
            self._nodes[id(tensor)] = node
            self._keep.append(tensor)
            return node
        name = self._names.get(id(tensor))
        node = self.graph.create_node("get_attr", name or f"_constant_{len(self._keep)}")
        node.meta["parameter"] = name if isinstance(tensor, torch.nn.Parameter) else None
        node.meta["constant"] = not isinstance(tensor, torch.nn.Parameter)
        if name is None and (held := self.held.get(id(tensor))) is not None:
            node.meta["held"] = held
        if name is None and self._numpy_drew():
            node.meta["random"] = True
        if name is None and (tensor.grad_fn is not None or torch_private.is_wrapped(tensor)):
            node.meta["placed"] = True  # the work of torch.func, which is not announced: it lies where what it was made of lies
        if self.live:
            node.meta.update(as_it_is(tensor, name))
        self._bind(tensor, node, ())
        return node

    def to_arg(self, value: Any) -> Any:
        """`value` as an argument of a node: tensors and traced sizes become nodes."""
        if isinstance(value, torch.Tensor):
            node = self._nodes.get(id(value)) or self._leaf(value)
            return node if node.meta.get("grad") or value.grad_fn is None else self._with_own_backward(value, node)
        if isinstance(value, TracedInt | TracedFloat):
            return self._expr(value.expr, plain(value))
        if isinstance(value, float) and value in self._read_floats:
            return self._read_floats[value]
        if isinstance(value, tuple):
            return tuple(self.to_arg(v) for v in value)
        if isinstance(value, list):
            return [self.to_arg(v) for v in value]
        if isinstance(value, dict):
            return {k: self.to_arg(v) for k, v in value.items()}
        if isinstance(value, slice):
            return slice(self.to_arg(value.start), self.to_arg(value.stop), self.to_arg(value.step))
        return value

    def _with_own_backward(self, tensor: torch.Tensor, node: fx.Node) -> fx.Node:
        """The node of what a custom `autograd.Function` returned: its forward ran without gradients, its backward has them."""
        made_by_user: object = tensor.grad_fn
        if not isinstance(made_by_user, torch.autograd.function.BackwardCFunction):
            return node
        made_by = {
            val.grad_fn: n for n in self.graph.nodes if isinstance(val := n.meta.get("val"), torch.Tensor) and val.grad_fn is not None
        }
        behind = [fn for fn, _ in made_by_user.next_functions if fn is not None]
        sources = [made_by.get(fn) or (self.to_arg(fn.variable) if hasattr(fn, "variable") else None) for fn in behind]
        joined = self.graph.call_function(custom_gradient, (node, *(s for s in sources if s is not None and s is not node)))
        joined.meta.update({k: v for k, v in node.meta.items() if k not in ("no_grad", "val", "grad")})
        self._bind(tensor, joined, node.meta.get("stack", ()))
        return joined

    def _expr(self, expr: Any, value: Any) -> Any:
        """The node of a traced number; a number of another recording is just a number."""
        if isinstance(expr, fx.Node | int | float):
            return expr
        if expr.owner is not self:
            return value
        node = self._exprs.get(id(expr))
        if node is None:
            args = tuple(self._expr(a, a) if isinstance(a, Expr) else a for a in expr.args)
            node = self.graph.call_function(expr.fn, args)
            node.meta.update(val=number(expr.fn, args) if isinstance(value, Expr) else value, scalar=True, stack=())
            self._exprs[id(expr)] = node
            self._keep.append(expr)
        return node

    # --- the calls -------------------------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if sys._getframe(1).f_globals.get("__name__", "").startswith(torch_private.FAKE_KERNELS):
            return func(*args, **kwargs)  # a legacy constructor, which itself is not announced, at work
        if self.paused or (self.live and func in _BACKWARD) or (self.over is not None and not self.over(func, args, sys._getframe(1))):
            result = func(*without_expressions(args), **without_expressions(kwargs))
            return self.looked_at.note(func, result, self.known(args[0]) if args else None)
        if func == _SIZE_GETTER or (func is _T.size and len(args) == 1 and not kwargs):
            return self._size(args[0])
        if func is _T.size or func in _COUNTERS:
            return self._count(func, args, kwargs)
        if func in VALUE_READERS:
            return self._read(func, VALUE_READERS[func], args, kwargs)
        if func in _BACKWARD:
            return self.updates.backward(func, args, kwargs)
        func = _T.requires_grad_ if func == _FLAG_SETTER else func  # `p.requires_grad = False`
        name = getattr(func, "__name__", "")
        if name == "__get__":
            if func == GRAD_GETTER:
                self.updates.look(args[0], sys._getframe(1))
            return self._attribute(func, args)
        args = as_risen(self.spans, name, args, sys._getframe(1))
        raw_args, raw_kwargs = without_expressions(args), without_expressions(kwargs)
        mutates = mutates_given(name, kwargs)
        drawn_from = generators.before(name, raw_kwargs) if self.live else None
        self.current = (func, args, kwargs, sys._getframe(1))
        result = self.updates.grad(func, raw_args, raw_kwargs) if func is torch.autograd.grad else func(*raw_args, **raw_kwargs)
        self.current = None
        if name == "__set__" and func in _SETTERS:
            _SETTERS[func](self.updates, args[0], args[1])
        if isinstance(result, torch.Tensor) and name == "mul" and sys._getframe(1).f_globals.get("__name__") == _SCALER:
            self._scaled[id(result)] = args[0]
        with torch_private.no_torch_function():  # what is asked of tensors here is nobody else's business, and need not pass other modes
            if mutates and fills_unread_weight(name, args, self._nodes, self._names):
                return result
            return generators.note(self._record(func, args, kwargs, result, mutates), drawn_from, self.node_for)

    def _size(self, tensor: torch.Tensor) -> torch.Size:
        node = self.to_arg(tensor)
        return torch.Size([traced(n, Expr(self, torch.Tensor.size, (node, d))) for d, n in enumerate(tensor.shape)])

    def _count(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = func(*without_expressions(args), **without_expressions(kwargs))
        return traced(result, Expr(self, func, tuple(self.to_arg(a) for a in (*args, *kwargs.values()))))

    def _read(self, func: Any, kind: str, args: Any, kwargs: Any) -> Any:
        """A value leaves the graph: `.item()`, `float(t)`, `if t:`."""
        tensor = args[0]
        node = self.to_arg(tensor)
        known = torch_private.constant_of(tensor) if self.fake and kind in _NUMBERS else None
        if known is not None:
            value = func(known, *args[1:], **kwargs)  # made of plain numbers and sizes: fake tensors carry these
            if kind != "bool":
                self.reads.append(node)
        elif self.fake and id(tensor) in self._nodes:
            if kind != "item" or not tensor.is_floating_point():
                raise NeedsValue(kind)
            value = float("nan")
        else:
            value = func(*args, **kwargs)
            if kind != "bool":
                self.reads.append(node)
        if kind not in ("item", "float", "int"):
            return value
        expr = Expr(self, torch.Tensor.item, (node,))
        read = self._expr(expr, value)
        read.meta.update(read=True, stack=self.spans.stack(sys._getframe(2)))
        if kind == "item":
            return traced(value, expr)
        if kind == "float":
            self._read_floats[value] = read
        return value

    def _attribute(self, func: Any, args: Any) -> Any:
        result = func(*args)
        if not isinstance(result, torch.Tensor) or (self.live and getattr(func.__self__, "__name__", "") == "grad"):
            return result
        if id(result) not in self._nodes:
            name = getattr(func.__self__, "__name__", "attribute")
            self._record(attribute, (args[0], name), {}, result, False)
        return result

    def record_made(self, func: Any, args: Any, made: torch.Tensor) -> None:
        """Records a tensor made by a function that does not announce itself."""
        self._record(func, args, {}, made, False)

    def before_scaling(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss that a GradScaler made larger, for what it returned; any other as it is."""
        return self._scaled.get(id(loss), loss)

    def _record(self, func: Any, args: Any, kwargs: Any, result: Any, mutates: bool) -> Any:
        if not mutates and isinstance(result, torch.Tensor) and id(result) in self._nodes and not in_place(kwargs, args):
            if getattr(func, "__name__", "") in _PLACES and names_place((*args[1:], *kwargs.values())):
                self._nodes[id(result)].meta["placed"] = True  # the user moves it: on another device it would be another tensor
            return result  # the same tensor came back: dropout in eval mode, contiguous(), to()
        if not (mutates or holds_tensor(result)):
            return result
        taken = self._selection(func, args, kwargs, result) if not mutates else ()
        if taken in self._selected:  # `h[:, 0]` in the model and again in the loss is one value
            self._nodes[id(result)] = self._selected[taken]
            self._selected[taken].meta.setdefault("repeats", []).append(self.spans.stack(sys._getframe(2)))
            self._remember(result)
            return result
        node = self.graph.call_function(func, self.to_arg(tuple(args)), self.to_arg(dict(kwargs)))
        if taken:
            self._selected[taken] = node
        if not node.all_input_nodes and self._numpy_drew():
            node.meta["random"] = True  # made of numbers that numpy drew
        stack = self.spans.stack(sys._getframe(2))
        node.meta.update(
            stack=stack, module=self.modules.path, training=self.modules.training, val=None, grad=False, no_grad=not torch.is_grad_enabled()
        )
        if node.meta["no_grad"] is False:
            del node.meta["no_grad"]
        if self.autocast and self.autocast[-1] is not None:
            node.meta["autocast"] = self.autocast[-1]
        if self._watch or getattr(func, "__name__", "").startswith(_DRAWS):
            node.meta["scopes"] = self._scopes(sys._getframe(2))
        target = result
        if mutates:
            target = kwargs["out"] if kwargs.get("out") is not None else args[0] if args else result
            if result is not target and not isinstance(result, torch.Tensor):
                node.meta["returns_none"] = True
            if isinstance(target, torch.Tensor) and func != _T.requires_grad_:
                self._changed(target, node)
        self._bind_result(target, node, stack)
        return result

    def _selection(self, func: Any, args: Any, kwargs: Any, result: Any) -> tuple[Any, ...]:
        """What tells one selection from another: the value taken from, the way it is, and whether gradients flow; () for other calls."""
        if getattr(func, "__name__", "") not in _SELECTIONS or not isinstance(result, torch.Tensor):
            return ()
        return (func, repr(self.to_arg(tuple(args))), repr(self.to_arg(dict(kwargs))), result.requires_grad)

    def _scopes(self, frame: FrameType | None) -> tuple[dict[str, fx.Node], ...]:
        """For each frame of the stack, the names that hold recorded tensors: locals, and attributes of `self` that a run has set."""
        scopes = []
        for user in self.spans.user_frames(frame):
            held: list[tuple[str, Any]] = list(user.f_locals.items())
            held += [(f"self.{k}", v) for k, v in getattr(user.f_locals.get("self"), "__dict__", {}).items() if isinstance(v, torch.Tensor)]
            scopes.append({k: self._nodes[id(v)] for k, v in held if isinstance(v, torch.Tensor) and id(v) in self._nodes})
        return tuple(scopes)

    def _numpy_drew(self) -> bool:
        """Whether numpy's global generator moved since this was last asked."""
        numpy = sys.modules.get("numpy")
        if numpy is None:
            return False
        state = numpy.random.get_state(legacy=False)["state"]
        now = (int(state["pos"]), int(state["key"][0]))
        drew, self._numpy_state = self._numpy_state not in (None, now), now
        return drew

    def _changed(self, target: torch.Tensor, node: fx.Node) -> None:
        """After a change in place, other tensors on the same storage hold new values too."""
        key = torch_private.storage_of(target)
        for other in self._aliases.get(key, []) if key is not None else ():
            if other is not target and id(other) in self._nodes:
                old = self._nodes[id(other)]
                new = self.graph.call_function(effect, (old, node))
                new.meta.update(val=other, grad=other.requires_grad, stack=node.meta["stack"], module=node.meta["module"])
                self._nodes[id(other)] = new

    def _bind_result(self, result: Any, node: fx.Node, stack: Any) -> None:
        if isinstance(result, torch.Tensor):
            self._bind(result, node, stack)
            return
        node.meta["val"] = None
        items = enumerate(result) if isinstance(result, list | tuple) else result.items() if isinstance(result, dict) else ()
        for key, item in items:
            if holds_tensor(item):
                part = self.graph.call_function(operator.getitem, (node, key))
                part.meta.update({k: v for k, v in node.meta.items() if k != "val"})
                self._bind_result(item, part, stack)

    def to_arg_structure(self, value: Any, depth: int = 0) -> Any:
        """What user code returned, with tensors as nodes; objects with tensor attributes become dicts of them."""
        if isinstance(value, torch.Tensor | TracedInt | TracedFloat):
            return self.to_arg(value)
        if depth > 4:
            return None
        if isinstance(value, list | tuple):
            return [self.to_arg_structure(v, depth + 1) for v in value]
        if isinstance(value, dict):
            return {str(k): self.to_arg_structure(v, depth + 1) for k, v in value.items()}
        if hasattr(value, "__dict__") and not isinstance(value, type | torch.nn.Module):
            return {k: self.to_arg_structure(v, depth + 1) for k, v in vars(value).items()}
        return value if isinstance(value, int | float | str | bool | None) else None

    def failure(self, error: BaseException) -> Failure:
        """What was under way when user code raised."""
        spans = self.spans.of_traceback(error)
        births = self.modules.births_of_active()
        if self.current is None:
            return Failure(error, spans, module=self.modules.path, births=births)
        func, args, kwargs, frame = self.current
        own = self.spans.stack(frame)
        return Failure(
            error, own or spans, func, (*self.to_arg(tuple(args)), *(self.to_arg(v) for v in kwargs.values())), self.modules.path, births
        )
