"""Names for the dimensions of latent and data, written into the shapes of a record."""

from __future__ import annotations

from collections.abc import Sequence

from vaelint.anatomy.loss.layered import layered_nodes
from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.sites import Site, sample_axes
from vaelint.anatomy.reconstruction.pairs import Pair
from vaelint.record.flow import Flow
from vaelint.record.record import Record, shape


def name_dimensions(record: Record, sites: list[Site], symbols: dict[str, int], flow: Flow) -> None:
    """Gives the latent's own dimensions symbols (L; C', H', W' for maps) and writes them into the shapes around the posterior."""
    layered = layered_nodes(flow, sites)
    for site in sites:
        texts = record.shapes.get(site.z)
        if texts is None:
            continue
        mapping = _latent_symbols(site, texts, symbols)
        below = flow.descendants(*site.heads) if site.heads else set()
        for node in flow.ancestors(site.z, stop=set(site.heads)) | (below - layered):
            known = record.shapes.get(node)
            if known is None or len(known) != len(texts) or node.op != "call_function":
                continue
            if all(known[d] == texts[d] or known[d] in ("1", mapping.get(d)) for d in range(len(texts))):
                record.shapes[node] = tuple(mapping.get(d, known[d]) if known[d] == texts[d] else known[d] for d in range(len(texts)))


def _latent_symbols(site: Site, texts: tuple[str, ...], symbols: dict[str, int]) -> dict[int, str]:
    """A symbol for each axis of a latent that is its own, and for each along which it is drawn several times."""
    size, drawn = shape(site.z), sample_axes(site)
    own = [d for d in range(len(size)) if texts[d].isdigit() and size[d] != 1 and d not in drawn]
    mapping: dict[int, str] = {}
    for d, name in zip(own, _latent_names(len(own), len(size) - len(drawn)), strict=True):
        in_time = symbols.get("T") == size[d] and len(own) > 1 and d < len(size) - 1
        symbol = "T" if in_time else name
        while symbol in symbols and symbols[symbol] != size[d]:
            symbol += "'"
        symbols.setdefault(symbol, size[d])
        mapping[d] = symbol
    for d in drawn:
        symbol = next(s for s in ("S", *(f"S{i}" for i in range(2, 99))) if symbols.get(s, size[d]) == size[d])
        symbols.setdefault(symbol, size[d])
        mapping[d] = symbol
    return mapping


def _latent_names(count: int, rank: int) -> tuple[str, ...]:
    if count <= 1:
        return ("L",)[:count]
    if rank == 4 and count == 3:
        return ("Lc", "Lh", "Lw")
    return (*(f"L{i + 1}" for i in range(count - 1)), "L")


def name_event(pair: Pair, term: Term, record: Record, symbols: dict[str, int], flow: Flow) -> tuple[str, ...]:
    """Names the data dimensions where reconstruction and target meet, and writes them into the shapes between the two and the loss."""
    if pair.target is None or pair.recon not in record.shapes:
        return ()
    given = {t: n for i in record.inputs.values() for t, n in zip(record.shapes.get(i, ()), shape(i), strict=False) if t.isidentifier()}
    named = _event_symbols(record.shapes[pair.recon], shape(pair.recon), record.shapes.get(pair.target, ()), symbols, given)
    leaves = [leaf.node for leaf in term.leaves]
    ends = {pair.recon, pair.target, *pair.extra}
    inside = flow.ancestors(*leaves, stop=ends | {*pair.raw}) | {n for leaf in term.leaves for n in leaf.chain}
    for node in ends | inside:
        texts = record.shapes.get(node)
        if texts is None or node.op == "placeholder" or (node not in ends and len(texts) != len(named)):
            continue
        shift = len(named) - len(texts)
        record.shapes[node] = tuple(
            named[d + shift] if d + shift >= 0 and t.isdigit() and symbols.get(named[d + shift]) == int(t) else t
            for d, t in enumerate(texts)
        )
    return tuple(t for t in record.shapes[pair.recon] if t in symbols and t != "B")


def _event_symbols(
    texts: tuple[str, ...], size: Sequence[int], like: tuple[str, ...], symbols: dict[str, int], given: dict[str, int]
) -> list[str]:
    """The dimensions of a reconstruction, each that has no symbol yet with that of the target's axis, or of an equal size, or a new one.

    `given` are the symbols of the inputs, which keep them.
    """
    named = list(texts)
    for d, text in enumerate(texts):
        if not text.isdigit() or size[d] == 1:
            continue
        back = len(texts) - d
        own = like[-back] if back <= len(like) and symbols.get(like[-back]) == size[d] else None
        known = own or next(
            (s for s, v in {**given, **symbols}.items() if v == size[d] and not s.startswith("L") and s != "B" and s not in named), None
        )
        name = known or next(n for n in ("D", "E", "K", *(f"D{i}" for i in range(1, 99))) if n not in symbols and n not in given)
        symbols.setdefault(name, size[d])
        named[d] = name
    return named
