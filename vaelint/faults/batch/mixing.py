"""What happens to the batch between the input and the reconstruction: samples cut apart, mixed, read as time, split, merged with
channels."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.posterior.codebooks import written_into
from vaelint.faults.batch.second_axis import samples_along_second
from vaelint.faults.batch.walked import walked_rows
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.per_model import per_model
from vaelint.replay.samples import PICKS, Meets, Samples

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_TURNS = frozenset({"transpose", "permute", "t", "T", "mT", "H", "adjoint", "movedim", "moveaxis", "swapaxes", "swapdims"})
_REPEATS = frozenset({"repeat", "tile", "repeat_interleave"})
_KEEPS = ops.POINTWISE | ops.SHAPE | {"effect", "batch_norm"}


@dataclass(frozen=True)
class Mixing:
    """Samples of the batch come together at `node`, because of what `cause` did to `source`."""

    cause: fx.Node
    source: fx.Node
    node: fx.Node


class Batch:
    """What becomes of the batch axis in one model."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @cached_property
    def axes(self) -> dict[fx.Node, int]:
        """The batch axis of each input that has one; empty when an input has two (a graph over the batch: mixing is meant)."""
        inputs, batch = self._model.inputs, self._model.inputs.batch
        found: dict[fx.Node, int] = {}
        names = list(self._model.record.inputs)
        size = self._model.record.sizes.get(batch or "", 0)
        if batch is None or size < 2:
            return {}
        for name, dims in zip(names, inputs.dims, strict=False):
            at = [i for i, d in enumerate(dims) if d == batch]
            node = self._model.record.inputs[name]
            if len(at) > 1 or (at and at[0] == 0 and len(dims) == 2 and shape(node)[1] == size and len(names) > 1):
                return {}
            if at:
                found[node] = at[0]
        return found

    @cached_property
    def samples(self) -> Samples | None:
        """Labels of every node; None when there is no batch to follow."""
        return Samples(self._model.record, self.axes) if self.axes else None

    @cached_property
    def _path(self) -> set[fx.Node]:
        """What the posterior, z, the reconstruction and the model's outputs are made of. The loss may mix on purpose."""
        model = self._model
        ends = {n for n in _tensors(model.record.output) if len(shape(n)) > 1}
        if not ends and not self._coded and model.record.loss is not None:
            ends = {model.record.loss}
        return self._coded | model.flow.ancestors(*ends)

    @cached_property
    def _coded(self) -> set[fx.Node]:
        """What the posterior, z and the reconstruction are made of. A critic among the outputs may be shown samples that were exchanged."""
        model = self._model
        ends: set[fx.Node] = {s.z for s in model.sites} | {h for s in model.sites for h in s.heads}
        ends |= {n for t in model.terms_of("reconstruction") for leaf in t.leaves for n in leaf.frontier if n in model.flow.learned}
        return model.flow.ancestors(*ends)

    @cached_property
    def _kept(self) -> set[fx.Node]:
        """What reaches the loss only by what a parameter or buffer is set to, as a codebook follows a moving average of the batch."""
        model = self._model
        states = {n for n in model.record.graph.nodes if ops.op(n) == "effect" and written_into(n) is not None}
        if not states:
            return set()
        ends = {n for n in (model.record.loss, *_tensors(model.record.output)) if n is not None} - states
        return model.flow.ancestors(*states) - model.flow.ancestors(*ends, stop=states)

    @cached_property
    def _meetings(self) -> list[Meets]:
        return self.samples.meetings if self.samples and not self.runs_over_time else []

    def mixed(self) -> list[Mixing]:
        """VAE103: a view that cuts samples apart, or a layer that sums over the batch axis that was turned to where it sums."""
        found: list[Mixing] = []
        samples = self.samples
        if samples is None:
            return found
        reach = (self._model.reaching_loss or self._path) - self._kept
        codes = (self._coded or self._path) - self._kept
        for meeting in self._meetings:
            cut = self._cut(meeting)
            if cut is not None and meeting.node in reach:
                cut = self._laid_otherwise(meeting) or cut
                found.append(Mixing(cut, ops.value_inputs(cut)[0], meeting.node))
            elif cut is None and meeting.how == "contracted" and meeting.node in codes and not _is_product(meeting.node):
                turned = self._turned(meeting.operands[0])
                cause = turned or self._laid_otherwise(meeting) or meeting.node
                found.append(Mixing(cause, ops.value_inputs(cause)[0], meeting.node))
        return found + self._merged() + self._misaligned()

    def _misaligned(self) -> list[Mixing]:
        """A loss that holds the output for one sample against the data of another: one side was repeated whole (`repeat`), the other sample
        by sample (`repeat_interleave`)."""
        samples, model = self.samples, self._model
        found = []
        for meeting in self._meetings:
            sides = meeting.operands
            learned = [n in model.flow.learned for n in sides]
            if meeting.how != "combined" or meeting.crossed or len(sides) != 2 or sum(learned) != 1 or samples is None:
                continue
            if meeting.node not in model.reaching_loss:
                continue
            repeats = [[n for n in model.flow.sorted(model.flow.ancestors(side)) if ops.op(n) in _REPEATS] for side in sides]
            wrong = next((i for i, side in enumerate(sides) if repeats[i] and self._regrouped(meeting.node, side) is False), None)
            wrong = wrong if wrong is not None else 1 - learned.index(True)  # no later view tells which is right: the data's
            if all(repeats):
                cause = repeats[wrong][-1]
                found.append(Mixing(cause, ops.value_inputs(cause)[0], meeting.node))
        return found

    def _regrouped(self, meeting: fx.Node, side: fx.Node) -> bool | None:
        """Whether a later view of (B * K) as (B, K) or (K, B) puts the entries of one sample together, by the labels of one side. None
        where there is no such view."""
        labels = self.samples.of(side) if self.samples is not None else None
        if labels is None:
            return None
        flow, count = self._model.flow, labels.shape[0]
        for node in flow.sorted(flow.descendants(meeting)):
            size = shape(node)[:2]
            if ops.op(node) in ("view", "reshape", "unflatten") and len(size) == 2 and size[0] * size[1] == count:
                table = labels.reshape(count, -1)[:, 0].reshape(size)
                return bool((table == table[:, :1]).all()) or bool((table == table[:1]).all())
        return None

    def _laid_otherwise(self, meeting: Meets) -> fx.Node | None:
        """Where two sides meet, and a later view puts the samples of one side together again and not those of the other: what laid out
        the rows of the other side."""
        data = [n for n in meeting.operands if n in self._model.flow.data]
        sides = [m for n in data for m in (ops.value_inputs(n) if ops.op(n) in ops.JOIN else [n])]
        fits = [self._regrouped(meeting.node, side) for side in sides]
        if len(sides) != 2 or set(fits) != {True, False}:
            return None
        node = sides[fits.index(False)]
        count = shape(node)[0]
        while ops.op(node) in _KEEPS and (behind := ops.value_inputs(node)) and shape(behind[0])[:1] == (count,):
            node = behind[0]
        return node if ops.op(node) in _REPEATS | ops.SHAPE else None

    def _merged(self) -> list[Mixing]:
        """`x.view(-1, H*W)` of an image with channels: each channel becomes a sample of its own, down to z."""
        found = []
        for node, axis in self.axes.items():
            size = shape(node)
            if axis != 0 or len(size) != 4 or size[1] == 1:
                continue
            for user in self._model.flow.users.get(node, ()):
                out = shape(user)
                flattens = ops.op(user) in ("view", "reshape") and out == (size[0] * size[1], size[2] * size[3])
                if flattens and _first_size(user) == -1 and any(shape(s.z)[:1] == out[:1] for s in self._model.sites):
                    found.append(Mixing(user, node, user))
        return found

    def as_time(self) -> list[Mixing]:
        """VAE104: a recurrence or attention that runs over the samples, or the last sample taken for the last step."""
        found: list[Mixing] = []
        if self.runs_over_time:
            return found
        for meeting in self._meetings:
            if meeting.how == "recurrent" and meeting.node in self._path and self._cut(meeting) is None:
                found.append(Mixing(meeting.node, meeting.operands[0], meeting.node))
        for node, source in (self.samples.picked if self.samples else {}).items():
            one = self.samples.of(node) if self.samples else None
            if (
                one is not None
                and one.numel() == 1
                and node in self._path
                and any(n in self._heads_of_one(node) for n in (h for s in self._model.sites for h in s.heads))
            ):
                found.append(Mixing(node, source, node))
        return found

    @cached_property
    def walked(self) -> bool:
        """Whether the step takes entry after entry of what is called the batch, of the data or of what is made of it."""
        if self.samples is None:
            return False
        return any(self._walked_through(source) for source in set(self.samples.picked.values())) or bool(walked_rows(self._model))

    def _walked_through(self, source: fx.Node) -> bool:
        """Whether entry after entry is taken out, to the last: a loop of the user's own over an axis of time, which it calls so."""
        assert self.samples is not None
        ones = [one for n, of in self.samples.picked.items() if of is source and (one := self.samples.of(n)) is not None]
        return len({int(one.max()) for one in ones if one.numel() == 1}) == shape(source)[0] > 1

    @property
    def runs_over_time(self) -> bool:
        """Whether what is called the batch is time: loss or z go by the other axis, or the code goes along this one."""
        return self.time_first or self.walked or self.second

    @property
    def offer(self) -> str:
        """What to type where the sizes given put time first; empty where they do not."""
        node = next(iter(self.axes), None)
        walked = self.walked and len(self.axes) == 1 and node is not None and len(shape(node)) > 2 and not self.axes[node]
        if node is None or not (self.time_first or walked or self.second):
            return ""
        name = str(node.meta.get("input", node.name))
        said = " ".join(f"--input {n.meta.get('input', n.name)}={'x'.join(('T', 'B', *map(str, shape(n)[2:])))}" for n in self.axes)
        also = ", and averages over the second" if self.time_first else ""
        return f"the code runs over the first axis of {name} as time{also}: say so with {said}"

    @cached_property
    def second(self) -> bool:
        """Whether the samples are the rows of the second axis, by what z and the reconstruction are made of."""
        return samples_along_second(self._model, self.axes)

    @cached_property
    def time_first(self) -> bool:
        """Whether the data is `(T, B, ...)` after all: the loss is a mean over the second axis and not over the first, and along the
        second each sample keeps to itself from the input to z."""
        model = self._model
        scalings = [*(f.scaling for f in model.kls), *(f.scaling for f in model.recons)]
        weights = [s.exponents for s in scalings if s is not None]
        if len(weights) < 2 or len(self.axes) != 1 or not model.sites:
            return False
        (node,) = self.axes
        second = model.dims(node)[1] if len(shape(node)) > 2 else ""
        if not all(w.get(second) == -1 and not w.get(model.inputs.batch or "B") for w in weights):
            return False
        turned = Samples(model.record, {node: 1})
        own = [turned.of(s.z) for s in model.sites]
        before = model.flow.ancestors(*(s.z for s in model.sites))
        return not any(m.node in before for m in turned.meetings) and all(z is not None and z.numel() == shape(node)[1] for z in own)

    def _heads_of_one(self, node: fx.Node) -> set[fx.Node]:
        """Posterior heads that are made of one sample alone."""
        assert self.samples is not None
        below = self._model.flow.descendants(node)
        heads = {h for s in self._model.sites for h in s.heads if h in below}
        return {h for h in heads if (labels := self.samples.of(h)) is not None and labels.numel() == 1 and int(labels.max()) >= 0}

    def softmaxed(self) -> list[Mixing]:
        """VAE106: a softmax whose entries are of different samples."""
        return [
            Mixing(m.node, m.operands[0], m.node)
            for m in self._meetings
            if m.how == "softmax" and not m.crossed and (m.node in self._path or self._normalises_classes(m.node))
        ]

    def _normalises_classes(self, node: fx.Node) -> bool:
        """Whether a softmax in the loss leaves an axis of its own beside the batch: classes, not one weight for each sample."""
        model = self._model
        sizes = [n for d, n in enumerate(shape(node)) if n > 1 and model.inputs.batch not in model.dims(node)[d : d + 1]]
        return node in model.reaching_loss and bool(node.meta.get("grad")) and bool(sizes)

    def split(self) -> list[Mixing]:
        """VAE107: two parts of the batch, taken by chunk, split or a slice, that are put together as if they were two quantities."""
        found: list[Mixing] = []
        samples = self.samples
        if samples is None:
            return found
        for meeting in self._meetings:
            if meeting.how == "combined" and not meeting.crossed and meeting.node in self._path and self._cut(meeting) is None:
                cause = self._latest(meeting, {n for n in samples.picked if ops.op(n) in PICKS})
                if cause is not None:
                    found.append(Mixing(cause, samples.picked[cause], meeting.node))
        return found

    def _cut(self, meeting: Meets) -> fx.Node | None:
        """The view that put parts of several samples into a row before a meeting.

        Where the batch size divides the other axis, such a view leaves the samples in turn along one axis: one that was not meant to
        hold them, as a layer sums or runs over it.
        """
        assert self.samples is not None
        cut = self._latest(meeting, set(self.samples.cut))
        if cut is None and meeting.how in ("contracted", "recurrent", "reduced"):
            cut = self._latest(meeting, set(self.samples.refolded))
        return cut

    def _latest(self, meeting: Meets, among: set[fx.Node]) -> fx.Node | None:
        """The last of some nodes that the operands of a meeting come from."""
        flow = self._model.flow
        chain = flow.ancestors(*meeting.operands) & among
        return max(chain, key=flow.order.__getitem__, default=None)

    def _turned(self, operand: fx.Node) -> fx.Node | None:
        """The transposition that put the batch where it does not belong, if there is one right before."""
        for _ in range(8):
            if ops.op(operand) in _TURNS or self._moves_batch(operand):
                return operand
            sources = ops.value_inputs(operand)
            if ops.op(operand) not in _KEEPS or not sources:
                return None
            operand = sources[0]
        return None

    def _moves_batch(self, node: fx.Node) -> bool:
        """Whether a product leaves the batch on another axis than all its operands have it: `einsum("bij,bcj->cbi", ...)`."""
        samples = self.samples
        if samples is None or not _is_product(node):
            return False
        before = {self._axis_of(n) for n in ops.value_inputs(node)} - {None}
        after = self._axis_of(node)
        return after is not None and bool(before) and after not in before

    def _axis_of(self, node: fx.Node) -> int | None:
        """The one axis along which the entries of a node are of different samples."""
        labels = self.samples.of(node) if self.samples is not None else None
        axes = [d for d, n in enumerate(labels.shape) if n > 1] if labels is not None else []
        return axes[0] if len(axes) == 1 else None


@per_model
def batch_of(model: Model) -> Batch:
    """What becomes of the batch axis, worked out as it is asked for."""
    return Batch(model)


def mixed(model: Model) -> list[Mixing]:
    """VAE103: samples that are cut apart, merged or summed over."""
    return batch_of(model).mixed()


def read_as_time(model: Model) -> list[Mixing]:
    """VAE104: layers that run over the samples."""
    return batch_of(model).as_time()


def softmaxed(model: Model) -> list[Mixing]:
    """VAE106: softmaxes over the samples."""
    return batch_of(model).softmaxed()


def split(model: Model) -> list[Mixing]:
    """VAE107: parts of the batch that are taken for two quantities."""
    return batch_of(model).split()


def _is_product(node: fx.Node) -> bool:
    return ops.op(node) in ops.PRODUCT or ops.op(node) == "scaled_dot_product_attention"


def _first_size(node: fx.Node) -> object:
    sizes = node.args[1] if len(node.args) > 1 else None
    return sizes[0] if isinstance(sizes, tuple | list) and sizes else sizes


def _tensors(output: object) -> list[fx.Node]:
    if isinstance(output, fx.Node):
        return [output]
    if isinstance(output, list | tuple):
        return [n for v in output for n in _tensors(v)]
    if isinstance(output, dict):
        return [n for v in output.values() for n in _tensors(v)]
    return []
