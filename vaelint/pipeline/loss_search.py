"""The step of a target extended by its loss, as far as that can be found and runs. Runs user code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx

from vaelint.anatomy.analyse import analyse
from vaelint.core.inputs import InputSet, InputSpec
from vaelint.core.reach import reachable
from vaelint.core.result import Request, TargetResult
from vaelint.late import dataclass
from vaelint.loading.build import Loaded
from vaelint.pipeline.step_trials import trials_of
from vaelint.record import ops
from vaelint.record.record import Record
from vaelint.source.blame import one_line
from vaelint.source.written import Source
from vaelint.step.find_loss.cut import TRAINS_BUT
from vaelint.step.find_loss.search import find_loss
from vaelint.trace.ladder import Tracer

_NO_LOSS = "no loss was found: the rules about the loss did not run"
_NOT_BOUND = (ValueError, TypeError, AttributeError, KeyError)
"""What a loss raises that was called in another way than its author meant."""


@dataclass
class LossSearch:
    """Looks for the loss of a step that ran without one."""

    request: Request
    loaded: Loaded
    inputs: InputSet
    tracer: Tracer
    step: Any
    names: list[str]
    record: Record
    source: Source

    def extend(self, result: TargetResult, run: Callable[[Any], Record]) -> tuple[Any, Record]:
        """The step with the loss that is found, and its run; without it where the way to call it was no right one, and no other runs.

        What was seen is noted in `result`; `run` runs a step from its beginning.
        """
        said, failed = "", None
        for elsewhere in (False, True):
            found = self._find(result, elsewhere)
            if not found.has_loss:
                break
            whole = self.tracer.extended(self.record, found) or run(found)
            failure, guessed = whole.failure, self.request.loss is None and not found.place
            if failure is None and guessed and _is_per_sample(whole) and (other := self._of_training(result, found)) is not None:
                return (other, run(other)) if other.place else (self.step, self.record)
            if failure is None and guessed and leaves_out_the_reconstruction(whole):
                result.notes.remove(f"the loss was found: {found.code}")
                said = f"{found.code} leaves out the reconstruction that forward returns beside it: a part of the loss, at most"
                break
            if failure is None or not guessed or not (isinstance(failure.error, _NOT_BOUND) or found.doubted):
                return found, whole
            where = f" at {failure.spans[0].file}:{failure.spans[0].line}" if failure.spans else ""
            result.notes.remove(f"the loss was found: {found.code}")
            failed = failed or (found, whole)
            said = f"{found.code} would be the loss, but raises {one_line(failure.error)}{where}; say how it is called with --step"
        if failed is not None and _is_at_fault(*failed, result.notes):
            result.notes[:] = [note for note in result.notes if not note.startswith(_NO_LOSS)]
            result.notes.append(f"the loss was found: {failed[0].code}")
            return failed
        result.notes += [said] if said else []
        return self.step, self.record

    def _find(self, result: TargetResult, elsewhere: bool) -> Any:
        """The step with its loss, if that can be found (or was named in the request); else the step as it is."""
        from vaelint.anatomy.roles import roles_of

        model = analyse(self.record, self.tracer, self.inputs, self.step, self.source, None)
        trials, told = trials_of(self.tracer, self.inputs, self.source, self.record), self.request.loss
        output = self.record.raw_output
        values = {name: node.meta["val"] for name, node in self.record.inputs.items()}
        self.step.tokens = frozenset(n for n, v in values.items() if v.dim() == 2 and not v.is_floating_point() and v.dtype != torch.bool)
        self.step.bits = frozenset(n for n, spec in zip(self.names, self.inputs.specs, strict=False) if _may_be_classes(spec))
        found = find_loss(self.loaded, self.record.model, self.step, self.names, output, roles_of(model), told, trials, elsewhere)
        if found is None:
            result.notes.append(f"{_NO_LOSS}; name it with --loss or --step")
            result.notes += self.step.notes
            return self.step
        result.notes += [n for n in found.notes if n not in result.notes]
        result.notes.append(f"the loss was found: {found.code}")
        return found

    def _of_training(self, result: TargetResult, found: Any) -> Any | None:
        """Where the loss found has a value for each sample: the step of the training code, which makes them one.

        The step without a loss where there is such code that cannot be read; None where there is none.
        """
        other = self._find(TargetResult(result.target), True)
        if not other.place and not any(TRAINS_BUT in n for n in other.notes):
            return None
        result.notes.remove(f"the loss was found: {found.code}")
        result.notes += [n for n in other.notes if n not in result.notes]
        result.notes.append(f"the loss was found: {other.code}" if other.place else f"{found.code} gives one loss for each sample")
        return other


def leaves_out_the_reconstruction(record: Record) -> bool:
    """Whether the loss is one of several outputs of forward, and another of them, of the size of an input, has no part in it.

    What is compared with the data then lies in training code that was not seen.
    """
    outputs = [n for n in _flat(record.output) if isinstance(n.meta.get("val"), torch.Tensor)]
    if record.loss is None or record.loss not in outputs or len(outputs) < 2:
        return False
    behind = reachable([record.loss], ops.value_inputs)
    sizes = {tuple(n.meta["val"].shape) for n in record.inputs.values()}
    made = [n for n in outputs if n not in behind and n.op == "call_function" and n.meta["val"].requires_grad]
    return any(tuple(n.meta["val"].shape) in sizes for n in made)


def _is_at_fault(found: Any, whole: Record, notes: list[str]) -> bool:
    """Whether a loss that was put together raises by the user's mistake: no way to call it, and no training code unread, would mend it."""
    return not found.doubted and _no_view_fits(whole) and not any(TRAINS_BUT in note for note in notes)


def _no_view_fits(record: Record) -> bool:
    """Whether the loss fails where torch compares two tensors of different numbers of elements: handed over otherwise they differ too.

    Scores are compared with class numbers, which are fewer in any case and may be wanted in another layout.
    """
    failure = record.failure
    if failure is None or failure.fn is None or not isinstance(failure.error, ValueError):
        return False
    compared = [n.meta["val"] for n in failure.args if isinstance(n, fx.Node) and isinstance(n.meta.get("val"), torch.Tensor)][:2]
    return len(compared) == 2 and all(v.is_floating_point() for v in compared) and compared[0].numel() != compared[1].numel()


def _flat(value: Any) -> Iterator[fx.Node]:
    """The nodes of an output, however it is nested."""
    if isinstance(value, fx.Node):
        yield value
    elif isinstance(value, Mapping):
        yield from _flat(list(value.values()))
    elif isinstance(value, list | tuple):
        for v in value:
            yield from _flat(v)


def _may_be_classes(spec: InputSpec) -> bool:
    """Whether an input of zeros and ones may say which of several classes there is at each place."""
    return spec.values == (0.0, 1.0) and not spec.is_integer and len(spec.sizes) > 1 and spec.sizes[-1] > 2


def _is_per_sample(record: Record) -> bool:
    value = record.loss_value
    return isinstance(value, torch.Tensor) and value.numel() > 1
