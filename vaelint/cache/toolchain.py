"""What made a result besides the user's files: versions of Python, torch, vaelint and the rule packages. Imports none of them."""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import os
import sys
from importlib import metadata
from pathlib import Path

from vaelint.core.version import __version__

GROUP = "vaelint.rules"


def toolchain() -> str:
    """A digest that changes with any of them, with the devices a real pass may run on, and with where Python looks for modules.

    The engine and the rule packages count by their content: a checkout changes without a new version. ~15 ms.
    """
    told = [
        *(sys.version, sys.prefix, sys.platform, os.uname().machine, __version__, _version("torch"), _version("numpy")),
        *(os.environ.get(name, "") for name in ("PYTHONPATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PYTHONOPTIMIZE")),
        *sorted(glob.glob("/dev/nvidia[0-9]*")),
    ]
    digest = hashlib.blake2b("\0".join(told).encode(), digest_size=16)
    _add_folder(digest, Path(__file__).parents[1])
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda p: (p.name, p.value)):
        digest.update(f"{point.name}={point.value} {_version_of(point.dist) if point.dist else ''}".encode())
        for folder in _folders(point.module):
            _add_folder(digest, Path(folder))
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return _version_of(metadata.distribution(package))
    except metadata.PackageNotFoundError:
        return ""


def _version_of(dist: metadata.Distribution) -> str:
    """`dist.version`, without its parsing the whole of the package's metadata as a mail."""
    head = (dist.read_text("METADATA") or dist.read_text("PKG-INFO") or "").partition("\n\n")[0]
    found = next((line for line in head.splitlines() if line.lower().startswith("version:")), "")
    return found.partition(":")[2].strip()


def _folders(module: str) -> list[str]:
    """Where a module's files lie, without importing it."""
    top, _, rest = module.partition(".")
    spec = importlib.util.find_spec(top)
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    return [os.path.join(root, *rest.split(".")) if rest else root for root in roots]


def _add_folder(digest: hashlib.blake2b, folder: Path) -> None:
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f != "__pycache__")
        for name in sorted(f for f in files if f.endswith((".py", ".json"))):
            path = os.path.join(where, name)
            digest.update(os.path.relpath(path, folder).encode())
            with open(path, "rb") as file:
                digest.update(file.read())
