"""A pipeline for the tests of the front: imports the target's module and plays what it says there."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from typing import Any

from vaelint.core.result import Request, TargetResult


def check_target(request: Request, emit: Callable[[dict[str, Any]], None]) -> TargetResult:
    """Runs the module; `after_static` of it, if there is one, runs once the static result is out."""
    emit({"kind": "stage", "stage": "load"})
    sys.dont_write_bytecode = True  # as the real one: what a check writes itself would be taken for a change
    namespace = runpy.run_path(request.target.partition(":")[0])
    result = TargetResult(request.target, rung="symbolic", symbols={"B": 32})
    emit({"kind": "static", "result": result.to_json()})
    namespace.get("after_static", lambda: None)()
    result.confirm = {"device": "cpu", "outcome": "ran"}
    result.settle()
    return result
