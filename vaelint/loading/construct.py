"""Constructor arguments that nobody gave: inferred from the input where name, use and shape agree, else asked for. Imports no torch."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import re
import textwrap
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vaelint.core.inputs import InputSet, InputSpec
from vaelint.late import dataclass
from vaelint.loading.inherited import constructor_tree, constructors, full_signature
from vaelint.loading.names import Means, meanings

LATENT_SIZE, HIDDEN_SIZE = 20, 128

_MADE_UP: dict[Means, tuple[object, str]] = {
    Means.LATENT: (LATENT_SIZE, "the latent size is not given"),
    Means.HIDDEN: (HIDDEN_SIZE, "the hidden size is not given"),
    Means.CODES: (64, "the codebook size is not given"),
    Means.LAYERS: (1, "the number of layers is not given"),
    Means.DROPOUT: (0.0, "no dropout"),
    Means.WEIGHT: (1.0, "the weight of the ELBO"),
    Means.DEVICE: ("cpu", "the device"),
}

_LAYERS = {  # the first parameter of a layer and what it says of a size handed to it
    "Linear": ("in_features", "features"), "LazyLinear": ("", ""), "Bilinear": ("in1_features", "features"),
    "Conv1d": ("in_channels", "channels"), "Conv2d": ("in_channels", "channels"), "Conv3d": ("in_channels", "channels"),
    "LSTM": ("input_size", "step"), "GRU": ("input_size", "step"), "RNN": ("input_size", "step"),
    "LSTMCell": ("input_size", "step"), "GRUCell": ("input_size", "step"), "Embedding": ("num_embeddings", "words"),
}  # fmt: skip


@dataclass(frozen=True)
class Guess:
    """A value for a constructor argument and where it comes from; `made_up` when no size of the input speaks for it."""

    value: object
    reason: str
    made_up: bool = False


def guess(parameter: inspect.Parameter, inputs: InputSet, uses: frozenset[str], namespace: Mapping[str, Any]) -> Guess | None:
    """A value for one required constructor argument, None where there is doubt.

    `uses` says what the constructor does with it: "features", "channels", "step", "words" (which layers it sizes), "list" (iterated or
    indexed), "keys" or "attributes" (read as `config["x"]` or `config.x`).
    """
    annotation = annotation_of(parameter, namespace)
    if configured := _configuration(annotation):
        return configured
    if uses & {"keys", "attributes"}:
        return None  # a configuration, whatever its name says
    means = meanings(parameter.name)
    wants_list = "list" in uses or _is_list(annotation)
    if not wants_list and annotation not in (None, int, float, str, Any):
        return None
    if inputs.specs:
        known = (_size(m, inputs, uses, wants_list) for m in means)
        if found := next((g for g in known if g is not None), None):
            return found
    for m in means:
        if m in _MADE_UP and (not wants_list or m is Means.HIDDEN):
            value, reason = _MADE_UP[m]
            return Guess([HIDDEN_SIZE, HIDDEN_SIZE // 2] if wants_list else value, reason, True)
    return None


def _size(means: Means, inputs: InputSet, uses: frozenset[str], wants_list: bool) -> Guess | None:
    """A size of the input that `means` names, if it has just one such size."""
    first, shown = inputs.specs[0], _shown(inputs, 0)
    sizes = [size for size, symbol in zip(first.sizes, inputs.dims[0], strict=True) if symbol != inputs.batch]
    is_image = len(sizes) == 3
    shape, sizes = tuple(sizes), _channels_first(sizes, inputs.dims[0])
    if means is Means.SHAPE:
        return Guess(shape, f"the shape of {shown}")
    if means is Means.SIDE and is_image and (wants_list or sizes[-1] == sizes[-2]):
        return Guess((sizes[-2], sizes[-1]) if wants_list else sizes[-1], f"the image size of {shown}")
    if wants_list and means is Means.FEATURES and is_image:
        return Guess(shape, f"the shape of {shown}")  # `input_size` that is indexed is a shape; others are tried where it does not fit
    if wants_list:
        return None
    if means is Means.BATCH and inputs.batch:
        return Guess(inputs.symbols[inputs.batch], f"the batch size of {shown}")
    if means is Means.CLASSES:
        return _classes(inputs)
    if means is Means.WORDS:
        return _words(inputs)
    if means is Means.STEPS and (len(sizes) == 2 or (len(sizes) == 1 and first.is_integer)):
        return Guess(sizes[0], f"the length of {shown}")
    if means is Means.CHANNELS and (len(sizes) >= 3 or (len(sizes) == 2 and "channels" in uses)):
        return Guess(sizes[0], f"the channels of {shown}")
    if means in (Means.HEIGHT, Means.WIDTH) and is_image:
        return Guess(sizes[-2 if means is Means.HEIGHT else -1], f"the image size of {shown}")
    if means in (Means.FEATURES, Means.OUTPUTS) and not first.is_integer:
        return _features(sizes, shown, uses, means)
    return None


def _channels_first(sizes: list[int], dims: Sequence[str]) -> list[int]:
    """The sizes of a sample; of an image whose channels come last, as Keras has it, in torch's order."""
    return [sizes[-1], *sizes[:-1]] if len(sizes) == 3 and dims[-1] == "C" else sizes


def size_of(name: str, inputs: InputSet) -> int | None:
    """The size of the input that an entry of a configuration goes by; None where its name does not say one."""
    if not inputs.specs:
        return None
    known = (_size(m, inputs, frozenset(), False) for m in meanings(name)[:1])
    found = next((g.value for g in known if g is not None), None)
    return found if type(found) is int else None


def _features(sizes: list[int], shown: str, uses: frozenset[str], means: Means) -> Guess | None:
    """What `input_dim` means: the last size of a matrix; for more sizes it takes the layers it goes into to tell."""
    if len(sizes) == 1:
        return Guess(sizes[0], f"the last size of {shown}")
    layers = uses & {"features", "channels", "step"}
    if len(sizes) == 2 and ("step" in layers or means is Means.OUTPUTS) and "channels" not in layers:
        return Guess(sizes[-1], f"the features of each step of {shown}")
    if len(sizes) >= 2 and layers == {"channels"}:
        return Guess(sizes[0], f"the channels of {shown}")
    if len(sizes) >= 3 and layers == {"features"}:
        return Guess(math.prod(sizes), f"all sizes of {shown} but the batch, multiplied")
    return None


def _classes(inputs: InputSet) -> Guess | None:
    """The number of labels: from the range of an integer input beside the first, or the last size of a float one."""
    for i in range(1, len(inputs.specs)):
        spec = inputs.specs[i]
        if spec.is_integer and spec.whole_range is not None and len(spec.sizes) <= 1:
            return Guess(spec.whole_range[1] + 1, f"the range of {_shown(inputs, i)}")
        if not spec.is_integer and len(spec.sizes) == 2:
            return Guess(spec.sizes[-1], f"the last size of {_shown(inputs, i)}")
    return None


def _words(inputs: InputSet) -> Guess | None:
    for i, spec in enumerate(inputs.specs):
        if spec.is_integer and spec.whole_range is not None and len(spec.sizes) >= 2:
            return Guess(spec.whole_range[1] + 1, f"the range of {_shown(inputs, i)}")
    return None


def _shown(inputs: InputSet, index: int) -> str:
    spec: InputSpec = inputs.specs[index]
    shape = "x".join(map(str, spec.sizes))
    return f"{spec.name}={shape}" if spec.name else shape


def annotation_of(parameter: inspect.Parameter, namespace: Mapping[str, Any]) -> object:
    """The annotation as an object; texts are evaluated in the module's namespace, None if that fails or there is none."""
    annotation: object = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return None
    if isinstance(annotation, str):
        try:
            return eval(annotation, dict(namespace))  # as typing.get_type_hints does, one at a time
        except Exception:  # noqa: BLE001  (an annotation that cannot be read tells nothing)
            return None
    return annotation


def _is_list(annotation: object) -> bool:
    origin = typing.get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, Iterable) and origin is not str


def _configuration(annotation: object) -> Guess | None:
    """A configuration object whose class has a default for everything."""
    if not isinstance(annotation, type) or annotation.__module__ in ("builtins", "typing") or hasattr(annotation, "forward"):
        return None
    if not (
        dataclasses.is_dataclass(annotation) or re.search(r"(config|cfg|params|args|options|settings)$", annotation.__name__, re.IGNORECASE)
    ):
        return None
    if any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in signature_of(annotation).parameters.values()):
        return None
    return Guess(annotation(), f"{annotation.__name__} with its defaults", True)


def signature_of(obj: Callable[..., Any]) -> inspect.Signature:
    """The parameters of a constructor or factory, without `self`; empty where Python cannot tell."""
    try:
        return full_signature(obj) if isinstance(obj, type) else inspect.signature(obj)
    except (TypeError, ValueError):
        return inspect.Signature()


def uses_of(obj: object, name: str, namespace: Mapping[str, Any], depth: int = 4) -> frozenset[str]:
    """What a constructor (or factory) does with its parameter `name`, followed into the classes of the same module that it hands it to."""
    tree = _source(obj, name)
    if tree is None or depth == 0:
        return frozenset()
    aliases = {name} | {f"self.{node.attr}" for node in _copies(tree, name)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found |= _use_in_call(node, aliases, namespace, depth)
            if isinstance(node.func, ast.Name) and node.func.id in ("len", "enumerate", "zip", "reversed", "list", "sum"):
                found |= {"list"} if any(_is(arg, aliases) for arg in node.args) else set()
        elif isinstance(node, ast.For | ast.comprehension) and _is(node.iter, aliases):
            found.add("list")
        elif isinstance(node, ast.Subscript) and _is(node.value, aliases):
            found.add("keys" if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str) else "list")
        elif isinstance(node, ast.Attribute) and _is(node.value, aliases):
            methods = ("get", "items", "keys", "values", "pop", "update", "setdefault", "copy")
            found.add("keys" if node.attr in methods else "attributes")
    return frozenset(found)


def _source(obj: object, name: str) -> ast.AST | None:
    """The constructor that takes `name`, of the class or of a base of it; the function, where `obj` is one."""
    if isinstance(obj, type):
        own = constructors(obj)
        taking = next((c for c in own if name in inspect.signature(vars(c)["__init__"]).parameters), own[0] if own else obj)
        return constructor_tree(taking)
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(obj)))  # type: ignore[arg-type]
    except (OSError, TypeError, SyntaxError, ValueError):
        return None


def _copies(tree: ast.AST, name: str) -> list[ast.Attribute]:
    """The attributes of self that are plain copies of the parameter."""
    assigns = [n for n in ast.walk(tree) if isinstance(n, ast.Assign) and isinstance(n.value, ast.Name) and n.value.id == name]
    return [
        t for n in assigns for t in n.targets if isinstance(t, ast.Attribute) and isinstance(t.value, ast.Name) and t.value.id == "self"
    ]


def _is(node: ast.AST, aliases: set[str]) -> bool:
    return isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in aliases


def _use_in_call(node: ast.Call, aliases: set[str], namespace: Mapping[str, Any], depth: int) -> set[str]:
    called = ast.unparse(node.func).rpartition(".")[2]
    if called in _LAYERS:
        keyword, use = _LAYERS[called]
        is_first = bool(node.args) and _is(node.args[0], aliases)
        return {use} if is_first or any(k.arg == keyword and _is(k.value, aliases) for k in node.keywords) else set()
    callee = namespace.get(called) if isinstance(node.func, ast.Name) else None
    if not isinstance(callee, type) or not hasattr(callee, "forward"):
        return set()
    names = list(signature_of(callee).parameters)
    handed = [names[i] for i, arg in enumerate(node.args) if i < len(names) and _is(arg, aliases)]
    handed += [k.arg for k in node.keywords if k.arg and _is(k.value, aliases)]
    return {use for name in handed for use in uses_of(callee, name, namespace, depth - 1)}
