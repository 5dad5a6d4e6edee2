"""What a rule's check is given: the model, and what each fact came to that the rule names."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from vaelint.anatomy.model import Model
from vaelint.replay.per_model import per_model
from vaelint.rule import Rule, RuleError, fact_place


def arguments(rule: Rule, model: Model) -> list[Any]:
    """The arguments of a rule's check. Raises whatever a fact raises."""
    return [model, *(_answer(name, model) for name in rule.facts)]


def _answer(name: str, model: Model) -> Any:
    asked, asks_more = resolved(name)
    return functools.partial(asked, model) if asks_more else asked(model)


@functools.cache
def resolved(name: str) -> tuple[Callable[..., Any], bool]:
    """The function that a fact's name stands for, and whether it takes more than the model. One that does not is called once a model.

    Raises:
        RuleError: there is no such function.
    """
    module, function = fact_place(name)
    found = getattr(importlib.import_module(module), function, None)
    if not callable(found):
        raise RuleError(f"there is no fact {name!r}: no function {function!r} at the top of the module {module!r}")
    asks_more = len(inspect.signature(found).parameters) > 1
    return (found, True) if asks_more else (per_model(found), False)
