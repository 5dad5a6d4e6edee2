"""Pyro's model and guide, watched: each sample site with its line, and what makes the pair no bound on the evidence."""

from __future__ import annotations

import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType, TracebackType
from typing import Any

import torch

from vaelint.core.errors import TargetError
from vaelint.core.finding import Span
from vaelint.core.sign import Found
from vaelint.record.guide_and_model import Site, exchanged, no_bound
from vaelint.record.sampled import Sampled
from vaelint.trace.spans import SpanFinder
from vaelint.trace.when_imported import when_imported

CODE = "VAE009"
_PLATE = re.compile(
    r"Shape mismatch inside plate\('(?P<plate>[^']*)'\) at site (?P<site>\S+) dim (?P<dim>-?\d+), (?P<size>\d+) vs (?P<found>\d+)"
)
_SITE = re.compile(r"at site ['\"](?P<site>[^'\"]*)['\"]")
_WRAPPERS = ("Independent", "MaskedDistribution", "ExpandedDistribution", "ReshapedDistribution")
_DRAWS = "num_particles_vectorized"  # the plate of draws that Pyro makes at once


class Sites:
    """What one evaluation of a bound sampled, the guide before the model."""

    def __init__(self) -> None:
        self._traces: dict[int, tuple[Any, list[Site]]] = {}  # a trace by its id, which it keeps while it is here
        self.particle = 0  # the evaluations of the same step before this one
        self.svi: Span | None = None  # where SVI was made
        self.on_arguments: Callable[[Any], None] = lambda arguments: None  # hears what guide and model are called with
        self.found: list[Found] | None = None  # what is wrong with the first evaluation that ran

    def begin(self) -> None:
        """Another evaluation begins."""
        self._traces.clear()
        self.particle = 0

    def another(self) -> None:
        """A draw of the guide has run; if more are to come, a bound is an average over them."""
        self.particle += 1

    def add(self, trace: Any, site: Site) -> None:
        """A site of one trace."""
        self._traces.setdefault(id(trace), (trace, []))[1].append(site)

    @property
    def pair(self) -> tuple[list[Site], list[Site]]:
        """The sites of the guide and of the model."""
        both = [sites for _, sites in self._traces.values()][:2]
        return (both[0], both[1]) if len(both) == 2 else (both[0] if both else [], [])

    def end(self) -> None:
        """An evaluation has run."""
        if self.found is None:
            guide, model = self.pair
            self.found = list(no_bound(guide, model))

    @property
    def swapped(self) -> TargetError | None:
        """Model and guide, exchanged: all else that would be said of them is beside the point."""
        found = next(exchanged(*self.pair, self.svi), None)
        if found is None:
            return None
        places = tuple(f"{x.text} at {x.span.file}:{x.span.line}" for x in found.labels)
        return TargetError(CODE, found.label, found.help, found.span, (*places, found.why))

    def explain(self, error: BaseException | None) -> TargetError | None:
        """What a step raised, in words of its sites; None for what has nothing to do with them."""
        if not isinstance(error, ValueError) or not self._traces:
            return None
        guide, model = self.pair
        by_name = {s.name: s for s in (*guide, *model)}
        text = str(error)
        if (plate := _PLATE.search(text)) is not None:
            return _in_plate(plate, _sampled(error.__traceback__))
        site = by_name.get(named["site"]) if (named := _SITE.search(text)) is not None else None
        if site is None:
            return None
        if "invalid log_prob shape" in text:
            return _undeclared(next((s for s in (*model, *guide) if s.name == site.name and len(s.batch) > len(s.plates)), site))
        if "shapes disagree" in text:
            other = next((s for s in guide if s.name == site.name), site)
            return _disagree(site, other)
        return None


# --- what raises ---------------------------------------------------------------------------------------------------------


def _in_plate(told: re.Match[str], message: dict[str, Any] | None) -> TargetError:
    size, found, fn = int(told["size"]), int(told["found"]), (message or {}).get("fn")
    batch, place = tuple(getattr(fn, "batch_shape", ())), (message or {}).get("vaelint_place")
    text = f"site '{told['site']}' has {found} independent draws along axis {told['dim']}, where plate '{told['plate']}' has {size}"
    if size in batch[:-1]:
        axes = len(batch) - 1 - batch[:-1].index(size) + _declared(fn)
        return TargetError(CODE, text, f"declare the last {_axes(axes)} as one draw: .to_event({axes})", place, _notes(batch, fn))
    return TargetError(
        CODE, text, f"give the plate the size of that axis, or the draw the {size} rows of the plate", place, _notes(batch, fn)
    )


def _undeclared(site: Site) -> TargetError:
    rows = " x ".join(map(str, site.batch))
    text = f"site '{site.name}' has {rows} draws that no plate declares independent"
    event = f", and .to_event({len(site.batch) - 1 + site.declared}) on the distribution" if len(site.batch) > 1 else ""
    if site.plates:
        outside = f"{len(site.batch) - len(site.plates) + site.declared}"
        return TargetError(CODE, text, f"declare the axes that no plate has as one draw: .to_event({outside})", site.place)
    return TargetError(CODE, text, f'put it under `with pyro.plate("data", x.shape[0]):`{event}', site.place)


def _disagree(site: Site, other: Site) -> TargetError:
    shapes = [(*s.batch, *s.event) for s in (other, site)]
    text = f"the guide draws '{site.name}' as {_shape(shapes[0])}, the model has a prior of {_shape(shapes[1])}"
    note = (f"the guide draws it at {other.place.file}:{other.place.line}",) if other.place is not None else ()
    return TargetError(CODE, text, "give the prior the posterior's shape: torch.zeros(x.shape[0], z_dim)", site.place, note)


def _notes(batch: tuple[int, ...], fn: Any) -> tuple[str, ...]:
    return (f"the distribution: batch shape {_shape(batch)}, event shape {_shape(tuple(getattr(fn, 'event_shape', ())))}",) if batch else ()


def _axes(count: int) -> str:
    return "axis" if count == 1 else f"{count} axes"


def _shape(sizes: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, sizes))})"


def _sampled(trace: TracebackType | None) -> dict[str, Any] | None:
    """The message of the site that was sampled when a plate refused it."""
    found = None
    while trace is not None:
        message = trace.tb_frame.f_locals.get("msg")
        found = message if isinstance(message, dict) and "fn" in message else found
        trace = trace.tb_next
    return found


# --- where Pyro is watched -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def pyro_watched(sites: Sites, spans: SpanFinder) -> Iterator[None]:
    """Within the block `sites` hears of each sample site, and what a site's density is made of stands at the site's line."""
    with contextlib.ExitStack() as undo:
        hooks = _Hooks(sites, spans, undo)
        undo.enter_context(when_imported("pyro.poutine.trace_struct", hooks.traces))
        undo.enter_context(when_imported("pyro.infer.trace_mean_field_elbo", hooks.divergences))
        undo.enter_context(when_imported("pyro.ops.einsum.torch_log", hooks.logarithms))
        undo.enter_context(when_imported("pyro.infer.svi", hooks.inference))
        undo.enter_context(when_imported("pyro.infer.elbo", lambda module: hooks.evaluations(module.ELBO)))
        undo.enter_context(when_imported("pyro.infer.traceenum_elbo", lambda module: hooks.evaluations(module.TraceEnum_ELBO)))
        yield


class _Hooks:
    """Functions of Pyro that tell what they do; `undo` puts the original ones back."""

    def __init__(self, sites: Sites, spans: SpanFinder, undo: contextlib.ExitStack) -> None:
        self._sites, self._spans, self._undo = sites, spans, undo
        self._places: dict[int, tuple[Any, tuple[Span, ...], str, dict[str, Any]]] = {}  # by the id of a distribution, which is kept

    def _put(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        self._undo.callback(setattr, owner, name, original)
        setattr(owner, name, make(original))

    def traces(self, module: ModuleType) -> None:
        """Each sample site of a trace, and the densities that are computed at them."""

        def add_node(original: Any) -> Any:
            def added(trace: Any, site_name: str, /, **site: Any) -> None:
                original(trace, site_name, **site)
                if site.get("type") == "sample" and hasattr(site.get("fn"), "log_prob"):
                    stack = self._spans.stack(sys._getframe(1))
                    self._places[id(site["fn"])] = site["fn"], stack, site_name, site
                    self._sites.add(trace, _site(site_name, site, stack))

            return added

        def compute(original: Any, of_guide: bool) -> Any:
            def computed(trace: Any, /, *args: Any, **kwargs: Any) -> None:
                places = {key: place for key, (_, place, _, _) in self._places.items()}
                with _at_their_sites(trace, places, self._spans, self._sites.particle, of_guide=of_guide):
                    original(trace, *args, **kwargs)

            return computed

        self._put(module.Trace, "add_node", add_node)
        self._put(module.Trace, "compute_log_prob", lambda original: compute(original, of_guide=False))
        self._put(module.Trace, "compute_score_parts", lambda original: compute(original, of_guide=True))  # what no model needs

    def divergences(self, module: ModuleType) -> None:
        """A KL in closed form, at the line of its posterior."""

        def kl(original: Any) -> Any:
            def divergence(q: Any, p: Any) -> Any:
                if id(q) not in self._places:
                    return original(q, p)
                _, stack, name, site = self._places[id(q)]
                laws = " to ".join(dict.fromkeys((_law(q), _law(p))))
                sampled = replace(_sampled_of(name, site, self._sites.particle, of_guide=True), law=laws, divergence=True)
                with self._spans.standing_at(stack, sampled):
                    return original(q, p)

            return divergence

        self._put(module, "kl_divergence", kl)

    def logarithms(self, module: ModuleType) -> None:
        """Pyro's logarithm has a gradient of its own at 0, which could not be run again at other values; this one is bounded there too."""
        self._put(module, "safe_log", lambda original: lambda x: x.clamp(min=torch.finfo(x.dtype).tiny).log())

    def inference(self, module: ModuleType) -> None:
        """Where an SVI is made."""

        def made(original: Any) -> Any:
            def init(svi: Any, /, *args: Any, **kwargs: Any) -> None:
                self._sites.svi = next(iter(self._spans.stack(sys._getframe(1), limit=1)), None)
                original(svi, *args, **kwargs)

            return init

        self._put(module.SVI, "__init__", made)

    def evaluations(self, bound: Any) -> None:
        """The guide and the model traced for one value of a bound, whoever asks for it: `SVI.step`, `differentiable_loss`."""

        def traced(original: Any) -> Any:
            def traces(elbo: Any, model: Any, guide: Any, args: Any, kwargs: Any) -> Iterator[Any]:
                self._sites.begin()
                self._sites.on_arguments((args, kwargs))
                self._places.clear()
                for pair in original(elbo, model, guide, args, kwargs):
                    yield pair
                    self._sites.another()
                self._sites.end()

            return traces

        self._put(bound, "_get_traces", traced)


@contextlib.contextmanager
def _at_their_sites(trace: Any, places: dict[int, tuple[Span, ...]], spans: SpanFinder, particle: int, *, of_guide: bool) -> Iterator[None]:
    """Within the block the log-densities of a trace's sites are computed as if at the line of each site."""
    changed = []

    def at(original: Any, stack: tuple[Span, ...], sampled: Sampled) -> Any:
        def log_prob(*args: Any, **kwargs: Any) -> Any:
            with spans.standing_at(stack, sampled):
                return original(*args, **kwargs)

        return log_prob

    for name, site in trace.nodes.items():
        fn = site.get("fn")
        if site["type"] == "sample" and id(fn) in places and "log_prob" not in vars(fn):
            fn.log_prob = at(fn.log_prob, places[id(fn)], _sampled_of(name, site, particle, of_guide=of_guide))
            changed.append(fn)
    try:
        yield
    finally:
        for fn in changed:
            del fn.log_prob


def _site(name: str, site: dict[str, Any], stack: tuple[Span, ...]) -> Site:
    fn, infer = site["fn"], site.get("infer") or {}
    return Site(
        name, stack[0] if stack else None, tuple(getattr(fn, "batch_shape", ())), tuple(getattr(fn, "event_shape", ())), _plates(site),
        site.get("scale", 1.0), bool(site.get("is_observed")), _law(fn),
        learned=_is_learned(fn), declared=_declared(fn), alone=bool(infer.get("is_auxiliary")) or infer.get("_enumerate_dim") is not None,
    )  # fmt: skip


def _sampled_of(name: str, site: dict[str, Any], particle: int, *, of_guide: bool) -> Sampled:
    """What the nodes of a site's density are told of it."""
    fn, all_plates = site["fn"], _plates(site)
    plates = [p for p in all_plates if p[0] != _DRAWS]
    draws = math.prod(size for plate, _, size in all_plates if plate == _DRAWS)
    return Sampled(
        name, _law(fn), bool(site.get("is_observed")), (site.get("infer") or {}).get("_enumerate_dim") is not None, of_guide,
        tuple(plate for plate, _, _ in plates), math.prod(size for _, _, size in plates), particle,
        site.get("mask") is not None, bool(getattr(fn, "has_rsample", False)), draws,
    )  # fmt: skip


def _plates(site: dict[str, Any]) -> tuple[tuple[str, int, int], ...]:
    """Name, axis and size of the plates that a site is under."""
    axes = getattr(site.get("fn"), "batch_shape", ())
    found = [f for f in site.get("cond_indep_stack", ()) if getattr(f, "vectorized", f.dim is not None)]
    sizes = [axes[f.dim] if f.size < 0 and -len(axes) <= f.dim else f.size for f in found]  # `plate("data")` has any size
    return tuple((f.name, f.dim, size) for f, size in zip(found, sizes, strict=True))


def _declared(fn: Any) -> int:
    """How many axes `.to_event` made part of one draw."""
    return int(getattr(fn, "reinterpreted_batch_ndims", 0))


def _is_learned(fn: Any) -> bool:
    """Whether a parameter of a distribution has a gradient."""
    while hasattr(fn, "base_dist"):
        if any(list(getattr(t, "parameters", list)()) for t in getattr(fn, "transforms", ())):
            return True
        fn = fn.base_dist
    return any(isinstance(v, torch.Tensor) and v.requires_grad for v in vars(fn).values())


def _law(fn: Any) -> str:
    """The name of a distribution, without what only says which axes are events, or which rows count."""
    while hasattr(fn, "base_dist") and type(fn).__name__ in _WRAPPERS:
        fn = fn.base_dist
    name = type(fn).__name__
    return f"transformed {_law(fn.base_dist)}" if name == "TransformedDistribution" else name
