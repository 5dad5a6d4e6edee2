"""Writes down what a run has printed, with all that it rested on, for the next run of the same command line (said.py)."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from vaelint.cache import folder
from vaelint.cache.asker import installed, of_python
from vaelint.cache.key import made_key
from vaelint.cache.looked import places, since
from vaelint.cache.reads import Reads
from vaelint.cache.safe_files import write
from vaelint.cache.said import closed, counts, fact, place, surroundings
from vaelint.cache.toolchain import sources, starting_files

_SLACK = 10_000_000  # ns: file times are a clock tick behind


def keep(args: Sequence[str], code: int, text: str, behind: Iterable[Reads], entries: Iterable[str]) -> bool:
    """Keeps what was printed, where another run on the same files would print the same. Returns whether it did. Raises OSError.

    Args:
        behind: what the results rest on.
        entries: the files of the results themselves: without them they are to be found anew.
    """
    reads, started = list(behind), since()
    if started is None or "\0" in text or not all(counts(v) and v != "*" for r in reads for v in r.variables):
        return False
    own = {folder.own(), folder.of_results()}
    wanted = dict.fromkeys(chain(((k, p) for k, p in places() if not p.startswith(tuple(own))), *map(_behind, reads), _toolchain()))
    if any("\0" in path for _, path in wanted) or _newest(path for kind, path in wanted if kind == "state") >= started - _SLACK:
        return False  # what has changed since may have been read half before and half after
    wanted |= {("state", entry): None for entry in entries}
    told = [str(code), surroundings(), text, *chain.from_iterable((kind, path, fact(kind, path)) for kind, path in wanted)]
    where = place(args)
    folder.make(folder.own())
    write(where, closed(made_key(), os.path.basename(where), "\0".join(told).encode("utf-8", "surrogateescape")))
    return True


def _behind(reads: Reads) -> Iterator[tuple[str, str]]:
    for file in (*reads.files, *reads.lacks):
        yield "state", file
        yield "real", os.path.dirname(file)
    for kind, path, _ in reads.seen:
        if os.path.isdir(path) and kind not in ("exists", "lexists", "isfile", "isdir", "islink", "type", "link"):
            yield kind, path
        else:
            yield "state", path
    for sought in reads.searches:
        yield "real", sought
        yield "times" if of_python(sought + os.sep) or installed(sought + os.sep) else "names", sought


def _toolchain() -> Iterator[tuple[str, str]]:
    """What toolchain.py makes a digest of, and what it does not have to open for that."""
    for path in dict.fromkeys((*sys.path, *site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else []))):
        yield "times", os.path.abspath(path)
    yield from (("state", file) for file in starting_files())
    yield from (("sources", source) for source in sources())
    yield "devices", "/dev"


def _newest(files: Iterable[str]) -> int:
    """The last time that any of them was changed, in ns; of its own time and that of its entry, which nobody sets."""
    newest = 0
    for file in files:
        try:
            found = os.stat(file)
        except OSError:
            continue
        if not os.path.isdir(file):
            newest = max(newest, found.st_mtime_ns, found.st_ctime_ns)
    return newest
