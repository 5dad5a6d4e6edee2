"""`vaelint.huggingface.Check`: a callback of the Hugging Face `Trainer` that checks the wiring in its first steps.

    trainer = Trainer(model, args, train_dataset=data, callbacks=[vaelint.huggingface.Check()])

Imports `transformers` when a Check is made.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vaelint.attached import NotClean as NotClean
from vaelint.attached import Watching

if TYPE_CHECKING:
    from vaelint.api import Report


def Check(**how: Any) -> Any:  # noqa: N802 - a class to who uses it; its base is known once transformers is imported
    """A callback. Takes `steps`, `fail_on`, `device`, `select` and `ignore`, as `vaelint.attached.Watching`.

    Its `reports` hold what was found. Findings at or above `fail_on` ("error") raise `NotClean`; others are warned of, and the training
    goes on. With several processes, the first one is watched.

    Raises:
        ImportError: transformers is not installed.
    """
    return type("Check", (_Check, importlib.import_module("transformers").TrainerCallback), {})(**how)


class _Check:
    """What the callback does."""

    def __init__(self, **how: Any) -> None:
        self._watching = Watching(**how)

    @property
    def reports(self) -> list[Report]:
        """What was found, one report for each model that is trained."""
        return self._watching.reports

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """The first batch comes next."""
        if state.is_world_process_zero:
            self._watching.begin([model])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The optimizer has stepped; where enough was seen before, it is spoken of."""
        if self._watching.is_due:
            self._watching.end()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The training was shorter than what was to be watched."""
        self._watching.end()
