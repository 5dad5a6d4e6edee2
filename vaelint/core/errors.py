"""Errors that are answers: each says what is wrong and what to do. Imports no torch."""

from __future__ import annotations

from vaelint.core.finding import Span


class UsageError(Exception):
    """The command line or the configuration is wrong. Exit code 2."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.message, self.help = message, help


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
