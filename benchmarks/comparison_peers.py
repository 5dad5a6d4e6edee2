"""One peer on one file of the gallery, as a process of its own: `python comparison_peers.py PEER FILE` prints what it reports, as JSON.

Each is used as its documentation says, with what an author would write: peers that read annotations get the model with the shapes that its
author meant, peers that run it get the batch, the loss and the optimizer of the file.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
import subprocess
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

Said = tuple[str, int]  # what is said, and the line that it names; 0 where it names none

_SHAPED = {
    "def encode(self, x):": "def encode(self, x: BD) -> tuple[BL, BL]:",
    "def draw(self, mu, logvar):": "def draw(self, mu: BL, logvar: BL) -> BL:",
    "def forward(self, x):": "def forward(self, x: BD) -> tuple[BD, BL, BL]:",
    "def loss_fn(recon, x, mu, logvar):": "def loss_fn(recon: BD, x: BD, mu: BL, logvar: BL) -> ONE:",
}
_JAXTYPING = {"BD": 'Float[Tensor, "batch data"]', "BL": 'Float[Tensor, "batch latent"]', "ONE": 'Float[Tensor, ""]'}
_PYREFLY = {"BD": 'Shaped[Tensor, "[B, D]"]', "BL": 'Shaped[Tensor, "[B, L]"]', "ONE": 'Shaped[Tensor, "[]"]'}


def annotated(source: str, words: dict[str, str], imported: str) -> str:
    """The model with the shapes that were meant, its lines where they are."""
    for plain, meant in _SHAPED.items():
        source = source.replace(plain, re.sub(r"\b(BD|BL|ONE)\b", lambda found: words[found[0]], meant))
    return source.replace("from torch import nn", f"from torch import Tensor, nn; from {imported}")


def _loaded(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def _batch() -> Any:
    import torch

    torch.manual_seed(0)
    return torch.rand(32, 256)


def _raised(error: BaseException, file: Path) -> Said:
    lines = [frame.lineno or 0 for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == file.name]
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}", lines[-1] if lines else 0


def of_torchtest2(file: Path) -> Iterator[Said]:
    """`check_model` with the file's own loss and optimizer; its failures and its warnings."""
    import torchtest2

    made, x = _loaded(file), _batch()
    model = made.VAE()
    report = torchtest2.check_model(
        model, x, x, loss_fn=lambda out, target: made.loss_fn(out[0], target, *out[1:]), optimizer=made.make_optimizer(model)
    )
    for result in (*report.failures, *report.warnings):
        yield f"{result.status.value} {result.name}: {result.message}", 0


def of_torch_audit(file: Path) -> Iterator[Said]:
    """`autopatch` over five of the file's own training steps."""
    import torch_audit

    made, x = _loaded(file), _batch()
    model = made.VAE()
    optimizer = made.make_optimizer(model)
    with contextlib.redirect_stdout(io.StringIO()):
        auditor = torch_audit.autopatch(model, optimizer=optimizer, every_n_steps=1)
        for _ in range(5):
            made.train_step(model, optimizer, x)
        result = auditor.finish(report=False)
    for finding in {(f.rule_id, f.message) for f in result.findings}:
        yield f"{finding[0]}: {finding[1]}", 0


def of_jaxtyping(file: Path) -> Iterator[Said]:
    """One training step of the annotated model under jaxtyping's import hook with beartype."""
    from jaxtyping import install_import_hook

    file.write_text(annotated(file.read_text(), _JAXTYPING, "jaxtyping import Float"))
    sys.path.insert(0, str(file.parent))
    with install_import_hook(file.stem, "beartype.beartype"):
        made: Any = importlib.import_module(file.stem)
    model = made.VAE()
    try:
        made.train_step(model, made.make_optimizer(model), _batch())
    except Exception as error:  # noqa: BLE001 whatever the step raises is what its author sees
        yield _raised(error, file)


def of_torchtyc(file: Path) -> Iterator[Said]:
    """`torchtyc check` on the model with jaxtyping annotations."""
    file.write_text(annotated(file.read_text(), _JAXTYPING, "jaxtyping import Float"))
    command = "import sys; from torchtyc.cli import main; sys.exit(main())"
    words = ["check", str(file), "--format", "json", "--severity", "warning", "--python", sys.executable]
    done = subprocess.run([sys.executable, "-c", command, *words], capture_output=True, text=True, timeout=300)
    for found in json.loads(done.stdout)["diagnostics"]:
        yield f"{found['rule']}: {found['message'].splitlines()[0]}", found["line"]


def of_pyrefly(file: Path) -> Iterator[Said]:
    """`pyrefly check` with its stubs of torch, on the model with its annotations."""
    text = annotated(file.read_text(), _PYREFLY, "shape_extensions import Shaped, shape_vars")
    for head in _SHAPED:
        name = head.partition("(")[0]
        text = re.sub(rf"^( *){name}\(", rf'\1@shape_vars("B, D, L")\n\1{name}(', text, flags=re.M)
    file.write_text(text)
    program = Path(sysconfig.get_path("purelib")) / "bin" / "pyrefly"
    command = [str(program) if program.exists() else "pyrefly", "check", str(file), "--python-interpreter-path", sys.executable]
    done = subprocess.run([*command, "--output-format", "json"], capture_output=True, text=True, timeout=300)
    marks = [number for number, line in enumerate(text.splitlines(), 1) if line.lstrip().startswith("@shape_vars")]
    for found in json.loads(done.stdout)["errors"]:
        yield f"{found['name']}: {found['concise_description']}", found["line"] - sum(mark < found["line"] for mark in marks)


def of_torch_export(file: Path) -> Iterator[Said]:
    """`torch.export.export` of the model with a symbolic batch, and its loss with it."""
    import torch

    made = _loaded(file)

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = made.VAE()

        def forward(self, x: Any) -> Any:
            recon, mu, logvar = self.model(x)
            return made.loss_fn(recon, x, mu, logvar)

    try:
        torch.export.export(Whole(), (_batch(),), dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
    except Exception as error:  # noqa: BLE001 whatever it raises is what its author sees
        yield _raised(error, file)


def of_traincheck(file: Path) -> Iterator[Said]:
    """Invariants of a right run, kept beside the file's folder, and what of them a run of this file breaks."""
    folder = file.parent.parent / "traincheck"
    kept = folder / "invariants.json"
    if not kept.exists():
        folder.mkdir(exist_ok=True)
        (folder / "right.py").write_text((file.parent.parent / "right.py").read_text() + _TRAINED.format(seed=0))
        _traincheck("traincheck-collect", folder, "--pyscript", "right.py", "--models-to-track", "model", "--output-dir", "right")
        _traincheck("traincheck-infer", folder, "-f", "right", "-o", kept.name)
    file.write_text(file.read_text() + _TRAINED.format(seed=1))
    words = ["--pyscript", file.name, "--models-to-track", "model", "--invariants", str(kept), "--output-dir", "trace"]
    _traincheck("traincheck-collect", file.parent, *words)
    _traincheck("traincheck-check", file.parent, "-f", "trace", "-i", str(kept))
    for log in file.parent.glob("traincheck_checker_results_*/trace/failed.log"):
        text, at = log.read_text(), 0
        while text[at:].strip():
            at += len(text[at:]) - len(text[at:].lstrip())
            broken, at = json.JSONDecoder().raw_decode(text, at)
            yield broken["invariant"]["text_description"], 0


_TRAINED = """
torch.manual_seed({seed})
model = VAE()
optimizer = make_optimizer(model)
for step in range(20):
    train_step(model, optimizer, torch.rand(32, 256))
"""


def _traincheck(name: str, folder: Path, *words: str) -> None:
    start = "import sys, importlib.metadata as m; "
    start += f"point = next(p for p in m.distribution('traincheck').entry_points if p.name == '{name}'); point.load()()"
    subprocess.run([sys.executable, "-c", start, *words], cwd=folder, capture_output=True, timeout=600, check=True)


def of_vaelint(file: Path) -> Iterator[Said]:
    """`vaelint check` with the file's training step; no annotation is needed."""
    step = "train_step(model, make_optimizer(model), x)"
    words = [f"{file.name}:VAE", "--input", "32x256:float32[0,1]", "--step", step, "--output-format", "json"]
    done = subprocess.run([sys.executable, "-m", "vaelint", "check", *words], cwd=file.parent, capture_output=True, text=True, timeout=300)
    for found in json.loads(done.stdout)["targets"][0]["findings"]:
        if found["severity"] != "info":
            yield f"{found['code']}: {found['message']}", found["span"]["line"]


PEERS: dict[str, Callable[[Path], Iterator[Said]]] = {
    "vaelint": of_vaelint,
    "torchtest2": of_torchtest2,
    "torch-audit": of_torch_audit,
    "torchtyc": of_torchtyc,
    "Pyrefly": of_pyrefly,
    "jaxtyping": of_jaxtyping,
    "TrainCheck": of_traincheck,
    "torch.export": of_torch_export,
}


if __name__ == "__main__":
    print(json.dumps(list(PEERS[sys.argv[1]](Path(sys.argv[2])))))
