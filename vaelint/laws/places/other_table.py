"""Law C6, for several tables of codes: the code that is read is a row of the table in which the nearest row was sought.

Intervention: the rows of a table change places. Where the choice follows them, it is a choice among that table's rows; where it does not,
it is none among these. Prediction: what is read at the chosen place, and taken against what was sought (a codebook or commitment loss, a
straight-through sum), comes from a table of the first kind.

Exempt are values that are looked up by keys and held to nothing that was sought with (a key-value memory), and tables that hold the same
rows, of which one is a copy of the other.

Source: van den Oord et al. 2017, Neural Discrete Representation Learning, eq. 1 and 2; exempt: Traeuble et al. 2023, Discrete Key-Value
Bottleneck, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.posterior.codebooks import Codebook, codebooks_of
from vaelint.core.reach import reachable
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import behind
from vaelint.rule import Found

_FEWEST = 3  # rows
_FOLLOWS = 0.95  # of the choices
_STILL = ops.SHAPE | ops.CAST | {"detach", "data", "contiguous", "clone"}
_APART = 1e-3


@law(
    "codes-are-of-the-table-sought",
    "a code that is held to what it was sought with is a row of the table that was searched",
    covered=("VAE515", "VAE113"),
)
def codes_are_of_the_table_sought(bench: Bench) -> Iterator[Broken]:
    """Every lookup in one table."""
    for book in codebooks_of(bench.model):
        read = {n.target for n in book.table}
        if len(read) != 1 or not bench.knows(book.index) or not bench.knows(book.code) or not is_held_to_its_source(bench, book):
            continue
        own = book.table[0]
        tables = {n.target: n for n in _tables(bench, book)}
        if own.target not in tables or _follows(bench, book, own):
            continue
        for target, other in tables.items():
            if target != own.target and _follows(bench, book, other) and not _are_alike(bench.value(other), bench.value(own)):
                yield _broken(bench, book, own, other)
                return


def _tables(bench: Bench, book: Codebook) -> Iterator[fx.Node]:
    """Tables that the choice or the code is made of, with rows as long as the code's."""
    made_of = bench.model.flow.ancestors(book.index, book.code)
    width = shape(book.table[0])[-1:]
    for n in bench.model.flow.sorted(made_of):
        if n.op == "get_attr" and len(shape(n)) == 2 and shape(n)[-1:] == width and shape(n)[0] >= _FEWEST and bench.knows(n):
            yield n


def is_held_to_its_source(bench: Bench, book: Codebook) -> bool:
    """Whether a loss, or a straight-through sum, takes the code against what the choice was made of."""
    flow = bench.model.flow
    sought = flow.ancestors(book.index)
    same = reachable([book.code], lambda n: [u for u in flow.users.get(n, ()) if ops.op(u) in _STILL and shape(u)])
    for user in (u for n in same for u in flow.users.get(n, ()) if len(ops.value_inputs(u)) == 2):
        for other in (o for o in ops.value_inputs(user) if o not in same and o in flow.data):
            source = behind(other, _STILL)
            if shape(other) == shape(next(n for n in ops.value_inputs(user) if n in same)) and source in sought:
                return True
    return False


def _follows(bench: Bench, book: Codebook, table: fx.Node) -> bool:
    """Whether rows that change places are chosen at their new places."""
    rows = bench.value(table)
    moved = {n: rows.roll(1, 0) for n in bench.model.record.nodes if n.op == "get_attr" and n.target == table.target and bench.knows(n)}
    after = bench.after(moved, [book.index])
    if book.index not in after:
        return False
    before, now = bench.value(book.index), after[book.index]
    return float((now == (before + 1) % len(rows)).double().mean()) >= _FOLLOWS


def _are_alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether a table is a copy of another, as an average of it begins."""
    return one.shape == other.shape and float((one - other).norm()) <= _APART * float(other.norm())


def _broken(bench: Bench, book: Codebook, own: fx.Node, other: fx.Node) -> Broken:
    model = bench.model
    found = Found(
        model.where(book.code),
        label=f"reads {own.target}",
        labels=model.labels((book.index, f"chosen among the rows of {other.target}")),
        why=f"the place of the nearest row of {other.target} says nothing of the rows of {own.target}: the latent is replaced by a code "
        f"that has nothing to do with it, and no gradient reaches {other.target}",
        help=f"read {other.target} at the chosen place",
    )
    text = f"where rows of {other.target} change places the choice follows them, and where those of {own.target} do it does not"
    return Broken("code-not-nearest", found, "the table that is read is the one whose rows the choice follows", text)
