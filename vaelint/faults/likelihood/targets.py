"""Targets that are not the clean data: a corrupted input, a constant, something of the model's own making."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.loss.layered import layered_nodes
from vaelint.anatomy.loss.terms import Leaf
from vaelint.core.finding import Span
from vaelint.experiment.recompute import in_place
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape, span
from vaelint.replay.exempt import exempt
from vaelint.replay.per_model import per_model
from vaelint.replay.replay import ReplayError
from vaelint.trace.torch_private import storage_of

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


_OF_CODES = ("kl", "discrepancy", "vq")


@dataclass(frozen=True)
class Corruption:
    """A target that is not the clean data."""

    node: fx.Node
    draw: fx.Node | None
    what: str


def wrong_target(model: Model, fact: ReconFact) -> Corruption | None:
    """A target that was corrupted, and that the model was given as it is: a denoising model that learns the noise."""
    target = fact.pair.target
    if target is None or target in model.decoded:
        return None
    above = model.flow.ancestors(target)
    draws = [n for n in above if (ops.is_random(n) and "normal" in ops.op(n)) or ops.op(n) in ("randn", "randn_like")]
    added = [n for n in above if ops.op(n) in ops.ADD and any(i in model.flow.pure_noise for i in ops.value_inputs(n))] if draws else []
    hidden = [n for n in model.flow.sorted(above) if _drops_out(model, n, fact)]
    corrupted = [a for a in (*added, *hidden) if not _writes_an_input(model, a)]  # then there are no clean data to compare with: a law's
    if not any(a in model.flow.ancestors(*fact.pair.raw) for a in corrupted) or _predicts(model, fact, draws):
        return None
    if exempt(model, "VAE306", VIEWS if hidden else CORRUPTIONS, target, model, target) or _is_met_again(model, fact):
        return None
    return Corruption(target, draws[0] if added else hidden[0], "the target is the corrupted input")


def _in_part(model: Model, target: fx.Node) -> bool:
    """Whether a target's noise is at some of its places, the same ones for all samples: other draws leave the other places as they are.

    Whoever is to take noise off gets it everywhere; noise on chosen columns is what these quantities are given on purpose.
    """
    axis = next((d for d, text in enumerate(model.dims(target)) if text == "B"), None)
    if axis is None:
        return False
    try:
        one, other = (model.replay([target], {}, model.symbols, seed=seed)[target] for seed in (0, 1))
    except ReplayError:
        return False
    moved = (one != other).any(axis)
    return bool(moved.any()) and not bool(moved.all())


def _is_augmented(model: Model, target: fx.Node) -> bool:
    """Whether the data were changed by other draws too, which nothing adds to them, as a turn is: jitter of another pose is no noise to
    take off, as there are no clean data in that pose."""
    flow = model.flow
    above = flow.ancestors(target)
    added = {i for n in above if ops.op(n) in ops.ADD for i in ops.value_inputs(n) if i in flow.pure_noise}
    others = (flow.random & above) - flow.ancestors(*added) - added
    met = {n for n in above & flow.descendants(*others) if n in flow.data and ops.op(n) in ops.PRODUCT | ops.MUL}
    return bool(met)


def _is_one_of_views(model: Model, target: fx.Node) -> bool:
    """Whether the same code changes the same data by other draws as well: views of one sample, of which none is the clean one."""
    flow = model.flow
    above = flow.ancestors(target) | {target}
    drawn = {span(n) for n in above if n in flow.random} - {None}
    others = {n for n in model.record.graph.nodes if n in flow.random and n not in above and span(n) in drawn}
    given = set(model.record.inputs.values()) & above
    met = {n for n in flow.descendants(*others) - flow.learned if n in flow.data} if others else set()
    return any(given and given <= flow.ancestors(n) for n in met)


VIEWS = (("one of several views of the same data, which are drawn by the same code", _is_one_of_views),)
"""What keeps the rule silent about data that were changed at random, whatever by."""

CORRUPTIONS = (
    *VIEWS,
    ("noise on a part of the data, the same for all samples", _in_part),
    ("jitter beside a turn that was drawn", _is_augmented),
)
"""What keeps the rule silent about noise that the encoder saw too."""


def _predicts(model: Model, fact: ReconFact, draws: list[fx.Node]) -> bool:
    """Whether it is the noise that is predicted, and the corrupted input is what the decoder starts from: a diffusion's decoder."""
    flow, leaf = model.flow, fact.pair.leaf.node
    for node in (leaf, *flow.ancestors(leaf, stop=set(fact.pair.raw))):
        ins = ops.value_inputs(node)
        noise = [i for i in ins if i in flow.pure_noise and not flow.ancestors(i).isdisjoint(draws)]
        if noise and any(i in flow.learned for i in ins):
            return True
    return False


def _is_met_again(model: Model, fact: ReconFact) -> bool:
    """Whether what the network put out meets the data once more on its way to the term: what it met first, the corrupted input, is what
    it was taken off from, and not what it is compared with. So the mean of a diffusion's posterior is made.

    Source: Nichol & Dhariwal 2021, Improved Denoising Diffusion Probabilistic Models, eq. 9 and 10.
    """
    flow, leaf = model.flow, fact.pair.leaf.node
    for node in flow.descendants(fact.pair.meet) & (flow.ancestors(leaf) | {leaf}) - {fact.pair.meet}:
        beside = [i for i in ops.value_inputs(node) if i in flow.data and i not in flow.learned and shape(i) == shape(fact.pair.meet)]
        if ops.op(node) in ops.ADD and beside:
            return True
    return False


def _writes_an_input(model: Model, node: fx.Node) -> bool:
    """Whether an operation changes an input itself, or a view of one."""
    val = node.meta.get("val")
    if not in_place(node) or not isinstance(val, torch.Tensor) or (memory := storage_of(val)) is None:
        return False
    entered = (n.meta.get("val") for n in model.record.inputs.values())
    return any(isinstance(v, torch.Tensor) and storage_of(v) == memory for v in entered)


def _drops_out(model: Model, node: fx.Node, fact: ReconFact) -> bool:
    """Whether some elements of the data are set to 0 at random, and the error is not taken at the others only."""
    flow = model.flow
    ins = [n for n in ops.value_inputs(node) if isinstance(n.meta.get("val"), torch.Tensor)]
    if not ins or not any(n in flow.data and n not in flow.learned for n in ins):
        return False
    if ops.op(node) == "dropout":
        return bool(node.meta.get("training")) and node in flow.data
    if ops.op(node) not in ops.MUL or len(ins) != 2:
        return False
    mask = next((n for n in ins if n in flow.pure_noise), None)
    if mask is None or shape(mask) != shape(node):
        return False
    made = flow.ancestors(mask)
    switches = {n for n in made if ops.op(n) in ops.COMPARE | {"bernoulli"}}
    weighed = {i for n in (*fact.pair.leaf.chain, *flow.descendants(fact.pair.meet)) if ops.op(n) in ops.MUL for i in ops.value_inputs(n)}
    return bool(switches) and not any(switches & flow.ancestors(i) for i in weighed if i not in flow.learned)


@dataclass(frozen=True)
class _Compared:
    """An addend that compares what was decoded with something, in a model whose terms compare nothing with the data."""

    model: Model
    operands: list[fx.Node]
    own: set[fx.Node]  # what was decoded, or made of a draw

    def fixed_features(self) -> bool:
        """What networks that are not trained make of the data is the data of what comes after them."""
        return any(n in self.model.flow.data and n not in self.own and _fixed(self.model, n) for n in self.operands)

    def kept_data(self) -> bool:
        """What the model was built with, one value for each sample: a graph, the colours of one scene. Of one value it would be none."""
        return any(n not in self.own and _fixed(self.model, n) and _differs(self.model, n) for n in self.operands)


def _reconstructs(model: Model) -> bool:
    """A term compares the reconstruction with the data."""
    return bool(model.recons) or any(t.role in ("reconstruction", "mixed") for t in model.terms)


def _draws_apart(model: Model) -> bool:
    """A draw that was not understood: encoder and decoder cannot be told apart."""
    return not model.sites and bool(model.flow.random & model.reaching_loss)


def _reads_codes(model: Model) -> bool:
    """A step of what reads the codes, a discriminator's say."""
    return bool(model.sites) and not any(requires(s.z) for s in model.sites)


def _compares_elsewhere(model: Model) -> bool:
    """An addend holds what was decoded beside the data, without being a term that was understood."""
    encoded = model.flow.ancestors(*[h for s in model.sites for h in s.heads]) - set(model.record.inputs.values())
    own = _of_own_making(model)
    return any(_sees_data(leaf, model, encoded | own) for leaf in model.leaves if leaf.role not in _OF_CODES)


MODELS = (
    ("a draw whose posterior is not known", _draws_apart),
    ("a step that does not train the encoder", _reads_codes),
    ("the reconstruction meets the data in another term", _compares_elsewhere),
)
ADDENDS = (
    ("features of the data from layers that are not trained", _Compared.fixed_features),
    ("data that the model was built with", _Compared.kept_data),
)
"""What keeps the rule silent about a model without a reconstruction term, and about one of its addends."""


@per_model
def self_targets(model: Model) -> list[Corruption]:
    """Terms that compare the reconstruction with something of the model's own making, where none compares it with the data."""
    if _reconstructs(model) or exempt(model, "VAE306", MODELS, None, model):
        return []
    found = []
    own = _of_own_making(model)
    for leaf in model.leaves:
        if not any(f in model.decoded for f in leaf.frontier) or leaf.role in _OF_CODES:
            continue
        node = _comparison(leaf.node, model)
        if node is None:
            continue
        operands = (ops.tensors(node.args) + ops.tensors(dict(node.kwargs)))[:2]
        if leaf.role == "prior" and not _decoded_beside_latent(model, operands) and not _decoded_by_product(model, operands):
            continue  # what was decoded are parameters of a prior
        if _drawn_and_encoded(model, [o for o in operands if o not in own]):
            continue
        if not exempt(model, "VAE306", ADDENDS, node, _Compared(model, operands, own)):
            other = next((n for n in operands if not requires(n)), operands[-1] if operands else None)
            found.append(Corruption(node, other, f"the target is {_called(model, other)}"))
    return found


def _drawn_and_encoded(model: Model, targets: Sequence[fx.Node]) -> bool:
    """Whether a target is made of what the step draws and the encoder reads, which is data: `links = torch.randint(0, 2, (18, 18))`."""
    drawn = model.flow.ancestors(*(h for s in model.sites for h in s.heads)) & model.flow.random
    return any((model.flow.ancestors(t) | {t}) & drawn for t in targets)


def _of_own_making(model: Model) -> set[fx.Node]:
    return model.decoded | model.flow.descendants(*(s.z for s in model.sites))


def _called(model: Model, other: fx.Node | None) -> str:
    """What the reconstruction is compared with, in words."""
    if other is not None and other in {s.z for s in model.sites}:
        return "z"
    return "a constant" if other is not None and other not in model.flow.data else "the model's own output"


def _differs(model: Model, node: fx.Node) -> bool:
    """Whether a kept tensor has rows that are not alike."""
    behind = (node, *model.flow.ancestors(node))
    if not any(n.op == "get_attr" for n in behind) or any(n in model.flow.data or n in model.flow.random for n in behind):
        return False
    try:
        value = model.replay([node], {}, model.symbols)[node]
    except ReplayError:
        return False
    return value.ndim > 0 and len(value) > 1 and not bool((value == value[:1]).all())


def _fixed(model: Model, node: fx.Node) -> bool:
    """Whether no trainable parameter stands behind a value."""
    return not gradients_of(model).names(model.flow.ancestors(node))


def _sees_data(leaf: Leaf, model: Model, made: set[fx.Node]) -> bool:
    """Whether an addend holds what was decoded beside the data that were encoded, or features of them that another network makes."""
    given = model.flow.ancestors(*(h for s in model.sites for h in s.heads)) & set(model.record.inputs.values())
    met = {*leaf.frontier, *leaf.factors, *ops.tensors(leaf.node.args), *ops.tensors(dict(leaf.node.kwargs))}
    beside = [n for n in met if n in model.flow.data and n not in made]
    return any(f in model.decoded for f in leaf.frontier) and any(not given or model.flow.ancestors(n) & given for n in beside)


def _decoded_beside_latent(model: Model, operands: list[fx.Node]) -> bool:
    """Whether one of two operands is z itself and the other was made of z by layers: `decoder(z) - z`."""
    z = {s.z for s in model.sites}
    made = layered_nodes(model.flow, model.sites)
    return any(o in z for o in operands) and any(o in made for o in operands)


def _decoded_by_product(model: Model, operands: list[fx.Node]) -> bool:
    """Whether an operand is made of products of z with itself: a decoder without layers, as `z @ z.t()` is that of a graph."""
    z = {s.z for s in model.sites}
    below = model.flow.descendants(*z)
    products = {n for n in below if ops.op(n) in ops.PRODUCT and all(i in below for i in ops.value_inputs(n))}
    return any(model.flow.ancestors(o, stop=z) & products for o in operands)


def requires(node: fx.Node) -> bool:
    """Whether gradients flow into a value."""
    return bool(node.meta.get("grad"))


def _comparison(node: fx.Node, model: Model) -> fx.Node | None:
    """The operation inside an addend that compares two values: a loss function, or the difference that is squared."""
    if ops.op(node) in ops.LOSSES:
        return node
    if ops.op(node) in ("pow", "square", "abs", "mul"):
        inner = [n for n in ops.value_inputs(node) if ops.op(n) in ("sub", "rsub")]
        return inner[0] if inner else None
    return None


def chosen_at(model: Model, fact: ReconFact) -> Span | None:
    """Where the target was chosen: the assignment that names the value, the call that hands it to a helper, else the comparison."""
    target = fact.pair.target
    stack = tuple(s for s in fact.pair.meet.meta.get("stack") or () if s is not None)
    here = span(fact.pair.meet)
    if here is None or target is None:
        return here
    for place in (here, *stack[1:]):
        if (named := _renamed(model, place) or _rebound(model, place, target)) is not None:
            return named
        here = place
        if not _is_handed(model, place, target):
            break
    return here


def _renamed(model: Model, place: Span) -> Span | None:
    """The assignment of one name to another that an expression reads."""
    file = model.source.file(place.file)
    expression = file.at(place)
    names = {n.id for n in ast.walk(expression) if isinstance(n, ast.Name)} if expression is not None else set()
    for function in file.functions():
        if not function.lineno <= place.line <= (function.end_lineno or function.lineno):
            continue
        for node in ast.walk(function):
            if (
                isinstance(node, ast.Assign)
                and node.lineno < place.line
                and isinstance(node.value, ast.Name)
                and any(t in names for t in _named(node))
                and not any(
                    _named(n) & _named(node) and node.lineno < n.lineno < place.line for n in ast.walk(function) if isinstance(n, ast.stmt)
                )
            ):
                return Span(place.file, node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1)
    return None


def _named(node: ast.AST) -> set[str]:
    """The names that an assignment gives a value to."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    return {t.id for t in targets if isinstance(t, ast.Name)}


def _rebound(model: Model, place: Span, target: fx.Node) -> Span | None:
    """Where the name that an expression reads was given another value, made of its own: `x = F.dropout(x)` leaves no other to compare."""
    file = model.source.file(place.file)
    expression = file.at(place)
    made = {s.line for s in (span(target), *(target.meta.get("stack") or ())) if s is not None and s.file == place.file}
    read = {n.id for n in ast.walk(expression) if isinstance(n, ast.Name)} if expression is not None else set()
    for function in file.functions():
        if not function.lineno <= place.line <= (function.end_lineno or function.lineno):
            continue
        for node in (n for n in ast.walk(function) if isinstance(n, ast.Assign) and n.lineno in made):
            own = {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
            if _named(node) & own & read:
                return Span(place.file, node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1)
    return None


def _is_handed(model: Model, place: Span, target: fx.Node) -> bool:
    """Whether a function gets the target from its caller, and makes nothing of the data or the noise by itself."""
    function = model.source.function(place)
    made = {s for n in (target, *model.flow.ancestors(target)) if n.op == "call_function" and (s := span(n)) is not None}
    if function is None or not made:
        return False
    within = range(function.lineno, (function.end_lineno or function.lineno) + 1)
    return not any(s.file == place.file and s.line in within for s in made)
