"""The check of an observed run: the script, its recorded iterations, and of each goal the anatomy, rules and experiments."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vaelint.anatomy.model import Model
from vaelint.core.errors import TargetError
from vaelint.core.finding import Span
from vaelint.core.launchers import OTHER_PYTHON
from vaelint.core.memory import asked_for, ran_out
from vaelint.core.messages import cut, message_of
from vaelint.core.result import Request, TargetResult
from vaelint.core.setup import fail
from vaelint.core.strength import as_said
from vaelint.laws.observe import observe_laws, replay_laws
from vaelint.loading.tensorflow_stand_in import keras_on_torch
from vaelint.observe.data.absent import absent_packages
from vaelint.observe.data.absent_loggers import absent_loggers
from vaelint.observe.data.library_sets import library_data
from vaelint.observe.data.native_readers import native_readers
from vaelint.observe.data.older_names import older_names
from vaelint.observe.data.older_torch import older_torch
from vaelint.observe.data.public_downloads import public_downloads
from vaelint.observe.data.session_files import absent_files
from vaelint.observe.data.settings.answers import answered
from vaelint.observe.data.settings.config_packages import config_packages
from vaelint.observe.data.torchvision import torchvision_data
from vaelint.observe.data.unknown.blanks import Blanks
from vaelint.observe.data.unknown.lessons import learn
from vaelint.observe.data.unknown.readers import reading_blanks
from vaelint.observe.data.unknown.undecided import Lost
from vaelint.observe.data.unknown.wishes import Wishes
from vaelint.observe.data.unneeded import lent_modules, wanting
from vaelint.observe.held.held_back import held_back
from vaelint.observe.held.notes import HeldBackError, shown
from vaelint.observe.hooks import watched
from vaelint.observe.limits import TimeIsUpError, limited
from vaelint.observe.replayed import ObservedStep
from vaelint.observe.script import file_of, noting_usage, passing_version_asserts, run_script
from vaelint.observe.session import Session, StopObserving
from vaelint.pipeline.attempts import clean_copy, started_again
from vaelint.pipeline.gaps import note_cut_short
from vaelint.pipeline.keras_words import in_words_of_files
from vaelint.pipeline.meant_for import quiet_on_the_cpu
from vaelint.pipeline.no_density import unsettle_likelihood
from vaelint.pipeline.other_data import Place, hold_at_both_sizes, places_of, with_others
from vaelint.pipeline.over_time.curves import make_curves
from vaelint.pipeline.pyro_pairs import found_in, raise_if_swapped
from vaelint.pipeline.run_rules import run_rules
from vaelint.pipeline.script_errors import said_in_place_of, said_of, said_of_a_pointer, said_to_be_read, said_without
from vaelint.pipeline.seen_models import models_of
from vaelint.repair.propose import proposals, with_sure_fixes
from vaelint.rule_packages import load_rules
from vaelint.trace.spans import SpanFinder
from vaelint.trace.torch_private import late_dynamo
from vaelint.trail.trail import make_trail

Emit = Callable[[dict[str, Any]], None]


def check_run(request: Request, emit: Emit, wishes: Wishes | None = None) -> list[TargetResult]:
    """Runs the command and checks what it trains: one result for each goal that draws a latent; at least one.

    Raises TargetError where nothing could be observed.

    Args:
        wishes: what is known of files that are not there; gets what this run tells of them.
    """
    wishes = wishes if wishes is not None else Wishes(other=request.other_sizes)
    started = time.perf_counter()
    emit({"kind": "stage", "stage": "run"})
    here = Path.cwd()
    os.environ.update(request.environment)
    file, home, command = _started(request)
    spans = SpanFinder(str(file.parent), str(here))
    session = Session(spans, request.steps, names=request.fixes, rows=request.rows, curves=request.plot, further=True)
    for name, value in wishes.variables.items() if request.data != "real" else ():
        os.environ[name] = value
        session.say(f"the environment variable {name} is not set: {value!r} was made up")
    if (other := os.environ.pop(OTHER_PYTHON, None)) is not None:
        session.say(f"run with the Python of {sys.prefix}, not with that of {other}")
    with contextlib.ExitStack() as stack:
        memory = stack.enter_context(limited(request.timeout))
        blanks = Blanks(wishes) if request.data != "real" and not request.allow_writes else None
        absent = absent_files(session, other=request.other_sizes, blanks=blanks) if request.data != "real" else None
        held = None if request.allow_writes else stack.enter_context(held_back(spans, kernel=True, absent=absent))
        if absent is not None and held is not None:
            stack.enter_context(public_downloads(session.say_here))
        stack.enter_context(torchvision_data(request.data, session.say_here, spans.is_user))
        stack.enter_context(library_data(request.data, session.say_here, spans.is_user))
        stack.enter_context(config_packages(session.say_here, spans.is_user))
        stack.enter_context(keras_on_torch(session.say, trains=True))
        stack.enter_context(contextlib.chdir(home))
        _stand_in(stack, session)
        stack.enter_context(passing_version_asserts(session.say, spans.is_user, wishes.passed))
        if request.data != "real":
            stack.enter_context(answered(session.say_here))
        if blanks is not None:
            stack.enter_context(reading_blanks(blanks, session.say_here, spans.is_user))
        stack.enter_context(noting_usage(session.usage))
        stack.enter_context(late_dynamo())
        error = observe(session, lambda: run_script(command, session.say))
    if isinstance(error, TimeIsUpError):
        session.said.append(f"the script was stopped{_at(session, error)} when its share of the {_rounded(request.timeout):g} s was over")
    if held is not None:
        session.said += held.said
    if blanks is not None:
        session.said += blanks.notes(shown)
    if isinstance(error, Exception) and not session.iterations and not session.further.earlier:
        wishes.learned = learn(error, wishes)
    _raise_if_out(session, error, request, memory)
    return results_of(session, error, request, emit, time.perf_counter() - started)


def _started(request: Request) -> tuple[Path, Path, Sequence[str]]:
    """The file that is run, the folder it starts in, and the command there. Jupyter starts each notebook in its own folder."""
    home = Path(request.folder or ".")
    with contextlib.chdir(home):
        file = Path(file_of(request.run)).absolute()
    return (file, file.parent, (file.name, *request.run[1:])) if file.suffix == ".ipynb" else (file, home, request.run)


def _stand_in(stack: contextlib.ExitStack, session: Session) -> None:
    """What packages that are absent, or older than the script, had to give."""
    spans = session.spans
    stack.enter_context(absent_packages(session.say_here, spans.is_user))
    stack.enter_context(lent_modules(session.say_here, spans.is_user))
    stack.enter_context(absent_loggers(session.say_here))
    stack.enter_context(older_names(session.say_here, spans.is_user))
    stack.enter_context(older_torch(session.say_here, spans.is_user))
    stack.enter_context(native_readers())


def results_of(session: Session, error: BaseException | None, request: Request, emit: Emit, seconds: float) -> list[TargetResult]:
    """What was seen in `seconds`, checked. Raises TargetError where nothing was."""
    _raise_if_nothing(session, error, request.run, request.folder)
    raise_if_swapped(session.sites, request)
    rules = [r for r in load_rules() if request.wants(r.code)]
    results = list[TargetResult]()
    for training in session.trainings:
        handed = next((b for b in training.iterations[0].backwards if b.given is not None), None)
        kept = rules if handed is None else [r for r in rules if r.code not in _CUTS]
        for result, model, step in models_of(session, training, request):
            result.timing["run_s"] = round(seconds, 4)
            result.findings += found_in(session.sites, request)
            if handed is not None and handed.span is not None:
                where, left = f"{handed.span.file}:{handed.span.line}", " and ".join(_CUTS)
                result.notes.append(f"{where} hands backward() a gradient: {left}, of gradients that end before the encoder, were left out")
            _judge(session, result, model, step, kept, request, emit)
            results.append(as_said(result))
    return results


_CUTS = ("VAE503", "VAE505")
"""Rules about gradients that end before the encoder, to which the script may hand them itself."""


def check_watched(request: Request, emit: Emit) -> TargetResult:
    """The first result of a run that is observed; those of further models go by `emit`."""
    first, more = TargetResult(request.target), list[TargetResult]()
    started, wishes = time.perf_counter(), Wishes(other=request.other_sizes)
    with clean_copy(check_run) as copy:
        try:
            first, *more = check_run(request, emit, wishes)
        except TargetError as error:
            fail(first, error)
            if wishes.learned:
                (first, *more), wishes = started_again(first, request, wishes, copy, emit, started)
        if first.status != "failed":

            def again(seconds: float) -> set[Place] | None:
                answer = copy(with_others(request), wishes, seconds)
                return places_of(answer.results) if answer is not None else None

            hold_at_both_sizes([first, *more], request, again, time.perf_counter() - started)
    for result in more:
        emit({"kind": "also", "result": result.to_json()})
    return first


def results_or_failure(session: Session, error: BaseException | None, request: Request, seconds: float) -> list[TargetResult]:
    """The results of what was observed in this process; a failed one where nothing was."""
    failed = TargetResult(request.target)
    try:
        return results_of(session, error, request, lambda message: None, seconds)
    except TargetError as reason:
        fail(failed, reason)
    return [failed]


def observe(session: Session, run: Callable[[], None]) -> BaseException | None:
    """Runs it under watch; returns what ended it, None for its own end."""
    error: BaseException | None = None
    with watched(session):
        try:
            run()
        except BaseException as raised:  # noqa: BLE001 - user code may raise anything; StopObserving and SystemExit are ends too
            error = raised
        session.over(error, sys._getframe())
    return error


def _at(session: Session, error: BaseException) -> str:
    """` at train.py:31`, where the script was."""
    place = next(iter(session.spans.of_traceback(error)), None)
    return f" at {place.file}:{place.line}" if place is not None else ""


def _raise_if_out(session: Session, error: BaseException | None, request: Request, memory: str) -> None:
    """A script that came to no recorded iteration within its time, or its memory. Raises TargetError."""
    if session.iterations or session.further.earlier or error is None:
        return
    place = next(iter(session.spans.of_traceback(error)), None)
    words, few = " ".join(request.run), f" --rows {request.rows}" if request.rows else ""
    if isinstance(error, TimeIsUpError):
        share = _rounded(request.timeout)
        text = f"no training iteration had ended when the script's share of {share:g} s was over"
        longer = f"give it more time: vaelint run --timeout {2 * share:g}{few} {words}"
        if not session.came_to_batches:  # smaller ones would not help
            read = f"; until then it read {len(session.invented)} made-up files" if len(session.invented) > 1 else ""
            raise TargetError("VAE006", f"{text}, before its first batch{read}", longer, place)
        raise TargetError("VAE006", text, longer if few else f"{longer}, or smaller batches: vaelint run --rows 4 {words}", place)
    if ran_out(error):
        text = f"the script takes more memory than the {memory} it may have here{asked_for(error)}"
        more = (
            f"give it more: vaelint run --max-memory none{few} {words}"
            if few
            else f"run it with smaller batches: vaelint run --rows 4 {words}"
        )
        raise TargetError("VAE006", text, more, place)
    if isinstance(error, HeldBackError):
        raise TargetError("VAE006", str(error), f"vaelint run --allow-writes {' '.join(request.run)}", place)


def _rounded(seconds: float) -> float:
    """What was left of a time, as it is said."""
    return round(seconds) if seconds >= 10 else seconds


def _raise_if_nothing(session: Session, error: BaseException | None, command: Sequence[str], home: str) -> None:
    """Says why there is no iteration to look at. Raises TargetError."""
    broke = session.failed is not None and not session.failed.cut
    if session.further.earlier or (session.iterations and not (broke and session.iterations[-1].number == 1)):
        return
    shown = " ".join(command)
    if isinstance(error, SystemExit) and error.code and isinstance(error.__context__, Exception) and not session.usage:
        error = error.__context__  # the script caught what went wrong, and left
    if (known := session.sites.explain(error)) is not None and error is not None:
        known.span = known.span or next(iter(session.spans.of_traceback(error)), None)
        raise known
    if error is not None and not isinstance(error, SystemExit | StopObserving):
        raise _why(session, error, home)
    if session.usage:
        said = session.usage[-1]
        raise TargetError("VAE006", f"the script does not take this command line: {said}", _to_type(said, command))
    ended = _how_it_left(session, error) if isinstance(error, SystemExit) else "it ran to its end"
    what = "called backward() once only" if session.done else "never called backward()"
    text = f"no training iteration was seen: {ended} and {what}"
    if session.unfound:
        raise TargetError("VAE006", *said_without(*session.unfound[0], text))
    raise TargetError("VAE006", text, f"add the options with which `python {shown}` trains two batches or more")


def _how_it_left(session: Session, error: SystemExit) -> str:
    at = _at(session, error)
    return f"it ended with sys.exit({cut(repr(error.code)) if error.code else ''}){at}" if error.code or at else "it ran to its end"


def _why(session: Session, error: BaseException, home: str) -> TargetError:
    """What a script raised before an iteration was seen, with what of its data was not there."""
    place = next(iter(session.spans.of_traceback(error)), None)
    raised, more = said_of(error, home)
    if isinstance(error, Lost):
        line = next((line for path, line in session.invented if path == error.filename), "")
        return TargetError("VAE007", *said_to_be_read(error.filename, line), place)
    if (lent := wanting(error)) is not None:
        text, more = said_of(ModuleNotFoundError(f"No module named {lent!r}", name=lent))
        return TargetError("VAE007", f"{text}, and without it {raised}", more, place)
    of_data = not isinstance(error, ImportError | OSError) and type(error) is not NameError  # no data give a name a value
    if session.pointers and not isinstance(error, ImportError | NameError):
        return TargetError("VAE007", *said_of_a_pointer(*session.pointers[0], raised), place)
    if session.asked and _is_its_own(error) and getattr(error, "filename", None) is None:
        return TargetError("VAE007", *said_without(*session.asked[-1], raised), place)
    if session.unfound and of_data:
        return TargetError("VAE007", *said_without(*session.unfound[0], raised), place)
    called = isinstance(error, AttributeError) or (isinstance(error, TypeError) and "argument" in message_of(error))
    if session.invented and of_data and not called:
        return TargetError("VAE007", *said_in_place_of(*session.invented[0], raised), place)
    if session.public and isinstance(error, RuntimeError | ValueError | LookupError | AssertionError):
        return TargetError("VAE007", *said_in_place_of(*session.public[0], raised), place)
    if session.guessed and isinstance(error, RuntimeError | ValueError | IndexError | AssertionError):
        text = f"{raised}; it ran with {'; '.join(session.guessed)}"
        return TargetError("VAE006", text, "put your own there, if the error is about their size or number", place)
    return TargetError("VAE007", raised, more, place)


def _is_its_own(error: BaseException) -> bool:
    """Whether a statement of the script raised it, and nothing that it called."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return any((frame.line or "").startswith(("raise", "assert")) for frame in last)


_CHOICE = re.compile(r"invalid choice: '([^']+)' \(choose from '?([^',)]+)")


def _to_type(said: str, command: Sequence[str]) -> str:
    """The command line that argparse asks for: with the options that lack, or without those that the script does not have."""
    if (choice := _CHOICE.search(said)) is not None and choice[1] in command:
        at = list(command).index(choice[1])
        return f"vaelint run {' '.join([*command[:at], choice[2], *command[at + 1 :]])}"
    required, unknown = said.partition("required: ")[2], said.partition("unrecognized arguments: ")[2].split()
    if unknown and not set(unknown) - {*command}:
        kept = " ".join(word for word in command if word not in unknown)
        more = f"options of vaelint go before the script: vaelint run {' '.join(unknown)} {kept}"
        return f"leave {unknown[0]} out; {more}" if unknown[0].startswith("-") else f"vaelint run {kept}"
    options = " ".join(f"{word} VALUE" if word.startswith("-") else "VALUE" for word in required.split(", ")) if required else "..."
    return f"vaelint run {' '.join(command)} {options}"


def _judge(
    session: Session, result: TargetResult, model: Model, step: ObservedStep, rules: Sequence[Any], request: Request, emit: Emit
) -> None:
    if request.perturb:
        result.notes.append("--perturb was left out: an observed script is run once, and not with other arguments")
    if request.trail:
        result.trail = make_trail(model)
    if session.curves:
        result.curves = make_curves(session, request, model, result)
    if request.trail == "only":
        result.settle()
        return
    emit({"kind": "stage", "stage": "rules"})
    before = time.perf_counter()
    home = Span(request.target, 1)
    run_rules(list(rules), model, home, result)
    quiet_on_the_cpu(request, result, model)
    if any(f.repair is not None and f.repair.sure for f in result.findings):
        result.findings[:] = with_sure_fixes(model, result.findings)
    if model.has_loss:
        replay_laws(model, request, result)
    unsettle_likelihood(result)
    result.findings[:] = in_words_of_files(session.modules, result.findings)
    result.timing["rules_s"] = round(time.perf_counter() - before, 4)
    result.settle()
    emit({"kind": "static", "result": as_said(result).to_json()})  # kept if the experiments do not end
    if request.fixes:
        emit({"kind": "proposals", "proposals": proposals(model, result.findings)})
    if request.device == "none":
        result.confirm = {"device": None, "outcome": "skipped", "reason": "--device none"}
        return
    if not step.faithful:
        result.confirm = {"device": None, "outcome": "skipped", "reason": "the recorded iteration cannot be run again"}
        return
    from vaelint.confirm.run import confirm

    emit({"kind": "stage", "stage": "confirm"})
    before = time.perf_counter()
    trial = confirm(model, replace(request, device=_trained_on(model)), result)
    if trial is not None and model.has_loss:
        observe_laws(trial, request, result)
        result.findings[:] = in_words_of_files(session.modules, result.findings)
    result.timing["confirm_s"] = round(time.perf_counter() - before, 4)
    note_cut_short(request, result)
    result.settle()


def _trained_on(model: Model) -> str:
    """Where the script has its networks: a batch is often still on the CPU when it is read. What is no GPU of CUDA counts as the CPU."""
    own = next(model.record.model.parameters(), None)
    return str(own.device) if own is not None and own.is_cuda else "cpu"
