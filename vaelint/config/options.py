"""The one table of options: what may be said on the command line, in the configuration and from Python. Imports neither torch nor typer.

A field of `Options` declares an option once. `cli/commands.py` makes the command lines of it, `config/keys.py` the keys, their schema
and their page, `config/settings.py` the values in force; tests hold the arguments of `vaelint.check` and of `Request` against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from vaelint.config import readers
from vaelint.config.declared import Entry, Key, Option, says
from vaelint.core.result import Request
from vaelint.late import dataclass
from vaelint.report.formats import FORMATS, TRAILS

_DEFAULT = Request("")
_AS_ABOVE = "As above, for this target."
_CALLS = "check trace annotate config"  # commands that call a model
_JUDGES = "check config run"
_TARGETS = """FILE.py:NAME or package.module:NAME, where NAME is a class, a function that builds a model, or a model;
NAME(latent_dim=20) passes arguments. Without targets: those in [tool.vaelint] of pyproject.toml. A plain FILE.py: the
configured ones that it touches; where none is configured, the VAEs in it. A folder: the configured ones below it, else those that
`vaelint discover` finds there."""
_FIX = """Write the repairs into the files. A repair changes what the model computes; each is made only after a check of the edited
source, with a real pass, has found the finding gone and no new one."""


@dataclass(frozen=True)
class Options:
    """What one place says: a command line, or the top of a configuration. None and False: nothing."""

    names: Sequence[str] | None = says(Option("TARGETS", "check trace config", _TARGETS, "texts", completes=("TARGETS",)))
    target: str | None = says(
        Option("TARGET", "annotate", "FILE.py:NAME or package.module:NAME, as for `check`.", required=True, completes=("TARGETS",)),
        key=Key("target", readers.TARGET, target="FILE.py:NAME or package.module:NAME, with constructor arguments."),
        python="check",
    )
    path: str = says(Option("[PATH]", "discover", "A folder or a file. Default: here.", "file"), default=".")
    code: str = says(
        Option("CODE", "explain", "A rule's code or name: VAE201, shared-noise.", required=True, completes=("RULES",)), default=""
    )
    files: Sequence[str] = says(
        Option("FILES...", "merge-sarif", "SARIF reports of vaelint, one of each shard.", "files", required=True), default=()
    )
    inputs: Sequence[str] | None = says(
        Option(
            "--input",
            _CALLS,
            "An input, such as 32x784, x=32x1x28x28:float32[0,1] or tokens=16x20:int64[0,1000). Once for each input.",
            "texts",
            metavar="[NAME=]SHAPE[:DTYPE][RANGE]",
        ),
        key=Key("input", readers.INPUTS, target="The inputs, each [NAME=]SHAPE[:DTYPE][RANGE]."),
        python="check",
    )
    init: Sequence[str] | None = says(
        Option("--init", _CALLS, "A constructor argument, as a Python literal.", "texts", metavar="KEY=VALUE"),
        key=Key("init", readers.ARGUMENTS, target='Constructor arguments: a table, or "key=value" with Python literals.'),
        python="check",
    )
    loss: str | None = says(
        Option("--loss", _CALLS, "The loss function: a name, or train.py:loss_fn.", metavar="NAME"),
        key=Key("loss", readers.TEXT, target="The loss function: a name, or train.py:loss_fn."),
        python="check",
    )
    step: str | None = says(
        Option(
            "--step",
            _CALLS,
            'One training step that leaves `loss`: "recon, mu, logvar = model(x); loss = loss_fn(recon, x, mu, logvar)".',
            metavar="CODE",
        ),
        key=Key("step", readers.TEXT, target="One training step that leaves `loss`."),
        python="check",
    )
    run: Sequence[str] | None = says(
        Option(
            "SCRIPT [ARGS]...", "run", "The script with its own arguments, as after `python`. Options of vaelint come before it.", "texts"
        ),
        key=Key("run", readers.COMMAND, target="Instead of a target: a training command to observe: train.py --epochs 1."),
    )
    module: str | None = says(Option("-m", "run", "Run a module, as `python -m` does; its arguments follow.", metavar="MODULE"))
    steps: int = says(
        Option(
            "--steps",
            "run",
            f"How many iterations of the training loop are watched before the script is stopped. Default {_DEFAULT.steps}.",
            "count",
            metavar="N",
            least=2,
        ),
        python="observe run",
        default=_DEFAULT.steps,
    )
    plot: bool = says(
        Option(
            "--plot",
            "run",
            "Draw the observed iterations in the html page: terms, beta, gradients, KL of each latent dimension. More with --steps 50.",
            "flag",
        ),
        default=False,
    )
    rows: int = says(
        Option(
            "--rows",
            "run",
            "At most so many rows of each batch of a loader: for a model that is too slow or too large here. Default: as they come.",
            "count",
            metavar="N",
        ),
        default=_DEFAULT.rows,
    )
    data: str = says(
        Option(
            "--data",
            "run",
            "auto: the script's own data if present, else made-up data in the shapes of a known data set; real; made-up.",
            "choice",
            choices=("auto", "real", "made-up"),
            default=_DEFAULT.data,
        ),
        python="observe run",
        default=_DEFAULT.data,
    )
    allow_writes: bool = says(
        Option(
            "--allow-writes",
            "run",
            "Let the script write files, start programs and use the network. Otherwise these are held back, and listed.",
            "flag",
        ),
        python="observe run",
        default=False,
    )
    device: str | None = says(
        Option(
            "--device",
            "check config",
            "Where the real pass runs; none leaves it out.",
            metavar="auto|cuda|cuda:1|cpu|none",
            completes=("auto", "cuda", "cpu", "none"),
        ),
        Option(
            "--device",
            "run",
            "none leaves out the experiments; else they run where the script does.",
            metavar="auto|none",
            completes=("auto", "none"),
        ),
        key=Key("device", readers.DEVICE, "Where the real pass runs: auto, cuda, cuda:NUMBER, cpu, or none. Default: auto.", _AS_ABOVE),
        python="check observe run",
    )
    timeout: float | None = says(
        Option("--timeout", f"{_CALLS} run", f"Time limit for a target. Default {_DEFAULT.timeout:g}.", "number", metavar="SECONDS"),
        key=Key("timeout", readers.SECONDS, f"Time limit for a target in seconds. Default: {_DEFAULT.timeout:g}.", _AS_ABOVE),
        python="run",
    )
    max_memory: str | None = says(
        Option(
            "--max-memory",
            _JUDGES,
            "Memory for a target, all its processes together: 4GB, 512MB, none. Default: half of the free memory, at least 1 GB.",
            metavar="SIZE",
        ),
        key=Key(
            "max-memory",
            readers.MEMORY,
            'Memory that a target may take, all its processes together: "4GB", "none". Default: half of the free memory, at least 1 GB.',
            _AS_ABOVE,
        ),
    )
    perturb: bool | None = says(
        Option(
            "--perturb",
            "check config",
            "Also try other values for constructor arguments, one at a time, and report hard-coded numbers. Default off.",
            "switch",
        ),
        key=Key("perturb", readers.FLAG, "Also try other values for constructor arguments, one at a time. Default: false.", _AS_ABOVE),
    )
    laws: str | None = says(
        Option(
            "--laws",
            "check config",
            f"What every VAE must satisfy, measured on the real run: none, fast (the cheap ones), or all. Default {_DEFAULT.laws}.",
            metavar="|".join(readers.LAWS),
            completes=readers.LAWS,
        ),
        key=Key("laws", readers.LAW, f"Laws measured on the real run: none, fast, or all. Default: {_DEFAULT.laws}.", _AS_ABOVE),
    )
    allow_no_loss: bool | None = says(
        Option(
            "--allow-no-loss",
            "check config",
            "Accept a target without a loss, or without a known term in its loss, as complete. Default off.",
            "switch",
        ),
        key=Key(
            "allow-no-loss",
            readers.FLAG,
            "Accept a target without a loss as complete. Default: false.",
            "As above, for this target: it has none.",
        ),
        python="check",
    )
    beta: float | None = says(
        key=Key(
            "beta",
            readers.BETA,
            target="The effective beta that you intend. If the measured one agrees (within 1 %), the weight of the KL is not reported.",
        )
    )
    select: Sequence[str] | None = says(
        Option(
            "--select", _JUDGES, "Only these rules: codes, prefixes (VAE2), names, ALL.", "texts", metavar="CODES", completes=("RULES",)
        ),
        key=Key("select", readers.TEXTS, "Only these rules: codes, prefixes such as VAE2, names, ALL. Default: all but VAE8."),
        python="check observe run",
    )
    ignore: Sequence[str] | None = says(
        Option("--ignore", _JUDGES, "Not these rules.", "texts", metavar="CODES", completes=("RULES",)),
        key=Key("ignore", readers.TEXTS, "Not these rules."),
        python="check observe run",
    )
    extend_select: Sequence[str] | None = says(
        Option("--extend-select", _JUDGES, "These rules as well.", "texts", metavar="CODES", completes=("RULES",)),
        key=Key("extend-select", readers.TEXTS, "These rules as well as the selected ones."),
    )
    per_file_ignores: Sequence[tuple[str, tuple[str, ...]]] | None = says(
        key=Key(
            "per-file-ignores",
            readers.RULES_BY_FILE,
            "Rules to ignore in the files that match a pattern, relative to this file; ! inverts a pattern.",
        )
    )
    severity: Sequence[tuple[str, str]] | None = says(
        key=Key(
            "severity",
            readers.SEVERITY_BY_RULE,
            "Severities that replace the rules' own: a code, a prefix or a name each; the longest match counts.",
        )
    )
    depth: int | None = says(Option("--depth", "trace", "Levels below encoder, decoder, ... Default 1.", "count", metavar="N", least=0))
    everything: bool = says(Option("--all", "trace", "Every operation.", "flag"), default=False)
    static: bool = says(Option("--static", "discover", "Read the code only: nothing is run, and nothing proposed.", "flag"), default=False)
    write: bool = says(
        Option("--write", "annotate", "Write the annotations into the file instead of printing a patch.", "flag"),
        Option("--write", "discover", "Add the proposals to vaelint.toml or pyproject.toml; existing entries stay.", "flag"),
        default=False,
    )
    output_format: Sequence[str] | None = says(
        Option(
            "--output-format",
            "check run",
            f"Form of the report: {', '.join(FORMATS)}. FORMAT:FILE writes to a file; several may be given. Default full.",
            "texts",
            metavar="FORMAT[:FILE]",
            variable="VAELINT_OUTPUT_FORMAT",
            completes=tuple(FORMATS),
        ),
        Option(
            "--output-format",
            "trace",
            f"Form of the output: {', '.join(TRAILS)}. FORMAT:FILE writes to a file; several may be given. Default text.",
            "texts",
            metavar="FORMAT[:FILE]",
            completes=tuple(TRAILS),
        ),
    )
    form: str = says(
        Option("--output-format", "config", "Form of the output.", "choice", choices=("full", "json"), default="full"),
        Option(
            "--output-format",
            "discover",
            "full: TOML tables; json: everything that was seen.",
            "choice",
            choices=("full", "json"),
            default="full",
        ),
        Option(
            "--output-format",
            "rules explain",
            "Form of the output.",
            "choice",
            choices=("full", "json", "markdown"),
            default="full",
        ),
        default="full",
    )
    output_file: str | None = says(
        Option("--output-file", "check run trace merge-sarif", "Write the report to a file.", "file", metavar="FILE")
    )
    fail_on: str | None = says(
        Option(
            "--fail-on",
            _JUDGES,
            "Findings from this severity on give exit code 1. Default warning.",
            "choice",
            choices=readers.SEVERITIES,
        ),
        key=Key("fail-on", readers.SEVERITY, "Findings from this severity on give exit code 1. Default: warning."),
    )
    exit_zero: bool = says(
        Option(
            "--exit-zero",
            "check run",
            "Exit code 0 whatever was found; still 2 for a target that could not be analysed, or not completely.",
            "flag",
        ),
        default=False,
    )
    baseline: str | None = says(
        Option("--baseline", _JUDGES, "Known findings, which are not reported.", "file", metavar="FILE"),
        key=Key("baseline", readers.TEXT, "File of known findings that are not reported, relative to this file."),
    )
    update_baseline: bool = says(
        Option("--update-baseline", "check", "Record the current findings in the baseline.", "flag"), default=False
    )
    prune_baseline: bool = says(
        Option("--prune-baseline", "check", "Remove entries from the baseline that are no longer found.", "flag"), default=False
    )
    add_ignore: str | None = says(
        Option(
            "--add-ignore",
            "check",
            "Write # vaelint: ignore[CODE] REASON after each line with a finding that makes the exit code 1.",
            metavar="REASON",
        )
    )
    show_refuted: bool = says(Option("--show-refuted", "check run", "Show findings that the real pass refuted.", "flag"), default=False)
    color: bool | None = says(Option("--color", "check run trace explain", "Default: colour on a terminal.", "switch"))
    verbose: bool = says(
        Option("--verbose", "check run", "Also rules that did not apply and why, and what the model's code printed.", "flag", short="-v"),
        default=False,
    )
    jobs: int | None = says(
        Option(
            "--jobs",
            "check config discover",
            "How many targets are checked at once. Default: as many as there are cores, at most 4.",
            "count",
            metavar="N",
            short="-j",
            least=1,
        ),
        key=Key("jobs", readers.COUNT, "Targets checked at once. Default: one a core, at most 4."),
    )
    no_cache: bool = says(Option("--no-cache", "check trace", "Neither use nor keep results of other runs.", "flag"), default=False)
    shard: str | None = says(
        Option(
            "--shard",
            "check",
            "Only the I-th of N parts of the targets, for the machines of a CI matrix: --shard 1/4 to --shard 4/4.",
            metavar="I/N",
        )
    )
    watch: bool = says(
        Option("--watch", "check", "Check again whenever a file changes that a target depends on. Ctrl-C ends it.", "flag"), default=False
    )
    fix: bool = says(Option("--fix", "check", _FIX, "flag"), default=False)
    diff: bool = says(
        Option(
            "--diff",
            "check",
            "Print what --fix would change as a patch, and write nothing. With an --output-format: as the fix of its finding there.",
            "flag",
        ),
        default=False,
    )
    timings: bool = says(
        Option("--timings", "check", "Also write the seconds of each stage into json and json-lines reports.", "flag"), default=False
    )
    isolated: bool = says(
        Option(
            "--isolated",
            "check trace annotate",
            "Take nothing from the repository but its code: no configuration, baseline, suppression comments or kept results.",
            "flag",
        ),
        default=False,
    )
    docs_url: str | None = says(
        key=Key(
            "docs-url",
            readers.HOME,
            "Where the pages of vaelint's documentation are, for the addresses in reports: https://docs.my.org/vaelint/.",
        )
    )
    stdio: bool = says(
        Option("--stdio", "server", "Over standard input and output: the only way, and what happens without it.", "flag"), default=False
    )
    schema: bool = says(Option("--schema", "config", "Print the JSON Schema of the configuration, for editors.", "flag"), default=False)


TABLE: tuple[Entry, ...] = tuple(Entry(f.name, *f.metadata["said"]) for f in fields(Options))
