"""Law A11, for several decoders: each decoder has a target of its own.

Prediction: of several decoders, told by the parameters of their last layers, none is held to two inputs that other decoders are held to as
well. The code may come from any of the encoders: what a decoder of sound makes of an image is still sound.

Exempt are decoders that share their last layer, inputs that one encoder reads, as views of one kind, inputs that one decoder alone is held
to, and targets made of several inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.core.finding import Span
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import route
from vaelint.rule import Found


@law("a-decoder-has-one-target", "of several decoders, each is held to an input of its own", covered=("VAE306", "VAE302"), cost="replay")
def a_decoder_has_one_target(bench: Bench) -> Iterator[Broken]:
    """Comparisons of what one last layer puts out with one input."""
    held: dict[str, dict[fx.Node, list[ReconFact]]] = {}
    for fact in bench.model.recons:
        decoder, target = last_layer(bench, fact), input_of(bench, fact)
        if decoder is not None and target is not None:
            held.setdefault(decoder, {}).setdefault(target, []).append(fact)
    if len(held) < 2 or any(not targets for targets in held.values()):
        return
    for decoder, targets in held.items():
        shared = [t for t in targets if any(t in others for name, others in held.items() if name != decoder)]
        if len(shared) > 1 and len(shared) == len(targets) and not _are_encoded_alike(bench, shared):
            yield _of_two(bench, decoder, [targets[t][0] for t in targets])
            return


def _are_encoded_alike(bench: Bench, inputs: list[fx.Node]) -> bool:
    """Whether one encoder reads several of them: views of one kind, and no modalities; several decoders may then decode each."""
    flow = bench.model.flow
    read: set[str] = set()
    for node in inputs:
        layers = [n for n in flow.descendants(node, stop={s.z for s in bench.model.sites}) if ops.op(n) in ops.LAYERS]
        names = {str(i.target) for n in layers for i in n.all_input_nodes if i.op == "get_attr"}
        if names & read:
            return True
        read |= names
    return False


def last_layer(bench: Bench, fact: ReconFact) -> str | None:
    """The name of the weight of the one layer that a reconstruction leaves last."""
    flow = bench.model.flow
    layers = {n for n in flow.ancestors(fact.pair.recon) if ops.op(n) in ops.LAYERS and ops.uses_parameter(n)}
    last = list(flow.ancestors(fact.pair.recon, stop=layers) & layers)
    names = [str(n.target) for n in last[0].all_input_nodes if n.op == "get_attr"] if len(last) == 1 else []
    return names[0] if names else None


def input_of(bench: Bench, fact: ReconFact) -> fx.Node | None:
    """The one input that a target is made of."""
    target = fact.pair.target
    if target is None or target in bench.model.flow.learned:
        return None
    given = [n for n in bench.model.flow.ancestors(target) | {target} if n.op == "placeholder"]
    return given[0] if len(given) == 1 else None


def _of_two(bench: Bench, decoder: str, facts: list[ReconFact]) -> Broken:
    model = bench.model
    found = Found(
        _compared(bench, facts),
        label="one decoder is held to the data of two modalities",
        labels=model.labels((facts[0].pair.recon, f"{decoder.rpartition('.')[0] or decoder} puts out this")),
        why="each decoder learns a blend of all modalities, and none learns its own",
        help="hold each decoder to its own modality, whichever encoder the code came from",
    )
    names = " and ".join(str(t.meta["input"]) for f in facts if (t := input_of(bench, f)) is not None)
    return Broken(
        "wrong-target", found, "each decoder is held to one input", f"{decoder} is held to {names}, which other decoders have as well"
    )


def _compared(bench: Bench, facts: list[ReconFact]) -> Span | None:
    """Where they are compared; of a helper that compares for all decoders, its call."""
    ways = [route(f.pair.meet) for f in facts]
    others = [route(r.pair.meet) for r in bench.model.recons if all(r is not f for f in facts)]
    way = ways[0]
    return way[1] if len(way) > 1 and all(other[:1] == way[:1] for other in (*ways, *others)) else way[0] if way else None
