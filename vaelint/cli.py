"""The command line. Imports no torch; the worker imports it while this module reads options."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from vaelint import __version__, catalogue, config, options, suppress
from vaelint.errors import UsageError
from vaelint.finding import Certainty, Severity
from vaelint.front import Checked, Worker, check_targets
from vaelint.inputs import InputSet
from vaelint.result import Request, TargetResult
from vaelint.target import module_classes, parse_init

if TYPE_CHECKING:
    from click import Context

app = typer.Typer(name="vaelint", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

EXIT_CLEAN, EXIT_FINDINGS, EXIT_TROUBLE, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(args: Sequence[str], early: Worker | None = None) -> NoReturn:
    """Runs a command line. Every way out is an exit code and, if something is wrong, one message.

    `early` is a worker that was started before this module was imported; it is closed here.
    """
    code: Any = EXIT_TROUBLE
    try:
        code = app(list(args), prog_name="vaelint", standalone_mode=False, obj=early) or EXIT_CLEAN
    except UsageError as e:
        _say(e.message, e.help or "vaelint check --help shows the options")
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except Exception as e:  # noqa: BLE001 - the last stop: no traceback of ours reaches a user
        code = _last_stop(e)
    finally:
        if early is not None:
            early.close()
    sys.exit(code)


def _last_stop(error: Exception) -> int:
    """Exit code for what typer raises to end a run, and for faults of our own."""
    if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # click's usage errors
        context: Context | None = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help shows the options" if context else "vaelint --help shows the commands"
        _say(error.format_message(), hint)
        return EXIT_TROUBLE
    if type(error).__name__ == "Abort":  # click's name for Ctrl-C
        return EXIT_INTERRUPTED
    _say(f"internal error: {type(error).__name__}: {error}", "please report it; VAELINT_TRACEBACK=1 shows where")
    if os.environ.get("VAELINT_TRACEBACK"):
        raise error
    return EXIT_TROUBLE


def _say(message: str, help: str = "") -> None:
    print(f"vaelint: {message}" + (f"\nhelp: {help}" if help else ""), file=sys.stderr)


@app.callback(invoke_without_command=True)
def _root(version: options.Version = False) -> None:
    """Tells whether a PyTorch variational autoencoder is wired correctly."""
    if version:
        print(f"vaelint {__version__}")
        raise typer.Exit


@app.command()
def check(
    context: typer.Context,
    targets: options.Targets = None,
    input: options.Inputs = None,
    init: options.Init = None,
    loss: options.Loss = None,
    step: options.Step = None,
    device: options.Device = None,
    timeout: options.Timeout = None,
    select: options.Select = None,
    ignore: options.Ignore = None,
    extend_select: options.ExtendSelect = None,
    output_format: options.OutputFormat = options.Format.full,
    output_file: options.OutputFile = None,
    fail_on: options.FailOn = None,
    exit_zero: options.ExitZero = False,
    show_refuted: options.ShowRefuted = False,
    color: options.Color = None,
    verbose: options.Verbose = False,
) -> None:
    """Check models. Exit code 0: clean; 1: findings; 2: wrong usage, or a target that could not be analysed."""
    told = config.load()
    given = {"inputs": input, "init": init, "loss": loss, "step": step, "device": device, "timeout": timeout}
    chosen = {k: v for k, v in given.items() if v is not None} | _selection(told, select, ignore, extend_select)
    requests = [_with_options(r, told, chosen) for r in config.requests_for(targets or [], told)]
    if not requests:
        _nothing(targets)
    results: list[Checked] = []
    if requests:
        with context.obj or Worker() as worker:
            results = list(check_targets(requests, worker, _progress))
        _progress(None, "")
    bare = [r.result for r in results]
    suppress.apply(bare)
    _write(
        _render(results, output_format, color=color, to_file=output_file is not None, show_refuted=show_refuted, verbose=verbose),
        output_file,
    )
    bar = Severity(fail_on.value if fail_on else told.fail_on or "warning")
    raise typer.Exit(exit_code(bare, bar, exit_zero))


def _progress(request: Request | None, stage: str) -> None:
    """One line on a terminal's error stream that says what is being done; emptied at the end."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K" + (f"{request.target}: {stage} ..." if request else ""))
        sys.stderr.flush()


def _nothing(targets: list[str] | None) -> None:
    """Says that nothing is checked. Files that hold no configured target are no error: pre-commit passes whatever changed."""
    table = "add it as [[tool.vaelint.targets]] to pyproject.toml"
    if not targets:
        raise UsageError("no target is named and none is configured", f"write vaelint check model.py:VAE --input 32x784, or {table}")
    found = [f"{t}:{name}" for t in targets if t.endswith(".py") for name in module_classes(t)[-1:]]
    _say(
        "nothing was checked: the files given touch no configured target",
        f"name a model, such as {(found or ['model.py:VAE'])[0]}, or {table}",
    )


@app.command()
def rules(output_format: options.AsList = options.ListFormat.full) -> None:
    """List all rules."""
    found = catalogue.all_rules()
    form = {
        options.ListFormat.full: catalogue.listing,
        options.ListFormat.json: catalogue.as_json,
        options.ListFormat.markdown: catalogue.as_markdown,
    }[output_format]
    sys.stdout.write(form(found))


@app.command()
def explain(
    code: options.Rule,
    output_format: options.AsList = options.ListFormat.full,
    color: options.Color = None,
) -> None:
    """Explain a rule: what it finds, why that is bad, wrong and right code, when to ignore it."""
    rule = catalogue.find(code)
    if output_format is options.ListFormat.json:
        sys.stdout.write(catalogue.as_json([rule], whole=True))
    elif output_format is options.ListFormat.full and _colour(color, to_file=False):
        from vaelint.report.page import render_page

        sys.stdout.write(render_page(catalogue.explain(rule), _width()))
    else:
        sys.stdout.write(catalogue.explain(rule))


def _selection(told: config.Config, select: list[str] | None, ignore: list[str] | None, extend: list[str] | None) -> dict[str, Any]:
    """`select` and `ignore` for the requests: the command line's, else the file's."""
    chosen = catalogue.selectors(select or told.select, "--select" if select else "select")
    more = catalogue.selectors((*told.extend_select, *(extend or ())), "--extend-select" if extend else "extend-select")
    if more and not chosen:
        chosen = catalogue.defaults()
    return {"select": (*chosen, *more), "ignore": catalogue.selectors(ignore or told.ignore, "--ignore" if ignore else "ignore")}


def _with_options(request: Request, told: config.Config, given: dict[str, Any]) -> Request:
    """The request with what the command line says, checked before a process is bothered."""
    defaults = {k: v for k, v in {"device": told.device, "timeout": told.timeout}.items() if v and request not in told.targets}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in (defaults | given).items()}
    done = replace(request, **values)
    if done.timeout <= 0:
        raise UsageError("--timeout must be above 0 seconds")
    try:
        config.check_device(done.device)
    except ValueError as e:
        raise UsageError(f"--device must be {e}, not {done.device!r}") from None
    InputSet.from_texts(done.inputs)
    parse_init(done.init)
    return done


def exit_code(results: Sequence[TargetResult], bar: Severity, exit_zero: bool) -> int:
    """2 if a target could not be analysed, else 1 if a finding at or above the bar stands, else 0."""
    if any(r.status == "failed" for r in results):
        return EXIT_TROUBLE
    found = any(f.certainty is not Certainty.REFUTED and f.severity.rank >= bar.rank for r in results for f in r.findings)
    return EXIT_FINDINGS if found and not exit_zero else EXIT_CLEAN


def _colour(wanted: bool | None, *, to_file: bool) -> bool:
    """https://no-color.org and FORCE_COLOR, when the options leave it open."""
    if wanted is not None:
        return wanted
    if to_file or os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def _width() -> int:
    """100 columns, or what a narrower terminal has."""
    import shutil

    return max(40, min(100, shutil.get_terminal_size((100, 24)).columns)) if sys.stdout.isatty() else 100


def _render(
    results: Sequence[Checked], form: options.Format, *, color: bool | None, to_file: bool, show_refuted: bool, verbose: bool
) -> str:
    bare = [r.result for r in results]
    if form is options.Format.json:
        from vaelint.report import as_json

        return as_json.render(bare)
    if form is options.Format.concise:
        from vaelint.report import concise

        return concise.render(bare, show_refuted=show_refuted)
    from vaelint.report import full

    output = {id(r.result): r.output for r in results}
    width, colour = 100 if to_file else _width(), _colour(color, to_file=to_file)
    return full.render(bare, full.View(width=width, color=colour, show_refuted=show_refuted, verbose=verbose, output=output))


def _write(text: str, file: Path | None) -> None:
    """To standard output, or to a file at once and whole."""
    if file is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
        sys.stdout.flush()
        return
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        new.write_text(text, encoding="utf-8", errors="backslashreplace")
        new.replace(file)
    except OSError as e:
        raise UsageError(f"cannot write {file}: {e.strerror}") from None
