"""A tensor is created on the CPU and meets the model's tensors.

## What it does
Follows each tensor that the step makes without saying where (`randn(...)`, `zeros(...)`, `arange(...)`), and each
tensor kept as a plain attribute, to the first operation in which it meets the model's parameters or inputs. Tensors
made like another one (`randn_like`, `new_zeros`) or moved with `.to(...)` on the way are fine, and so are single
numbers and indices, which torch takes from the CPU. Needs no GPU.

## Why is this bad
On the CPU everything works. After `model.to("cuda")` the step raises "Expected all tensors to be on the same device":
a plain attribute does not move with the model, and a new tensor starts on the default device.

## Example
    eps = torch.randn(mu.size(0), mu.size(1))

## Use instead
    eps = torch.randn_like(mu)

Where nothing in the code names another device (no `.cuda()`, no `.to(device)`, no `device=`, no trainer that moves the model, no
`--device cuda`), this is a remark and no warning.

## When to ignore
When the model never leaves the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.devices.devices import Stray


@rule(
    "VAE601",
    "born-on-cpu",
    Severity.WARNING,
    message="a tensor stays on the CPU when the model moves",
    basis="shapes",
).on("devices.devices.stray_tensors")
def check(model: Model, stray_tensors: list[Stray]) -> Findings:
    """Each place where such a tensor is created."""
    for stray in stray_tensors:
        name = stray.attribute or model.written(stray.born)
        yield Found(
            stray.span,
            label=f"{stray.attribute} is neither a parameter nor a buffer" if stray.attribute else "made on the default device",
            labels=model.labels((stray.meets, f"meets {model.written(stray.partner)}, which moves with the model")),
            when="the model is on a GPU",
            why="torch does not combine tensors of two devices",
            help=f'register it: self.register_buffer("{name.rpartition(".")[2]}", ...)'
            if stray.attribute
            else "make it like a tensor it meets (torch.randn_like, new_zeros), or pass device=",
            repair=repairs.SameDevice(stray=stray),
            claim=claims.DeviceError("on another device this operation raises", node=stray.meets, born=stray.born),
        )
