"""Errors that are answers: each says what is wrong and what to do. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from vaelint.core.finding import Span


class UsageError(Exception):
    """The command line or the configuration is wrong. Exit code 2."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.message, self.help = message, help


class ConfigurationError(UsageError):
    """The configuration file is wrong, at a place that an editor can show.

    Attributes:
        file: the file.
        table: 0 for the keys at the top, N for the N-th target.
        key: what is wrong there; empty for the table itself.
        line: where its syntax ends; 0 where it is TOML.
    """

    def __init__(self, message: str, help: str = "", *, file: Path, table: int = 0, key: str = "", line: int = 0) -> None:
        super().__init__(message, help)
        self.file, self.table, self.key, self.line = file, table, key, line


class NothingFound(UsageError):
    """No VAE is in the files or the folder that are to be checked."""


class Stopped(Exception):
    """Whoever asked for a result does not want it any more."""


class TargetError(Exception):
    """This target could not be analysed; becomes a VAE0xx finding and exit code 2.

    `code` is one of VAE001 (cannot import), VAE002 (cannot construct), VAE003 (cannot bind inputs), VAE004 (loss as told
    cannot be called), VAE006 (analysis stopped), VAE007 (user code raised).
    """

    def __init__(self, code: str, message: str, help: str = "", span: Span | None = None, notes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code, self.message, self.help, self.span, self.notes = code, message, help, span, notes


class NotExamined(Exception):
    """What a rule asks could not be put to this model; says why. The rule is then reported as not applicable, never as quiet."""
