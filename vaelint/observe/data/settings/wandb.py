"""wandb, where it is not installed: it logs nothing, and keeps the settings that the script gives it, which the training reads there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from vaelint.observe.data.absent import Nothing
from vaelint.observe.data.settings.attribute_dict import AttributeDict, attributes_of


class Config(AttributeDict):
    """`wandb.config`."""

    def update(self, *args: Any, allow_val_change: bool = False, **kwargs: Any) -> None:
        """Takes further settings, also those of a command line."""
        for given in (*args, kwargs):
            super().update(attributes_of(given))

    def setdefaults(self, given: Any) -> None:
        """Takes settings that are not there."""
        super().update({k: v for k, v in attributes_of(given).items() if k not in self})


class _Run(Nothing):
    """A run, with the settings that it was begun with."""

    def __init__(self, config: Config) -> None:
        self.config = config


def _first(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the first run of a sweep: of each parameter its value, or the first or least of its values."""
    found: dict[str, Any] = {}
    for name, said in parameters.items():
        if not isinstance(said, Mapping):
            found[name] = said
        elif "parameters" in said:
            found[name] = AttributeDict(_first(said["parameters"]))
        else:
            values = said.get("values") or [said.get("value", said.get("min"))]
            found[name] = values[0]
    return found


def wandb() -> dict[str, ModuleType]:
    """The module."""
    made = ModuleType("wandb", "stands in for a package that is not installed")
    config, sweeps = Config(), dict[str, dict[str, Any]]()

    def init(*_: Any, config: Any = None, **__: Any) -> _Run:
        made.__dict__["config"].update(config or {})
        run = _Run(made.__dict__["config"])
        made.__dict__["run"] = run
        return run

    def sweep(sweep: Any = None, *_: Any, **__: Any) -> str:
        name = f"sweep{len(sweeps)}"
        sweeps[name] = _first(attributes_of(sweep).get("parameters", {}))
        return name

    def agent(sweep_id: Any, function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> None:
        made.__dict__["config"].update(sweeps.get(sweep_id, {}))
        if function is not None:
            function()

    def missing(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    made.__dict__.update(
        init=init, sweep=sweep, agent=agent, config=config, run=None, log=lambda *_, **__: None, __getattr__=missing, __path__=[],
        __version__="99.0",
    )  # fmt: skip
    return {"wandb": made}
