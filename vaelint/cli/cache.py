"""`vaelint cache`: where the results of earlier runs lie, and getting rid of them."""

from __future__ import annotations

from vaelint.config import file as config
from vaelint.core.errors import UsageError


def dir() -> None:
    """Print the folder of kept results."""
    from vaelint.cache.store import folder_for

    print(folder_for(config.load().root))


def clear() -> None:
    """Remove all kept results."""
    from vaelint.cache.folder import clear, refusal
    from vaelint.cache.store import folder_for

    where = str(folder_for(config.load().root))
    if why := refusal(where):
        raise UsageError(f"nothing was removed: {where} {why}", "name the folder of kept results: VAELINT_CACHE_DIR=FOLDER")
    try:
        gone = clear(where)
    except OSError as error:
        raise UsageError(f"cannot remove {where}: {error.strerror or error}") from None
    print(f"removed the kept results in {where}" if gone else f"nothing to remove: no results are kept in {where}")
