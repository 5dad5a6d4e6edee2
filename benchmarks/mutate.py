"""Injects bugs into clean models and counts how many vaelint finds at the mutated line.

    python benchmarks/mutate.py fixtures/systems/ok_*.py
    python benchmarks/mutate.py --list LIST.json --checkouts FOLDER [--only ID]... [--most 2] [--json OUT] [--device cpu]

A file names its model in its first line, as fixtures do; a list is as in `corpus.py`, and only its entries with status "clean" count: what
is found in those as they stand is true and beside the objective (a layer that nothing uses), and does not count.
A mutant counts if it behaves differently in a real run under the same seed: another loss, other gradients, an error, or other parameters
and buffers after two steps, for faults of training. It is found if a finding of severity warning or error has its place, or one of its
labels, in the mutated statement, and the clean model has no such finding there; where a statement was taken away, in the function that
had it. `elsewhere`: only other lines. A quiet mutant is `missed`. Entries of a list may name further `files` that are mutated.
Which laws the operators break, and which laws have none, is in `operator_laws.py`.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy

sys.path.insert(0, str(Path(__file__).parent))

from operators import Mutant, mutants

_SECONDS = 600
"""What a mutant may take before it is left out."""
_HEADER = re.compile(r"# vaelint: check (?P<words>.+)")


@dataclass(frozen=True)
class Subject:
    """A clean model: where it lies, how it is checked, and the files that may be mutated."""

    id: str
    folder: Path
    target: str
    options: dict[str, Any]
    files: tuple[str, ...]

    @property
    def batch(self) -> str:
        """The batch size of its first input."""
        return re.sub(r".*=", "", self.options["inputs"][0]).partition(":")[0].partition("x")[0]


def main() -> int:
    """Runs all subjects and prints the misses and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--list", type=Path)
    parser.add_argument("--checkouts", type=Path)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--operator", action="append", default=[])
    parser.add_argument("--most", type=int, default=2)
    parser.add_argument("--device", default="none")
    parser.add_argument("--json", type=Path)
    told = parser.parse_args()
    from vaelint import rule_packages  # with torch: once here, not in each of the processes

    for name in ("vaelint.pipeline.check", "torch.fx.experimental.symbolic_shapes", "vaelint.confirm.run"):
        import_module(name)
    rule_packages.load_rules()
    rows: list[dict[str, Any]] = []
    for subject in _subjects(told):
        rows += list(_measure(subject, told))
    print(_table(rows))
    if told.json:
        told.json.write_text(json.dumps(rows, indent=1))
    return 0


def _subjects(told: argparse.Namespace) -> Iterator[Subject]:
    for path in told.files:
        header = _HEADER.fullmatch(path.read_text().split("\n", 1)[0])
        if header is None:
            raise SystemExit(f"{path}: the first line must be `# vaelint: check NAME --input ...`")
        parser = argparse.ArgumentParser()
        for option in ("--input", "--init", "--select", "--ignore"):
            parser.add_argument(option, action="append", default=[])
        for option in ("--loss", "--step"):
            parser.add_argument(option)
        parser.add_argument("--perturb", action="store_true")
        name, *words = shlex.split(header["words"])
        o = parser.parse_args(words)
        options = {"inputs": tuple(o.input), "init": tuple(o.init), "loss": o.loss, "step": o.step}
        yield Subject(path.stem, path.resolve().parent, f"{path.name}:{name}", options, (path.name,))
    for entry in json.loads(told.list.read_text()) if told.list else ():
        folder = (told.checkouts / entry["repo"].replace("/", "+")).resolve()
        if entry.get("status") != "clean" or not folder.is_dir() or (told.only and entry["id"] not in told.only):
            continue
        init = tuple(f"{k}={v}" for k, v in entry.get("init", {}).items())
        options = {"inputs": tuple(entry["inputs"]), "init": init, "loss": entry.get("loss"), "step": entry.get("step")}
        text = f"{entry.get('loss') or ''} {entry.get('step') or ''}"
        named = [f for f in re.findall(r"[\w/.-]+\.py", text) if (folder / f).is_file()]
        named += [f"{m.replace('.', '/')}.py" for m in re.findall(r"(?:from|import) ([\w.]+)", text)]
        beside = [(Path(entry["file"]).parent / f).as_posix() for f in named]  # the target's own folder is on the path as well
        files = tuple(dict.fromkeys(f for f in (entry["file"], *named, *beside, *entry.get("files", ())) if (folder / f).is_file()))
        yield Subject(entry["id"], folder, f"{entry['file']}:{entry['target']}", options, files)


def _measure(subject: Subject, told: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of one subject, each a mutant that behaves differently."""
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary) / "code"
        if len(subject.files) == 1 and not told.list:
            home.mkdir()
            shutil.copy(subject.folder / subject.files[0], home)
        else:
            ignored = shutil.ignore_patterns(".git", "data", "*.pt", "*.pth", "*.png", "*.jpg", "*.gif", "*.ipynb")
            shutil.copytree(subject.folder, home, ignore=ignored, symlinks=True)
        clean = _apart(home, subject, told.device, None)
        if clean.get("status") not in ("clean", "findings") or clean.get("loss") is None:
            print(f"{subject.id}: left out: {clean.get('status')} {clean.get('error', '')}"[:160], flush=True)
            return
        for file in subject.files:
            source = (subject.folder / file).read_text()
            for mutant in mutants(source, told.most, {n for f, n in clean["ran"] if f == file}):
                if told.operator and mutant.operator not in told.operator:
                    continue
                (home / file).write_text(mutant.text.replace("BATCH_OF_THE_RUN", subject.batch))
                row = _judged(subject, file, mutant, clean, _apart(home, subject, told.device, clean))
                if row is not None:
                    if row["state"] != "found":
                        print(f"{row['state']:9} {subject.id}:{file}:{mutant.line} {mutant.operator}  {row['findings']}", flush=True)
                    yield row
            (home / file).write_text(source)


def _judged(subject: Subject, file: str, mutant: Mutant, clean: dict[str, Any], run: dict[str, Any]) -> dict[str, Any] | None:
    """The row of a mutant; None if it behaves as the clean model does."""
    if "loss" not in run:
        print(f"{subject.id}: {mutant.operator} at line {mutant.line}: not measured: {run}", flush=True)
        return None
    if _same(run, clean):
        return None
    before = {(f["code"], f["line"]) for f in clean["findings"]}
    findings = [f for f in run.get("findings", ()) if (f["code"], f["line"]) not in before]
    lines = set(range(mutant.line, mutant.end_line + 1))
    here = [f for f in findings if any(place[0] == file and place[1] in lines for place in f["places"])]
    state = "found" if here else "elsewhere" if findings else "missed"
    shown = [f"{f['code']}@{f['line']}" for f in findings]
    return {"subject": subject.id, "file": file, "line": mutant.line, "operator": mutant.operator, "state": state, "findings": shown}


def _apart(home: Path, subject: Subject, device: str, clean: dict[str, Any] | None) -> dict[str, Any]:
    """A real run and, where it behaves otherwise than the clean model, a check, in a process of their own."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        result: dict[str, Any] = {"status": "broken"}
        try:
            signal.alarm(_SECONDS)
            os.chdir(home)
            with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                result = _run(subject, device, clean)
        except BaseException as error:  # noqa: BLE001 - a mutant may end in any way
            result = {"status": "broken", "error": f"{type(error).__name__}: {error}"}
        finally:
            with os.fdopen(writer, "w") as out:
                json.dump(result, out)
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return json.loads(text) if text else {"status": "died"}


def _run(subject: Subject, device: str, clean: dict[str, Any] | None) -> dict[str, Any]:
    import torch

    from vaelint.core.result import Request
    from vaelint.pipeline.check import check_target

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    request = Request(subject.target, device=device, **subject.options)
    if clean is None:
        with _lines_that_run(subject.files) as ran:
            behaviour = _behaviour(request)
        behaviour["ran"] = sorted(ran)
    elif _same(behaviour := _behaviour(request), clean):
        return behaviour
    result = check_target(request, lambda message: None)
    graded = [f for f in result.findings if f.severity.value != "info" and f.certainty.value != "refuted"]
    findings = [
        {"code": f.code, "line": f.span.line, "places": [(s.file, n) for s in (f.span, *(x.span for x in f.labels)) for n in _lines(s)]}
        for f in graded
    ]
    return {"status": result.status, "findings": findings, **behaviour}


def _same(run: dict[str, Any], clean: dict[str, Any]) -> bool:
    """Whether a mutant behaves as the clean model does."""
    return all(run.get(k) == clean.get(k) for k in ("loss", "gradients", "later"))


@contextlib.contextmanager
def _lines_that_run(files: tuple[str, ...]) -> Iterator[set[tuple[str, int]]]:
    """The lines of some files that a run comes by: a mutant of any other line behaves the same."""
    full = {str(Path(f).resolve()): f for f in files}
    ran: set[tuple[str, int]] = set()
    of: dict[str, str | None] = {}

    def trace(frame: Any, event: str, arg: Any) -> Any:
        name = frame.f_code.co_filename
        if name not in of:
            of[name] = full.get(str(Path(name).resolve()))
        if of[name] is None:
            return None
        ran.add((str(of[name]), frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        yield ran
    finally:
        sys.settrace(None)


def _lines(span: Any) -> range:
    return range(span.line, (span.end_line or span.line) + 1)


def _behaviour(request: Any) -> dict[str, Any]:
    """The loss and the gradients of a real run under a fixed seed, as digests; `error` if it raises."""
    from vaelint.core.result import TargetResult
    from vaelint.pipeline.loss_search import LossSearch
    from vaelint.pipeline.prepare import prepare
    from vaelint.source.written import Source

    own = replace(request, device="none")
    result = TargetResult(request.target)
    _seed()
    try:
        loaded, inputs, tracer, step, names = prepare(own, result)
        record = tracer.real(step)
        if record.failure is None and not step.has_loss:
            search = LossSearch(own, loaded, inputs, tracer, step, names, tracer.run(step), Source(str(Path.cwd())))
            step, _ = search.extend(result, tracer.run)
            record = tracer.real(step)
    except Exception as error:  # noqa: BLE001 - a mutant that cannot be built behaves differently
        return {"loss": f"raises {type(error).__name__}", "gradients": {}}
    if record.failure is not None:
        return {"loss": f"raises {type(record.failure.error).__name__}", "gradients": {}}
    loss = record.loss_value
    if loss is None or not hasattr(loss, "backward"):
        return {"loss": None, "gradients": {}}
    if loss.requires_grad and not record.backwards:  # a whole step has run its own
        loss.sum().backward()
    gradients = {n: "none" if p.grad is None else _digest(p.grad) for n, p in record.model.named_parameters()}
    return {"loss": f"{float(loss.detach().double().sum()):.5e}", "gradients": gradients, "later": _later(tracer, step)}


def _later(tracer: Any, step: Any) -> dict[str, str]:
    """What two steps of one model leave behind, as they are: loss, parameters and buffers. A fault of training shows there."""
    from vaelint.trace.recorded_run import construct, quiet_torch, record_step

    try:
        with quiet_torch():
            built = construct(tracer.construct, tracer.spans)
            built.model.train()
            _seed()
            for _ in range(2):
                record = record_step(built, step, tracer.inputs(None), tracer.symbols, tracer.spans, "real", as_is=True)
        if record.failure is not None:
            return {"loss": f"raises {type(record.failure.error).__name__}"}
        values = {"loss": record.loss_value, **built.model.state_dict()}
    except Exception as error:  # noqa: BLE001 - as above
        return {"loss": f"raises {type(error).__name__}"}
    return {n: _digest(v) for n, v in values.items() if hasattr(v, "double")}


def _seed() -> None:
    """Shuffles of the user's are the same in each process."""
    random.seed(0)
    numpy.random.seed(0)


def _digest(value: Any) -> str:
    return f"{float(value.detach().double().abs().sum()):.6e}"


def _table(rows: list[dict[str, Any]]) -> str:
    """Found, elsewhere and missed by operator, and in all."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for row in rows:
        counts[row["operator"]][row["state"]] += 1
    lines = [f"{'operator':30} {'found':>6} {'elsewhere':>10} {'missed':>7}"]
    lines += [f"{name:30} {c['found']:6} {c['elsewhere']:10} {c['missed']:7}" for name, c in sorted(counts.items())]
    total = sum(map(collections.Counter, counts.values()), collections.Counter[str]())
    share = 100 * total["found"] / max(sum(total.values()), 1)
    models = len({row["subject"] for row in rows})
    return "\n".join([*lines, f"{len(rows)} mutants of {models} models behave differently; found at the mutated line: {share:.1f} %"])


if __name__ == "__main__":
    sys.exit(main())
