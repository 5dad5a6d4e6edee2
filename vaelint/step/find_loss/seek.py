"""Finds how a model's loss is computed. Nothing is called here: what is found is code, and doubt is None with proposals."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vaelint.core.errors import TargetError
from vaelint.core.paths import relative
from vaelint.late import dataclass
from vaelint.loading.build import Loaded
from vaelint.loading.construct import signature_of
from vaelint.loading.imports import import_part, parsed
from vaelint.repository.dataflow import needed_of
from vaelint.step.bind import Binding, RoleOf, Source, bind, fits, wanted_by
from vaelint.step.candidates import PART, Candidate, candidates
from vaelint.step.find_loss.by_name import named_call
from vaelint.step.find_loss.scene import Scene, scene_of
from vaelint.step.meaning import ELBO_NAME, KL_NAME, TOTAL_NAME, Kind, is_loss_name, is_step_name
from vaelint.step.reading import (
    batch_of,
    called_names,
    maximised,
    reads_all_but_last,
    return_names,
    returned_parts,
    stores_kl,
    tree_of,
)
from vaelint.step.whole import enters, sum_of_all
from vaelint.trace.keras_models import forward_of

_POSTERIOR = frozenset({Kind.MU, Kind.SCALE, Kind.POSTERIOR})
_EVERYTHING = frozenset({Kind.MODEL, Kind.WHOLE, Kind.BATCH})  # whoever gets one of these can compute the rest


@dataclass(frozen=True)
class Found:
    """What the search came to: the code of a step with a loss, or None; notes; names the code needs beside the module's."""

    code: str | None
    notes: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    made_up: dict[str, str] = field(default_factory=dict)  # weights and counters that got a value of ours
    otherwise: Found | None = None  # what it is if this code does not run
    equal: tuple[Found, ...] = ()  # ways that are as good as each other, where that is the doubt


def seek_loss(
    loaded: Loaded,
    model: nn.Module,
    call: str,
    prefix: str,
    names: Sequence[str],
    output: object,
    role_of: RoleOf,
    input_shapes: Mapping[str, tuple[int, ...]],
    told: str | None,
    among: Sequence[Candidate] | None = None,
) -> Found:
    """See `find_loss` in `search.py`. `call` is the expression that runs the model, `prefix` the code that leaves its output in `out`.

    `among` are the functions to choose from, where these are not the target's own.
    """
    scene = scene_of(model, call, prefix, names, output, role_of, input_shapes)
    if told is not None:
        return _told(loaded, model, scene, told)
    if among is None and (own := _in_output(model, scene)) is not None:
        return own
    complete: list[tuple[Candidate, Binding]] = []
    parts: list[tuple[Candidate, Binding]] = []
    inner = set[str]()  # what losses call that take more than the model gives back
    known = list(candidates(loaded, model) if among is None else among)
    for candidate in known:
        binding = _bound(candidate, scene)
        if binding is None and _takes_posterior(candidate):
            inner |= set(called_names(candidate.function)) - {candidate.name}
        if binding is not None and not (binding.guessed and not _covers(candidate, binding, scene)):
            (complete if _covers(candidate, binding, scene) else parts).append((candidate, binding))
    complete = _leading([(c, b) for c, b in complete if c.name not in inner], loaded)
    sure = len(complete) == 1 and not complete[0][1].alternatives
    if sure and Kind.WHOLE not in complete[0][1].used:
        return _only(model, scene, *complete[0], input_shapes)
    if (named := named_call(known, scene.outputs, call, forward_of(model), input_shapes)) is not None:
        return _settled(scene, *named)
    if sure:
        return _only(model, scene, *complete[0], input_shapes)
    if complete:
        ways = [(c, b) for c, first in complete for b in (first, *first.alternatives)]
        why = f"more than one way to compute the loss is as good: {', '.join(dict.fromkeys(c.name for c, _ in complete))}"
        doubt = _doubt([_code(scene, c, b) for c, b in ways], why)
        return dataclasses.replace(doubt, equal=tuple(_settled(scene, c, b) for c, b in ways))
    if any(c.rank != PART for c, _ in parts):
        listed = ", ".join(c.name for c, _ in parts)
        return _doubt([_sum(scene, parts)], f"only parts of a loss were found ({listed}); nothing says how they are combined")
    outputs = scene.unpacked or "out"
    return Found(None, [f'no loss was found; say how it is computed: --step "{outputs} = {call or "model(...)"}; loss = ..."'])


def _only(model: nn.Module, scene: Scene, candidate: Candidate, binding: Binding, input_shapes: Mapping[str, tuple[int, ...]]) -> Found:
    """The one function that there is, bound in the one way: unless its target is to be shifted, or its KL lies on the model."""
    if (shifted := _shifted(scene, binding, input_shapes)) is not None:
        code = _code(scene, candidate, binding).replace(*shifted)
        if reads_all_but_last(forward_of(model)):
            note = f"the model reads all tokens but the last, so the target is {shifted[1].rstrip(',')}"
            other = Found(code, [note, *_notes(candidate, binding)], made_up=dict(candidate.made_up + binding.made_up))
        else:
            other = _doubt([code], "the output is one step shorter than the target")
        return dataclasses.replace(_settled(scene, candidate, binding), otherwise=other)  # the loss may shift the tokens itself
    if not (_POSTERIOR & _available(scene)) and binding.needs_output and (kept := stores_kl(model)):
        return _doubt([_code(scene, candidate, binding) + f" + model.{kept}"], f"{candidate.name} takes no KL, and {kept} may hold it")
    return _settled(scene, candidate, binding)


def _available(scene: Scene) -> frozenset[Kind]:
    return frozenset(s.kind for s in scene.outputs if s.kind is not None)


# -- the loss in the model's own output


def _in_output(model: nn.Module, scene: Scene) -> Found | None:
    """The loss that `forward` returns: a scalar alone, or one named as the whole loss."""
    value = scene.whole.value
    named = (return_names(forward_of(model)) or [None])[0]
    scalars = [s for s in scene.outputs if isinstance(s.value, torch.Tensor) and s.value.numel() == 1 and s.value.ndim <= 1]
    if isinstance(value, torch.Tensor):
        chosen = [Source("out", None, 0, named)] if value.ndim == 0 else []
        chosen = [s for s in chosen if not (s.name and ELBO_NAME.fullmatch(s.name))] or [s for s in scalars if value.ndim == 0]
    else:
        chosen = [s for s in scalars if s.name and TOTAL_NAME.fullmatch(s.name)] or _whole(scene, scalars)
    if chosen:
        return Found(
            f"{scene.prefix}; loss = {chosen[0].expr}", [f"the loss is taken from what forward returns ({chosen[0].name or 'a scalar'})"]
        )
    bound = next((s for s in scalars if s.name and ELBO_NAME.fullmatch(s.name)), None)
    if bound is None or not scene.prefix:
        return None
    sign = maximised(tree_of(forward_of(model)), bound.name or "")
    if sign is None:
        ways = [f"{scene.prefix}; loss = {minus}{bound.expr}" for minus in ("", "-")]
        return _doubt(ways, f"forward returns {bound.name}, and nothing says whether it is minimised or maximised")
    return Found(
        f"{scene.prefix}; loss = {'-' if sign else ''}{bound.expr}", [f"the loss is taken from what forward returns ({bound.name})"]
    )


def _whole(scene: Scene, scalars: Sequence[Source]) -> list[Source]:
    """The number that the reconstruction and all other numbers enter, where none has a name that speaks of it."""
    decoded = [s.value for s in scene.outputs if s.kind is Kind.RECON and isinstance(s.value, torch.Tensor) and s.value.ndim > 0]
    if not decoded or any(s.name and ELBO_NAME.fullmatch(s.name) for s in scalars):
        return []
    place = sum_of_all([s.value for s in scalars])
    whole = [scalars[place]] if place is not None else []
    return [s for s in whole if all(d.grad_fn is not None and enters(d, s.value) for d in decoded)]


# -- functions that compute it


def _bound(candidate: Candidate, scene: Scene) -> Binding | None:
    wanted = wanted_by(candidate.function, skip_first=candidate.skip_self)
    if wanted is None:
        return None
    fixed = dict(scene.fixed)
    if is_step_name(candidate.name) and candidate.skip_self and wanted and Kind.BATCH in wanted[0].kinds:
        fixed[Kind.BATCH] = batch_of(candidate.function, wanted[0].name, [s.expr for s in scene.inputs])
        first = wanted[0]
        wanted[0] = type(first)(first.name, (Kind.BATCH,), first.required, first.keyword)
    return bind(wanted, scene.outputs, scene.inputs, scene.whole if scene.prefix else None, fixed)


def _takes_posterior(candidate: Candidate) -> bool:
    """Whether a loss has a parameter for the posterior, by its first meaning."""
    wanted = wanted_by(candidate.function, skip_first=candidate.skip_self) or ()
    return candidate.rank != PART and any(w.kinds and w.kinds[0] in _POSTERIOR for w in wanted)


def _covers(candidate: Candidate, binding: Binding, scene: Scene) -> bool:
    """Whether the candidate sees enough to be the whole loss: reconstruction, target and posterior, as far as the output has them."""
    if candidate.rank == PART:
        return False
    if binding.used & _EVERYTHING:
        return True
    if not binding.needs_output:
        return candidate.rank in (0, 4) and candidate.skip_self and Kind.TARGET in binding.used
    available = _available(scene)
    extra_terms = [
        s for s in scene.outputs if s.name and KL_NAME.search(s.name) and isinstance(s.value, torch.Tensor) and s.value.numel() == 1
    ]
    taken = {expr for _, expr, _ in binding.arguments}
    return (
        Kind.TARGET in binding.used
        and (Kind.RECON in binding.used or Kind.RECON not in available)
        and (bool(_POSTERIOR & binding.used) or not _POSTERIOR & available)
        and all(s.expr in taken for s in extra_terms)
    )


def _leading(complete: list[tuple[Candidate, Binding]], loaded: Loaded) -> list[tuple[Candidate, Binding]]:
    """Without those that another one calls; then those that the file trains with; then methods before functions before classes."""
    if steps := [(c, b) for c, b in complete if c.name == "training_step"]:
        return steps  # what a trainer calls
    called = {name for c, _ in complete for name in called_names(c.function) if name != c.name}
    kept = [(c, b) for c, b in complete if c.name not in called or c.name == "loss"] or complete
    if len(kept) > 1:
        training = {n for f in loaded.namespace.values() if inspect.isfunction(f) for n in called_names(f) if "backward" in called_names(f)}
        kept = [(c, b) for c, b in kept if c.name in training or c.expr in training] or kept
    first = min((c.rank for c, _ in kept), default=0)
    return [(c, b) for c, b in kept if c.rank == first]


def _shifted(scene: Scene, binding: Binding, input_shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str] | None:
    """Where scores for tokens meet tokens one step longer: which tokens are meant only the training code knows. What to write for what."""
    expressions = {expr for _, expr, _ in binding.arguments}
    recon = [s for s in scene.outputs if s.kind is Kind.RECON and s.expr in expressions and isinstance(s.value, torch.Tensor)]
    for source in scene.inputs:
        shape = input_shapes.get(source.expr, ())
        for r in recon if source.expr in expressions and len(shape) == 2 else ():
            if r.value.ndim == 3 and r.value.shape[1] == shape[1] - 1 and not fits(tuple(r.value.shape), shape):
                return f"{source.expr},", f"{source.expr}[:, 1:],"
    return None


def _settled(scene: Scene, candidate: Candidate, binding: Binding) -> Found:
    """The step for the one candidate, its sign and the part of what it returns made out."""
    tree = tree_of(candidate.function)
    code = _code(scene, candidate, binding)
    if ELBO_NAME.fullmatch(candidate.name):
        sign = maximised(tree, candidate.name)
        negative = code.replace("loss = ", "loss = -", 1) if code.startswith("loss = ") else code.replace("; loss = ", "; loss = -", 1)
        if sign is None:
            return _doubt([code, negative], f"{candidate.name} is called, and nothing says whether it is minimised or maximised")
        code = negative if sign else code
    parts = returned_parts(tree)
    if parts:
        total = next((i for i, name in enumerate(parts) if name == "+" or TOTAL_NAME.fullmatch(name)), None)
        if total is None and any(KL_NAME.search(name) for name in parts):
            return _doubt([f"{code}; loss = sum(loss)"], f"{candidate.name} returns {', '.join(parts)} and no total")
        if total is not None:
            code = f"{code}[{total}]"
    return Found(code, _notes(candidate, binding), made_up=dict(candidate.made_up + binding.made_up))


def _notes(candidate: Candidate, binding: Binding) -> list[str]:
    return [
        f"{name}={value} was chosen for {candidate.name}: nothing says what it is" for name, value in candidate.made_up + binding.made_up
    ]


def _code(scene: Scene, candidate: Candidate, binding: Binding) -> str:
    """The step as Python; the outputs by name where they have names."""
    arguments = binding.text()
    if not binding.needs_output:
        return f"loss = {candidate.expr}({arguments})"
    if (
        scene.unpacked
        and scene.call
        and "out" not in {expr for _, expr, _ in binding.arguments}
        and candidate.expr not in scene.unpacked.split(", ")
    ):
        labels = dict(zip((s.expr for s in scene.outputs), scene.unpacked.split(", "), strict=True))
        written = ((name, labels.get(expr, expr), as_keyword) for name, expr, as_keyword in binding.arguments)
        shown = ", ".join(f"{name}={expr}" if as_keyword else expr for name, expr, as_keyword in written)
        return f"{scene.unpacked} = {scene.call}; loss = {candidate.expr}({shown})"
    return f"{scene.prefix}; loss = {candidate.expr}({arguments})"


def _sum(scene: Scene, parts: Sequence[tuple[Candidate, Binding]]) -> str:
    codes = [_code(scene, c, b) for c, b in parts]
    head = next((code.rpartition("; ")[0] for code in codes if "; " in code), "")
    total = " + ".join(dict.fromkeys(code.rpartition("loss = ")[2] for code in codes))
    return f"{head}; loss = {total}" if head else f"loss = {total}"


def _doubt(ways: Sequence[str], why: str) -> Found:
    return Found(None, [f"{why}; say which: " + " or ".join(f'--step "{way}"' for way in dict.fromkeys(ways))])


# -- the loss that the user named


def _told(loaded: Loaded, model: nn.Module, scene: Scene, told: str) -> Found:
    """The step for `--loss`. Raises TargetError VAE004."""
    expr, value, extra, notes = _resolve(loaded, model, told)
    shown = told.rpartition(":")[2]
    if isinstance(value, nn.Module) or inspect.isclass(value):
        cls = value if inspect.isclass(value) else type(value)
        needed = [
            p.name
            for p in signature_of(cls).parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if inspect.isclass(value) and needed:
            raise TargetError(
                "VAE004",
                f"{told} needs {', '.join(needed)} to be made",
                f'write it out: --step "...; loss = {shown}(...)(...)"',
                loaded.span,
            )
        candidate = Candidate(f"{expr}()" if inspect.isclass(value) else expr, shown, getattr(cls, "forward", cls), 2, True)
    elif callable(value):
        candidate = Candidate(
            expr, shown, getattr(value, "__func__", value), 0 if expr.startswith("model.") else 1, inspect.ismethod(value)
        )
    else:
        raise TargetError(
            "VAE004", f"{told} is of type {type(value).__name__}, not a function", "name a function, a method or a loss class", loaded.span
        )
    binding = _bound(candidate, scene)
    if binding is None or binding.alternatives:
        ways = [_code(scene, candidate, b) for b in (binding, *binding.alternatives)] if binding is not None else []
        why = "can be bound in more than one way" if ways else "has parameters that nothing fits"
        example = ways[0] if ways else f"{scene.unpacked or 'out'} = {scene.call or 'model(...)'}; loss = {candidate.expr}(...)"
        signature = f"signature: {shown}{signature_of(candidate.function)}"
        raise TargetError(
            "VAE004", f"the loss {told} {why}", f'write the call out: --step "{example}"', loaded.span, (signature, *ways[1:])
        )
    found = _settled(scene, candidate, binding)
    return Found(found.code, [*notes, *found.notes], extra, found.made_up)


def _resolve(loaded: Loaded, model: nn.Module, told: str) -> tuple[str, Any, dict[str, Any], list[str]]:
    """What `--loss` names: an attribute of the model, a name of its module, or `file.py:name`."""
    where, _, name = told.rpartition(":")
    notes: list[str] = []
    if where:
        near = (Path(where), Path(loaded.file).parent / where)
        path = next((p.resolve() for p in near if p.is_file()), None)
        if path is None:
            raise TargetError(
                "VAE004", f"--loss {told}: there is no file {relative(where)}", "the path starts at the working directory", loaded.span
            )
        tree = parsed(path)
        found: Any = import_part(path, needed_of(tree, {name.partition(".")[0]}), notes)
        if not hasattr(found, name):
            has = ", ".join(n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and is_loss_name(n.name))
            raise TargetError("VAE004", f"{relative(where)} has no {name}", f"it has {has}" if has else "", loaded.span)
        return name, getattr(found, name), {name: getattr(found, name)}, notes
    name = name.removeprefix("model.")
    owner: Any = model
    for part in name.split("."):
        owner = getattr(owner, part, None)
    if owner is not None:
        return f"model.{name}", owner, {}, notes
    first, *rest = name.split(".")
    owner = loaded.namespace.get(first)
    for part in rest:
        owner = getattr(owner, part, None)
    if owner is None:
        there = " or ".join(f"--loss {c.expr}" for c in candidates(loaded, model))
        raise TargetError("VAE004", f"there is no loss {told} in the model or its file", f"write {there}" if there else "", loaded.span)
    return name, owner, {}, notes
