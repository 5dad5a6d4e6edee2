"""Law C6, for tables that are searched in parts: what is a code already gets that code, wherever it asks.

Intervention: all places take the value of one row of the table, and then of another. Prediction: where some places get back many of the
rows that they are given, every place gets back about as many: the rows that a place chooses among are those that it reads. Broken is a
product quantiser that counts its codes within each part, and reads them from the first part of the table: other places get a row by chance.

Exempt are choices that noise moves, and places whose choice nothing moves (padding that has a code of its own).

Source: Jegou et al. 2011, Product Quantization for Nearest Neighbor Search, section II.B; van den Oord et al. 2017, Neural Discrete
Representation Learning, eq. 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.posterior.codebooks import Codebook, codebooks_of
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.nearest_codes import looked_up
from vaelint.laws.places.other_table import is_held_to_its_source
from vaelint.record.record import shape
from vaelint.rule import Found

_MOST = 512  # rows that are tried
_FEWEST = 4
_FEW = 0.25  # of the rows that other places get back: by chance
_SAME = 1e-5
_SHARE = 0.05  # of the places


@law(
    "each-place-gets-its-code",
    "of several places that choose a code, each gets back the codes that it chooses among",
    covered=("VAE515", "VAE113", "VAE508"),
)
def each_place_gets_its_code(bench: Bench) -> Iterator[Broken]:
    """Every lookup in one table whose rows are as long as what is sought."""
    for book in codebooks_of(bench.model):
        looked, table = looked_up(bench, book), _rows(bench, book)
        if looked is None or table is None or not bench.knows(book.code) or book.index in bench.model.flow.noisy:
            continue
        got = _gets(bench, book, looked[1], table) if is_held_to_its_source(bench, book) else None
        if got is None:
            continue
        own, moves = got
        lost = (own <= _FEW * own.max()) & moves
        if int(own.max()) >= _FEWEST and float(lost.double().mean()) > _SHARE:
            yield _broken(bench, book, lost)
            return


def _rows(bench: Bench, book: Codebook) -> torch.Tensor | None:
    """The rows of the one table that a lookup reads."""
    node = book.table[0]
    width = shape(book.code)[-1] if shape(book.code) else 0
    if len(set(book.table)) != 1 or not bench.knows(node) or not bench.is_real(node) or shape(node)[-1:] != (width,):
        return None
    rows = bench.value(node).reshape(-1, width)
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(3))[:_MOST].to(rows.device)]


def _gets(bench: Bench, book: Codebook, source: fx.Node, table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """For each place how many rows that it was given it gets back, and whether what it gets moves with what it was given."""
    like, width = bench.value(source), table.shape[1]
    own = torch.zeros(like.numel() // width, dtype=torch.long)
    moves, first = own > 0, None
    for row in table:
        code = bench.after({source: row.expand_as(like).to(like).clone()}, [book.code]).get(book.code)
        if code is None or code.shape[-1:] != (width,) or code.numel() != like.numel():
            return None
        code = code.reshape(-1, width)
        first = code if first is None else first
        own = own + ((code - row).abs() <= _SAME * row.abs().max()).all(-1).cpu()
        moves = moves | (code != first).any(-1).cpu()
    return own, moves


def _broken(bench: Bench, book: Codebook, lost: torch.Tensor) -> Broken:
    model = bench.model
    found = Found(
        model.where(book.code),
        label="some places read other rows than those that they choose among",
        labels=model.labels((book.index, "chosen here, by a number that counts the rows of one part")),
        why="these places get codes that have nothing to do with what they put out, and the rows that they chose are never read",
        help="add the place where each part of the table begins to the chosen number, or keep a table for each part",
    )
    text = f"{int(lost.sum())} of {lost.numel()} places get back hardly any row of the table that they are given, the others many"
    return Broken("code-not-nearest", found, "given the rows of the table, each place gets back those that it chooses among", text)
