"""Where a function of the user's returns what it has worked out."""

from __future__ import annotations

import ast
from types import CodeType

from vaelint.core.finding import Span
from vaelint.core.paths import relative
from vaelint.laws.bench import Bench


def last_return(bench: Bench, code: CodeType) -> Span | None:
    """The last `return` of the function with this code; None for what is no `def` of a file."""
    file = relative(code.co_filename)
    for function in bench.model.source.file(file).functions():
        first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
        returns = [n for n in ast.walk(function) if isinstance(n, ast.Return)] if first == code.co_firstlineno else []
        if returns:
            last = max(returns, key=lambda n: n.lineno)
            return Span(file, last.lineno, last.col_offset + 1, last.end_lineno, (last.end_col_offset or 0) + 1)
    return None
