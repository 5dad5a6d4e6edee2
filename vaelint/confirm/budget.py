"""What the real pass will need, from the record alone: memory, arithmetic, and the batch that fits."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.memory import NO_ROOM, free_bytes, readable
from vaelint.late import dataclass
from vaelint.record.record import Record
from vaelint.trace import torch_private
from vaelint.trail.cost import estimate as cost_of

_CPU_RATE = 1.5e10  # floating point operations a second and thread, of large float32 products; small ones never matter here
_CUDA_RATE = 5e12
_CPU_TRAFFIC, _CUDA_TRAFFIC = 2e9, 2e11  # bytes a second that element-wise operations write
_DRAWN = 4e8  # bytes of inputs a second
_SHARE = 0.7  # of the free memory
_LEFT = 0.5  # of that where the batch has to be made smaller: experiments make copies in double precision
_SMALL = 2e9  # operations that one thread does in a tenth of a second or so
_BACKWARD = 3.0  # forward and backward against forward alone


@dataclass(frozen=True)
class Estimate:
    """What one forward and backward pass needs, with every intermediate value kept, as the recorder does."""

    parameters: int  # numbers
    fixed: int  # bytes that do not depend on the batch: parameters, their gradients, buffers
    moving: int  # bytes that do: inputs, intermediate values, the gradients under way
    flops: float  # of the forward pass, in products, convolutions and attention
    activations: int = 0  # bytes that autograd itself keeps for the backward pass
    uncounted: tuple[str, ...] = ()  # operations whose FLOPs are not known
    given: int = 0  # bytes of the inputs, which are drawn on the CPU

    @property
    def memory(self) -> int:
        """Bytes in all."""
        return self.fixed + self.moving

    def seconds(self, device: str) -> float:
        """Inputs, forward and backward on that device, roughly: on the CPU, as busy as it is now."""
        cuda = device.startswith("cuda")
        rate = _CUDA_RATE if cuda else _CPU_RATE * torch.get_num_threads()
        takes = _BACKWARD * (self.flops / rate + self.moving / (_CUDA_TRAFFIC if cuda else _CPU_TRAFFIC))
        drawing = self.given / _DRAWN
        longest = max(takes, drawing)
        return takes + drawing if longest < 1.0 else takes * (1.0 if cuda else _busy()) + drawing * _busy()


def estimate(record: Record) -> Estimate:
    """Adds up a record: operations and activations as `anatomy.cost` counts them, and the values that the recorder holds beside.

    Values may be fake; views of one storage count once.
    """
    cost = cost_of(record)
    storages: dict[int, int] = {}
    own = {_key(p) for p in (*record.model.parameters(), *record.model.buffers())}
    for node in record.graph.nodes:
        for val in _tensors(node):
            if _key(val) not in own and node.op != "get_attr":
                storages[_key(val)] = max(storages.get(_key(val), 0), _bytes(val))
    sizes = sorted(storages.values())
    fixed = cost.parameter_bytes + cost.gradient_bytes + cost.buffer_bytes
    return Estimate(
        cost.parameters,
        fixed,
        sum(sizes) + sum(sizes[-2:]) + cost.hidden_bytes,
        float(cost.flops),
        cost.activation_bytes,
        cost.uncounted,
        cost.input_bytes,
    )


def _tensors(node: fx.Node) -> Iterator[torch.Tensor]:
    val = node.meta.get("val")
    if isinstance(val, torch.Tensor):
        yield val


def _bytes(tensor: torch.Tensor) -> int:
    try:
        return int(tensor.untyped_storage().nbytes())
    except (NotImplementedError, RuntimeError):  # sparse and other layouts
        return tensor.numel() * tensor.element_size()


def _key(tensor: torch.Tensor) -> int:
    found = torch_private.storage_of(tensor)
    return id(tensor) if found is None else found


@functools.cache
def _busy() -> float:
    """How much slower this machine is just now than the rates above assume, 1 to 20: others may be at work on it."""
    values = torch.ones(1 << 20)
    started = time.perf_counter()
    for _ in range(4):
        values = values * 1.0001
    return min(20.0, max(1.0, (time.perf_counter() - started) * _CPU_TRAFFIC / (4 * values.nbytes)))


def free_memory(device: str) -> int:
    """Bytes that may be had on a device: of the card, or of the machine and the limits set on this process."""
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    return free_bytes()


@contextlib.contextmanager
def few_threads(need: Estimate) -> Iterator[None]:
    """One thread for a small model: on a busy machine its threads would wait for each other many times longer than they compute."""
    kept = torch.get_num_threads()
    if need.flops < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(kept)


@dataclass(frozen=True)
class Plan:
    """The batch to run at, None for no run at all, and why it is not the user's."""

    batch: int | None
    reason: str = ""


def plan(need: Estimate, batch: int, device: str, seconds: float) -> Plan:
    """The largest batch that memory and time allow: the user's own wherever possible."""
    allowed = _SHARE * free_memory(device)
    takes = need.seconds(device)
    if need.memory <= allowed and takes <= seconds:
        return Plan(batch)
    short = (
        f"memory: about {readable(need.memory)} of {readable(allowed)}"
        if need.memory > allowed
        else f"time: about {takes:.0f} s of {seconds:.0f} s"
    )
    for share in (_LEFT, 1.0):
        room = (share * allowed - need.fixed) / max(1, need.moving)
        fits = int(batch * min(room, seconds / takes if takes else 1.0))
        if fits >= 2 or (fits == 1 and batch == 1):
            return Plan(fits, f"B={fits} instead of {batch}: not enough {short}")
    return Plan(None, f"{NO_ROOM}: not enough {short}")
