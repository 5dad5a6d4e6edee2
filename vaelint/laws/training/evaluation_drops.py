"""Law B6, for evaluation: what is dropped at random in training is not dropped in evaluation.

Intervention: the whole model is put in evaluation mode, and a step that would put it back cannot. Prediction: no dropout leaves values out.
`F.dropout(h, 0.3)` drops whatever the mode is, and so does a layer that is made where it is called, or kept in a plain list.

Exempt is intended dropout (an explicit `training=True`, as for Monte Carlo dropout), layers that the step itself puts in training
mode, and what only training runs: noise on the data of a denoising step, and code in the very function that reckons the loss, unless
that is the model's forward.

Source: Srivastava et al. 2014, Dropout, section 1; exempt: Gal & Ghahramani 2016, Dropout as a Bayesian Approximation.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import Record, ancestors, route, span
from vaelint.rule import Found
from vaelint.trace import torch_private

_DROPS = frozenset({"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "feature_dropout"})
_MODE = 2  # the place of `training` among the arguments, in all of them


@law("evaluation-drops-nothing", "what is dropped at random in training is not dropped in evaluation", covered=("VAE224", "VAE228"))
def evaluation_drops_nothing(bench: Bench) -> Iterator[Broken]:
    """Dropouts whose rate is neither 0 nor all, and whose call does not say that it is for evaluation too."""
    model = bench.model
    known = {
        (place.file, place.line) for n in model.record.nodes if _drops(n) and not _is_meant(bench, n) and (place := span(n)) is not None
    }
    if not known:
        return
    run = bench.base.again(prepare=_in_evaluation)
    record = run.record
    if record.failure is not None or record.loss is None:
        raise CannotMeasureError("the step does not run in evaluation mode")
    behind = ancestors(record.loss)
    for node in (n for n in record.nodes if _drops(n) and n in behind):
        place = span(node)
        if place is None or (place.file, place.line) not in known or _is_told(record, node) or _serves_training(bench, node):
            continue
        if (share := _dropped(node)) > 0:
            yield _broken(node, share)
            return


def _in_evaluation(model: torch.nn.Module, _: dict[str, torch.Tensor]) -> None:
    """Evaluation mode, which no step takes back from the model as a whole."""
    model.eval()
    for module in model.modules():
        if not isinstance(module, torch_private.Dropout):
            module.train = lambda mode=True, kept=module: kept  # type: ignore[method-assign, misc]


def _drops(node: fx.Node) -> bool:
    return node.op == "call_function" and ops.raw_name(node).rstrip("_") in _DROPS


def _dropped(node: fx.Node) -> float:
    """The share of values that are 0 afterwards and were not before; 0 where all are."""
    before, after = (n.meta.get("val") if isinstance(n, fx.Node) else None for n in (node.args[0] if node.args else None, node))
    if not isinstance(before, torch.Tensor) or not isinstance(after, torch.Tensor) or before is after:
        return 0.0
    kept = (after != 0)[before != 0].double()
    return 1.0 - float(kept.mean()) if bool(kept.any()) else 0.0


def _is_meant(bench: Bench, node: fx.Node) -> bool:
    """Whether the call itself says in which mode it drops."""
    place = span(node)
    call = bench.model.source.file(place.file).at(place) if place is not None else None
    if not isinstance(call, ast.Call):
        return False
    return any(k.arg in ("training", "train") for k in call.keywords) or len(call.args) > _MODE


def _is_told(record: Record, node: fx.Node) -> bool:
    """Whether the step has put this layer in training mode by itself."""
    path = node.meta.get("module")
    layers = dict(record.model.named_modules())
    layer = layers.get(path) if isinstance(path, str) else None
    return isinstance(layer, torch_private.Dropout) and any(s.module is layer for s in record.told_to_train)


def _serves_training(bench: Bench, node: fx.Node) -> bool:
    """Whether evaluation does not come by: in a function that compares with the data or has it compared, or noise on data there."""
    model = bench.model
    source = model.source
    meets = [f.pair.meet for f in model.recons]
    compares = [source.function(p) for n in meets if (p := model.where(n)) is not None]
    around = [source.function(p) for p in route(node)]
    own = around[0] if around else None
    if own is None or (own in compares and own.name != "forward"):
        return True
    is_of_data = not any(n.op == "get_attr" for n in ancestors(node))
    asking = [*compares, *(source.function(p) for n in meets for p in route(n))]
    return is_of_data and any(f is not None and f in asking for f in around)


def _broken(node: fx.Node, share: float) -> Broken:
    found = Found(
        span(node),
        label=f"drops {share:.0%} of the values in evaluation mode too",
        labels=(),
        why="nothing puts this dropout in evaluation mode: what is encoded, reconstructed and measured after training has noise in it that "
        "only training should have, and no two evaluations agree",
        help="F.dropout(h, rate, training=self.training), or an nn.Dropout that the constructor makes; training=True where it is intended",
    )
    text = f"with the model in evaluation mode {share:.0%} of the values are 0 after it"
    return Broken("dropped-in-evaluation", found, "in evaluation mode no value is dropped", text)
