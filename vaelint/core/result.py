"""What a check of one target comes to: findings, what was seen, what was not. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, field
from typing import Any, Literal

from vaelint.core.assumption import Assumption
from vaelint.core.finding import Certainty, Finding, Severity
from vaelint.core.memory import NO_ROOM
from vaelint.late import dataclass

SCHEMA_VERSION = 1
ADVICE = "VAE8"
"""Rules that run only where they are selected: the beginning of their codes."""

Status = Literal["clean", "findings", "incomplete", "failed"]
Rung = Literal["symbolic", "concrete", "real"]


@dataclass(frozen=True)
class Request:
    """One target and how to call it, as the user said it. Strings are parsed by the worker's side."""

    target: str
    inputs: tuple[str, ...] = ()  # "[NAME=]SHAPE[:DTYPE][RANGE]"
    init: tuple[str, ...] = ()  # "key=python literal"
    loss: str | None = None  # "name" or "train.py:loss_fn"
    step: str | None = None  # "recon, mu, logvar = model(x); loss = loss_fn(recon, x, mu, logvar)"
    device: str = "auto"  # auto | cuda | cuda:N | cpu | none
    timeout: float = 120.0  # seconds for the whole target
    max_memory: str | None = None  # "4GB": what all its processes may take together; None for half of what is free, "none" for no limit
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    beta: float | None = None  # the effective beta that you intend; where it is measured, the KL's weight is no finding
    seed: int = 0
    fixes: bool = False  # also propose edits that repair what is found
    overlay: tuple[tuple[str, str], ...] = ()  # (file, text): files that read as edited
    fits: bool = False  # whether other sizes of the input are tried, to say which fit
    trail: str = ""  # "with" the check, or "only": the way from input to loss, no rules, no real pass
    laws: str = "all"  # none | fast | all: which laws are measured on the real run
    perturb: bool = False  # change constructor arguments and input sizes, one at a time
    allow_no_loss: bool = False  # the target has no loss, or none that is told from a critic's: its absence leaves nothing out
    run: tuple[
        str, ...
    ] = ()  # a command that trains: "train.py", "--epochs", "1", or "-m", "package.train", ...; observed in place of a call
    environment: tuple[tuple[str, str], ...] = ()  # variables that the command gets besides
    steps: int = 5  # iterations that are observed of it
    plot: bool = False  # whether each observed iteration is recorded, for curves
    rows: int = 0  # of each batch of a loader, at most; 0: as they come
    data: str = "auto"  # auto | real | made-up: where a command's data comes from
    other_sizes: bool = False  # made-up data of a command get other sizes than at first, where nothing tells them
    allow_writes: bool = False  # whether the command may write files, and use the network
    ours: tuple[str, ...] = ()  # what vaelint chose of this call: names of constructor arguments, "--input" for the sizes of the inputs
    guessed: bool = False  # whether vaelint made up how it is called, so that shapes which do not fit say nothing of the model
    unseen: tuple[str, ...] = ()  # a training of the target that could not be observed: its script, why, and what to type
    folder: str = ""  # the folder in which the target was looked for: nothing outside of it is its repository

    def wants(self, code: str) -> bool:
        """Whether a rule is selected, and not ignored: all but advice where nothing is said."""
        selected = any(s == "ALL" or code.startswith(s) for s in self.select) if self.select else not code.startswith(ADVICE)
        return selected and not code.startswith(self.ignore)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Request:
        """The inverse of `to_json`."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        for pairs in ("overlay", "environment"):
            values[pairs] = tuple((name, text) for name, text in values.get(pairs, ()))
        return Request(**values)


@dataclass
class TargetResult:
    """Everything known of one target. Reports render from this alone."""

    target: str
    status: Status = "clean"
    rung: Rung | None = None
    symbols: dict[str, int] = field(default_factory=dict)  # {"B": 32, "D": 784, "L": 20}
    # anatomy: {"sites": [{"mu": Value, "scale": Value, "eps": Value, "z": Value, "parameterisation": "logvar"}], "recon": Value}
    # Value = {"shape": ["B", "L"], "span": Span as dict or null, "expression": "mu + std * eps"}
    anatomy: dict[str, Any] = field(default_factory=dict)
    # loss: {"terms": [{"role", "kernel", "weight", "reduction", "span"}], "beta": {"expression", "value"}, "objective": "..."}
    loss: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    not_applicable: list[dict[str, str]] = field(default_factory=list)  # [{"code": "VAE204", "reason": "..."}]
    quiet: list[str] = field(default_factory=list)  # codes of the rules that ran and found nothing
    assumptions: list[Assumption] = field(default_factory=list)  # what vaelint chose where nobody said it
    exempt: list[dict[str, Any]] = field(default_factory=list)  # [{"code", "exemption": "data only", "file", "line"}]
    incomplete: list[dict[str, str]] = field(
        default_factory=list
    )  # what could not be checked: [{"code": "VAE204" or "", "reason", "help"}]
    confirm: dict[str, Any] = field(default_factory=dict)  # {"device", "outcome", "reason", ...}
    laws: list[dict[str, Any]] = field(default_factory=list)  # [{"law", "outcome": "holds" | "broken" | "not measured", "reason"}]
    timing: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # "latent_dim=20 was taken from the constructor's default", ...

    curves: dict[str, Any] | None = None  # what the observed iterations show, when it was asked for: `$defs.curves` of the schema
    trail: dict[str, Any] | None = None  # the way from input to loss, when it was asked for: `$defs.trail` of the schema
    fits: list[dict[str, Any]] = field(default_factory=list)  # which sizes of the input the model takes: [{"text", "symbols", ...}]

    def leave_out(self, reason: str, help: str = "", code: str = "") -> None:
        """Notes a part of the check that could not be done: what was not looked at is not clean. `code` is that of a rule that raised."""
        self.incomplete.append({"code": code, "reason": reason, "help": help})
        self.settle()

    def gaps(self) -> list[tuple[str, str]]:
        """What could not be checked, each with what to do about it; rules that stopped for one reason together."""
        codes: dict[tuple[str, str], list[str]] = {}
        for row in self.incomplete:
            codes.setdefault((row["reason"], row["help"]), []).extend([row["code"]] if row["code"] else [])
        return [(f"{', '.join(told)} could not run: {reason}" if told else reason, help) for (reason, help), told in codes.items()]

    @property
    def whole(self) -> bool:
        """Whether the target was analysed, and every part of the check was done."""
        return self.status in ("clean", "findings")

    @property
    def cut_short(self) -> bool:
        """Whether the real pass did not come to its end for want of time or memory."""
        reason = self.confirm.get("reason") or ""
        return self.confirm.get("outcome") in ("timed out", "out of memory") or reason.startswith(NO_ROOM)

    def settle(self) -> None:
        """Sets `status` from the findings and from what could not be checked, unless the target could not be analysed at all."""
        if self.status != "failed":
            bad = any(f.certainty is not Certainty.REFUTED and f.severity is not Severity.INFO for f in self.findings)
            self.status = "incomplete" if self.incomplete else "findings" if bad else "clean"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, in the form of the published schema."""
        optional = ("trail", "exempt", "curves")
        data = {k: v for k, v in self.__dict__.items() if k not in ("findings", "assumptions") and (v or k not in optional)}
        assumed = {"assumptions": [a.to_json() for a in self.assumptions]} if self.assumptions else {}
        return data | assumed | {"findings": [f.to_json() for f in self.findings]}

    @staticmethod
    def from_json(data: dict[str, Any]) -> TargetResult:
        """The inverse of `to_json`."""
        d = dict(data)
        d["findings"] = [Finding.from_json(f) for f in d["findings"]]
        d["assumptions"] = [Assumption.from_json(a) for a in d.get("assumptions", [])]
        return TargetResult(**d)
