"""`vaelint server`: the checks in an editor."""

from __future__ import annotations

import importlib.util

from vaelint.config.options import Options
from vaelint.core.errors import UsageError
from vaelint.process.front import Worker

_NEEDS = ("pygls", "lsprotocol")


def server(said: Options, early: Worker | None = None) -> int:
    """Answer an editor over standard input and output (Language Server Protocol). Editors start this themselves."""
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"the language server needs {' and '.join(missing)}, not installed here", "pip install 'vaelint[server]'")
    from vaelint.server.editor import serve

    serve()
    return 0
