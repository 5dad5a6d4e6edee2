"""Input tensors whose values lie in the declared ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from vaelint.core.inputs import InputSet, InputSpec
from vaelint.trace import torch_private


def make_inputs(
    inputs: InputSet,
    names: Sequence[str],
    assignment: Mapping[str, int] | None = None,
    *,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """One tensor per input, by name, in the order of `names`; the global random state is left alone.

    An input that the user named keeps its name; the others take the remaining `names` in order. Floats without a range are
    standard normal, whole numbers without one are 0 or 1. Lengths bounded by a size of another input follow that size and
    come sorted, longest first, as packed sequences want them; places in the batch follow the batch size. Under a FakeTensorMode
    only shapes and dtypes are made.
    """
    values = {**inputs.symbols, **(assignment or {})}
    fake = torch_private.fakes_active()
    generator = None if fake else torch.Generator().manual_seed(seed)
    left = [name for name in names if name not in {spec.name for spec in inputs.specs}]
    made: dict[str, torch.Tensor] = {}
    for index, (spec, size) in enumerate(zip(inputs.specs, inputs.sizes(assignment), strict=True)):
        name = spec.name or (left.pop(0) if left else f"input{index + 1}")
        if generator is None:
            made[name] = torch.empty(size, dtype=getattr(torch, spec.dtype), device=device)
            continue
        counted = inputs.length_symbol(index)
        if counted is not None:
            tensor = _lengths(spec, size, values[counted], generator)
        elif (pointed := inputs.index_symbol(index)) is not None:
            tensor = torch.randint(values[pointed], size, generator=generator)
        else:
            tensor = _draw(spec, size, generator)
        made[name] = tensor.to(getattr(torch, spec.dtype)).to(device)
    return {name: made[name] for name in names if name in made} | made


def _draw(spec: InputSpec, size: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Values of the spec's range, in a dtype that is then cast."""
    if spec.values is not None:
        choice = torch.randint(len(spec.values), size, generator=generator)
        drawn = torch.tensor(spec.values, dtype=torch.float64)[choice]
        if set(spec.values) == {0.0, 1.0} and len(size) == 2 and size[0] == size[1]:
            drawn.fill_diagonal_(0)  # a square of zeros and ones may be a graph, in which no node is its own neighbour
        return drawn
    if spec.is_integer:
        low, high = spec.whole_range or _finite_part(spec)
        if high - low >= 2**62:
            low, high = max(low, -(2**61)), min(high, 2**61)
        return torch.randint(low, high + 1, size, generator=generator)
    if spec.dtype.startswith("complex"):
        return torch.complex(torch.randn(size, generator=generator), torch.randn(size, generator=generator))
    low_end, high_end = spec.low, spec.high
    if low_end is None or high_end is None or (math.isinf(low_end) and math.isinf(high_end)):
        return torch.randn(size, generator=generator)
    unit = torch.rand(size, generator=generator, dtype=torch.float64)
    if math.isinf(high_end):
        return low_end - torch.log1p(-unit)  # exponential above the bound
    if math.isinf(low_end):
        return high_end + torch.log1p(-unit)
    if spec.low_open:
        unit = 1 - unit
    drawn = low_end * (1 - unit) + high_end * unit
    # the cast to a narrower dtype may round up onto an open bound
    return drawn if not spec.high_open else drawn.clamp(max=high_end - (high_end - low_end) * 1e-3)


def _finite_part(spec: InputSpec) -> tuple[int, int]:
    """A small integer range inside a half-open or undeclared one."""
    if spec.low is None or spec.high is None or (math.isinf(spec.low) and math.isinf(spec.high)):
        return 0, 1
    if math.isinf(spec.high):
        return math.ceil(spec.low), math.ceil(spec.low) + 9
    return math.floor(spec.high) - 10, math.floor(spec.high) - (1 if spec.high_open else 0)


def _lengths(spec: InputSpec, size: tuple[int, ...], longest: int, generator: torch.Generator) -> torch.Tensor:
    """Lengths from the range's lower end to `longest`, which occurs."""
    low = min((spec.whole_range or (1, longest))[0], longest)
    drawn = torch.randint(low, longest + 1, size, generator=generator).sort(descending=True).values
    drawn[0] = longest
    return drawn
