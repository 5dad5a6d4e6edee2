"""The constructor arguments that nobody gave: sizes of the input, what the repository builds the class with, at last numbers of ours."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaelint.core.inputs import InputSet
from vaelint.core.paths import relative
from vaelint.late import dataclass
from vaelint.loading import construct
from vaelint.loading.names import Means, meanings

if TYPE_CHECKING:
    from vaelint.loading.build import Loaded
    from vaelint.repository.constructions import Construction

_MOST = 4  # places of the repository that are tried
_SHOWN = 80  # characters of a value in a note


@dataclass
class Choice:
    """A way to fill the constructor: all its arguments, what to say of it, and which of them neither the user nor the input speaks for."""

    values: dict[str, object]
    notes: list[str] = field(default_factory=list)
    chosen: dict[str, object] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    told: str = ""  # where those would come from that are not missing, if any were


def choices(loaded: Loaded, inputs: InputSet, given: Mapping[str, object]) -> Iterator[Choice]:
    """The ways to fill the constructor, the likeliest first; the last one is that without the repository, complete or not.

    What the user gave stands in all of them. Of the repository's arguments those that are sizes of the input give way to the input;
    if that does not fit, they are taken whole.
    """
    required = [p for p in _parameters(loaded) if p.default is p.empty and p.name not in given]
    found = _guesses(loaded, required, inputs)
    sure = {name: g for name, g in found.items() if g is not None and not g.made_up}
    open_names = [p.name for p in required if p.name not in sure]
    own = _own_choice(loaded, inputs, given, found)
    if not open_names:
        yield own
        yield from _other_shapes(own, sure, inputs)
        yield from _at_sizes(loaded, own, inputs)
    wanted = open_names or [p.name for p in required] or [p.name for p in _parameters(loaded) if p.name not in given]
    places = _places(loaded, given, wanted) if wanted else []
    seen: list[dict[str, object]] = [own.values]
    for over, said, sized in _of_the_input(own, sure, inputs):
        for place in places:
            choice = _choice(loaded, inputs, place, given, over, said, sized)
            if choice is not None and choice.values not in seen:
                seen.append(choice.values)
                yield choice
    if open_names:
        yield _nearest(own, places)


def _guesses(loaded: Loaded, required: list[inspect.Parameter], inputs: InputSet) -> dict[str, construct.Guess | None]:
    """What name, use and shape say of each argument that must be given."""
    of_steps = {"step"} if any(meanings(p.name)[:1] == [Means.STEPS] for p in _parameters(loaded)) else set[str]()
    uses = {p.name: construct.uses_of(loaded.obj, p.name, loaded.namespace) for p in required}
    return {p.name: construct.guess(p, inputs, uses[p.name] or frozenset(of_steps), loaded.namespace) for p in required}


def _own_choice(loaded: Loaded, inputs: InputSet, given: Mapping[str, object], found: Mapping[str, construct.Guess | None]) -> Choice:
    """The choice without the repository: what the user gave, the batch size of the input, and the guesses."""
    own = Choice(dict(given))
    for p in _parameters(loaded):
        size = construct.size_of(p.name, inputs) if p.name not in given and meanings(p.name)[:1] == [Means.BATCH] else None
        if size is not None and type(p.default) is int and size != p.default:
            own.values[p.name] = size
            own.notes.append(f"{p.name}={size} was not given: the batch size of the input")
    for name, guess in found.items():
        if guess is None:
            own.missing += (name,)
            continue
        own.values[name] = guess.value
        own.notes.append(f"{name}={shown(guess.value)} was not given: {guess.reason}")
        if guess.made_up:
            own.chosen[name] = guess.value
    return own


def _of_the_input(
    own: Choice, sure: Mapping[str, construct.Guess], inputs: InputSet
) -> Iterator[tuple[Mapping[str, object] | None, Choice, bool]]:
    """What of the input goes before the repository's arguments, the choice that says so, and whether sizes of the same names do as well."""
    inferred = {name: value for name, value in own.values.items() if name not in own.chosen}
    yield inferred, own, True
    for whole in _other_shapes(Choice(dict(inferred), own.notes), sure, inputs):
        yield whole.values, replace(own, values={**own.values, **whole.values}, notes=whole.notes), True
    batches = {k: v for k, v in inferred.items() if meanings(k)[:1] == [Means.BATCH]}
    if batches:
        yield batches, own, False
    yield None, own, True


def _nearest(own: Choice, places: Sequence[Construction]) -> Choice:
    """The choice without the repository; what is missing where all places leave something open is what the best of them leaves open."""
    for place in places if own.missing else ():
        told = set(own.missing) & set(place.arguments)
        missing = tuple(name for name in own.missing if name not in told)
        if told and missing:
            where = relative(str(place.file)) + (f":{place.line}" if place.line else "")
            return replace(own, missing=missing, told=f"{', '.join(sorted(told))} would be taken from {where}")
    return own


def _at_sizes(loaded: Loaded, own: Choice, inputs: InputSet) -> Iterator[Choice]:
    """The sizes of the input in the place of defaults that go by the same names, where these differ."""
    sizes: dict[str, object] = {}
    for p in _parameters(loaded):
        is_size = type(p.default) is int or p.default is None
        size = construct.size_of(p.name, inputs) if p.name not in own.values and is_size else None
        if size is not None and size != p.default:
            sizes[p.name] = size
    if sizes:
        says = ", ".join(f"{k}={v}" for k, v in sizes.items())
        yield Choice({**own.values, **sizes}, [*own.notes, f"{says} is taken from the input: the default does not fit it"])


def _other_shapes(own: Choice, sure: Mapping[str, construct.Guess], inputs: InputSet) -> Iterator[Choice]:
    """The sizes of an image with its channels, where height and width alone were taken; and the other way round."""
    first = inputs.specs[0].sizes if inputs.specs else ()
    for name, found in sure.items():
        shapes = (tuple(first[2:]), tuple(first[1:]))
        if len(first) == 4 and found.value in shapes:
            other = shapes[found.value == shapes[0]]
            what = "shape" if other == shapes[1] else "image size"
            notes = [n for n in own.notes if not n.startswith(f"{name}=")]
            yield Choice({**own.values, name: other}, [*notes, f"{name}={other} was not given: the {what} of the input"])


def _parameters(loaded: Loaded) -> list[inspect.Parameter]:
    return [p for p in loaded.signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _choice(
    loaded: Loaded,
    inputs: InputSet,
    place: Construction,
    given: Mapping[str, object],
    over: Mapping[str, object] | None,
    own: Choice,
    sized: bool = True,
) -> Choice | None:
    """The arguments of one place, completed by those that are ours; None where they do not do. Those of `over` stand in their place,
    and with them, where `sized`, the sizes of the input in that of numbers of their names."""
    taken = _taken(loaded, place, {*given, *(over or {})})
    if over is not None and sized:
        taken = _at_sizes_of({k: _at_input(v, inputs) for k, v in taken.items()}, inputs)
    parameters = {p.name: p.default is p.empty for p in _parameters(loaded)}
    taken = {k: loaded.fitting(k, v) if k in parameters else v for k, v in taken.items()}
    values: dict[str, object] = {**given, **(over or {}), **taken}
    rest = {name: value for name, value in own.values.items() if name not in values}
    needed = {name for name, required in parameters.items() if required}
    if not taken or needed - set(values) - set(rest) or any(k is None for k in values):
        return None
    where = relative(str(place.file)) + (f":{place.line}" if place.line else "")
    says = ", ".join(f"{k}={shown(v)}" for k, v in taken.items())
    notes = [f"{says}: not given; taken from {where}"]
    here = {**(over or {}), **rest}
    notes += [n for n in own.notes if (name := n.partition("=")[0]) in here and here[name] == own.values.get(name)]
    return Choice({**values, **rest}, notes, {**taken, **{k: v for k, v in own.chosen.items() if k in rest}})


def _taken(loaded: Loaded, place: Construction, others: Container[str]) -> dict[str, object]:
    """The arguments of one place that the constructor takes, less those that others say and the device."""
    names = {p.name for p in _parameters(loaded)}
    any_name = any(p.kind is p.VAR_KEYWORD for p in loaded.signature.parameters.values())
    known = {k: v for k, v in place.arguments.items() if (k in names or any_name) and k not in others}
    return {k: v for k, v in known.items() if Means.DEVICE not in meanings(k)}


def _at_sizes_of(content: Mapping[Any, Any], inputs: InputSet) -> dict[Any, Any]:
    """Arguments with the sizes of the input in the place of the numbers that go by the same names."""
    return {k: size if type(v) is int and (size := construct.size_of(str(k), inputs)) is not None else v for k, v in content.items()}


def _at_input(value: Any, inputs: InputSet) -> Any:
    """A configuration with the sizes of the input in the place of those that go by the same names."""
    content = vars(value) if isinstance(value, argparse.Namespace) else value
    if not isinstance(content, dict):
        return value
    changed = _at_sizes_of(content, inputs)
    return argparse.Namespace(**changed) if isinstance(value, argparse.Namespace) else changed


def _places(loaded: Loaded, given: Mapping[str, object], wanted: list[str]) -> list[Construction]:
    """What the repository says of the constructor; of the places those first that tell most of what is wanted."""
    from vaelint.repository.constructions import Construction, configured, constructions, keys_of

    if loaded.package:
        return []
    home = Path(loaded.file)
    repository = loaded.repository
    names = list(loaded.signature.parameters)
    found = constructions(loaded.reader, home, loaded.name, names)
    if not any(set(wanted) <= set(c.arguments) for c in found):
        found += configured(repository.root, wanted)
        file = repository.file(home)
        node = file.definitions.get(loaded.name) if file is not None else None
        for name in wanted if node is not None else ():
            uses = construct.uses_of(loaded.obj, name, loaded.namespace)
            if uses & {"keys", "attributes"} and node is not None:
                found += [Construction({name: c.arguments}, c.file, 0) for c in configured(repository.root, keys_of(node, name))]
    found.sort(key=lambda c: -len(set(wanted) & set(c.arguments)))
    return found[:_MOST]


def shown(value: Any) -> str:
    """A value in a note, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
