"""`vaelint.check(model, ...)`: the pipeline on an object, in the process of the caller, which stays as it was."""

from __future__ import annotations

import contextlib
import inspect
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from vaelint import catalogue
from vaelint.config.python_words import as_python, in_python
from vaelint.config.readers import DEVICE, meant
from vaelint.core.errors import UsageError
from vaelint.core.finding import Certainty
from vaelint.core.inputs import InputSet
from vaelint.core.paths import is_cell
from vaelint.core.result import Request, TargetResult
from vaelint.core.run_request import observed_request
from vaelint.loading.input_values import input_texts, parameters_taken
from vaelint.observe.data.torchvision import torchvision_data
from vaelint.observe.held.held_back import held_back
from vaelint.observe.hooks import watched
from vaelint.observe.session import Session, StopObserving
from vaelint.pipeline.check import check_here
from vaelint.pipeline.prepare import FromPython
from vaelint.pipeline.restore import undisturbed
from vaelint.pipeline.watched_run import results_or_failure
from vaelint.policy import suppress
from vaelint.process.front import Worker
from vaelint.report import embedded, full
from vaelint.report.parts.places import typed_name
from vaelint.report.parts.view import View
from vaelint.trace.spans import SpanFinder

if TYPE_CHECKING:
    from rich.text import Text


class Report(TargetResult):
    """The result of a check. Prints as the command line's report; in a notebook it shows itself, in colour."""

    @property
    def clean(self) -> bool:
        """Whether the target was analysed and no finding of severity warning or error stands."""
        return self.status == "clean"

    @property
    def complete(self) -> bool:
        """Whether every part of the check was done: what was left out, and why, is in `incomplete`."""
        return self.whole

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the findings that stand, in their order."""
        return tuple(f.code for f in self.findings if f.certainty is not Certainty.REFUTED)

    def render(self, *, color: bool = False, width: int = 100, verbose: bool = False, show_refuted: bool = False) -> str:
        """The full report as text; with `verbose` also the rules that did not apply and why."""
        hints = ("render(verbose=True)", "render(show_refuted=True)")
        return full.render([self], View(width=width, color=color, verbose=verbose, show_refuted=show_refuted, hints=hints))

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<vaelint report of {self.target}: {self.status}{', '.join(['', *self.codes])[1:]}>"

    def __rich__(self) -> Text:
        from rich.text import Text

        return Text.from_ansi(self.render(color=True))

    def _repr_html_(self) -> str:
        return embedded.render([self])


def check(
    target: Any,
    *,
    input: Any = (),
    init: Mapping[str, Any] | None = None,
    loss: str | Callable[..., Any] | None = None,
    step: str | Callable[..., Any] | None = None,
    device: str = "none",
    select: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    seed: int = 0,
    allow_no_loss: bool = False,
) -> Report:
    """Checks a model from Python: a model, a class, a function that makes one, or a target text such as "model.py:VAE".

    Args:
        input: a text as for `--input`, a shape `(32, 784)`, a tensor or array, a batch of your loader, several of these in a list or
            tuple, or a dict of them by name. Of tensors, shape, dtype and range of values are taken.
        init: constructor arguments, for a class or a target text.
        loss: the loss function itself, or its name as for `--loss`.
        step: a function `(model, x, ...) -> loss`, or the code of a step as for `--step`.
        device: as `--device`; "none" by default, so that nothing is run for real.
        select, ignore: rules by code, prefix or name, as for `--select` and `--ignore`.
        allow_no_loss: as `--allow-no-loss`: the model alone is to be checked, and the report is complete without a loss.

    The model is copied before anything runs, in a mode of its own: `no_grad`, `inference_mode`, autocast and a default device of the
    caller are not in force. They, random states, torch's settings, handlers of signals, `sys.path` and the user's modules are as before
    afterwards. Unlike the command line, this runs in the process that calls it: a model that crashes takes it along.

    Raises:
        UsageError: texts that cannot be read.
    """
    with _asked_in_python():
        return _check(target, input, init, loss, step, device, select, ignore, seed, allow_no_loss)


@contextmanager
def _asked_in_python() -> Iterator[None]:
    """What is wrong with the arguments is said in words of Python."""
    try:
        yield
    except UsageError as error:
        told = UsageError(as_python(error.message), as_python(error.help))
        if told.help:
            told.add_note(f"help: {told.help}")  # shown below a traceback, in a notebook too
        raise told from None


def _check(
    target: Any,
    input: Any,
    init: Mapping[str, Any] | None,
    loss: str | Callable[..., Any] | None,
    step: str | Callable[..., Any] | None,
    device: str,
    select: str | Sequence[str],
    ignore: str | Sequence[str],
    seed: int,
    allow_no_loss: bool,
) -> Report:
    names: dict[str, Any] = {}
    shown = target if isinstance(target, str) else _named(target)
    chosen = catalogue.selectors([select] if isinstance(select, str) else select, "select")
    left = catalogue.selectors([ignore] if isinstance(ignore, str) else ignore, "ignore")
    texts = input_texts(input, parameters_taken(target, step))
    InputSet.from_texts(texts)
    loss_name, code = _loss_name(loss, names), _step_code(step, names)
    request = Request(
        shown, texts, (), loss_name, code, _device(device), select=chosen, ignore=left, seed=seed, allow_no_loss=allow_no_loss
    )
    request = replace(request, trail=_trail())
    with undisturbed():
        result = check_here(request, lambda message: None, FromPython(target, dict(init or {}), names))
    suppress.apply([result], lambda word: catalogue.find(word).code)
    return Report(**vars(in_python(result)))


def _device(device: str) -> str:
    """The device as `--device` takes it. Raises UsageError."""
    try:
        return str(DEVICE.read(device))
    except ValueError as wanted:
        raise UsageError(f"--device must be {wanted}, not {device!r}", " or ".join(f"write --device {d}" for d in meant(device))) from None


class Seen:
    """What a block of `observe` showed: a report for each model that was trained in it."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

    @property
    def report(self) -> Report:
        """The first report. Raises LookupError before the block has ended, or where nothing was seen."""
        if not self.reports:
            raise LookupError("nothing was observed yet: the reports are there when the block has ended")
        return self.reports[0]

    @property
    def clean(self) -> bool:
        """Whether all that was trained was analysed, and no finding of severity warning or error stands."""
        return bool(self.reports) and all(r.clean for r in self.reports)

    def __str__(self) -> str:
        return "\n".join(map(str, self.reports))

    def _repr_html_(self) -> str:
        return embedded.render(self.reports)


@contextmanager
def observe(
    *,
    steps: int = 5,
    data: str = "auto",
    allow_writes: bool = False,
    device: str = "auto",
    select: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
) -> Iterator[Seen]:
    """Watches the training that runs in the block, ends it after `steps` iterations, and checks what it trains.

    Args:
        steps: iterations of the loop; the block is left after the last, through its `finally` blocks.
        data: "made-up" makes up known data sets, "auto" those that are not there, "real" none.
        allow_writes: whether the block may write files, start programs and use the network.
        device: "none" leaves out the experiments.
        select, ignore: rules by code, prefix or name, as for `--select` and `--ignore`.

    What the training itself raises passes through. Runs in the process that calls it, whose model moves as it trains.
    """
    frame = _caller()
    file = frame.f_code.co_filename
    spans = SpanFinder(str(Path(file).absolute().parent))
    session, seen = Session(spans, steps), Seen()
    error: BaseException | None = None
    with contextlib.ExitStack() as stack:
        held = None if allow_writes else stack.enter_context(held_back(spans))
        stack.enter_context(torchvision_data(data, lambda what: session.say(f"{what}{session.where()}"), spans.is_user))
        stack.enter_context(watched(session))
        try:
            yield seen
        except StopObserving as enough:
            error = enough
        except BaseException as raised:
            session.over(raised, frame)
            raise
        session.over(error, frame)
    session.said += held.said if held is not None else []
    seen.reports[:] = reports_of(session, file, error, device=device, select=select, ignore=ignore)


def reports_of(
    session: Session,
    file: str,
    error: BaseException | None = None,
    *,
    device: str = "auto",
    select: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
) -> list[Report]:
    """A report for each model that was trained while `session` looked on, in code of `file`; `error` is what ended it."""
    chosen = catalogue.selectors([select] if isinstance(select, str) else select, "select")
    left = catalogue.selectors([ignore] if isinstance(ignore, str) else ignore, "ignore")
    shown = session.spans.relative(file)
    request = Request(shown, device=device, select=chosen, ignore=left, run=(shown,), steps=session.steps, trail=_trail())
    results = results_or_failure(session, error, request, time.perf_counter() - session.started)
    suppress.apply(results, lambda word: catalogue.find(word).code)
    if (typed := typed_name(file)) is not None:
        for r in results:
            r.target = r.target.replace(shown, typed)
    return [Report(**vars(in_python(r))) for r in results]


def run(
    *command: str,
    steps: int = 5,
    data: str = "auto",
    allow_writes: bool = False,
    device: str = "auto",
    timeout: float = 120.0,
    select: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
) -> Seen:
    """`vaelint run` from Python: `run("train.py", "--epochs", "1")`, or `run("-m", "package.train")`, in a process of its own.

    Raises:
        UsageError: a script that is not there, or options that cannot be read.
    """
    chosen = catalogue.selectors([select] if isinstance(select, str) else select, "select")
    left = catalogue.selectors([ignore] if isinstance(ignore, str) else ignore, "ignore")
    asked = observed_request(command, steps=steps, data=data, allow_writes=allow_writes)
    with Worker() as worker:
        checked = worker.run(replace(asked, device=device, timeout=timeout, select=chosen, ignore=left))
    results, seen = [checked.result, *checked.also], Seen()
    suppress.apply(results, lambda word: catalogue.find(word).code)
    seen.reports[:] = [Report(**vars(in_python(r))) for r in results]
    return seen


def _trail() -> str:
    """In a kernel, whose outputs show pictures, the way from input to loss is asked for."""
    ipython = sys.modules.get("IPython")
    return "with" if ipython is not None and hasattr(ipython.get_ipython(), "kernel") else ""


def _caller() -> FrameType:
    """The innermost frame that is neither ours nor Python's own."""
    finder = SpanFinder(str(Path.cwd()))
    frame = sys._getframe(1)
    while frame.f_back is not None and not (finder.is_user(frame.f_code.co_filename) or is_cell(frame.f_code.co_filename)):
        frame = frame.f_back
    return frame


def _named(target: Any) -> str:
    owner = target if inspect.isclass(target) or inspect.isroutine(target) else type(target)
    return str(getattr(owner, "__name__", type(target).__name__))


def _loss_name(loss: str | Callable[..., Any] | None, names: dict[str, Any]) -> str | None:
    """The name that a loss goes by; one that is handed over is put under that name."""
    if loss is None or isinstance(loss, str):
        return loss
    name = _named(loss)
    name = name if inspect.isroutine(loss) and name.isidentifier() else "loss_fn"
    names[name] = loss
    return name


def _step_code(step: str | Callable[..., Any] | None, names: dict[str, Any]) -> str | None:
    """The code of a step; a function is called with the model and with inputs of its parameters' names."""
    if step is None or isinstance(step, str):
        return step
    name = step.__name__ if inspect.isroutine(step) and step.__name__.isidentifier() else "training_step"
    names[name] = step
    wanted = [p.name for p in inspect.signature(step).parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return f"loss = {name}({', '.join(['model', *wanted[1:]])})"
