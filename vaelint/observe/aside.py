"""What runs beside the training: a loader at work, an optimizer's step, a checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaelint.observe.session import Session


@contextlib.contextmanager
def aside(session: Session) -> Iterator[None]:
    """Within the block nothing is recorded."""
    with contextlib.ExitStack() as quiet:
        if session.watch is not None:
            session.watch.hush(quiet)
        yield
