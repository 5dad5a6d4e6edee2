"""The codes of rules in a text become links to their pages: the guides need no links that lead nowhere where they are read as files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

_CODE = re.compile(r"(?<![\w\[/-])VAE\d{3}(?![\w\]]|\.md)")
_FENCE = re.compile(r" {0,3}(```|~~~)")


def linked(text: str, folder: str, codes: Collection[str]) -> str:
    """The Markdown with a link for each of `codes` in it, but in headings and in what is shown as code. `folder` has the pages."""

    def link(match: re.Match[str]) -> str:
        return f"[{match[0]}]({folder}{match[0]}.md)" if match[0] in codes else match[0]

    return "\n".join(
        line if shown else "".join(part if part.startswith("`") else _CODE.sub(link, part) for part in re.split(r"(`+[^`]*`+)", line))
        for line, shown in _lines(text)
    )


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is a heading or code."""
    fenced = False
    for line in text.split("\n"):
        fence = _FENCE.match(line) is not None
        yield line, fenced or fence or line.startswith(("    ", "#"))
        fenced ^= fence
