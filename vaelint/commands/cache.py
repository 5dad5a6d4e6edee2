"""`vaelint cache`: where the results of earlier runs lie, and getting rid of them."""

from __future__ import annotations

from vaelint.config import file as config
from vaelint.errors import UsageError


def dir() -> None:
    """Print the folder of kept results."""
    from vaelint.cache.store import folder_for

    print(folder_for(config.load().root))


def clear() -> None:
    """Remove all kept results."""
    from vaelint.cache import store as cache

    where = cache.folder_for(config.load().root)
    try:
        gone = cache.clear(where)
    except OSError as error:
        raise UsageError(f"cannot remove {where}: {error.strerror or error}") from None
    print(f"removed {where}" if gone else f"nothing to remove: there is no {where}")
