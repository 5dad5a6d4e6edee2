"""Names for the dimensions of latent and data, written into the shapes of a record."""

from __future__ import annotations

from vaelint.anatomy.loss.terms import Term, layered_nodes
from vaelint.anatomy.posterior.sites import Site, sample_axes
from vaelint.anatomy.reconstruction.recon import Pair
from vaelint.record.flow import Flow
from vaelint.record.record import Record, shape


def name_dimensions(record: Record, sites: list[Site], symbols: dict[str, int], flow: Flow) -> None:
    """Gives the latent's own dimensions symbols (L; C', H', W' for maps) and writes them into the shapes around the posterior."""
    layered = layered_nodes(flow, sites)
    for site in sites:
        texts = record.shapes.get(site.z)
        if texts is None:
            continue
        size = shape(site.z)
        drawn = sample_axes(site)
        own = [d for d in range(len(size)) if texts[d].isdigit() and size[d] != 1 and d not in drawn]
        names = _latent_names(len(own), len(size) - len(drawn))
        mapping: dict[int, str] = {}
        for d, name in zip(own, names, strict=True):
            shared = next(
                (
                    s
                    for s, v in symbols.items()
                    if v == size[d] and s not in ("B",) and not s.startswith("L") and len(own) > 1 and d < len(size) - 1 and s == "T"
                ),
                None,
            )
            symbol = shared or name
            while symbol in symbols and symbols[symbol] != size[d]:
                symbol += "'"
            symbols.setdefault(symbol, size[d])
            mapping[d] = symbol
        for d in drawn:
            symbol = next(s for s in ("S", *(f"S{i}" for i in range(2, 99))) if symbols.get(s, size[d]) == size[d])
            symbols.setdefault(symbol, size[d])
            mapping[d] = symbol
        below = flow.descendants(*site.heads) if site.heads else set()
        around = flow.ancestors(site.z, stop=set(site.heads)) | (below - layered)
        for node in around:
            known = record.shapes.get(node)
            if known is None or len(known) != len(size) or node.op != "call_function":
                continue
            if all(known[d] == texts[d] or known[d] in ("1", mapping.get(d)) for d in range(len(size))):
                record.shapes[node] = tuple(mapping[d] if d in mapping and known[d] == texts[d] else known[d] for d in range(len(size)))


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
    texts, size = record.shapes[pair.recon], shape(pair.recon)
    like = record.shapes.get(pair.target, ())
    named = list(texts)
    for d, text in enumerate(texts):
        if not text.isdigit() or size[d] == 1:
            continue
        back = len(texts) - d
        own = like[-back] if back <= len(like) and symbols.get(like[-back]) == size[d] else None
        known = own or next((s for s, v in symbols.items() if v == size[d] and not s.startswith("L") and s != "B" and s not in named), None)
        name = known or next(n for n in ("D", "E", "K", *(f"D{i}" for i in range(1, 99))) if n not in symbols)
        symbols.setdefault(name, size[d])
        named[d] = name
    leaves = [leaf.node for leaf in term.leaves]
    inside = flow.ancestors(*leaves, stop={*pair.raw, pair.recon, pair.target, *pair.extra}) | {
        n for leaf in term.leaves for n in leaf.chain
    }
    for node in {pair.recon, pair.target, *pair.extra, *inside}:
        if (
            node in record.shapes
            and node.op != "placeholder"
            and (node in (pair.recon, pair.target, *pair.extra) or len(record.shapes[node]) == len(named))
        ):
            known_texts = record.shapes[node]
            shift = len(named) - len(known_texts)
            record.shapes[node] = tuple(
                named[d + shift] if d + shift >= 0 and t.isdigit() and symbols.get(named[d + shift]) == int(t) else t
                for d, t in enumerate(known_texts)
            )
    used = record.shapes[pair.recon]
    return tuple(t for t in used if t in symbols and t != "B")
