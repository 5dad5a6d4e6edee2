"""The variables that user code runs under. Imports no torch."""

from __future__ import annotations

import os

ENVIRONMENT = {
    "PYTORCH_JIT": "0",  # torch.jit.script hides the user's Python from the recorder
    "TORCHDYNAMO_DISABLE": "1",  # as does torch.compile
    "PYTHONHASHSEED": "0",  # same input, same bytes
    "PYTHONUNBUFFERED": "1",  # what was printed before a crash is worth having
    "MPLBACKEND": "Agg",
    "WANDB_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
    "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",  # macOS would abort the fork of a process that has loaded frameworks
}

UNLESS_SAID = {"OMP_WAIT_POLICY": "passive"}  # threads that wait for work spin, and take the core from another target's process

SECRETS = ("VAELINT_CACHE_KEY",)  # what user code has no business with


def environment() -> dict[str, str]:
    """The variables that the worker, and so user code, gets to see."""
    return {k: v for k, v in (UNLESS_SAID | os.environ | ENVIRONMENT).items() if k not in SECRETS}
