"""Text of user code made safe to show: what steers a terminal or reorders a line is written as an escape. Imports no torch.

The one place that decides what that is; each format applies it where it writes text. Bidirectional controls let source read otherwise
than it runs (Boucher & Anderson, "Trojan Source", 2021, CVE-2021-42574).
"""

from __future__ import annotations

import re

_UNSEEN = (
    "\x00-\x1f\x7f-\x9f"  # control characters
    "\u2028\u2029"  # line and paragraph separators
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # bidirectional controls
    "\u00ad\u180e\u200b\u2060-\u2064\ufeff\ufff9-\ufffb"  # nothing to be seen; emoji and scripts need the joiners U+200C and U+200D
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
    "\ud800-\udfff"  # bytes of a file's name that are no UTF-8 (PEP 383)
)
_LINE = re.compile(f"[{_UNSEEN}]")
_LINES = re.compile(f"(?![\n\t])[{_UNSEEN}]")


def visible(text: str) -> str:
    """The text as one line: each control character, also a line break or a tab, as its escape."""
    return _LINE.sub(_escape, text) if not text.isprintable() else text


def visible_lines(text: str) -> str:
    """The same with line breaks and tabs kept."""
    return _LINES.sub(_escape, text) if not text.isprintable() else text


def json_escaped(document: str) -> str:
    """A JSON text with the same value and no such character: there is none but in strings, which may be written as escapes."""
    return _LINES.sub(_json, document)


def toml_escaped(text: str) -> str:
    """The same for a TOML basic string, which knows no surrogate pairs."""
    return _LINES.sub(lambda m: f"\\u{ord(m[0]):04x}" if ord(m[0]) < 0x10000 else f"\\U{ord(m[0]):08x}", text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
