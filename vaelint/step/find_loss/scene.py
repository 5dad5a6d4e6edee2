"""What a step leaves that a loss may take: the model's outputs and inputs, with what is known of each. Runs no user code."""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence

from torch import nn

from vaelint.late import dataclass
from vaelint.step.bind import RoleOf, Source, sources_of
from vaelint.step.meaning import Kind, kinds
from vaelint.step.reading import return_names
from vaelint.trace.keras_models import forward_of


@dataclass(frozen=True)
class Scene:
    """What is there to bind: the code that runs the model, its outputs and the inputs."""

    call: str
    prefix: str
    outputs: list[Source]
    inputs: list[Source]
    whole: Source
    fixed: dict[Kind, str]
    unpacked: str  # "recon, mu, logvar" where the output can be written so, else ""


def scene_of(
    model: nn.Module,
    call: str,
    prefix: str,
    names: Sequence[str],
    output: object,
    role_of: RoleOf,
    input_shapes: Mapping[str, tuple[int, ...]],
) -> Scene:
    """What a call that gave `output` leaves to bind; `names` are those of the inputs, `role_of` what the trace knows of a tensor."""
    labels: list[str | None] = (
        return_names(forward_of(model)) if isinstance(output, tuple | list) and not hasattr(output, "_fields") else []
    )
    if not isinstance(output, tuple | list) or len(labels) != len(output):
        labels = [None] * (len(output) if isinstance(output, tuple | list) else 0)
    outputs = sources_of(output, role_of, labels, input_shapes)
    inputs = []
    for i, name in enumerate(names):
        is_target = i == 0 or Kind.TARGET in kinds(name)
        inputs.append(Source(name, Kind.TARGET if is_target else None, 4 if i == 0 else 2, name))
    first = names[0] if names else "x"
    fixed = {Kind.MODEL: "model", Kind.BATCH_SIZE: f"{first}.size(0)", Kind.DEVICE: f"{first}.device"}
    return Scene(call, prefix, outputs, inputs, Source("out", Kind.WHOLE, 1, None, 0, output), fixed, _unpacked(outputs, output, names))


def _unpacked(outputs: Sequence[Source], output: object, names: Sequence[str]) -> str:
    """`recon, mu, logvar` for a flat tuple whose parts have names of their own."""
    if not isinstance(output, tuple | list) or len(outputs) != len(output) or len(outputs) < 2:
        return ""
    by_kind = {Kind.RECON: "recon", Kind.MU: "mu", Kind.SCALE: "logvar", Kind.Z: "z"}
    labels = [s.name or (by_kind.get(s.kind) if s.kind else None) or "" for s in outputs]
    reserved = {*names, "model", "torch", "loss", "out", ""}
    usable = len(set(labels)) == len(labels) and all(n.isidentifier() and not keyword.iskeyword(n) and n not in reserved for n in labels)
    return ", ".join(labels) if usable else ""
