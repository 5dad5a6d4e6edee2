"""`vaelint cache`: where the results of earlier runs are kept, and getting rid of them."""

from __future__ import annotations

from vaelint.cache import folder
from vaelint.core.errors import UsageError


def dir() -> None:
    """Print the folder of kept results."""
    print(folder.of_results())


def clear() -> None:
    """Remove all kept results, of every project."""
    where = folder.of_results()
    if why := folder.refusal(where):
        raise UsageError(f"nothing was removed: {where} {why}", f"name the folder of kept results: {folder.VARIABLE}=FOLDER")
    try:
        gone = folder.clear(where)
    except OSError as error:
        raise UsageError(f"cannot remove {where}: {error.strerror or error}") from None
    print(f"removed the kept results in {where}" if gone else f"nothing to remove: no results are kept in {where}")
