"""What an editor knows of a target after a check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from pathlib import Path

from vaelint.config.lines import place_of_key
from vaelint.config.settings import Settings, Target
from vaelint.core.checked import Checked
from vaelint.core.edits import Proposal
from vaelint.core.finding import Span
from vaelint.core.paths import real
from vaelint.core.result import TargetResult
from vaelint.late import dataclass
from vaelint.process import verify
from vaelint.server.finder import files_of, number_of
from vaelint.server.values_seen import Expressions


@dataclass(frozen=True)
class VerifiedFix:
    """An edit that a full check of the edited source speaks for, and the texts that it applies to."""

    proposal: Proposal
    before: dict[str, str]


@dataclass
class Outcome:
    """A target's results as the engine gave them and as comments and configuration want them."""

    target: Target
    settings: Settings
    checked: Checked  # before suppressions
    shown: list[TargetResult]
    texts: dict[str, str] = field(default_factory=dict)  # by resolved path: what the places in the results are places of
    fixes: dict[str, VerifiedFix] = field(default_factory=dict)  # by the fingerprint of the finding
    mended: bool = False  # whether fixes were looked for
    _known: dict[str, Expressions] = field(default_factory=dict)

    @staticmethod
    def of(target: Target, settings: Settings, checked: Checked, shown: list[TargetResult]) -> Outcome:
        """With the texts of the files that are named."""
        files = {f.span.file for r in shown for f in r.findings} | {
            s["span"]["file"] for r in shown for s in (r.trail or {}).get("steps", ()) if s["span"]
        }
        texts = {str(real(f)): text for f in files if (text := verify.read(f)) is not None}
        return Outcome(target, settings, checked, shown, texts)

    def expressions(self, file: str) -> Expressions:
        """What is known of the expressions of a file, resolved, which is one of `texts`."""
        if file not in self._known:
            steps, inputs = [], []
            for result in self.shown:
                for step in (result.trail or {}).get("steps", ()):
                    if step["span"] is not None and str(real(step["span"]["file"])) == file:
                        steps.append(step)
                    elif step["operation"] == "placeholder":
                        inputs.append(step)
            self._known[file] = Expressions(self.texts[file], steps, inputs, self.shown[0].loss)
        return self._known[file]

    def reads(self, file: str) -> bool:
        """Whether a file, resolved, is one of those that the result was made from; any, where that is not known."""
        files = files_of(self.checked)
        return files is None or file in files

    def home(self) -> Span | None:
        """Its place in the configuration; None where it has none."""
        number = number_of(self.target, self.settings)
        file = self.settings.config.file
        return place_of_key(file, number, "run" if self.target.request.run else "target") if number and file else None


def read_by(outcomes: Iterable[Outcome], file: str) -> list[Outcome]:
    """Those that were made from a file."""
    return [o for o in outcomes if o.reads(str(real(Path(file))))]
