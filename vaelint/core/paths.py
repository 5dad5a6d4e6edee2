"""File names as users know them. Imports no torch."""

from __future__ import annotations

import errno
import inspect
import os
import stat
import sys
import sysconfig
from pathlib import Path

_ENGINE = str(Path(__file__).parents[1]) + os.sep
_CELL = "<ipython-input-"  # how IPython names what was typed; ipykernel writes /tmp/ipykernel_PID/HASH.py
_PYTHON = tuple({sysconfig.get_path(k) + os.sep for k in ("stdlib", "platstdlib")})


def relative(file: str) -> str:
    """Relative to the working directory where it lies below it, with `/`."""
    path = Path(file)
    if path.is_absolute():
        for base in (Path.cwd(), Path.cwd().resolve()):
            if path.is_relative_to(base):
                return path.relative_to(base).as_posix()
    return path.as_posix()


def is_cell(file: str) -> bool:
    """Whether a code file is what was typed into IPython; its text is in `linecache`."""
    return file.startswith(_CELL)


def class_file(cls: type) -> str:
    """The file of a class; of one that was typed into a kernel, which Python finds no file for, that of its functions; "" for none."""
    try:
        if found := inspect.getsourcefile(cls):
            return found
    except (OSError, TypeError):  # `__main__` without a file; a module without one
        pass
    files = (v.__code__.co_filename for v in vars(cls).values() if inspect.isfunction(v) and v.__module__ == cls.__module__)
    return next((f for f in files if is_cell(f) or not f.startswith("<")), "")


def regular(file: str | Path) -> Path:
    """The path of a regular file. Raises OSError for anything else: a pipe keeps its reader waiting, and /dev/zero has no end."""
    path = Path(file)
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(file))
    return path


def real(file: str | Path) -> Path:
    """The path without links; one that goes in a circle stays as it is, where `Path.resolve` raises before Python 3.13."""
    return Path(os.path.realpath(file))


def our_file(file: str) -> bool:
    """Whether a code file is the engine's or the built-in catalogue's."""
    catalogue = getattr(sys.modules.get("vaelint_rules"), "__file__", None)
    return file.startswith((_ENGINE, str(Path(catalogue).parent) + os.sep) if catalogue else _ENGINE)


def user_file(file: str, package: str = "") -> bool:
    """Whether a code file is the user's: not ours, not Python's, not an installed package's, unless `package` names that one."""
    if file.startswith("<"):
        return is_cell(file)
    if our_file(file):
        return False
    parts = Path(file).parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts:
            return bool(package) and parts[parts.index(folder) + 1] in (package, package + ".py")
    return not file.startswith(_PYTHON)


def package_of(target: str) -> str:
    """The top package that `package.module:Name` names; empty for `path.py:Name`."""
    module = target.partition("(")[0].rpartition(":")[0]
    return "" if module.endswith(".py") or "/" in module else module.partition(".")[0]


def in_project(file: str) -> str:
    """A file as seen from the top of its project, with `/`: the same wherever the check is started, and on every machine."""
    path = real(file)
    root = project_of(path)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else Path(os.path.relpath(path, root)).as_posix()


def project_of(path: Path) -> Path:
    """The top of a file's project: the nearest folder above it with a `.git`, else the highest with a pyproject.toml or vaelint.toml, else
    the working directory."""
    above = list(path.parents)
    top = next((d for d in above if (d / ".git").exists()), None)
    marked = [d for d in above if (d / "pyproject.toml").is_file() or (d / "vaelint.toml").is_file()]
    return top or (marked[-1] if marked else Path.cwd().resolve())
