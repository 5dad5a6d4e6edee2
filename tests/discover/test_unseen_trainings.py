"""A model whose training could not be observed: what is in the way is said of it, with the one thing to type."""

from __future__ import annotations

import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vaelint.core.checked import Checked
from vaelint.core.finding import Finding, Severity, Span
from vaelint.core.result import Request, TargetResult
from vaelint.discover import proposals
from vaelint.discover.entries import Entry
from vaelint.discover.folders import Crew, _tried, _unseen
from vaelint.discover.observing import News, Tried, _depth, _next, _worth
from vaelint.discover.proposals import Proposal
from vaelint.discover.structure import Found, find
from vaelint.loading.placeholder import installing
from vaelint.observe.data.absent_files import _name
from vaelint.observe.data.image_sets import made_up
from vaelint.observe.data.known import KNOWN
from vaelint.observe.data.public_downloads import public_downloads
from vaelint.observe.data.stand_ins import NotStoodInError
from vaelint.observe.held.held_back import writes_held_back
from vaelint.pipeline.gaps import NO_LOSS
from vaelint.pipeline.not_observed import say_unseen
from vaelint.pipeline.script_errors import said_of
from vaelint.process.gate import Hired

MODEL = "import torch\nclass VAE(torch.nn.Module):\n    def forward(self, x):\n        return x + torch.randn_like(x)\n"


def _result(target: str, line: int) -> TargetResult:
    result = TargetResult(target, anatomy={"sites": [{}]})
    result.loss = {"terms": [{"role": "kl", "kernel": "Gaussian KL", "span": {"file": "a.py", "line": line}}], "objective": "an ELBO"}
    return result


def test_a_second_command_that_shows_no_more_is_no_news() -> None:
    news = News()
    assert news(Checked(_result("a.py:VAE", 3)))
    assert not news(Checked(_result("a.py:VAE", 3))), "the same model, with the same loss"
    assert news(Checked(_result("a.py:VAE", 4))), "another loss"
    assert not news(Checked(replace(_result("a.py:Deep", 3), status="failed")))


def test_guessed_values_are_not_tried_once_a_command_was_observed(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("from zoo import VAE\n")
    (tmp_path / "zoo.py").write_text(MODEL)
    told, guess = ("train.py", "--deep"), ("train.py", "--data", "data")
    entry = Entry(tmp_path / "train.py", ("train.py",), others=(guess, told), told=(told,))
    left = [("VAE", tmp_path / "zoo.py")]
    good = Tried(entry, Request("train.py", run=entry.words), frozenset({"Other"}), frozenset({("Other",)}))
    assert _next(entry, [good], [entry.words], left, tmp_path) == [(told, "")]
    bad = Tried(entry, None, because="it raises")
    assert _next(entry, [bad], [entry.words], left, tmp_path) == [(guess, "")]
    aimed = replace(bad, aim="VAE")
    assert _worth([good, bad, aimed]) == [good, aimed], "what was to show a class and did not is said"


@pytest.mark.parametrize("status", ["failed", "incomplete", "clean"])
def test_what_keeps_a_training_from_being_observed_is_said_of_its_model(tmp_path: Path, status: str) -> None:
    (tmp_path / "train.py").write_text("from zoo import VAE\n")
    (tmp_path / "zoo.py").write_text(MODEL)
    (shape,) = find(tmp_path).candidates
    entry = Entry(tmp_path / "train.py", ("train.py",))
    unseen = _unseen(shape, [Tried(entry, None, because="it reads  a.csv", type_this="put a.csv there", depth=2)], [])
    assert unseen[1:] == ("it reads a.csv", "put a.csv there")
    finding = Finding("VAE004", "no-loss-found", Severity.INFO, "no loss was found", Span("zoo.py", 2), help="name it")
    result = TargetResult("zoo.py:VAE", status, findings=[finding])  # type: ignore[arg-type]
    if status == "incomplete":
        result.leave_out(NO_LOSS, "name the loss")
        result.leave_out("the real pass did not run", "--device none")
    say_unseen(Request("zoo.py:VAE", unseen=unseen), result)
    (said,) = result.findings
    if status == "clean":
        assert said == finding
        return
    assert said.help == "put a.csv there" and said.notes == (f"{unseen[0]} may train it, and was not observed: it reads a.csv",)
    assert [row["help"] for row in result.incomplete] == ["put a.csv there", "--device none"][: len(result.incomplete)]


def test_a_package_that_is_not_there_comes_first(tmp_path: Path) -> None:
    finding = Finding("VAE001", "cannot-import", Severity.ERROR, "it needs scvi", Span("zoo.py", 2), help=installing("scvi"))
    result = TargetResult("zoo.py:VAE", "failed", findings=[finding])
    say_unseen(Request("zoo.py:VAE", unseen=("train.py", "it reads a.csv", "put a.csv there")), result)
    assert [f.help for f in result.findings] == ["install it: pip install scvi-tools"]


def test_a_script_of_files_that_have_moved_on_came_less_far() -> None:
    stale = Finding("VAE007", "code-raises", Severity.ERROR, "ImportError: cannot import name 'CVAE' from 'm'", Span("a.py", 2))
    assert _depth(stale) < _depth(replace(stale, message="the script reads post_qc.h5ad, which is not there"))


def test_a_file_that_cannot_be_read_may_hold_the_training(tmp_path: Path) -> None:
    (tmp_path / "zoo.py").write_text(MODEL)
    (tmp_path / "train.py").write_text("from zoo import VAE\nloss.backward(\n")
    found = find(tmp_path)
    assert "fix line 2 of " in _unseen(found.candidates[0], [], found.unread)[2]
    (tmp_path / "train.py").write_text("loss.backward(\n")
    assert _unseen(found.candidates[0], [], found.unread) == ()


def test_a_known_file_is_not_downloaded_and_others_are_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(urllib.request, "urlretrieve", lambda url, name=None: asked.append(url))
    said: list[str] = []
    with public_downloads(said.append):
        urllib.request.urlretrieve("http://no.such.place/train-images-idx3-ubyte.gz", tmp_path / "train-images-idx3-ubyte.gz")
        urllib.request.urlretrieve("http://no.such.place/my.csv", tmp_path / "my.csv")
    assert said == ["held back: download train-images-idx3-ubyte.gz"] and asked == ["http://no.such.place/my.csv"]


def test_hdf5_files_are_written_aside_and_read_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    with h5py.File("there.h5", "w") as file:
        file["x"] = [1]
    with writes_held_back(None):
        with h5py.File("made.h5", "w") as file:
            file["x"] = [2]
        seen = [h5py.File(name, "r")["x"][0] for name in ("made.h5", "there.h5")]
    assert seen == [2, 1] and [p.name for p in tmp_path.iterdir()] == ["there.h5"]


def test_further_sets_of_torchvision_are_made_up() -> None:
    for name, given, size in (("Food101", {"split": "test"}, (512, 384)), ("USPS", {}, (16, 16)), ("EuroSAT", {}, (64, 64))):
        kind: Any = made_up(name, lambda what: None)
        made = kind("data", **given)
        assert len(made) == sum(KNOWN[name].counts.values()) - (75750 if given else 2007 if name == "USPS" else 0)
        assert made[0][0].size == size and 0 <= made[0][1] < len(made.classes)
    assert (
        said_of(NotStoodInError("torchvision.datasets.Kinetics is not stood in for: install torchvision"))[1] == "pip install torchvision"
    )


def test_a_class_whose_forward_calls_empty_methods_is_a_base(tmp_path: Path) -> None:
    base = "class Base(torch.nn.Module):\n    def forward(self, x):\n        return self.encode(x) + torch.randn_like(x)\n"
    (tmp_path / "zoo.py").write_text("import torch\n" + base + "    def encode(self, x):\n        'of a subclass'\n        pass\n")
    assert not find(tmp_path).candidates
    (tmp_path / "zoo.py").write_text(
        "import torch\n" + base + "    def encode(self, x):\n        return x\n    def plot(self):\n        pass\n"
    )
    assert [c.name for c in find(tmp_path).candidates] == ["Base"]


def test_models_are_checked_as_soon_as_it_is_known_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / f"{name}.py").write_text(MODEL)
    said: list[str] = []

    def tried(found: Found, *_: object) -> list[Proposal]:
        said.append("tried")
        return [Proposal(s, Request(s.name)) for s in found.candidates]

    monkeypatch.setattr(proposals, "tried", tried)
    crew = Crew(Hired(), 1, None, lambda what, help: None, lambda requests: said.append(f"{len(requests)} checked"))
    assert len(_tried(find(tmp_path), ".", ".", crew)) == 3
    assert said == ["tried", "2 checked", "tried", "1 checked"]


def test_the_outermost_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    said, help = said_of(FileNotFoundError(2, "No such file", str(tmp_path / "data" / "faces" / "1.csv")))
    assert said.endswith("1.csv, which is not there") and f"your data, the folder {tmp_path / 'data'}," in help
    _, help = said_of(FileNotFoundError(2, "No such file", str(tmp_path / "1.csv")))
    assert help.startswith(f"put {tmp_path / '1.csv'} there")


def test_made_up_images_have_names_that_the_code_can_take_apart() -> None:
    assert _name(3, "int(name.split('_')[0])").split("_") == ["3", "1", "0", "000003"]
    assert _name(3, "name.split('.')") == "000003"
