"""What made a result besides the user's files: the interpreter, what is installed for it, vaelint and the rule packages.

Imports none of them.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import os
import site
import sys
from collections.abc import Iterator
from pathlib import Path

from vaelint.core.paths import regular
from vaelint.core.version import __version__
from vaelint.entry_points import EntryPoint, entry_points

GROUP = "vaelint.rules"


_READ_NATIVELY = (
    "PYTHON", "LC_", "LANG", "TZ", "LD_", "DYLD_", "MALLOC_", "GLIBC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_",
    "VECLIB_", "NUMEXPR_", "TORCH", "PYTORCH_", "ATEN_", "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "HIP_", "HSA_", "ROCR_", "MIOPEN_",
)  # fmt: skip
"""How variables begin that no code of Python's looks up: the interpreter, the C library, BLAS, torch."""
_VERSIONS = (".dist-info", ".egg-info")  # the names of these hold name and version
_STARTS = (".pth", ".egg-link")  # where else modules are, and what runs when Python starts
_BY_NAME = ("__editable__", "sitecustomize", "usercustomize")


def toolchain() -> str:
    """A digest that changes with any of them, with the devices a real pass may run on, and with the variables that Python and native
    code read for themselves.

    The engine and the rule packages count by their content: a checkout changes without a new version. ~15 ms.
    """
    told = [
        *(sys.version, sys.executable, sys.prefix, sys.base_prefix, sys.platform, os.uname().machine, __version__),
        *(f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(_READ_NATIVELY)),
        *sorted(glob.glob("/dev/nvidia[0-9]*")),
    ]
    digest = hashlib.blake2b("\0".join(told).encode("utf-8", "surrogateescape"), digest_size=16)
    for part in _installed():
        digest.update(part)
    for point in _points():
        digest.update(f"{point.name}={point.value} {point.version}".encode())
    for folder in sources():
        _add_folder(digest, Path(folder))
    return digest.hexdigest()


def sources() -> list[str]:
    """The folders of the engine and of the rule packages."""
    return [str(Path(__file__).parents[1]), *(folder for point in _points() for folder in _folders(point.module))]


def _points() -> list[EntryPoint]:
    return sorted(entry_points(GROUP), key=lambda p: (p.name, p.value))


def starting_files() -> list[str]:
    """What Python reads when it starts, to know where modules are."""
    return [os.path.join(sys.prefix, "pyvenv.cfg"), *(os.path.join(folder, n) for folder, names in _site() for n in names if _starts(n))]


def _installed() -> Iterator[bytes]:
    """What decides where a new process of this Python finds modules, and in which versions: names and small files, no modules."""
    yield _content(os.path.join(sys.prefix, "pyvenv.cfg"))
    for folder, names in _site():
        yield f"\0{folder}".encode("utf-8", "surrogateescape")
        for name in names:
            starts = _starts(name)
            if starts or name.endswith(_VERSIONS):
                yield f"\0{name}\0".encode("utf-8", "surrogateescape")
                yield _content(os.path.join(folder, name)) if starts else b""


def _site() -> Iterator[tuple[str, list[str]]]:
    """The folders of installed packages, and those of PYTHONPATH, with the names in them."""
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    told = [f for f in os.environ.get("PYTHONPATH", "").split(os.pathsep) if f]
    for folder in dict.fromkeys((*folders, *told)):
        try:
            yield folder, sorted(os.listdir(folder))
        except OSError:
            yield folder, []


def _starts(name: str) -> bool:
    return name.endswith(_STARTS) or (name.startswith(_BY_NAME) and name.endswith(".py"))


def _content(path: str) -> bytes:
    try:
        with open(regular(path), "rb") as file:
            return file.read()
    except OSError:
        return b""


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
