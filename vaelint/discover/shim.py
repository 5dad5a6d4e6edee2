"""Becomes the `sitecustomize` of the Python processes that a command starts: those that run a script say so and end. Imports no torch."""

import json
import os
import sys

PLACE = "VAELINT_STARTED"
"""The environment variable that names the file which takes the notes."""

_TOOLS = ("pip", "venv", "ensurepip", "virtualenv", "uv")


def _script(words: list[str]) -> bool:
    """Whether Python is to run a script or a module, not code of the command line, or a tool that installs."""
    place = 1
    while place < len(words) and words[place].startswith("-") and words[place] not in ("-m", "-c", "-"):
        if words[place] in ("-V", "--version", "-h", "--help"):
            return False
        place += 2 if words[place] in ("-W", "-X") else 1
    if place >= len(words) or words[place] in ("-c", "-"):
        return False
    return words[place] != "-m" or (place + 1 < len(words) and words[place + 1] not in _TOOLS)


def note() -> None:
    """Notes the process and ends it, before any code of its script."""
    file, words = os.environ.get(PLACE), getattr(sys, "orig_argv", [])
    if file is None or not _script(words):
        return
    kept = {k: v for k, v in os.environ.items() if k not in (PLACE, "PYTHONPATH")}
    with open(file, "a", encoding="utf-8") as notes:  # noqa: PTH123 - pathlib would be loaded in each process
        notes.write(json.dumps({"words": words, "folder": os.getcwd(), "environment": kept, "prefix": sys.prefix}) + "\n")  # noqa: PTH109
    os._exit(0)


note()
