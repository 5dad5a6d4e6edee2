"""What a model needs of Lightning's LightningModule where Lightning is not installed, and quiet logging where it is."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

_SILENCED = ("log", "log_dict", "print", "toggle_optimizer", "untoggle_optimizer", "clip_gradients")


class _HParams(dict[str, Any]):
    """Constructor arguments, by key or by attribute."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    __setattr__ = dict.__setitem__


class _Logger:
    """What is logged goes nowhere, however it is called."""

    def __getattr__(self, name: str) -> _Logger:
        if name.startswith("__"):  # nobody's copy protocol
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> _Logger:
        return self


class LightningModule(nn.Module):
    """A plain nn.Module with the attributes that a `training_step` reads. It has no trainer, as in Lightning before `fit`."""

    current_epoch = 0
    global_step = 0
    logger: Any = _Logger()
    trainer: Any = None
    automatic_optimization = True
    example_input_array: Any = None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """What the parameters are made of."""
        return next((p.dtype for p in self.parameters()), torch.get_default_dtype())

    @property
    def hparams(self) -> _HParams:
        """What `save_hyperparameters` kept."""
        kept: _HParams = self.__dict__.setdefault("_hparams", _HParams())
        return kept

    def save_hyperparameters(self, *args: Any, ignore: Any = (), frame: Any = None, logger: bool = True) -> None:
        """Keeps the arguments of the constructor that calls this, all or those named, in `hparams`."""
        frame = frame or inspect.currentframe()
        while frame is not None and not (frame.f_code.co_name == "__init__" and next(iter(frame.f_locals.values()), None) is self):
            frame = frame.f_back
        left_out = {ignore} if isinstance(ignore, str) else set(ignore or ())
        if len(args) == 1 and not isinstance(args[0], str):
            self.hparams.update(args[0] if isinstance(args[0], dict) else vars(args[0]))
            return
        if frame is None:
            return
        given = inspect.getargvalues(frame)
        values = {name: given.locals[name] for name in given.args[1:]} | (given.locals[given.keywords] if given.keywords else {})
        self.hparams.update({k: v for k, v in values.items() if k not in left_out and (not args or k in args)})

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: there is no trainer."""

    log_dict = print = log

    def manual_backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Nothing: the loss is what is looked at."""


def is_lightning(model: nn.Module) -> bool:
    """Whether a base class of the model is a LightningModule, real or stood in for."""
    return any(base.__name__ == "LightningModule" for base in type(model).__mro__)


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


def silence(model: nn.Module) -> None:
    """Makes `self.log(...)` do nothing on this instance: without a trainer the real one raises."""
    for name in _SILENCED if is_lightning(model) else ():
        if callable(getattr(model, name, None)) and not _is_users(type(model), name):
            model.__dict__[name] = _nothing


def _is_users(cls: type, name: str) -> bool:
    """Whether a class below LightningModule defines `name` itself."""
    for base in cls.__mro__:
        if base.__name__ == "LightningModule":
            return False
        if name in vars(base):
            return True
    return False
