"""Packages of no mathematical meaning that read settings, stood in for where they are not installed. The report says so."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType

from vaelint.observe.data.settings.attribute_dict import package
from vaelint.observe.data.settings.config_arguments import config_arguments
from vaelint.observe.data.settings.wandb import wandb
from vaelint.observe.data.stand_ins import stood_in

_PACKAGES: Mapping[str, Callable[[], dict[str, ModuleType]]] = {
    "configargparse": config_arguments,
    "wandb": wandb,
    "easydict": package("easydict", "EasyDict"),
    "addict": package("addict", "Dict"),
    "munch": package("munch", "Munch"),
    "attrdict": package("attrdict", "AttrDict"),
}


@contextlib.contextmanager
def config_packages(note: Callable[[str], None], own: Callable[[str], bool]) -> Iterator[None]:
    """Within the block the files that are the script's `own` can import them."""
    with contextlib.ExitStack() as stack:
        for name, modules in _PACKAGES.items():
            if name not in sys.modules and importlib.util.find_spec(name) is None:
                stack.enter_context(stood_in(modules(), own, note))
        yield
