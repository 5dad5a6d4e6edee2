"""Training that is written for several processes runs as one: a group of one, `DistributedDataParallel` as what it wraps."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn

from vaelint.core.launchers import RANK_ZERO
from vaelint.trace.when_imported import when_imported

_DIST: Any = dist  # its own type stubs do not have all that it exports


@contextlib.contextmanager
def running_alone(note: Callable[[str], None], own: Callable[[str], bool]) -> Iterator[None]:
    """Within the block groups have one process, this one, and `torch.multiprocessing.spawn` calls its function here, once, as rank 0.

    What files that are the script's `own` need of the launcher's environment is there. Libraries see that nobody launched them. In a
    process that is in a group already, nothing is done.
    """
    if dist.is_available() and dist.is_initialized():
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment(own))
        if dist.is_available():
            stack.enter_context(_group_of_one(note))
        stack.enter_context(_spawning_here(note))
        for name in _LIGHTNING:
            stack.enter_context(when_imported(name, lambda module: _on_one_device(module, note, stack)))
        stack.enter_context(_unwrapped())
        stack.enter_context(when_imported("torch.distributed.fsdp", lambda module: _unsharded(module, note, stack)))
        yield


@contextlib.contextmanager
def _environment(own: Callable[[str], bool]) -> Iterator[None]:
    """`os.environ["RANK"]` in the script's own files. `get`, and `in`, say as they do without a launcher that there is none."""
    kind: Any = type(os.environ)
    original = kind.__getitem__

    def item(self: Any, key: str) -> str:
        try:
            value: str = original(self, key)
        except KeyError:
            if self is not os.environ or key not in RANK_ZERO or not own(_asking(sys._getframe(1))):
                raise
            return RANK_ZERO[key]
        return value

    kind.__getitem__ = item
    try:
        yield
    finally:
        kind.__getitem__ = original


def _asking(frame: FrameType) -> str:
    """The file that asks; what checks types stands between, in tests."""
    while frame.f_back is not None and frame.f_code.co_filename.startswith("<@"):
        frame = frame.f_back
    return frame.f_code.co_filename


@contextlib.contextmanager
def _group_of_one(note: Callable[[str], None]) -> Iterator[None]:
    original = dist.init_process_group

    def init(*_: Any, **__: Any) -> None:
        note("run as one process: a group of one instead of those that the launcher starts")
        original("gloo", store=_DIST.HashStore(), rank=0, world_size=1)

    places: tuple[Any, ...] = (dist, _DIST.distributed_c10d)
    for place in places:
        place.init_process_group = init
    try:
        yield
    finally:
        for place in places:
            place.init_process_group = original
        if dist.is_initialized():
            dist.destroy_process_group()


@contextlib.contextmanager
def _spawning_here(note: Callable[[str], None]) -> Iterator[None]:
    processes: Any = torch.multiprocessing
    original = processes.spawn

    def spawn(fn: Callable[..., None], args: tuple[Any, ...] = (), *_: Any, **__: Any) -> None:
        note("run as one process: torch.multiprocessing.spawn calls its function once, as rank 0")
        fn(0, *args)

    processes.spawn = spawn
    try:
        yield
    finally:
        processes.spawn = original


_LIGHTNING = ("lightning.pytorch.trainer.trainer", "pytorch_lightning.trainer.trainer")
_REMOVED = frozenset({
    "gpus", "tpu_cores", "ipus", "num_processes", "distributed_backend", "auto_select_gpus", "progress_bar_refresh_rate", "weights_summary",
    "checkpoint_callback", "resume_from_checkpoint", "auto_lr_find", "auto_scale_batch_size", "amp_backend", "amp_level", "track_grad_norm",
    "terminate_on_nan", "flush_logs_every_n_steps", "process_position", "log_gpu_memory", "replace_sampler_ddp", "move_metrics_to_cpu",
    "multiple_trainloader_mode", "stochastic_weight_avg", "reload_dataloaders_every_epoch", "prepare_data_per_node", "truncated_bptt_steps",
})  # fmt: skip
"""What Lightning 1 had and Lightning 2 has not (https://lightning.ai/docs/pytorch/stable/upgrade/migration_guide.html)."""
_ONE = {"devices": (None, "auto", 1, "1"), "strategy": (None, "auto"), "num_nodes": (None, 1)}


def _on_one_device(module: ModuleType, note: Callable[[str], None], stack: contextlib.ExitStack) -> None:
    """Lightning's `Trainer` starts no further processes, and takes the CPU where the accelerator that it is to use is not there."""
    kind: Any = module.__dict__["Trainer"]
    original = kind.__init__
    takes = inspect.signature(original).parameters
    unknown = frozenset() if any(p.kind is p.VAR_KEYWORD for p in takes.values()) else _REMOVED - takes.keys()

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if removed := sorted(kwargs.keys() & unknown):
            note(f"this Lightning's Trainer does not know {', '.join(removed)}: left out")
            kwargs = {k: v for k, v in kwargs.items() if k not in removed}
        others = {k: v for k, v in kwargs.items() if k in _ONE and v not in _ONE[k]}
        if kwargs.get("accelerator", "cpu") not in ("auto", "cpu") and not torch.cuda.is_available():
            others["accelerator"] = kwargs["accelerator"]
        if others:
            asked = ", ".join(f"{k}={v!r}" for k, v in others.items())
            note(f"run as one process on one device: the Trainer is not given {asked}")
        kwargs = {k: v for k, v in kwargs.items() if k not in others} | ({"devices": 1} if others else {})
        original(self, *args, **kwargs)

    kind.__init__ = init
    stack.callback(setattr, kind, "__init__", original)


@contextlib.contextmanager
def _unwrapped() -> Iterator[None]:
    """`DistributedDataParallel` and `DataParallel` call the module that they wrap: there is nobody to share with."""

    def init(self: Any, module: nn.Module, *_: Any, **__: Any) -> None:
        nn.Module.__init__(self)
        self.module = module
        vars(self).update(
            device_ids=[], output_device=None, dim=0, require_backward_grad_sync=True, require_forward_param_sync=True, process_group=None,
            find_unused_parameters=False, gradient_as_bucket_view=False,
        )  # fmt: skip

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def nothing(self: Any, *_: Any, **__: Any) -> Any:
        return contextlib.nullcontext()

    plain: dict[str, Any] = {"__init__": init, "forward": forward}
    alone = dict.fromkeys(("no_sync", "join", "register_comm_hook", "_set_static_graph"), nothing)
    usual = {name: getattr(nn.Module, name) for name in ("train", "__getstate__", "__setstate__")}
    wrappers: list[tuple[Any, dict[str, Any]]] = [(nn.DataParallel, plain)]
    if dist.is_available():
        wrappers.append((nn.parallel.DistributedDataParallel, {**plain, **alone, **usual}))
    kept = [(kind, name, vars(kind)[name]) for kind, names in wrappers for name in names if name in vars(kind)]
    for kind, names in wrappers:
        for name, new in names.items():
            setattr(kind, name, new)
    try:
        yield
    finally:
        for kind, names in wrappers:
            for name in names:
                delattr(kind, name)
        for kind, name, old in kept:
            setattr(kind, name, old)


def _unsharded(fsdp: ModuleType, note: Callable[[str], None], stack: contextlib.ExitStack) -> None:
    """`fully_shard` and `FullyShardedDataParallel` leave a module whole: a group of one has nothing to share out."""
    names: Any = fsdp.__dict__
    kind, kept = names["FullyShardedDataParallel"], names.get("fully_shard")

    def whole(module: nn.Module, *_: Any, **__: Any) -> nn.Module:
        note("run as one process: parameters are not sharded")
        vars(module)["clip_grad_norm_"] = lambda most, *more: nn.utils.clip_grad_norm_(module.parameters(), most, *more)
        vars(module)["set_requires_gradient_sync"] = lambda *_, **__: None
        return module

    kind.__new__ = lambda cls, module, *args, **kwargs: whole(module)  # what is no instance of it is not initialised
    stack.callback(delattr, kind, "__new__")
    if kept is not None:
        names["fully_shard"] = whole
        stack.callback(names.__setitem__, "fully_shard", kept)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module within `DistributedDataParallel` or `DataParallel`."""
    while isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module = module.module
    return module
