"""The options of the command line: names, forms and help. Imports no torch."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vaelint.report.formats import FORMATS, TRAILS

Context = typer.Context


class TablesFormat(StrEnum):
    """Formats of `discover`."""

    full = "full"
    json = "json"


class ListFormat(StrEnum):
    """Formats of `rules` and `explain`."""

    full = "full"
    json = "json"
    markdown = "markdown"


class TableFormat(StrEnum):
    """Formats of `config`."""

    full = "full"
    json = "json"


class DataFrom(StrEnum):
    """Where the data of an observed script comes from."""

    auto = "auto"
    real = "real"
    made_up = "made-up"


class Bar(StrEnum):
    """From which severity on a finding makes the exit code 1."""

    info = "info"
    warning = "warning"
    error = "error"


_TARGETS = """FILE.py:NAME or package.module:NAME, where NAME is a class, a function that builds a model, or a model;
NAME(latent_dim=20) passes arguments. Without targets: those in [tool.vaelint] of pyproject.toml. A plain FILE.py: the
configured ones that it touches; where none is configured, the VAEs in it. A folder: the configured ones below it, else those that
`vaelint discover` finds there."""
_INPUT = "An input, such as 32x784, x=32x1x28x28:float32[0,1] or tokens=16x20:int64[0,1000). Once for each input."
_STEP = 'One training step that leaves `loss`: "recon, mu, logvar = model(x); loss = loss_fn(recon, x, mu, logvar)".'
_JOBS = "How many targets are checked at once. Default: as many as there are cores, at most 4."
_SHARD = "Only the I-th of N parts of the targets, for the machines of a CI matrix: --shard 1/4 to --shard 4/4."
_FORMATS = f"Form of the report: {', '.join(FORMATS)}. FORMAT:FILE writes to a file; several may be given. Default full."
_TRAILS = f"Form of the output: {', '.join(TRAILS)}. FORMAT:FILE writes to a file; several may be given. Default text."
_ISOLATED = "Take nothing from the repository but its code: no configuration, baseline, suppression comments or kept results."
_ADD = "Write # vaelint: ignore[CODE] REASON behind each line with a finding that makes the exit code 1."
_PERTURB = "Also give constructor arguments other values, one at a time, and report numbers in the code that stay behind. Default off."
_ALLOW = "A target without a loss, or with one of which no term is known, is not incomplete: there is none to check. Default off."
_DIFF = "Print what --fix would change as a patch, and write nothing. With an --output-format: as the fix of its finding there."
_FIX = """Write the repairs into the files. Each is unsafe in the sense that the model computes something else afterwards; none is made
before a check of the edited source, with a real pass, has found the finding gone and no new one."""
_ZERO = "Exit code 0 whatever was found; still 2 for a target that could not be analysed, or not completely."

_STEPS = "How many iterations of the training loop are watched before the script is stopped. Default 5."
_DATA = "auto: its own where they are there, else made-up ones of a known data set's shapes; real; made-up."
_WRITES = "Let the script write files, start programs and use the network. Otherwise all that is held back, and listed."
_COMMAND = "The script with its own arguments, as after `python`. Options of vaelint come before it."

Command = Annotated[list[str] | None, typer.Argument(metavar="SCRIPT [ARGS]...", help=_COMMAND, show_default=False)]
Module = Annotated[str | None, typer.Option("-m", metavar="MODULE", help="Run a module, as `python -m` does; its arguments follow.")]
Steps = Annotated[int, typer.Option("--steps", metavar="N", min=2, help=_STEPS, show_default=False)]
Data = Annotated[DataFrom, typer.Option("--data", help=_DATA, show_default=False)]
AllowWrites = Annotated[bool, typer.Option("--allow-writes", help=_WRITES)]
Pass = Annotated[
    str | None, typer.Option("--device", metavar="auto|none", help="none leaves out the experiments; else they run where the script does.")
]
Targets = Annotated[list[str] | None, typer.Argument(metavar="TARGETS", help=_TARGETS, show_default=False)]
OneTarget = Annotated[str, typer.Argument(metavar="TARGET", help="FILE.py:NAME or package.module:NAME, as for `check`.")]
WriteAnnotations = Annotated[bool, typer.Option("--write", help="Write the annotations into the file, in place of printing a patch.")]
Inputs = Annotated[list[str] | None, typer.Option("--input", metavar="[NAME=]SHAPE[:DTYPE][RANGE]", help=_INPUT)]
Init = Annotated[list[str] | None, typer.Option("--init", metavar="KEY=VALUE", help="A constructor argument, as a Python literal.")]
Loss = Annotated[str | None, typer.Option("--loss", metavar="NAME", help="The loss function: a name, or train.py:loss_fn.")]
Step = Annotated[str | None, typer.Option("--step", metavar="CODE", help=_STEP)]
Device = Annotated[
    str | None, typer.Option("--device", metavar="auto|cuda|cuda:1|cpu|none", help="Where the real pass runs; none leaves it out.")
]
AllowNoLoss = Annotated[bool | None, typer.Option("--allow-no-loss/--no-allow-no-loss", help=_ALLOW, show_default=False)]
Perturb = Annotated[bool | None, typer.Option("--perturb/--no-perturb", help=_PERTURB, show_default=False)]
Laws = Annotated[
    str | None,
    typer.Option(
        "--laws",
        metavar="none|fast|all",
        help="What every VAE must satisfy, measured on the real run: none, the cheap, or all. Default all.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Memory for a target, all its processes together: 4GB, 512MB, none. Default: half of what is free, at least 1 GB.",
    ),
]
Timeout = Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="Time limit for a target. Default 120.")]
Select = Annotated[
    list[str] | None, typer.Option("--select", metavar="CODES", help="Only these rules: codes, prefixes (VAE2), names, ALL.")
]
Ignore = Annotated[list[str] | None, typer.Option("--ignore", metavar="CODES", help="Not these rules.")]
ExtendSelect = Annotated[list[str] | None, typer.Option("--extend-select", metavar="CODES", help="These rules as well.")]
OutputFormat = Annotated[
    list[str] | None, typer.Option("--output-format", metavar="FORMAT[:FILE]", envvar="VAELINT_OUTPUT_FORMAT", help=_FORMATS)
]
TrailFormat = Annotated[list[str] | None, typer.Option("--output-format", metavar="FORMAT[:FILE]", help=_TRAILS)]
Depth = Annotated[int | None, typer.Option("--depth", metavar="N", min=0, help="Levels below encoder, decoder, ... Default 1.")]
Everything = Annotated[bool, typer.Option("--all", help="Every operation.")]
OutputFile = Annotated[Path | None, typer.Option("--output-file", metavar="FILE", help="Write the report to a file.")]
Baseline = Annotated[Path | None, typer.Option("--baseline", metavar="FILE", help="Known findings, which are not reported.")]
UpdateBaseline = Annotated[bool, typer.Option("--update-baseline", help="Write what is found now to the baseline.")]
PruneBaseline = Annotated[bool, typer.Option("--prune-baseline", help="Take what is no longer found out of the baseline.")]
AddIgnore = Annotated[str | None, typer.Option("--add-ignore", metavar="REASON", help=_ADD)]
FailOn = Annotated[Bar | None, typer.Option("--fail-on", help="Findings from this severity on give exit code 1. Default warning.")]
ExitZero = Annotated[bool, typer.Option("--exit-zero", help=_ZERO)]
ShowRefuted = Annotated[bool, typer.Option("--show-refuted", help="Show findings that the real pass refuted.")]
Color = Annotated[bool | None, typer.Option("--color/--no-color", help="Default: colour on a terminal.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also rules that did not apply and why, and what the model's code printed.")]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", metavar="N", min=1, help=_JOBS)]
Timings = Annotated[bool, typer.Option("--timings", help="Also write the seconds of each stage into json and json-lines reports.")]
Isolated = Annotated[bool, typer.Option("--isolated", help=_ISOLATED)]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither use nor keep results of other runs.")]
Shard = Annotated[str | None, typer.Option("--shard", metavar="I/N", help=_SHARD)]
Watch = Annotated[bool, typer.Option("--watch", help="Check again whenever a file changes that a target rests on. Ctrl-C ends it.")]
Fix = Annotated[bool, typer.Option("--fix", help=_FIX)]
Diff = Annotated[
    bool,
    typer.Option("--diff", help=_DIFF),
]
SarifFiles = Annotated[list[Path], typer.Argument(metavar="FILES...", help="SARIF reports of vaelint, one of each shard.")]
Folder = Annotated[Path, typer.Argument(metavar="[PATH]", help="A folder or a file. Default: here.", show_default=False)]
Static = Annotated[bool, typer.Option("--static", help="Read the code only: nothing is run, and nothing proposed.")]
Write = Annotated[bool, typer.Option("--write", help="Add the proposals to vaelint.toml or pyproject.toml, keeping what is there.")]
Tables = Annotated[TablesFormat, typer.Option("--output-format", help="full: TOML tables; json: everything that was seen.")]
Version = Annotated[bool, typer.Option("--version", help="Print the version and exit.")]
Rule = Annotated[str, typer.Argument(metavar="CODE", help="A rule's code or name: VAE201, shared-noise.")]
AsList = Annotated[ListFormat, typer.Option("--output-format", help="Form of the output.")]
AsTable = Annotated[TableFormat, typer.Option("--output-format", help="Form of the output.")]
Schema = Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of the configuration, for editors.")]
