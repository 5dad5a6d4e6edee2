"""Law A11, for tables of encoders and decoders: what is kept under one key belongs together.

Prediction: a model keeps encoders in one table and decoders in another, under the same keys, and all of them share their code. A decoder
is then held to the input that the encoder under its own key reads. Which words the keys are is not asked, only that both tables have them.

Exempt are decoders whose code comes from some of the inputs only, as where one kind of data is translated into another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.laws.bench import Bench
from vaelint.laws.decoding.own_targets import input_of, last_layer
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.rule import Found


@law("keys-belong-together", "a decoder is held to the input that the encoder under its key reads", covered=("VAE306",), cost="replay")
def keys_belong_together(bench: Bench) -> Iterator[Broken]:
    """Decoders of a `ModuleDict`, each held to one input, beside encoders of another, each of which reads one."""
    model, flow = bench.model, bench.model.flow
    held: dict[str, dict[str, tuple[ReconFact, fx.Node]]] = {}
    for fact in model.recons:
        layer, target = last_layer(bench, fact), input_of(bench, fact)
        if layer is None or target is None:
            continue
        for table, key in _keys(model.record.model, layer):
            held.setdefault(table, {})[key] = (fact, target)
    for table, decoders in held.items():
        inputs = {target for _, target in decoders.values()}
        whole = all(inputs <= flow.ancestors(fact.pair.recon) for fact, _ in decoders.values())
        if len(inputs) < 2 or len(inputs) < len(decoders) or not whole:
            continue
        for encoders in _encoders(bench, inputs).values():
            if encoders.keys() == decoders.keys() and set(encoders.values()) == inputs:
                wrong = [key for key, (_, target) in decoders.items() if encoders[key] is not target]
                if wrong:
                    yield _exchanged(bench, f"{table}.{wrong[0]}", *decoders[wrong[0]], encoders[wrong[0]])
                    return


def _keys(model: torch.nn.Module, parameter: str) -> Iterator[tuple[str, str]]:
    """The tables of modules that a parameter is in, each with its key there."""
    parts = parameter.split(".")
    places = [".".join(parts[:n]) for n in range(len(parts))]
    for place, inner in pairwise(places):
        if isinstance(model.get_submodule(place), torch.nn.ModuleDict):
            yield place, inner.rpartition(".")[2]


def _encoders(bench: Bench, inputs: set[fx.Node]) -> Mapping[str, dict[str, fx.Node]]:
    """Tables of the layers that read one of these inputs and no other, with the input of each key."""
    flow, found = bench.model.flow, dict[str, dict[str, fx.Node]]()
    for node in inputs:
        below = flow.descendants(node, stop={s.z for s in bench.model.sites})
        for layer in (n for n in below if ops.op(n) in ops.LAYERS and flow.ancestors(n) & inputs == {node}):
            for parameter in (str(i.target) for i in layer.all_input_nodes if i.op == "get_attr"):
                for table, key in _keys(bench.model.record.model, parameter):
                    found.setdefault(table, {})[key] = node
    return found


def _exchanged(bench: Bench, decoder: str, fact: ReconFact, target: fx.Node, own: fx.Node) -> Broken:
    model, (is_held, reads) = bench.model, (str(n.meta["input"]) for n in (target, own))
    found = Found(
        model.where(fact.pair.meet),
        label=f"holds what {decoder} puts out to {is_held}",
        labels=model.labels((fact.pair.recon, f"{decoder} puts this out")),
        why=f"the encoder under the same key reads {reads}: each decoder learns the data of another key",
        help="go through outputs and targets by the same keys, in the same order",
    )
    return Broken(
        "wrong-target", found, "encoder and decoder of one key belong to one input", f"{decoder} is held to {is_held}, not to {reads}"
    )
