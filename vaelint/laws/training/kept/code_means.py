"""Law B5, for codes: where a step writes its codes as averages, a code comes to be the mean of the vectors that are assigned to it.

Intervention: all vectors that are looked up are one and the same, and the choice of codes is set, in turn with two different numbers of
vectors a code. The operations by which the step writes the codes run again and again from the record. Whatever the decay and the
smoothing, a mean of equal vectors is that vector. Exempt are codes that an optimizer moves or that the loss has a gradient in, codes that
are not used, codes that do not settle, and codes of length one, which are directions.

Source: van den Oord et al. 2017, Neural Discrete Representation Learning, appendix A.1; Razavi et al. 2019, VQ-VAE-2, eq. 3.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.posterior.codebooks import Codebook, codebooks_of, lies_in_columns, written_into
from vaelint.core.finding import Span
from vaelint.experiment.recompute import in_place
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.addends import entered
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.marks import effect
from vaelint.record.record import Record, shape, span
from vaelint.rule import Found, Label

_OFF = 0.1  # of the vector
_SETTLED = 1e-5  # change in one update
_TURNS = 4000
_SIZE = 1.7  # of the vectors
_ALIKE = 1e-3


@law(
    "codes-are-means", "a code that is written as an average comes to be the mean of its vectors", covered=("VAE516", "VAE902"), cost="all"
)
def codes_are_means(bench: Bench) -> Iterator[Broken]:
    """Tables of codes that the step writes and no optimizer moves."""
    books = [b for b in codebooks_of(bench.model) if len(set(b.table)) == 1 and not _is_pulled(bench, b)]
    if not books:
        return
    built = bench.base.runner.build()
    run = bench.base.again(built=built, as_is=True)
    if run.record.failure is not None:
        raise CannotMeasureError("the step does not run with its optimizers")
    held = {i for o in run.record.optimizers for i in o.those(lambda _, p: p.requires_grad)}
    for book in books:
        table, index = run.pairs.get(book.table[0]), run.pairs.get(book.index)
        rows = [run.pairs[n] for n in _rows(bench, book) if n in run.pairs]
        if table is None or index is None or not rows or id(table.meta.get("val")) in held:
            continue
        averages = _Averages(run.record, built.model, table, index, rows, shape(book.code)[-1])
        if averages.written is not None and (off := averages.off()) is not None:
            yield _no_mean(bench, averages, *off)
            return


def _is_pulled(bench: Bench, book: Codebook) -> bool:
    """Whether the loss has a gradient in the table, as it is read or as it was written into before."""
    reached = gradients_of(bench.model).of_loss
    written = {w.target for n in reached if (w := written_into(n)) is not None}
    return any(n in reached or n.target in written for n in book.table)


def _rows(bench: Bench, book: Codebook) -> list[fx.Node]:
    """The values before the choice that hold as many vectors, as wide as a code, and through which the data come to it."""
    flow = bench.model.flow
    width = shape(book.code)[-1] if shape(book.code) else 0
    tables = {n for n in bench.model.record.nodes if n.op == "get_attr" and n.target == book.table[0].target}
    with_table = flow.descendants(*tables) | tables
    found = []
    for node in flow.sorted(flow.ancestors(book.index, stop=tables)):
        if node in with_table or node not in flow.data or not bench.is_real(node) or width not in shape(node)[1:]:
            continue
        as_many = math.prod(shape(node)) == math.prod(shape(book.index)) * width
        if as_many and not any(n.op == "placeholder" for n in flow.ancestors(book.index, stop={node})):
            found.append(node)
    return found


class _Averages:
    """The operations of a step that write a table of codes, and what they write when they run again and again."""

    def __init__(self, record: Record, model: torch.nn.Module, table: fx.Node, index: fx.Node, rows: list[fx.Node], width: int) -> None:
        self._columns = lies_in_columns(table.meta["val"], width)
        self._table, self._index = table, _alike(record, index)
        after = _held_by(model)
        self._state: dict[int, int] = {}  # storage of a tensor that outlives the step -> of the one in its place after the step
        values: dict[int, torch.Tensor] = {}
        nodes = [n for n in record.nodes if n.op == "call_function" and n.target is not effect]
        for node in record.nodes:
            val = node.meta.get("val")
            if node.op == "get_attr" and isinstance(val, torch.Tensor) and val.is_floating_point():
                values[_place(val)] = val
                new = after.get(str(node.target))
                self._state[_place(val)] = _place(new) if new is not None and new.shape == val.shape else _place(val)
        self._values = values
        self._nodes, self._rows = next(
            ((made, same) for r in reversed(rows) if (made := self._made_of(nodes, table, same := _alike(record, r)))), ([], [])
        )
        old_place = _place(table.meta["val"])
        own_place = self._state.get(old_place)
        # a view of the table is in its place too, and writes nothing
        writes = [n for n in self._nodes if _place(n.meta.get("val")) == own_place and (own_place != old_place or in_place(n))]
        reads = {i for n in self._nodes for i in n.all_input_nodes}
        self.written = writes[-1] if writes and reads & {*self._index, *self._rows} else None
        entering = {i for n in self._nodes for i in ops.value_inputs(n)}
        self.fed_by_itself = None if entering & {*self._rows} else self._entry(entering)
        self._size = _size(self._rows[0].meta["val"], width) if self._rows else _SIZE

    def _made_of(self, nodes: list[fx.Node], table: fx.Node, rows: list[fx.Node]) -> list[fx.Node]:
        """The operations that write the table; none where the data come to it by another way than some vectors and the choice."""
        made, needed = list[fx.Node](), {self._state.get(_place(table.meta["val"]), 0)}
        for _ in range(4):  # what is written is made of what is written elsewhere in the step
            made = _needed(nodes, needed, {*rows, *self._index})
            grown = needed | {self._state[p] for p in self._state if p in needed}
            if grown == needed:
                break
            needed = grown
        return [] if any(i.op == "placeholder" for n in made for i in n.all_input_nodes) else made

    def _entry(self, reads: set[fx.Node]) -> Span | None:
        """Where codes that were looked up enter the averages, in the function that looks them up; None where they do not."""
        table, chosen = self._table.meta["val"], {*self._index}
        looked_up = [
            n
            for n in self._nodes
            if n in reads and chosen & {*n.all_input_nodes} and any(_place(i.meta.get("val")) == _place(table) for i in n.all_input_nodes)
        ]
        users = [n for n in self._nodes if looked_up and looked_up[0] in n.all_input_nodes]
        return entered(users[0], looked_up[0]) if users else None

    def off(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """The numbers of vectors, the codes, and the vector that they were to be; None where they are."""
        index, table = self._index[0].meta["val"], self._table.meta["val"]
        heads, count = math.prod(table.shape[:-2]), table.shape[-1 if self._columns else -2] if table.dim() > 1 else 0
        if not isinstance(index, torch.Tensor) or index.is_floating_point() or not count or (heads > 1 and index.shape[0] != heads):
            return None
        places = torch.arange(index.numel() // heads, device=index.device)
        codes = max(2, min(count, len(places) // 3))
        spread = (places % codes).to(index.dtype)
        turns = (spread, torch.where(places // codes % 2 == 1, torch.zeros_like(spread), spread))  # other numbers for each code
        chosen = [turn.repeat(heads).reshape(index.shape) for turn in turns]
        state = {place: self._values[place].detach().clone() for place in self._state}
        own = _place(table)
        before, two_before, settled = state[own].clone(), state[own].clone(), 0
        for turn in range(_TURNS):
            state = self._next(state, chosen[turn % 2])
            settled = settled + 1 if float((state[own] - two_before).abs().max()) < _SETTLED else 0
            two_before, before = before, state[own].clone()
            if not bool(before.isfinite().all()) or settled > 3:
                break
        if settled <= 3:
            return None
        before = before.T if self._columns else before
        used = torch.bincount(turns[0], minlength=count).minimum(torch.bincount(turns[1], minlength=count))
        now = before.reshape(heads, count, -1)[:, used > 0]  # each head has codes of its own
        gap = (now - self._size).abs().amax(-1) / self._size
        varied = len(set(used[used > 0].tolist())) > 1
        if not varied or not gap.numel() or float(gap.min()) < _OFF or float((now.norm(dim=-1) - 1).abs().max()) < _ALIKE:
            return None
        first = before.reshape(heads, count, -1)[0]
        return used, first, torch.full_like(first, self._size)

    def _next(self, state: dict[int, torch.Tensor], chosen: torch.Tensor) -> dict[int, torch.Tensor]:
        env: dict[int, torch.Tensor] = {}
        for node_place, value in state.items():
            env[node_place] = value.clone()
        made: dict[int, Any] = {id(n): chosen for n in self._index}
        made |= {id(n): torch.full_like(n.meta["val"].detach(), self._size) for n in self._rows}

        def now(value: Any) -> Any:
            if isinstance(value, fx.Node):
                while value.target is effect and id(value) not in made:
                    value = value.args[0]
                if id(value) in made:
                    return made[id(value)]
                val = value.meta.get("val")
                if value.op == "get_attr" and isinstance(val, torch.Tensor) and _place(val) in env:
                    return env[_place(val)]
                return val.detach() if isinstance(val, torch.Tensor) else val
            if isinstance(value, tuple | list):
                return type(value)(now(v) for v in value)
            return value

        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for node in self._nodes:
                if id(node) in made:
                    continue
                target: Any = node.target
                made[id(node)] = target(*now(node.args), **{k: now(v) for k, v in node.kwargs.items()})
        last = {_place(n.meta.get("val")): made[id(n)] for n in self._nodes if isinstance(made.get(id(n)), torch.Tensor)}
        return {place: env[place] if new == place else last.get(new, env[place]) for place, new in self._state.items()}


def _alike(record: Record, node: fx.Node) -> list[fx.Node]:
    """A value, and those that the same expression makes where the step runs it again."""
    place = span(node)
    same = [n for n in record.nodes if n.target is node.target and place is not None and span(n) == place and shape(n) == shape(node)]
    return same or [node]


def _size(vectors: torch.Tensor, width: int) -> float:
    """How large each number of the vectors is to be: as large as they are where all are equally long, as on a sphere."""
    lengths = vectors.detach().movedim(vectors.shape.index(width, 1), -1).norm(dim=-1)
    return float(lengths.mean()) / width**0.5 if float(lengths.std()) < _ALIKE * float(lengths.mean()) else _SIZE


def _place(value: object) -> int:
    """Where a tensor's numbers lie in memory; 0 for anything else."""
    return value.untyped_storage().data_ptr() if isinstance(value, torch.Tensor) else 0


def _held_by(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_buffers()), **dict(model.named_parameters())}


def _needed(nodes: list[fx.Node], written: set[int], given: set[fx.Node]) -> list[fx.Node]:
    """The operations that make or write some tensors, and those that make what they take, but for what is given."""
    found: list[fx.Node] = []
    wanted, wanted_nodes = {p for p in written if p}, set[fx.Node]()
    for node in (n for n in reversed(nodes) if n not in given):
        writes = in_place(node) and _place(node.meta.get("val")) in wanted
        if writes or node in wanted_nodes or _place(node.meta.get("val")) in wanted:
            found.append(node)
            for source in node.all_input_nodes:
                while source.target is effect and source.args and isinstance(source.args[0], fx.Node):
                    source = source.args[0]
                wanted_nodes.add(source)
                if source.op == "get_attr" or in_place(node):
                    wanted.add(_place(source.meta.get("val")))
    return found[::-1]


def _no_mean(bench: Bench, averages: _Averages, used: torch.Tensor, codes: torch.Tensor, wanted: torch.Tensor) -> Broken:
    size, most = float(wanted.flatten()[0]), int(used.argmax())
    got = float(codes[most].mean())
    assert averages.written is not None
    text = f"the code of {int(used[most])} equal vectors of {size:g} settles at {got:.3g}"
    written = span(averages.written)
    if averages.fed_by_itself is not None:
        found = Found(
            averages.fed_by_itself,
            label="averages the codes, not the vectors",
            labels=(Label(written, "the codes are written here"),) if written is not None else (),
            why="each code is averaged with itself: it stays where it started, and no vector moves it",
            help="hand over what the encoder put out, before it was replaced by its codes",
        )
        return Broken("code-off-its-mean", found, "a code is the mean of the vectors that are assigned to it", text)
    found = Found(
        written,
        label=f"{int(used[most])} vectors of {size:g} make a code of {got:.3g}",
        why="the codes are not the means of their vectors: they run away from the data, or shrink, and few are ever chosen",
        help="divide the average of the sums by the average of the numbers: codes = sums / counts[:, None]",
    )
    return Broken("code-off-its-mean", found, "a code is the mean of the vectors that are assigned to it", text)
