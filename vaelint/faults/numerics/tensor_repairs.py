"""Repairs of single tensors: the device they are born on, the type they are computed in, the edge of a logarithm."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from torch import fx

from vaelint.core.edits import Edit, Proposal
from vaelint.faults.devices.devices import Stray
from vaelint.faults.devices.devices_claims import DeviceOfData, SameDevice
from vaelint.faults.numerics.numerics_claims import AwayFromZero, InFloat32
from vaelint.faults.workbench import Bench, repair
from vaelint.record import ops
from vaelint.source.spot import Spot, propose

_MADE = (
    "randn", "rand", "randint", "zeros", "ones", "full", "arange", "linspace", "eye", "empty", "tensor", "randperm", "normal", "as_tensor",
)  # fmt: skip
_EDGE = "1e-8"


@repair(SameDevice)
def same_device(bench: Bench, wanted: SameDevice) -> Iterator[Proposal]:
    """A tensor born where a tensor it meets lives; a buffer, for one that the model keeps."""
    stray = wanted.stray
    spot = bench.spot(stray.span)
    if spot is None:
        return
    if stray.attribute:
        yield from _buffer(bench, stray)
        return
    names = bench.scope(stray.born)
    for part in spot.inside():
        if part.called in _MADE and part.keyword("device") is None:
            for name in _moved(bench, names, stray.partner):
                says = f"makes the tensor on the device of {name}"
                yield from propose(says, part.with_argument(f"device={name}.device"))


def _moved(bench: Bench, names: Mapping[str, fx.Node], partner: fx.Node) -> list[str]:
    """Names of tensors that move with the model: the one it meets first."""
    own = bench.name_of(partner, names)
    rest = [n for n, held in names.items() if held in bench.model.flow.data and n != own]
    return [*([own] if own else []), *rest[:2]]


def _buffer(bench: Bench, stray: Stray) -> Iterator[Proposal]:
    spot = bench.spot(stray.span)
    statement = spot.statement() if spot is not None else None
    if statement is None or not isinstance(statement.node, ast.Assign) or len(statement.node.targets) != 1:
        return
    target, value = statement.node.targets[0], statement.spot(statement.node.value)
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
        new = f'self.register_buffer("{target.attr}", {value.text}, persistent=False)'
        yield from propose(f"registers {target.attr} as a buffer, which moves with the model", statement.to(new))


@repair(DeviceOfData)
def device_of_data(bench: Bench, wanted: DeviceOfData) -> Iterator[Proposal]:
    """The device taken from a tensor at hand."""
    spot = bench.spot(wanted.place)
    if spot is None:
        return
    names = bench.scope_at(spot)
    held = [n for n, node in names.items() if node in bench.model.flow.data]
    for name in held[:2]:
        says = f"takes the device from {name}"
        if spot.called == "cuda" and spot.receiver is not None:
            yield from propose(says, spot.to(f"{spot.receiver.atom}.to({name}.device)"))
        device = spot.keyword("device")
        if device is not None:
            yield from propose(says, device.to(f"{name}.device"))
        if spot.called == "to" and spot.arguments:
            yield from propose(says, spot.arguments[0].to(f"{name}.device"))


@repair(InFloat32)
def in_float32(bench: Bench, wanted: InFloat32) -> Iterator[Proposal]:
    """The exponential of a float32 value."""
    spot = bench.spot(wanted.node)
    if spot is not None and spot.operands and ops.op(wanted.node) in ("exp", "expm1", "exp2"):
        inner = spot.operands[0]
        yield from propose("takes the exponential in float32", inner.to(f"{inner.atom}.float()"))


@repair(AwayFromZero)
def away_from_zero(bench: Bench, wanted: AwayFromZero) -> Iterator[Proposal]:
    """A small constant under a logarithm or a root; on every one of the line, which has one finding."""
    spot = bench.spot(wanted.node)
    if spot is None or wanted.low < 0:
        return
    says = f"adds {_EDGE} before the logarithm or root"
    kin = [s for s in spot.statement().inside() if s.called == spot.called and s.operands]
    yield from propose(says, *(_lifted(s) for s in kin))
    if spot.operands:
        yield from propose(says, _lifted(spot))


def _lifted(spot: Spot) -> Edit:
    inner = spot.operands[0]
    new = f"{inner.text} + {_EDGE}"
    return inner.to(f"({new})" if spot.receiver is not None and isinstance(inner.node, ast.Name | ast.Call | ast.Attribute) else new)
