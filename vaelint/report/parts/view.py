"""How results are to be shown: what every renderer gets beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from vaelint.core import pages as addresses
from vaelint.core.finding import Finding, Severity
from vaelint.late import dataclass


@dataclass(frozen=True)
class RulePage:
    """A rule as reports show it. `doc` is its page in Markdown."""

    code: str
    name: str
    severity: str  # "error", "warning" or "info"
    summary: str
    doc: str = ""
    url: str = ""


def _no_pages() -> Sequence[RulePage]:
    return ()


@dataclass(frozen=True)
class View:
    """How to show. `output` is what user code printed, by the `id` of its result; `pages` reads the rules, if they are at hand."""

    width: int = 100
    color: bool = False
    show_refuted: bool = False
    verbose: bool = False
    output: Mapping[int, str] = field(default_factory=dict)
    pages: Callable[[], Sequence[RulePage]] = _no_pages
    root: Path = Path()  # of the checkout: paths in the reports for platforms are relative to it
    depth: int | None = None  # levels of a trail that are unfolded; None: the format's own
    everything: bool = False  # of a trail, each operation
    docs: str = addresses.HOME  # where vaelint's own pages are
    timings: bool = False  # of a document: with the seconds that each stage took, which no two runs share
    hints: tuple[str, str] = ("-v", "--show-refuted")  # how one asks for more, where the report leaves something out
    bar: Severity = Severity.WARNING  # findings from this severity on make the exit code 1

    def address(self, finding: Finding) -> str:
        """Of the page of a finding's rule; empty if it has none."""
        return addresses.moved(finding.url, self.docs)

    def more(self, finding: Finding) -> str:
        """The same for people, who are shown no address that leads nowhere."""
        address = self.address(finding)
        return address if addresses.leads_somewhere(address) else ""


PLAIN = View()
