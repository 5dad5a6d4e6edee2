"""The folder of kept results: which one, whether it is ours, how it is made, and what may be deleted there: nothing of anybody else's.

It is a folder of the user's, never one of the repository's: what a repository ships is not believed (key.py). A folder is ours if it
holds our tag, and the tag is written only into a folder that we made or found empty. In such a folder we delete files of our own
names, and no folder is entered through a link.
"""

from __future__ import annotations

import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "VAELINT_CACHE_DIR"
KEY = "key"  # see key.py
FORM = 1  # of the entries
KEEP = 30 * 86400.0  # seconds an entry stays without being used
_DAY = 86400.0
_TAG_FILE, _IGNORED, _PRUNED = "CACHEDIR.TAG", ".gitignore", "pruned"
_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Results of vaelint; see https://bford.info/cachedir/\n"
_IGNORE = "# Made by vaelint.\n*\n"
_BUCKET = r"[0-9a-f]{2}\Z"
_ENTRY = r"(\.)?[0-9a-f]{32}\.(reads|result)\.json(?(1)\.\d+)\Z"  # those with a dot were never finished
_KEY = r"vaelint key 1 [0-9a-f]{64}\n\Z"
_NOTE = r"(\.)?(last|said)-[0-9a-f]{32}(?(1)\.\d+)\Z"


def own() -> str:
    """The user's own folder, for key and notes, and for results where VAELINT_CACHE_DIR names no other."""
    if sys.platform == "linux" and "ANDROID_DATA" not in os.environ:  # as platformdirs does it; importing that takes longer
        xdg = os.environ.get("XDG_CACHE_HOME", "")
        told = os.path.join(xdg if os.path.isabs(xdg) else os.path.expanduser("~/.cache"), "vaelint")
    else:
        import platformdirs

        told = platformdirs.user_cache_dir("vaelint", appauthor=False)
    return told if os.path.isabs(told) else os.path.expanduser("~/.cache/vaelint")


def of_results() -> str:
    """Where results are kept: the folder that VAELINT_CACHE_DIR names, else the user's own."""
    told = os.environ.get(VARIABLE)
    return os.path.abspath(told) if told else own()


def refusal(folder: str) -> str:
    """Why nothing is kept in a folder, as the end of a sentence; "" where it is ours, empty, or still to be made."""
    try:
        state = os.lstat(folder)
    except OSError:
        return ""  # not there; what else is wrong shows when it is made
    if stat.S_ISLNK(state.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(state.st_mode):
        return "is not a folder"
    if folder == own():
        if state.st_uid != os.geteuid():
            return "belongs to another user"
        if stat.S_IMODE(state.st_mode) & 0o022:
            return f"may be written by others: chmod go-w {folder}"
    try:
        return "" if _tagged(folder) or not os.listdir(folder) else f"holds other files and no {_TAG_FILE} of vaelint"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def entry(folder: str, name: str, kind: str) -> str:
    """The file of an entry: `kind` is "reads" or "result"."""
    return os.path.join(folder, f"v{FORM}", name[:2], f"{name}.{kind}.json")


def make(folder: str) -> None:
    """Makes the folder ours, if it is not. Raises OSError, also for one that `refusal` refuses."""
    if why := refusal(folder):
        raise OSError(0, f"it {why}")
    if _tagged(folder):
        return
    import contextlib
    import tempfile

    os.makedirs(os.path.dirname(folder), exist_ok=True)
    try:  # whole at once, so that no other run finds one half made
        new = tempfile.mkdtemp(prefix=f".{os.path.basename(folder)}.", dir=os.path.dirname(folder))
    except OSError:
        _tag(folder)  # an empty folder in one that we may not write to
        return
    try:
        _tag(new)
        os.rename(new, folder)
    except OSError:
        for name in (_TAG_FILE, _IGNORED):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(new, name))
        os.rmdir(new)
        if not _tagged(folder):  # no other run was first: it is a mount point, or cannot be written
            _tag(folder)


def make_for(path: str) -> None:
    """Makes the folders of an entry, in a folder that is ours. Raises OSError."""
    import contextlib

    bucket = os.path.dirname(path)
    for folder in (os.path.dirname(bucket), bucket):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
        if not _is_folder(folder):
            raise OSError(0, f"{folder} is a link or a file")


def clear(folder: str) -> bool:
    """Removes all that is ours in a folder that is; False if nothing was kept there. Raises OSError."""
    import re

    if not _tagged(folder):
        return False
    kept = (*_entries(folder), *_notes(folder))
    for path in kept:
        os.unlink(path)
    for bucket in _buckets(folder):
        _remove_if_empty(bucket)
    _remove_if_empty(os.path.join(folder, f"v{FORM}"))
    for name, text in ((_PRUNED, ""), (_IGNORED, _IGNORE), (_TAG_FILE, _TAG)):
        path = os.path.join(folder, name)
        if _text(path) == text:
            os.unlink(path)
    if re.match(_KEY, _text(os.path.join(folder, KEY)) or ""):
        os.unlink(os.path.join(folder, KEY))
    _remove_if_empty(folder)  # not if something of somebody else's is there
    return bool(kept)


def prune(folder: str) -> None:
    """Removes entries that have not been used for a month; looks for them once a day. Raises OSError."""
    if refusal(folder) or not _tagged(folder):
        return
    import contextlib
    import time

    stamp, now = os.path.join(folder, _PRUNED), time.time()
    with contextlib.suppress(FileNotFoundError):
        if now - os.lstat(stamp).st_mtime < _DAY:
            return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(stamp)
    os.close(os.open(stamp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    for path in (*_entries(folder), *_notes(folder)):
        with contextlib.suppress(FileNotFoundError):
            if now - os.lstat(path).st_mtime > KEEP:
                os.unlink(path)


def _tag(folder: str) -> None:
    for name, text in ((_TAG_FILE, _TAG), (_IGNORED, _IGNORE)):
        with open(os.path.join(folder, name), "x", encoding="utf-8") as file:
            file.write(text)


def _tagged(folder: str) -> bool:
    return _is_folder(folder) and _text(os.path.join(folder, _TAG_FILE)) == _TAG


def _text(path: str) -> str | None:
    """The text of a small regular file; None for anything else."""
    try:
        state = os.lstat(path)
        if not stat.S_ISREG(state.st_mode) or state.st_size > 1000:
            return None
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return None


def _is_folder(path: str) -> bool:
    """Whether it is a folder itself, and not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _buckets(folder: str) -> Iterator[str]:
    import re

    top = os.path.join(folder, f"v{FORM}")
    if _is_folder(top):
        for name in os.listdir(top):
            if re.match(_BUCKET, name) and _is_folder(os.path.join(top, name)):
                yield os.path.join(top, name)


def _entries(folder: str) -> Iterator[str]:
    import re

    for bucket in _buckets(folder):
        yield from (os.path.join(bucket, name) for name in os.listdir(bucket) if re.match(_ENTRY, name))


def _notes(folder: str) -> Iterator[str]:
    import re

    return (os.path.join(folder, name) for name in os.listdir(folder) if re.match(_NOTE, name))


def _remove_if_empty(folder: str) -> None:
    import contextlib

    with contextlib.suppress(OSError):
        os.rmdir(folder)
