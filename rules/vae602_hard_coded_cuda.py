"""A GPU is hard-coded.

## What it does
Reports `.cuda()`, `.to("cuda")` and `device="cuda"` that run in the constructor or in the step, unless guarded by a
condition such as `if torch.cuda.is_available()`, or taken from a setting of another file. While tracing, the CPU stands in for the GPU.

## Why is this bad
The model does not run where there is no CUDA device, nor on the second one, nor on another kind of accelerator.

## Example
    eps = torch.randn(mu.shape).cuda()

## Use instead
    eps = torch.randn_like(mu)

## When to ignore
When the code is for one machine only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.devices.asked import Asked


@rule(
    "VAE602",
    "hard-coded-cuda",
    Severity.WARNING,
    message="a GPU is hard-coded",
    basis="shapes",
).on("devices.asked.asked_devices")
def check(model: Model, asked_devices: list[Asked]) -> Findings:
    """Each line that names one."""
    for asked in asked_devices:
        yield Found(
            asked.span,
            label=f"{asked.what}, whatever device the model is on",
            when="there is no CUDA device, or the model is on another one",
            why="it raises there",
            help="take the device from an existing tensor: device=x.device, or torch.randn_like(x)",
            repair=repairs.DeviceOfData(place=asked.span),
            claim=claims.DeviceError("where there is no CUDA device this raises", asked=asked.what, place=asked.span),
        )
