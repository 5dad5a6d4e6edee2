"""Law A3, for missing values: which entries are absent is asked of the data before they are filled.

Observed on the real run: the data hold NaN, the step fills them, and asks the filled copy where NaN is. The answer is nowhere, and what
was missing counts as measured. A question whose answer reaches no tensor of the loss (an assertion) is no mask.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_ASKS = frozenset({"isnan", "isfinite", "ne", "eq"})
_FILLS = ops.POINTWISE | ops.SHAPE | frozenset({"nan_to_num", "where", "masked_fill", "setitem", "clone"})


@law(
    "absence-is-asked-of-the-data",
    "where the data hold NaN, the mask that is made of NaN says so",
    covered=("VAE312", "VAE323", "VAE334"),
)
def absence_is_asked_of_the_data(bench: Bench) -> Iterator[Broken]:
    """Questions for NaN in a value that was made of the data place by place."""
    flow = bench.model.flow
    for node in flow.sorted(bench.model.reaching_loss):
        asked = _asked(node)
        if asked is None or not bench.knows(node) or not bench.knows(asked) or bool(bench.value_with_nan(asked).isnan().any()):
            continue
        holding = next((n for n in _made_of(bench, asked) if bool(bench.value_with_nan(n).isnan().any())), None)
        if holding is not None:
            yield _late(bench, node, asked, holding)
            return


def _asked(node: fx.Node) -> fx.Node | None:
    """What a node asks for NaN: `torch.isnan(x)`, or `x != x`."""
    name = ops.op(node)
    if name in ("isnan", "isfinite"):
        return next(iter(ops.value_inputs(node)), None)
    sides = [a for a in node.args if isinstance(a, fx.Node)] if name in _ASKS else []
    return sides[0] if len(sides) == 2 and sides[0] is sides[1] else None


def _made_of(bench: Bench, node: fx.Node) -> Iterator[fx.Node]:
    """Real values of the same sizes that it was made of place by place, the nearest first."""
    while ops.op(node) in _FILLS and (behind := [n for n in ops.value_inputs(node) if bench.is_real(n) and shape(n) == shape(node)]):
        node = behind[0]
        if not bench.knows(node):
            return
        yield node


def _late(bench: Bench, node: fx.Node, asked: fx.Node, holding: fx.Node) -> Broken:
    model = bench.model
    missing = int(bench.value_with_nan(holding).isnan().sum())
    found = Found(
        model.where(node),
        label=f"asks {model.written(asked)}, which holds no NaN any more",
        labels=model.labels((asked, "the missing values are filled here"), (holding, "holds them")),
        why="the mask says that every entry was measured: the filling is encoded and decoded as data",
        help=f"make the mask of {model.written(holding)}, before it is filled",
    )
    text = f"{missing} of {bench.value_with_nan(holding).numel()} values of {model.written(holding)} are NaN, and the mask leaves out none"
    return Broken("absent-counted", found, "the mask leaves out what is NaN in the data", text)
