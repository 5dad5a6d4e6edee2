"""Whether git has a file under version control: what a repository ships is known to others, and was written by them. Starts no git."""

from __future__ import annotations

import os

from vaelint.cache.safe_files import read


def tracked(path: str) -> bool:
    """Whether a file belongs to the repository around it; also where that cannot be told.

    Read from the index (https://git-scm.com/docs/index-format), whose versions 2 and 3 hold each path whole.
    """
    top = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(os.path.join(top, ".git")):
        if top == os.path.dirname(top):
            return False
        top = os.path.dirname(top)
    try:
        index = read(os.path.join(_of_git(top), "index"))
    except FileNotFoundError:
        return False  # nothing was ever added
    except (OSError, ValueError):
        return True
    whole = index[:4] == b"DIRC" and index[4:8] in (b"\0\0\0\2", b"\0\0\0\3")
    return not whole or os.fsencode(os.path.relpath(path, top)) + b"\0" in index


def _of_git(top: str) -> str:
    """The folder of the repository's data: `.git`, or what a file of that name points to."""
    place = os.path.join(top, ".git")
    if os.path.isdir(place):
        return place
    word, _, told = read(place).decode().strip().partition(": ")
    if word != "gitdir":
        raise ValueError(f"{place} is neither a folder nor points to one")
    return os.path.join(top, told)
