"""Law A3, for whole samples: what a flag says is absent is not counted by a loss that goes by the flag.

Intervention: an input takes other values in the samples whose flag is 0, and in those whose flag is 1; once the posterior is looked at,
once the loss with the posterior held. Where the posterior goes by the flag and the loss moves with the flag too, but as much with the
data of absent samples as with those of present ones, the loss counts what it means to leave out: a mean over all samples times a mean of
flags.

Exempt: a loss that does not read the flag, which may drop a modality for the encoder alone and decode all.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.laws.masks import Seen, is_of_samples
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_NOTHING = 1e-6
_COUNTS = 1e-3


@law(
    "absent-samples-are-not-counted",
    "a loss that goes by a flag counts no data that the flag says are absent",
    covered=("VAE312", "VAE322", "VAE323", "VAE334"),
    cost="all",
)
def absent_samples_are_not_counted(bench: Bench) -> Iterator[Broken]:
    """Flags by which the encoder leaves an input out."""
    for flag in (s for s in bench.of_kind("label", "mask") if is_of_samples(bench, s)):
        for data in bench.of_kind("data", "tokens"):
            meets = _meets(bench, flag, data) if not data.axis and len(shape(data.node)) > 1 else []
            if not meets:
                continue
            on = (bench.value(flag.node) != 0).view(-1, *[1] * (len(shape(data.node)) - 1))
            seen = {place: Seen.at(bench, data, on if place else ~on) for place in (True, False)}
            for absent in (True, False):
                there, gone = seen[not absent], seen[absent]
                if there.posterior <= _NOTHING or gone.posterior > _NOTHING or min(there.loss, gone.loss) <= _NOTHING:
                    continue
                if _goes_by(bench, flag, data, on if absent else ~on):
                    yield _counted(bench, flag, data, meets[0])
                    return


def _goes_by(bench: Bench, flag: Seat, data: Seat, absent: torch.Tensor) -> bool:
    """Whether what the absent data cost, the posterior and its draws held, is another amount where a flag is another: a loss that reads the
    flag for something else adds the same."""
    model, loss = bench.model, bench.base.loss_node
    held = bench.same({n for s in model.sites for n in (*s.heads, s.z) if bench.knows(n)})
    on, val = bench.value(flag.node), bench.value(data.node)
    turned = on.clone()
    turned[0] = 1 - turned[0] if turned.dtype is not torch.bool else ~turned[0]
    rolled = val.roll(1, data.axis)
    other = torch.where(absent, rolled + val.std() if val.is_floating_point() else rolled, val)
    at = [
        float(bench.after({**held, flag.node: f.clone(), data.node: x.clone()}, [loss])[loss].double())
        for f in (on, turned)
        for x in (val, other)
    ]
    return abs(at[3] - at[2] - at[1] + at[0]) > _COUNTS * abs(at[1] - at[0])


def _meets(bench: Bench, flag: Seat, data: Seat) -> list[fx.Node]:
    """Where the flag comes upon an error of that data, not by way of the posterior."""
    model, flow = bench.model, bench.model.flow
    past = {n for s in model.sites for n in (*s.heads, s.z)}
    errors = {
        n
        for f in model.recons
        if f.pair.target is not None and data.node in flow.ancestors(f.pair.target) | {f.pair.target}
        for n in flow.descendants(f.pair.recon)
    }
    met = flow.sorted(errors & flow.descendants(flag.node, stop=past))
    return sorted(met, key=lambda n: ops.op(n) not in ops.MUL | ops.DIV)  # a product first


def _counted(bench: Bench, flag: Seat, data: Seat, node: fx.Node) -> Broken:
    model = bench.model
    found = Found(
        model.where(node),
        label=f"counts {data.name} of the samples that {flag.name} says lack it",
        when=f"{flag.name} has zeros and ones",
        why=f"the encoder leaves {data.name} out where {flag.name} says that it is absent, and the decoder is still trained to put out "
        "what is given there",
        help=f"multiply the error of each sample with {flag.name} before any sum or mean over samples: (error * {flag.name}).sum()",
    )
    text = f"{data.name} moves the loss in the samples that {flag.name} says lack it, as it does in the others"
    return Broken("absent-counted", found, "data of absent samples move nothing", text)
