"""HTML that cannot be forged: a text becomes markup only by being escaped, and everything that is not `E` is a text."""

from __future__ import annotations

import re
from html import escape

from vaelint.core.visible import visible_lines

_NONE = re.compile("[" + "".join(chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000)) + "]")
_VOID = frozenset({"br", "hr", "meta", "img", "input", "link"})


class E(str):
    """A piece of markup. Made from literals of ours and by the functions here, never from user text."""

    __slots__ = ()


def text(value: str) -> E:
    """Escaped text. Control characters are shown by their escapes; noncharacters, which HTML does not allow, as replacement marks."""
    return E(escape(_NONE.sub("\ufffd", visible_lines(value)), quote=True))


def join(*parts: E | str) -> E:
    """Pieces one after the other; texts among them are escaped."""
    return E("".join(p if isinstance(p, E) else text(p) for p in parts))


def element(name: str, content: E | str, **attributes: str | None) -> E:
    """`<name ...>content</name>`. `class_` is class, `aria_label` is aria-label; None leaves an attribute out."""
    told = "".join(f' {k.rstrip("_").replace("_", "-")}="{text(v)}"' for k, v in attributes.items() if v is not None)
    inner = content if isinstance(content, E) else text(content)
    return E(f"<{name}{told}>" if name in _VOID else f"<{name}{told}>{inner}</{name}>")
