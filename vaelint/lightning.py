"""`vaelint.lightning.Check`: a Lightning callback that checks the wiring in the first batches of `Trainer.fit`.

    trainer = L.Trainer(max_epochs=10, callbacks=[vaelint.lightning.Check()])

Imports Lightning, `lightning` or `pytorch_lightning`, when a Check is made.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from vaelint.attached import NotClean as NotClean
from vaelint.attached import Watching

if TYPE_CHECKING:
    from vaelint.api import Report

_NAMES = ("lightning.pytorch", "pytorch_lightning")


def Check(**how: Any) -> Any:  # noqa: N802 - a class to who uses it; its base is known once Lightning is imported
    """A callback. Takes `steps`, `fail_on`, `device`, `select` and `ignore`, as `vaelint.attached.Watching`.

    Its `reports` hold what was found. Findings at or above `fail_on` ("error") raise `NotClean`; others are warned of, and the training
    goes on. With several processes, the first one is watched.

    Raises:
        ImportError: Lightning is not installed.
    """
    return type("Check", (_Check, *_bases()), {})(**how)


def _bases() -> tuple[type, ...]:
    """The callbacks of the Lightning that is imported, or of the first that is installed."""
    names = [n for n in _NAMES if n in sys.modules]
    if not names:
        try:
            return (importlib.import_module(_NAMES[0]).Callback,)
        except ImportError:
            return (importlib.import_module(_NAMES[1]).Callback,)
    return tuple(dict.fromkeys(sys.modules[n].Callback for n in names))


class _Check:
    """What the callback does, whichever Lightning it belongs to."""

    def __init__(self, **how: Any) -> None:
        self._watching = Watching(**how)

    @property
    def reports(self) -> list[Report]:
        """What was found, one report for each model that is trained."""
        return self._watching.reports

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Loaders are iterated from here on."""
        if trainer.is_global_zero:
            self._watching.begin([pl_module])

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A batch was handed over; where enough was seen before, it is spoken of."""
        if self._watching.is_due:
            self._watching.end()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The training was shorter than what was to be watched."""
        self._watching.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The training broke: that is what matters."""
        self._watching.close()
