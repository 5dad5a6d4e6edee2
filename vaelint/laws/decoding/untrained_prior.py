"""Law A10, for priors that generation draws from: the loss trains them.

Intervention: the model's own function that draws and decodes is run, with the conditions of the step where it asks for them. Where the
code that it decodes is made of noise and of parameters that the loss never reaches, and every KL is held to a fixed prior, the codes were
trained to be elsewhere than where generation looks for them.

Exempt are parameters that any other function of the file reads, or a file beside it that imports it: a second stage may train them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from torch import fx

from vaelint.anatomy.attribute_use import usage_of
from vaelint.faults.gradients.unreached import Unreached, left_out
from vaelint.laws.bench import Bench
from vaelint.laws.decoding.trained_prior import GENERATES, called, functions_of, parameters_of
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import Record, ancestors
from vaelint.rule import Found


@law(
    "generation-draws-from-what-was-trained",
    "the prior that generated codes are drawn from is one that the loss trains",
    covered=("VAE222", "VAE432"),
    cost="all",
)
def generation_draws_from_what_was_trained(bench: Bench) -> Iterator[Broken]:
    """Every function of the model that draws, decodes, and asks no encoder."""
    model, flow = bench.model, bench.model.flow
    kls = [k for k in model.kls if k.site is not None]
    left = [u for u in left_out(model) if u.span is not None and _only_generation_reads(bench, u)]
    if not kls or not left or any(k.probe.learned_prior or k.probe.verdict != "exact" for k in kls):
        return
    names = {p for u in left for p in u.parameters}
    drawn = {s.z for s in model.sites}
    decoder = parameters_of(flow.ancestors(*(r.pair.recon for r in model.recons), stop=drawn))
    for name, function in functions_of(bench):
        record = called(bench, function)
        made = _made_of(record, decoder, names) if record is not None else set()
        if made:
            yield _broken(bench, name, kls[0].term.core, [u for u in left if made & set(u.parameters)])
            return


def _only_generation_reads(bench: Bench, one: Unreached) -> bool:
    """Whether all functions that use a layer, or that use those that do, generate."""
    usage = usage_of(bench.model)
    assert one.span is not None
    if _is_read_beside(Path(one.span.file), one.path.rpartition(".")[2]):
        return False
    waiting, seen = [one.path.rpartition(".")[2]], set[str]()
    while waiting:
        readers = usage.readers(one.span.file, waiting.pop())
        new = [r for r in readers if r not in seen]
        if not readers:
            return False
        seen.update(new)
        waiting += [r for r in new if not GENERATES.search(r)]
    return bool(seen)


def _is_read_beside(file: Path, attribute: str) -> bool:
    """Whether another file of the folder imports this one and reads an attribute of that name."""
    imports, reads = re.compile(rf"(from|import)\s+[\w.]*\b{re.escape(file.stem)}\b"), re.compile(rf"\.{re.escape(attribute)}\b")
    texts = (f.read_text(encoding="utf-8", errors="replace") for f in sorted(file.parent.glob("*.py")) if f.name != file.name)
    return any(imports.search(text) and reads.search(text) for text in texts)


def _made_of(record: Record, decoder: set[str], names: set[str]) -> set[str]:
    """The parameters, of some, that make with noise what the decoder's first layer gets."""
    for node in record.nodes:
        if ops.op(node) in ops.LAYERS and any(n.op == "get_attr" and str(n.target) in decoder for n in node.all_input_nodes):
            behind = ancestors(node)
            return parameters_of(behind) & names if any(ops.is_random(n) for n in behind) else set()
    return set()


def _broken(bench: Bench, name: str, core: fx.Node | None, left: list[Unreached]) -> Broken:
    model = bench.model
    parts = ", ".join(u.path for u in left[:3])
    found = Found(
        model.where(core or model.sites[0].z),
        label=f"holds the posterior to N(0, 1), while {name} draws from {parts}",
        labels=model.labels((model.sites[0].z, "drawn here")),
        why=f"the loss never reaches {parts}: {name} decodes codes from where a random start put them, and none of training was there",
        help=f"take the KL to the prior that {name} draws from, or draw from N(0, 1)",
    )
    text = f"what {name} decodes is made of noise and of parameters that the loss never reaches: {parts}"
    return Broken("generation-differs", found, "the prior that is drawn from gets a gradient", text)
