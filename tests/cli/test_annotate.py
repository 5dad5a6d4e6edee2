"""`vaelint annotate`: what is written, that nothing else is touched, and that what does not hold is left out."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import commandline
import pytest
from expectations import fixture_of
from hypothesis import given
from hypothesis import strategies as st
from thorough import examples

from vaelint.annotate.dimension_names import Names
from vaelint.annotate.signatures import tokens_kept
from vaelint.cli.annotate import PIPELINE, held
from vaelint.core.edits import Edit, Proposal
from vaelint.core.finding import Span
from vaelint.core.result import Request
from vaelint.process.front import Worker

DATA = Path(__file__).parents[1] / "data"
MODELS = ("ok_conditional", "ok_audio", "vae214_biased_eval", "vae108_annotation_disagrees")


def vaelint(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = commandline.vaelint(*args, cwd=cwd)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Worker]]:
    """A folder and a worker in it."""
    folder = tmp_path_factory.mktemp("models")
    with contextlib.chdir(folder), Worker(PIPELINE) as worker:
        yield folder, worker


@pytest.fixture(scope="module")
def checker(place: tuple[Path, Worker]) -> Iterator[Worker]:
    """A worker that checks, in the same folder."""
    with Worker() as worker:
        yield worker


def test_a_patch_then_the_file_then_nothing(tmp_path: Path) -> None:
    shutil.copy(DATA / "mlp_vae.py", tmp_path / "model.py")
    before = (tmp_path / "model.py").read_text()
    options = ("annotate", "model.py:VAE", "--input", "32x784")
    shown = vaelint(*options, cwd=tmp_path)
    assert (shown.returncode, (tmp_path / "model.py").read_text()) == (1, before)
    assert '+        mu: Float[torch.Tensor, "batch latent"],' in shown.stdout
    assert "batch sizes 32 and 37, checked by jaxtyping and beartype" in shown.stderr
    assert vaelint(*options, "--write", cwd=tmp_path).returncode == 0
    after = (tmp_path / "model.py").read_text()
    assert tokens_kept(before, after, ("jaxtyping",))
    again = vaelint(*options, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, "")
    assert vaelint("check", "model.py:VAE", "--input", "32x784", "--device", "cpu", cwd=tmp_path).returncode == 0


def test_what_a_run_refutes_is_left_out(place: tuple[Path, Worker]) -> None:
    """The trace sees one call of `odd`; a real run at another batch size gives it another shape."""
    folder, worker = place
    (folder / "model.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass VAE(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.e, self.d = nn.Linear(6, 8), nn.Linear(4, 6)\n\n"
        "    def odd(self, x, y):\n        return x\n\n"
        "    def forward(self, x):\n        self.odd(x, torch.zeros(8 if len(x) == 8 else 5))\n        mu, logvar = self.e(x).chunk(2, 1)\n"
        "        return self.d(mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)), mu, logvar\n"
    )
    request = Request("model.py:VAE", ("8x6",), device="none")
    found = worker.run(request)
    assert set(found.proposals) == {"model.py:VAE.odd", "model.py:VAE.forward"}, found.result.notes
    wrong = Edit(Span("model.py", 10, 20, 10, 20), ': Float[torch.Tensor, "batch batch"]')
    found.proposals["model.py:VAE.odd"] = [Proposal("annotates VAE.odd", (wrong,))]
    done = held(request, found, worker)
    assert [name for name, _ in done.left] == ["model.py:VAE.odd"]
    assert done.names == ["model.py:VAE.forward"]
    assert "def odd(self, x, y):" in done.texts["model.py"]


def test_a_target_that_cannot_run_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "from torch import nn\n\n\nclass VAE(nn.Module):\n    def forward(self, x):\n        raise KeyError(1)\n"
    )
    done = vaelint("annotate", "model.py:VAE", "--input", "4x3", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot be annotated" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", MODELS[: examples(1, 4)])
def test_a_correct_model_keeps_to_its_annotations(name: str, place: tuple[Path, Worker]) -> None:
    folder, worker = place
    fixture = fixture_of(name, "good")
    shutil.copy(fixture.path, folder / f"{name}.py")
    request = replace(fixture.request("none"), target=f"{name}.py:{fixture.name}")
    done = held(request, worker.run(request), worker)
    assert done.left == []
    assert done.run is not None
    assert len(done.run.result.confirm["batches"]) == 2
    assert tokens_kept(fixture.path.read_text(), done.texts[f"{name}.py"], ("jaxtyping", "torch"))
    assert 'Float[torch.Tensor, "batch' in done.texts[f"{name}.py"] or 'Float[Tensor, "batch' in done.texts[f"{name}.py"]


@pytest.mark.parametrize("name", ["vae201_shared_noise", "vae301_crossed_broadcast", "vae402_kl_overweight"][: examples(1, 3)])
def test_the_shapes_that_the_code_has_hide_no_bug(name: str, place: tuple[Path, Worker], checker: Worker) -> None:
    """Type-checked at run time the annotated file is silent: its author wrote down what the code does. The bug is found all the same."""
    folder, worker = place
    fixture = fixture_of(name)
    shutil.copy(fixture.path, folder / f"{name}.py")
    request = replace(fixture.request("none"), target=f"{name}.py:{fixture.name}")
    done = held(request, worker.run(request), worker)
    assert done.run is not None
    assert done.run.result.confirm["outcome"] == "ran"
    found = checker.run(replace(request, overlay=tuple(done.texts.items()))).result.findings
    assert {code for e in fixture.expectations for code in e.codes} & {f.code for f in found}


_TEXTS = st.sampled_from(["B", "L", "D", "300", "7", "3*B", "T", "1"])


@given(st.lists(st.lists(_TEXTS, min_size=1, max_size=4), min_size=1, max_size=6))
def test_a_name_stands_for_one_size(shapes: list[list[str]]) -> None:
    names = Names({"B": 32, "D": 784, "L": 20})
    seen: dict[str, str] = {}
    for shape in shapes:
        written = names.axes([shape], maps=False)
        assert written is not None
        for text, name in zip(shape, written.split(), strict=True):
            assert seen.setdefault(name, text) == text
