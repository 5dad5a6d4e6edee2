"""What a finding advises, in the words of the library that the file is written for: Keras, or tensorflow."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from vaelint.core.errors import TargetError
from vaelint.core.finding import Finding
from vaelint.loading.imports import parsed
from vaelint.trace.keras_models import is_keras, is_used_by

_KERAS = (
    (r"torch\.randn_like\((\w+)\)", r"keras.random.normal(ops.shape(\1))"),
    (r"(\w+)\.size\(0\)", r"ops.shape(\1)[0]"),
    (r"(?:F\.)?binary_cross_entropy_with_logits", "keras.losses.binary_crossentropy with from_logits=True"),
    (r"(?:F\.)?binary_cross_entropy\b", "keras.losses.binary_crossentropy"),
    (r", or (?:draw with )?\.?rsample\(\)|; or draw with rsample\(\)", ""),
    (r"torch\.logsumexp", "ops.logsumexp"),
    (r"torch\.diag_embed", "ops.diag"),
    (r"dtype=torch\.float32", 'dtype="float32"'),
    (r"nn\.Parameter\(\.\.\.\), or an nn\.ParameterList", "self.add_weight(...)"),
    (r"\bnn\.Module\b", "keras.layers.Layer"),
)
_TENSORFLOW = (
    (r"keras\.random\.normal\(ops\.shape\((\w+)\)\)", r"tf.random.normal(tf.shape(\1))"),
    (r"\bops\.shape\((\w+)\)\[0\]", r"tf.shape(\1)[0]"),
    (r"\bops\.logsumexp", "tf.reduce_logsumexp"),
    (r"(?<!tf\.)keras\.losses\.", "tf.keras.losses."),
)


def in_words_of(namespace: Mapping[str, Any], findings: Sequence[Finding]) -> list[Finding]:
    """The findings with their help in the words that the target's file is written in."""
    of_tensorflow = isinstance(namespace.get("tf"), ModuleType) and namespace["tf"] is sys.modules.get("tensorflow")
    if not (of_tensorflow or is_used_by(namespace)):
        return list(findings)
    table = (*_KERAS, *_TENSORFLOW) if of_tensorflow else _KERAS
    return [replace(f, help=_said(f.help, table)) for f in findings]


def in_words_of_files(modules: Sequence[object], findings: Sequence[Finding]) -> list[Finding]:
    """The same for an observed script: where it trains Keras models, each finding in the words of the file that it is in."""
    if not any(is_keras(m) for m in modules):
        return list(findings)
    tables = {file: _of_file(file) for file in {f.span.file for f in findings if f.span is not None}}
    return [replace(f, help=_said(f.help, tables[f.span.file])) if f.span is not None else f for f in findings]


def _of_file(file: str) -> Sequence[tuple[str, str]]:
    try:
        tree = parsed(Path(file))
    except TargetError:
        return ()
    named = [(a.name, a.asname) for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    packages = {name.partition(".")[0] for name, _ in named}
    packages |= {(n.module or "").partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    if ("tensorflow", "tf") in named:
        return (*_KERAS, *_TENSORFLOW)
    return _KERAS if packages & {"keras", "tensorflow"} else ()


def _said(text: str, table: Sequence[tuple[str, str]]) -> str:
    for pattern, words in table:
        text = re.sub(pattern, words, text)
    return text
