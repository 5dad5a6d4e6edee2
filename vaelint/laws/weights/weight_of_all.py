"""Law B4, for the balance: the weight of the KL moves the KL against the reconstruction.

Intervention: the number is doubled. Where the whole loss doubles with it, it weighs both alike, and no value of it changes what is learned
but for the size of the steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.experiment.verdict import CannotMeasureError
from vaelint.faults.schedule.reset_counters import user_objects
from vaelint.faults.schedule.schedule import WEIGHT
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.rule import Found

_ALIKE = 1e-5


@law("weights-move-the-balance", "the weight of the KL moves it against the reconstruction", covered=("VAE415", "VAE431"), cost="all")
def weights_move_the_balance(bench: Bench) -> Iterator[Broken]:
    """Numbers that are called a weight of the KL and that multiply both terms."""
    model = bench.model
    behind = [{leaf.node for t in model.terms_of(role) for leaf in t.leaves} for role in ("kl", "reconstruction")]
    for at, owner in enumerate(user_objects(model.record.model)):
        for name, value in vars(owner).items():
            if not WEIGHT.match(name) or type(value) not in (int, float) or value in (0, 1):
                continue
            node = _product(bench, float(value), behind)
            if node is not None and _doubles(bench, at, name):
                yield _both(bench, node, name, float(value))
                return


def _product(bench: Bench, value: float, behind: list[set[fx.Node]]) -> fx.Node | None:
    """The product with a number that all terms go through."""
    flow = bench.model.flow
    for node in flow.sorted(bench.model.reaching_loss)[::-1]:
        given = [a for a in node.args if isinstance(a, int | float) and not isinstance(a, bool)]
        if ops.op(node) in ops.MUL and value in given and all(terms and terms <= flow.ancestors(node) for terms in behind):
            return node
    return None


def _doubles(bench: Bench, at: int, name: str) -> bool:
    def put(model: torch.nn.Module, _: dict[str, torch.Tensor]) -> None:
        owner = user_objects(model)[at]
        setattr(owner, name, 2 * vars(owner)[name])

    again = bench.base.again(prepare=put)
    if again.record.failure is not None:
        raise CannotMeasureError("the step does not run with another weight")
    before, after = float(bench.base.loss.detach().double()), float(again.loss.detach().double())
    return before != 0 and abs(after - 2 * before) <= _ALIKE * abs(before)


def _both(bench: Bench, node: fx.Node, name: str, value: float) -> Broken:
    found = Found(
        bench.model.where(node),
        label=f"{name} = {value:g} multiplies the reconstruction too",
        why="the balance is that of a weight of 1, whatever the number is: only the size of the steps follows it",
        help=f"multiply the KL alone: reconstruction + {name} * kl",
    )
    return Broken("beta-unused", found, "twice the weight doubles the KL alone", "with twice the weight the whole loss doubles")
