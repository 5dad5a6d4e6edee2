"""Where the page of a rule is to be read. Imports no torch."""

from __future__ import annotations

import re

HOME = "https://vaelint.invalid/"
"""Where the pages of the documentation are: `[project.urls]` has the same, `docs-url` of the configuration another one."""

FORM = r'^(https?://[!-".0->@-~]|file:///)[!-"$->@-~]*$'
"""What an address below which pages are looks like: printable ASCII without `?` and `#`."""

OWN = "VAE"  # how the codes of vaelint's own rules begin; those of other packages do not


def address(code: str, told: str = "", home: str = HOME) -> str:
    """The address of a rule's page: the one that its package tells, else, for vaelint's own, below `home`. Empty if there is none."""
    return told or (f"{home}rules/{code}.html" if code.startswith(OWN) else "")


def moved(address: str, home: str) -> str:
    """The address of a page where vaelint's own are below `home`."""
    return home + address.removeprefix(HOME) if address.startswith(HOME) else address


def leads_somewhere(address: str) -> bool:
    """Whether a person may be shown an address: not if its host can never exist (RFC 2606, section 2)."""
    host = address.partition("://")[2].partition("/")[0].partition(":")[0]
    return bool(address) and host.rpartition(".")[2] not in ("invalid", "example", "test")


def home(text: str) -> str:
    """An address as `docs-url` has it, ending in `/`. Raises ValueError that says what is wanted."""
    if not re.fullmatch(FORM, text):
        raise ValueError("an address such as https://docs.my.org/vaelint/, below which there is rules/VAE201.html")
    return text if text.endswith("/") else text + "/"
