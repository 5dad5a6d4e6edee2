"""What a training logs under a name."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from vaelint.observe.session import Session
from vaelint.trace.when_imported import when_imported


def note_logged(session: Session, name: object, value: object) -> None:
    """A value is logged: in a recorded iteration its name is kept."""
    if session.watch is not None and isinstance(name, str):
        session.watch.log(name, value)


_WRITER = "add_scalar"
_LOGGERS = {
    "torch.utils.tensorboard.writer": ("SummaryWriter", _WRITER), "tensorboardX.writer": ("SummaryWriter", _WRITER),
    "lightning.pytorch.core.module": ("LightningModule", "log"), "pytorch_lightning.core.module": ("LightningModule", "log"),
    "wandb": ("", "log"), "mlflow": ("", "log_metric log_metrics"), "aim": ("Run", "track"), "comet_ml": ("Experiment", "log_metric"),
    "accelerate.accelerator": ("Accelerator", "log"),
}  # fmt: skip
"""Modules -> the class, if any, and the functions by which they log: a name and a value, a mapping of these, or `track(value, name)`."""


@contextlib.contextmanager
def logs_watched(session: Session) -> Iterator[None]:
    """While the block runs, the session is told what is logged."""
    with contextlib.ExitStack() as stack:
        for name in _LOGGERS:
            stack.enter_context(when_imported(name, functools.partial(_change, session=session, stack=stack)))
        yield


def _change(module: ModuleType, session: Session, stack: contextlib.ExitStack) -> None:
    kind, functions = _LOGGERS[module.__name__]
    owner: Any = module.__dict__.get(kind) if kind else module
    for name in functions.split():
        if callable(original := getattr(owner, "__dict__", {}).get(name)):
            stack.callback(setattr, owner, name, original)
            setattr(owner, name, _noting(original, session))


def _noting(original: Callable[..., Any], session: Session) -> Callable[..., Any]:
    @functools.wraps(original)
    def log(*args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()]
        for values in (v for v in given if isinstance(v, Mapping)):
            for name, value in values.items():
                note_logged(session, name, value)
        name = kwargs.get("name", next((a for a in args if isinstance(a, str)), None))
        for value in given:
            note_logged(session, name, value)
        return original(*args, **kwargs)

    return log
