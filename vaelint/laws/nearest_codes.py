"""Law C6, for quantisers: what is a code already gets that code.

Intervention: in place of what the encoder put out, the rows that are looked up are the codes themselves. Prediction: each gets its own
code, whatever the measure of nearness (a distance, a cosine). Where all get the code that is farthest from them, the largest distance, or
the least likeness, was taken. Exempt are lookups between the two, such as an inner product of codes whose lengths differ.

Source: van den Oord et al. 2017, Neural Discrete Representation Learning, eq. 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.posterior.codebooks import Codebook, codebooks_of, lies_in_columns
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_FEWEST = 3  # codes
_SAME = 1e-6
_MOST = 0.9
_FITS = 1e-4
_OFF = 0.01  # from 2
_PRODUCTS = frozenset({"matmul", "mm", "linear", "einsum", "bmm", "addmm", "baddbmm"})


@law("codes-are-near", "what is a code already gets that code", covered=("VAE508",))
def codes_are_near(bench: Bench) -> Iterator[Broken]:
    """Every lookup in one table of codes, one row each."""
    books = codebooks_of(bench.model)
    if any(not bench.knows(n) for b in books for n in b.table):
        bench = _at_rest(bench)
    for book in books:
        table, looked = _table(bench, book), looked_up(bench, book)
        if table is None or looked is None or looked[0].shape[-1] != table.shape[-1]:
            continue
        rows, source, index = looked
        if (ratio := _cross_weight(bench, book, rows, table)) is not None:
            yield _no_distance(bench, book, ratio)
            return
        own = torch.arange(len(rows)) % len(table)
        after = bench.after({source: table[own].reshape(bench.value(source).shape).to(bench.value(source))}, [index])
        if index not in after:
            continue
        got = after[index].flatten().cpu()
        if bool(((got < 0) | (got >= len(table))).any()) or bool((got == own).any()):
            continue
        if any(_are_farthest(t, own, got) for t in (table, torch.nn.functional.normalize(table, dim=-1))):
            yield _far(bench, book)
            return


def _at_rest(bench: Bench) -> Bench:
    """The bench over a run in evaluation mode: a step that moves its codes in training writes over those that were searched."""

    def put(model: torch.nn.Module, _: dict[str, torch.Tensor]) -> None:
        model.eval()

    return Bench(bench.model, bench.base.prepared(put))


def _cross_weight(bench: Bench, book: Codebook, rows: torch.Tensor, table: torch.Tensor) -> float | None:
    """How often the product of row and code is taken from |code|^2, where the scores are such a sum and it is not twice; None elsewhere."""
    scores = _scores(book)
    if scores is None or not bench.knows(scores) or bench.value(scores).numel() != len(rows) * len(table):
        return None
    told = bench.value(scores).double().cpu().reshape(len(rows), len(table))
    lengths = table.square().sum(1).expand_as(told)
    products = rows.double().cpu() @ table.T
    told, lengths, products = (t - t.mean(1, keepdim=True) for t in (told, lengths, products))
    design = torch.stack([lengths.flatten(), products.flatten()], 1)
    found = torch.linalg.lstsq(design, told.flatten()[:, None]).solution.flatten()
    residual = float((design @ found - told.flatten()).norm()) / max(float(told.norm()), 1e-30)
    own, cross = (float(w) for w in found)
    if residual > _FITS or abs(own) * float(lengths.norm()) < _FITS * float(told.norm()) or abs(own) < _FITS * abs(cross):
        return None
    return -cross / own if abs(cross / own + 2) > _OFF else None


def _scores(book: Codebook) -> fx.Node | None:
    """What the choice is the largest or the least of."""
    node = book.index
    for _ in range(4):
        if ops.op(node) in ("argmin", "argmax", "min", "max", "topk", "sort", "argsort"):
            return ops.value_inputs(node)[0] if ops.value_inputs(node) else None
        if not node.all_input_nodes:
            return None
        node = node.all_input_nodes[0]
    return None


def _no_distance(bench: Bench, book: Codebook, ratio: float) -> Broken:
    model, scores = bench.model, _scores(book)
    assert scores is not None
    crossed = [
        n
        for n in model.flow.sorted(model.flow.ancestors(scores))
        if ops.op(n) in _PRODUCTS and any(t in model.flow.ancestors(n) for t in book.table)
    ]
    found = Found(
        model.where(crossed[-1] if crossed else scores),
        label=f"taken {ratio:.3g} times from |x|^2 + |e|^2",
        labels=model.labels((book.index, "chooses by it")),
        why="the squared distance is |x|^2 + |e|^2 - 2 x e: with another multiple the code that is chosen is not the nearest one",
        help="2 * x @ e.T, or torch.cdist(x, e)",
    )
    return Broken("code-not-nearest", found, "scores that are a distance, or a likeness", f"the scores fit |e|^2 - {ratio:.3g} x e")


def _table(bench: Bench, book: Codebook) -> torch.Tensor | None:
    """The codes, one a row, if there is one table of them and no two are alike."""
    if len(set(book.table)) != 1 or not bench.knows(book.table[0]) or not bench.is_real(book.table[0]):
        return None
    table = bench.value(book.table[0]).detach().double().cpu()
    if (
        ops.op(book.code) in ("matmul", "mm", "linear", "embedding", "index_select", "getitem")
        and table.dim() == 2
        and len(table := table.T if lies_in_columns(table, shape(book.code)[-1] if shape(book.code) else 0) else table) >= _FEWEST
    ):
        apart = torch.cdist(table, table) + torch.eye(len(table))
        return table if float(apart.min()) > _SAME * float(apart.max()) else None
    return None


def looked_up(bench: Bench, book: Codebook) -> tuple[torch.Tensor, fx.Node, fx.Node] | None:
    """The last values before the choice that are rows as long as a code, one for each choice: as rows, their node, and the choice."""
    flow = bench.model.flow
    chosen = [book.index, *flow.sorted(flow.descendants(book.index) & flow.ancestors(book.code))]
    width = shape(book.code)[-1] if shape(book.code) else 0
    before = flow.sorted(flow.ancestors(book.index, stop=set(book.table)))
    same = {n for n in bench.model.record.nodes if n.op == "get_attr" and n.target == book.table[0].target} | set(book.table)
    with_table = flow.descendants(*same) | same
    for source in reversed([n for n in before if n not in with_table and n in flow.data and bench.is_real(n) and bench.knows(n)]):
        size = shape(source)
        if len(size) < 2 or size[-1] != width or any(n.op == "placeholder" for n in flow.ancestors(book.index, stop={source})):
            continue  # `flat.square()` is one of two ways to the distances
        index = next((n for n in chosen if bench.knows(n) and not bench.is_real(n) and math.prod(shape(n)) == math.prod(size[:-1])), None)
        rows = bench.value(source) if index is not None and width else None
        if index is not None and rows is not None and tuple(rows.shape) == size:  # in the real run another value may have its place
            return rows.reshape(-1, width), source, index
    return None


def _are_farthest(table: torch.Tensor, own: torch.Tensor, got: torch.Tensor) -> bool:
    """Whether what was got for most codes lies as far from them as any code does."""
    apart = torch.cdist(table, table)
    reached = apart[own, got] >= apart[own].max(1).values * (1 - 1e-3)
    return float(reached.double().mean()) >= _MOST


def _far(bench: Bench, book: Codebook) -> Broken:
    model = bench.model
    found = Found(
        model.where(book.index),
        label="takes the farthest code",
        labels=model.labels((book.code, "looked up here")),
        why="the latent is replaced by the code that is least like it; codebook and commitment pull pairs together that do not belong "
        "together, and few codes are ever used",
        help="take the smallest distance (torch.cdist(z, codes).argmin(1)) or the largest likeness ((z @ codes.T).argmax(1))",
    )
    text = "no code gets itself, and the code that is got is the farthest"
    return Broken("code-not-nearest", found, "given the codes themselves, the lookup returns them", text)
