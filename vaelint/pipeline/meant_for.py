"""Where the code is meant to run: what only goes wrong on another device is a remark where nothing speaks of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vaelint.anatomy.model import Model
from vaelint.core.finding import Severity
from vaelint.core.result import Request, TargetResult
from vaelint.loading.build import Loaded
from vaelint.repository.named_devices import WORDS, names_a_device
from vaelint.repository.scopes import File, Repository
from vaelint.step.find_loss.neighbours import belongs

ON_OTHER_DEVICES = frozenset({"VAE601"})
"""Rules about code that works on the CPU and nowhere else."""

_WHY = "nothing in this code names another device, and on the CPU it is harmless: --device cuda asks for more"


def quiet_on_the_cpu(request: Request, result: TargetResult, model: Model, loaded: Loaded | None = None) -> None:
    """Makes remarks of such findings, unless the user asked for a GPU, the target is a library's, or the code names a device."""
    spoken = [f for f in result.findings if f.code in ON_OTHER_DEVICES and f.severity is not Severity.INFO]
    if not spoken or request.device.startswith("cuda") or (loaded is not None and loaded.package) or _names_one(request, model, loaded):
        return
    result.findings[:] = [
        replace(f, severity=Severity.INFO, notes=(*f.notes, _WHY)) if f.code in ON_OTHER_DEVICES else f for f in result.findings
    ]


def _names_one(request: Request, model: Model, loaded: Loaded | None) -> bool:
    """Whether a device is named in the step, in the files that the recorded step went through, or in those that train the model."""
    if model.record.asked_for_cuda or any(word in (request.step or "") for word in (".cuda", ".to(", "device")):
        return True
    seen = {s.file for node in model.record.graph.nodes for s in node.meta.get("stack", ())}
    if any(names_a_device(model.source.file(name).tree) for name in seen):
        return True
    return any(names_a_device(file.tree) for file in _around(request, loaded))


def _around(request: Request, loaded: Loaded | None) -> Iterator[File]:
    """The files that may train the model: of a target those that are its own or have no model of their own, of a run its script."""
    if loaded is not None:
        home = Path(loaded.file).resolve()
        found = (file for word in WORDS for file in loaded.repository.holding(word))
        yield from (file for file in dict.fromkeys(found) if file.path == home or belongs(loaded, file))
        return
    scripts = [Path(word) for word in request.run if word.endswith((".py", ".ipynb"))]
    yield from (file for script in scripts if (file := Repository(script.parent).file(script)) is not None)
