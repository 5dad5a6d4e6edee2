"""What the worker does for `vaelint discover`: tries how a candidate can be built and called. User code runs here."""

from __future__ import annotations

import ast
import inspect
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from torch import nn

from vaelint.anatomy.analyse import analyse
from vaelint.anatomy.loss.describe import describe_loss
from vaelint.anatomy.model import Model
from vaelint.core.assumption import SIZES
from vaelint.core.errors import TargetError, UsageError
from vaelint.core.inputs import InputSet
from vaelint.core.result import Request, TargetResult
from vaelint.discover.learning import asked_for, given_back
from vaelint.discover.shapes import BATCH, defaults_of, first_layers, parameters_of, shapes
from vaelint.discover.texts import as_text
from vaelint.discover.usage import Usage, constants, usage
from vaelint.discover.vae_signs import gives_back, picks_codes, rows_after
from vaelint.experiment.runs import Runner
from vaelint.late import dataclass
from vaelint.loading import construct
from vaelint.loading.build import Loaded, load_target
from vaelint.loading.imports import repository_of
from vaelint.loading.names import Means, meanings
from vaelint.observe.held.held_back import writes_held_back
from vaelint.pipeline.loss_search import LossSearch
from vaelint.pipeline.prepare import FromPython, prepare
from vaelint.record.record import Record
from vaelint.replay.ranges import wants_unit, without_range
from vaelint.repository.constructions import constructions
from vaelint.repository.objects import Unknown, written
from vaelint.repository.python_files import python_files
from vaelint.source.blame import one_line
from vaelint.source.notebook import source_of_file
from vaelint.source.target import parse_target
from vaelint.source.written import Source
from vaelint.step.find_loss.cut import MAY_TRAIN_BUT, TRAINS_BUT
from vaelint.step.meaning import Kind, kinds
from vaelint.step.reading import keys_read, tree_of
from vaelint.trace.ladder import Tracer

SECONDS = 45.0
LARGEST = 400_000  # bytes of a file that is read
TRIALS = 60
DEEPEST = 2  # inputs learned from inputs that were learned

_Way = tuple[dict[str, Any], tuple[str, ...], bool]
"""Constructor arguments, inputs, and whether required arguments that nothing speaks of get small numbers."""


class _Known(FromPython):
    """A loaded target with constructor arguments, in place of a text."""

    def load(self, request: Request) -> Loaded:
        """A fresh one: notes of one trial are nothing to the next."""
        held: Loaded = self.obj
        return replace(held, notes=[], made_up={}, init={}, arguments={}, choice=None, passed=set())


@dataclass
class _Trial:
    """One way to call the model that ran."""

    request: Request
    init: dict[str, Any]
    loaded: Loaded
    inputs: InputSet
    tracer: Tracer
    step: Any
    names: list[str]
    record: Record
    model: Model
    ours: tuple[str, ...] = ()  # arguments that got a number of ours
    sized: bool = False  # whether nothing says the sizes of its inputs
    worth: int = 0  # 3: draws, and gives the input's shape back; 2: draws; 1: gives it back; 0: neither


@dataclass(frozen=True)
class _Failed:
    """One way that does not run: why, and after how many operations."""

    message: str
    after: int
    record: Record | None = None
    texts: tuple[str, ...] = ()
    init: dict[str, Any] = field(default_factory=dict)


def probe(request: Request, emit: Callable[[dict[str, Any]], None]) -> TargetResult:
    """Fills `anatomy` of the result with `proposal` (input, init, step or loss) and `saw`, or `because`: why there is none."""
    result = TargetResult(request.target)
    try:
        emit({"kind": "stage", "stage": "try"})
        with writes_held_back(parse_target(request.target).path):
            result.anatomy = _propose(request, result)
    except TargetError as error:
        result.anatomy = {"because": error.message, "help": error.help}
    except UsageError as error:
        result.anatomy = {"because": error.message, "help": error.help}
    return result


def _propose(request: Request, result: TargetResult) -> dict[str, Any]:
    """A configuration of the target that runs, or why there is none."""
    loaded = load_target(parse_target(request.target), request)
    best = _best(request, loaded)
    if isinstance(best, _Failed):
        said = {"because": best.message or "nothing says what it takes", "help": "give --input and --init by hand"}
        return said if best.record is None else {**said, "furthest": {"input": list(best.texts), "init": _texts_of(best.init, loaded)}}
    if best.worth < 2 and not picks_codes(best.record):
        return {"because": "it runs and nothing is drawn from a posterior on the way to its output: no VAE", "none": True}
    return {"proposal": _written(best, result), "saw": _seen(best)}


def _texts_of(init: dict[str, Any], loaded: Loaded) -> list[str]:
    """Constructor arguments as the command line takes them; none where one has no text."""
    try:
        return [f"{k}={as_text(_plain(loaded, k, v), Path(loaded.file))}" for k, v in init.items()]
    except Unknown:
        return []


def _best(request: Request, loaded: Loaded) -> _Trial | _Failed:
    """The trial that shows most of a VAE; where none runs, the failure that came furthest."""
    best, furthest, started = None, _Failed("", -1), time.monotonic()
    told = _told(loaded)
    ways, learned = told.ways(), list[_Way]()
    tried, depths = set[str](), dict[str, int]()
    while (way := learned.pop() if learned else next(ways, None)) is not None:
        init, texts, fill = way
        if (key := repr(way)) in tried:
            continue
        tried.add(key)
        if time.monotonic() - started > SECONDS:
            furthest = furthest if furthest.message else _Failed(f"no way was found within {SECONDS:.0f} seconds", 0)
            break
        if fill and best is not None:
            break
        filled = _filled(loaded, init, texts) if fill else init
        trial = _try(request, loaded, filled, texts)
        if isinstance(trial, _Failed):
            furthest = trial if trial.after > furthest.after else furthest
            if depths.get(key, 0) < DEEPEST and len(tried) < TRIALS:
                more = [(init, other, fill) for other in asked_for(texts, trial.message, trial.record)]
                depths.update({repr(other): depths.get(key, 0) + 1 for other in more if repr(other) not in depths})
                learned += reversed(more)
        elif best is None or trial.worth > best.worth:
            best = replace(trial, ours=tuple(n for n in filled if n not in init), sized=texts[0] not in told.texts(init, alone=True))
        if best is not None and best.worth == 3:
            break
        if not isinstance(trial, _Failed) and not gives_back(trial.record):
            learned += [(init, other, fill) for other in given_back(texts, trial.record)]
    return best if best is not None else furthest


def _told(loaded: Loaded) -> _Told:
    """What a target's repository says of how it is built and called."""
    file = Path(loaded.file)
    root = repository_of(file.parent)
    files = [f for f in python_files(root, notebooks=True) if f.stat().st_size < LARGEST]
    nodes = _classes([file, *(f for f in files if f != file)])
    node = nodes.get(loaded.name)
    parameters = list(loaded.signature.parameters) or (parameters_of(node) if node is not None else [])
    places = constructions(loaded.reader, file, loaded.name, parameters) if not loaded.package else []
    built = [{k: v for k, v in c.arguments.items() if k in parameters} for c in places]
    return _Told(loaded, node, nodes, replace(usage(files, file), inits=tuple(built)))


def _classes(files: list[Path]) -> dict[str, ast.ClassDef]:
    """The classes of the repository by name; those of the target's own file, which comes first, win."""
    found: dict[str, ast.ClassDef] = {}
    for path in files:
        try:
            tree = ast.parse(source_of_file(path))
        except (OSError, SyntaxError, ValueError):
            continue
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, node)
    return found


@dataclass(frozen=True)
class _Told:
    """A target, its class and the others of its repository, and what that says of the target."""

    loaded: Loaded
    node: ast.ClassDef | None
    nodes: dict[str, ast.ClassDef]
    usage: Usage

    def values(self, init: dict[str, Any]) -> dict[str, Any]:
        """The numbers that names hold in its constructor."""
        return {**constants(ast.parse(source_of_file(self.loaded.file))), **self._own(init)}

    def texts(self, init: dict[str, Any], alone: bool = False) -> list[str]:
        """Its first input, as it may be; `alone`: with the sizes that the code says. A constant called a length may be anything's."""
        values = self.values(init)
        layers = first_layers(self.node, self.nodes, values) if self.node is not None else []
        said = {k: v for k, v in values.items() if not alone or k in self._own(init) or Means.STEPS not in meanings(k)}
        return shapes(layers, said, self.usage, alone)

    def _own(self, init: dict[str, Any]) -> dict[str, Any]:
        return {**(defaults_of(self.node) if self.node is not None else {}), **init}

    def ways(self) -> Iterator[_Way]:
        """Arguments and inputs to try, the likeliest first; at last with numbers of ours for required arguments that nothing speaks of."""
        parameters = self.loaded.signature.parameters
        inits = [dict(i) for i in self.usage.inits if set(i) <= set(parameters)][:3]
        if {} not in inits:
            inits.append({})
        fills = [False] * len(inits)
        if any(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters.values()):
            fills += [True] * len(inits)
            inits += inits
        tried = 0
        for init, fill in zip(inits, fills, strict=True):
            for text in self.texts(init)[: TRIALS // (2 * len(inits))]:
                for rest in _partners(self.loaded, text, self.values(init)):
                    tried += 1
                    if tried > TRIALS:
                        return
                    yield init, (text, *rest), fill


def _filled(loaded: Loaded, init: dict[str, Any], texts: tuple[str, ...]) -> dict[str, Any]:
    """The arguments with small numbers for the required ones that are neither known nor to be inferred from the input."""
    made, inputs = dict(init), InputSet.from_texts(texts)
    for name, p in loaded.signature.parameters.items():
        if name in made or p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) or _is_part(loaded, name):
            continue
        uses = construct.uses_of(loaded.obj, name, loaded.namespace)
        number = construct.annotation_of(p, loaded.namespace) not in (bool, str, float, dict)
        if number and construct.guess(p, inputs, uses, loaded.namespace) is None and not uses & {"keys", "attributes"}:
            few = 10 if Means.CLASSES in meanings(name) else 1
            made[name] = [16, 16] if "list" in uses else few if few == 10 or name.startswith(("n_", "num_")) else 16
    return made


def _is_part(loaded: Loaded, name: str) -> bool:
    """Whether the model keeps an argument and calls it: then it is no number."""
    file = loaded.repository.file(Path(loaded.file))
    node = file.definitions.get(loaded.name) if file is not None else None
    parts = list(ast.walk(node)) if node is not None else []
    copies = {ast.unparse(t) for n in parts if isinstance(n, ast.Assign) and ast.unparse(n.value) == name for t in n.targets} | {name}
    used = (n.func if isinstance(n, ast.Call) else n.value for n in parts if isinstance(n, ast.Call | ast.Attribute))
    return any(ast.unparse(n) in copies for n in used)


def _partners(loaded: Loaded, first: str, values: dict[str, Any]) -> list[tuple[str, ...]]:
    """The further inputs that `forward` must have, in the forms that are usual for what they are called."""
    forward = getattr(loaded.obj, "forward", None)
    if forward is None or not inspect.isclass(loaded.obj) or forward is nn.Module.forward:
        return [()]
    wanted = [p for p in list(inspect.signature(forward).parameters.values())[1:] if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    more = [p.name for p in wanted[1:] if p.default is p.empty]
    star = next((p.name for p in inspect.signature(forward).parameters.values() if p.kind is p.VAR_KEYWORD), None)
    more += [f"{k}=" for k in keys_read(tree_of(forward), star)] if star is not None else []
    classes = next((v for k, v in values.items() if Means.CLASSES in meanings(k) and type(v) is int and v > 0), 10)
    steps = first.split(":")[0].split("x")[1:2]
    forms: list[tuple[str, ...]] = [()]
    for said in more:
        name, named = said.rstrip("="), said if said.endswith("=") else ""
        if "len" in name.lower():
            options = [f"{BATCH}:int64[1,{steps[0] if steps else 1}]"]
        elif Means.CLASSES in meanings(name) or name.lower() in ("y", "c", "label", "labels", "cond", "condition", "target", "targets"):
            options = [f"{BATCH}:int64[0,{classes})", f"{BATCH}x{classes}"]
        elif Kind.TARGET in kinds(name) or ":int64" in first:
            options = [first]
        else:
            options = [first, f"{BATCH}:int64[0,{classes})"]
        forms = [(*form, named + option) for form in forms for option in options][:4]
    return forms


def _try(request: Request, loaded: Loaded, init: dict[str, Any], texts: tuple[str, ...]) -> _Trial | _Failed:
    """One way to call the model: what came of it, or why it does not run."""
    asked = Request(request.target, texts, (), None, None, "none", seed=request.seed)
    known = _Known(loaded, init)
    try:
        own, inputs, tracer, step, names = prepare(asked, TargetResult(request.target), known)
        record = tracer.attempt(step, {}, tracer.construct)
    except TargetError as error:
        place = f" ({error.span.file}:{error.span.line})" if error.span is not None else ""
        return _Failed(f"{error.message}{place}", 0)
    if record is None:  # it reads values: real tensors show them
        record = tracer.run(step)
    if record.failure is not None:
        spans = record.failure.spans
        place = f" at {spans[0].file}:{spans[0].line}" if spans else ""
        said = f"with --input {' --input '.join(texts)} it raises {one_line(record.failure.error)}{place}"
        return _Failed(said, 1 + len(record.nodes), record, texts, init)
    if (rows := rows_after(record)) is not None:
        return _Failed(f"with --input {' --input '.join(texts)} the batch of {BATCH} becomes {rows} rows", 1, record, texts, init)
    model = analyse(record, tracer, inputs, step, Source(str(Path.cwd())), None)
    worth = (2 if model.sites or model.idle_sites else 0) + gives_back(record)
    return _Trial(asked, init, own, inputs, tracer, step, names, record, model, worth=worth)


def _seen(trial: _Trial) -> str:
    count = len(trial.model.sites or trial.model.idle_sites)
    if not count:
        return "codes are picked, nothing is drawn"
    return f"{count} sampling site{'s' if count > 1 else ''}"


def _written(trial: _Trial, result: TargetResult) -> dict[str, Any]:
    """The options as the command line and the configuration take them. The loss is named only where it would not be found without."""
    chosen = {**trial.init, **(trial.loaded.choice.chosen if trial.loaded.choice is not None else {})}
    texts = {k: as_text(_plain(trial.loaded, k, v), Path(trial.loaded.file)) for k, v in chosen.items()}
    result.notes += [f"{name}={texts[name]} was guessed by vaelint: nothing in the repository says its value" for name in trial.ours]
    proposal: dict[str, Any] = {"input": list(trial.request.inputs), "init": [f"{k}={t}" for k, t in texts.items()]}
    chosen_by_us = trial.loaded.choice.chosen if trial.loaded.choice is not None else {}
    proposal["ours"] = [*dict.fromkeys((*trial.ours, *chosen_by_us)), *((SIZES,) if trial.sized else ())]
    scratch, source = TargetResult(trial.request.target), Source(str(Path.cwd()))
    step = trial.step

    def with_told(loss: str | None) -> tuple[Any, Record]:
        search = LossSearch(
            replace(trial.request, loss=loss), trial.loaded, trial.inputs, trial.tracer, step, trial.names, trial.record, source
        )
        return search.extend(scratch, trial.tracer.run)

    try:
        found = step if step.has_loss else with_told(None)[0]
    except TargetError as error:
        result.notes.append(f"no loss is proposed: {error.message}")
        return proposal
    proposal["input"] = _in_range(trial, found, proposal["input"])
    if found.has_loss:
        result.notes.append(f"the loss is found by itself: {found.code}")
        return proposal
    offered = [word for note in scratch.notes for word in re.findall(r"--loss (\S+\.(?:py|ipynb):\w+)", note)]
    for word in dict.fromkeys(offered):
        try:
            named, record = with_told(word)
        except (TargetError, UsageError):
            continue  # a loss that cannot be called with what the model gives is none to propose
        if named.has_loss and _is_whole(trial, named, record):
            proposal |= {"loss": word, "input": _in_range(trial, named, proposal["input"])}
            return proposal
    telling = (TRAINS_BUT, MAY_TRAIN_BUT, "would be the loss, but")
    why = next((n for n in scratch.notes if any(t in n for t in telling)), "")
    starts = ("more than one", "only parts", "forward returns", "the training code of other files computes", "no loss was found; ")
    why = why or next((n for n in scratch.notes if n.startswith(starts)), "")
    result.notes.append(f"no loss is proposed{': ' + why if why else ''}; say it with step = ...")
    return proposal


def _in_range(trial: _Trial, step: Any, texts: list[str]) -> list[str]:
    """The inputs, with the range [0, 1] where the step runs on such values and on no others: a loss of probabilities."""
    free = without_range(trial.model)
    if not step.has_loss or not free or len(trial.names) != len(texts):
        return texts
    runner = Runner(trial.tracer, step, "cpu", None, SECONDS)
    error = _raised(runner)
    runner.squeezed = free
    if error is None or not wants_unit(error) or _raised(runner) is not None:
        return texts
    ranged = (f"{t}[0,1]" if ":" in t else f"{t}:float32[0,1]" for t in texts)
    return [new if name in free else text for name, text, new in zip(trial.names, texts, ranged, strict=True)]


def _raised(runner: Runner) -> BaseException | None:
    """What a real run of a step raises, in the step or before it."""
    try:
        failure = runner.run().failure
    except Exception as error:  # noqa: BLE001 - user code may raise anything
        return error
    return failure.error if failure is not None else None


def _plain(loaded: Loaded, name: str, value: Any) -> Any:
    """What an expression comes to, where that is plain data: such text holds wherever it is read."""
    try:
        found = loaded.evaluated(name, value)
        written(found)
    except (TargetError, Unknown):
        return value
    return found


def _is_whole(trial: _Trial, step: Any, record: Record) -> bool:
    """Whether a step ran, and its loss has a term for the reconstruction beside others, or one that is all of it."""
    if record.failure is not None:
        return False
    loss = describe_loss(analyse(record, trial.tracer, trial.inputs, step, Source(str(Path.cwd())), None))
    roles = {term["role"] for term in (loss or {}).get("terms", ())}
    return "mixed" in roles or ("reconstruction" in roles and len(roles) > 1)
