"""HTML that cannot be forged: a text becomes markup only by being escaped, and everything that is not `E` is a text."""

from __future__ import annotations

from html import escape

_VOID = frozenset({"br", "hr", "meta", "img", "link"})


class E(str):
    """A piece of markup. Made from literals of ours and by the functions here, never from user text."""

    __slots__ = ()


def text(value: str) -> E:
    """Escaped text. Control characters, which HTML does not allow, become replacement marks."""
    return E(escape("".join(c if c in "\n\t" or _allowed(ord(c)) else "\ufffd" for c in value), quote=True))


def _allowed(code: int) -> bool:
    return code >= 0x20 and not 0x7F <= code <= 0x9F and not 0xD800 <= code <= 0xDFFF and code & 0xFFFE != 0xFFFE


def join(*parts: E | str) -> E:
    """Pieces one after the other; texts among them are escaped."""
    return E("".join(p if isinstance(p, E) else text(p) for p in parts))


def element(name: str, content: E | str, **attributes: str | None) -> E:
    """`<name ...>content</name>`. `class_` is class, `aria_label` is aria-label; None leaves an attribute out."""
    told = "".join(f' {k.rstrip("_").replace("_", "-")}="{text(v)}"' for k, v in attributes.items() if v is not None)
    inner = content if isinstance(content, E) else text(content)
    return E(f"<{name}{told}>" if name in _VOID else f"<{name}{told}>{inner}</{name}>")
