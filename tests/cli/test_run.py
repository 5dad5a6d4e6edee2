"""`vaelint run SCRIPT`: a script as `python` runs it, watched, and checked."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import commandline
import pytest
import torch
from lefttrees import held_by_kernel, tree

import vaelint
from vaelint.config.file import load
from vaelint.core.errors import UsageError
from vaelint.observe.data.absent import NOTHING, absent_packages
from vaelint.observe.data.image_sets import made_up, where_absent
from vaelint.observe.data.known import KNOWN, emnist
from vaelint.observe.data.torchvision import torchvision_data
from vaelint.pytest_plugin import Checker

DATA = Path(__file__).parents[1] / "data" / "runs"


def run(*words: str, cwd: Path = DATA) -> subprocess.CompletedProcess[str]:
    return commandline.vaelint("run", *words, cwd=cwd)


def test_a_script_is_run_with_its_own_arguments_and_its_loss_is_known_by_line() -> None:
    done = commandline.installed("run", "--output-format", "json", "train.py", "--epochs", "2", "--batch-size", "10", cwd=DATA)
    assert done.returncode == 0, done.stdout + done.stderr
    (target,) = json.loads(done.stdout)["targets"]
    assert target["target"] == "train.py:VAE" and target["status"] == "clean" and target["symbols"]["B"] == 10
    line = next(n for n, text in enumerate((DATA / "train.py").read_text().splitlines(), 1) if "loss.backward()" in text)
    assert any(
        n == f"observed: train.py --epochs 2 --batch-size 10; the loss is what train.py:{line} calls backward() on" for n in target["notes"]
    )


def test_what_is_no_script_and_what_does_not_train_is_said_in_one_message() -> None:
    missing = run("nothing.py")
    assert missing.returncode == 2 and "there is no file nothing.py" in missing.stderr
    broken = run("train.py", "--epochs", "none")
    assert broken.returncode == 2, broken.stdout
    assert "argument --epochs: invalid int value: 'none'" in " ".join(broken.stdout.split())
    assert "Traceback" not in broken.stdout + broken.stderr
    lacking = run("mnist.py", "--epochs", "1")
    assert "the following arguments are required: --out" in " ".join(lacking.stdout.split())
    assert "help: vaelint run mnist.py --epochs 1 --out VALUE" in lacking.stdout
    late = " ".join(run("train.py", "--epochs", "1", "--plot", "--output-format", "html:run.html").stdout.split())
    assert "options of vaelint go before the script: vaelint run --plot --output-format html:run.html train.py --epochs 1 more:" in late


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a training script and things that it would overwrite and remove."""
    for name in ("keep.txt", "notes.txt", "data/images/one.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name} as it was")
    shutil.copy(DATA / "writes.py", tmp_path)
    return tmp_path


def test_a_watched_script_leaves_the_folder_byte_for_byte_as_it_was(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, scratch = tree(project), tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv("TMPDIR", str(scratch))  # what other tests have there for a while is not this run's
    done = run("-v", "writes.py", *(["--below"] if held_by_kernel() else []), cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tree(project) == before
    assert list(scratch.glob("vaelint-run-*")) == []
    said = " ".join(done.stdout.split())
    lines = (DATA / "writes.py").read_text().splitlines()
    for what, text in {
        "make the folder out/images": "os.makedirs(",
        "write log.txt": 'open("log.txt", "a")',
        "remove keep.txt": 'os.remove("keep.txt")',
        "rename notes.txt to moved.txt": "os.rename(",
        "start 'touch evil.txt'": "os.system(",
        "connect to 192.0.2.1:80": "socket.create_connection(",
        "save out/model.pt": "out/model.pt",
        "save last.pt": "last.pt",
        "remove data": "shutil.rmtree(",
    }.items():
        line = next(n for n, own in enumerate(lines, 1) if text in own)
        assert f"held back: {what} (writes.py:{line})" in said, what
    if held_by_kernel():
        assert "below: -1" in done.stdout


def test_writes_are_allowed_where_that_is_asked_for(project: Path) -> None:
    done = run("--allow-writes", "writes.py", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "out" / "model.pt").is_file() and (project / "evil.txt").is_file() and not (project / "data").exists()
    assert "held back" not in done.stdout


def test_a_script_that_does_not_come_to_train_is_stopped_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\n\nfor i in range(10**6):\n    time.sleep(0.01)  # here\n")
    done = run("--timeout", "3", "slow.py", cwd=tmp_path)
    assert done.returncode == 2 and "slow.py:4" in done.stdout and "vaelint run --timeout 6 slow.py" in " ".join(done.stdout.split())
    (tmp_path / "large.py").write_text("import torch\n\nheld = [torch.empty(10**9) for _ in range(100)]\n")
    done = run("large.py", cwd=tmp_path)
    assert done.returncode == 2 and "large.py:3" in done.stdout and "more memory than the" in " ".join(done.stdout.split())


def test_a_known_data_set_that_is_not_there_is_made_up_and_that_is_said(tmp_path: Path) -> None:
    shutil.copy(DATA / "mnist.py", tmp_path)
    before = tree(tmp_path)
    done = run("--data", "made-up", "--output-format", "json", "mnist.py", "--out", "runs/first", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (target,) = json.loads(done.stdout)["targets"]
    lines = (DATA / "mnist.py").read_text().splitlines()
    made, minimised = (next(n for n, own in enumerate(lines, 1) if text in own) for text in ("datasets.MNIST(", "loss.backward()"))
    assert target["target"] == "mnist.py:ConvVAE" and target["loss"]["beta"]["value"] == 1
    assert f"made-up data instead of MNIST: 60000 images of 1x28x28 (mnist.py:{made})" in target["notes"]
    (data,) = (c for c in target["assumptions"] if c["kind"] == "data")
    assert (data["name"], data["value"], data["where"]["line"]) == ("MNIST", "60000 images of 1x28x28", made)
    assert any(n.endswith(f"the loss is what mnist.py:{minimised} calls backward() on") for n in target["notes"])
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", [*KNOWN, "EMNIST"])
def test_made_up_data_sets_have_the_shapes_and_attributes_of_the_true_ones(name: str) -> None:
    said: list[str] = []
    with torchvision_data("made-up", said.append):
        from torchvision import datasets, transforms

        how: dict[str, Any] = (
            {"split": "balanced"} if name == "EMNIST" else {"split": "test"} if name in ("SVHN", "STL10", "CelebA") else {}
        )
        found = getattr(datasets, name)("nowhere", download=True, transform=transforms.ToTensor(), **how)
        image, label = found[len(found) - 1]
    known = emnist("balanced") if name == "EMNIST" else KNOWN[name]
    assert image.shape == (known.channels, known.height, known.width) and image.dtype is torch.float32
    assert 0 <= float(image.min()) < float(image.max()) <= 1
    assert len(label) == 40 if name == "CelebA" else 0 <= label < len(known.classes)
    assert len(said) == 1 and name in said[0] and "torchvision" not in sys.modules
    if name != "CelebA":
        assert len(found) == len(getattr(found, known.labels)) and found.class_to_idx
    with pytest.raises(IndexError):
        found[len(found)]


class Original:
    """As torchvision's data sets are: it raises where its data are not there."""

    def __init__(self, root: str, train: bool = True, transform: Any = None, download: bool = False) -> None:
        if root == "absent":
            raise RuntimeError("Dataset not found. You can use download=True to download it")
        self.data = torch.full((3, 28, 28), 7)
        self.transform = transform

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.data[index], 1

    def __len__(self) -> int:
        return len(self.data)


@pytest.mark.parametrize("installed", [True, False])
def test_a_data_set_of_the_scripts_own_may_derive_from_one_that_is_made_up(installed: bool) -> None:
    kind: Any = where_absent(Original, "MNIST", lambda what: None) if installed else made_up("MNIST", lambda what: None)

    class Own(kind):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__("absent", train=False, transform=lambda image: "changed", download=True)
            self.data: Any = self.data[:64]

        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(index)[0]

    own = Own()
    assert isinstance(own, kind) and len(own) == 64 and own[3] == "changed" and len(own.targets) == len(own.test_labels) == 10000
    if installed:
        assert isinstance(own, Original) and len(kind("there")) == 3 and int(kind("there")[0][0][0, 0]) == 7


def test_made_up_images_pass_the_usual_transforms() -> None:
    with torchvision_data("made-up", lambda what: None):
        from torchvision import datasets, transforms
        from torchvision.utils import make_grid

        chain = transforms.Compose([
            transforms.Resize((40, 36)), transforms.CenterCrop(32), transforms.RandomCrop(28, padding=2), transforms.RandomHorizontalFlip(),
            transforms.Grayscale(3), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3), transforms.Lambda(torch.flatten),
        ])  # fmt: skip
        found = datasets.CIFAR10("nowhere", train=False, transform=chain)
        assert found[0][0].shape == (3 * 28 * 28,) and float(found[0][0].min()) >= -1
        assert found.data.shape == (10000, 32, 32, 3) and found.data.dtype == "uint8"
        found.data = found.data[:50]
        assert len(found) == 50 and found[49][0].shape == (3 * 28 * 28,)
        assert make_grid(torch.rand(5, 1, 4, 4), nrow=3, padding=1).shape == (3, 11, 16)
        from torchvision.transforms import transforms as inner

        assert inner.Compose is transforms.Compose
        with pytest.raises(AttributeError, match=r"torchvision\.transforms\.Elastic is not stood in for"):
            transforms.Elastic(2)
        with pytest.raises(AttributeError, match=r"torchvision\.ops is not stood in for"):
            importlib.import_module("torchvision").ops.nms(1)
        assert issubclass(datasets.CIFAR10, datasets.VisionDataset) and transforms.Elastic | None


def test_a_package_that_asks_for_torchvision_hears_that_it_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with torchvision_data("made-up", lambda what: None, own=lambda file: False):
        assert importlib.util.find_spec("torchvision") is None  # asked by a file that is not the script's, as Lightning does
        with pytest.raises(ImportError):
            try:
                import torchvision
            finally:
                pass
        (tmp_path / "needs_it.py").write_text("from torchvision.datasets import MNIST")  # as Pyro's examples do
        monkeypatch.syspath_prepend(str(tmp_path))
        assert importlib.import_module("needs_it").MNIST
    with torchvision_data("made-up", lambda what: None):
        import torchvision.utils

        assert importlib.util.find_spec("torchvision") is not None and torchvision.utils.make_grid


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two trainings, one named in the README with what it needs; one whose options no text gives; and a model that nothing trains."""
    (tmp_path / "pkg").mkdir()
    shutil.copy(DATA / "mnist.py", tmp_path / "pkg")
    shutil.copy(DATA / "train.py", tmp_path)
    shutil.copy(DATA.parent / "mlp_vae.py", tmp_path / "other.py")
    (tmp_path / "needs.py").write_text((DATA / "mnist.py").read_text().replace("--out", "--token"))
    (tmp_path / "README.md").write_text("# Train\n\n```sh\npython pkg/mnist.py --epochs 3 \\\n    --out runs/a\n```\n")
    return tmp_path


def test_a_folder_is_observed_where_it_trains_and_built_where_it_does_not(repository: Path) -> None:
    words = ["check", "repository", "--device", "none", "--output-format", "json"]
    repository = repository.rename(repository.parent / "repository")
    done = commandline.vaelint(*words, cwd=repository.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    targets = {t["target"]: t["notes"] for t in json.loads(done.stdout)["targets"]}
    assert list(targets)[:2] == ["repository/pkg/mnist.py:ConvVAE", "repository/train.py:VAE"]
    assert "repository/other.py:VAE" in targets
    assert any("observed: pkg/mnist.py --epochs 3 --out runs/a; the loss is" in n for n in targets["repository/pkg/mnist.py:ConvVAE"])
    assert "repository/needs.py was not observed: it cannot do without --token" in done.stderr
    assert "cd repository && vaelint run needs.py --token VALUE" in done.stderr


def test_a_configured_command_is_a_target_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    shutil.copy(DATA / "train.py", tmp_path)
    (tmp_path / "vaelint.toml").write_text('[[targets]]\nrun = "python train.py --epochs 1 --batch-size 10"\ndevice = "none"\n')
    words = ["check", "--output-format", "json"]
    done = commandline.vaelint(*words, cwd=tmp_path / "below")
    (target,) = json.loads(done.stdout)["targets"]
    assert done.returncode == 0 and target["target"] == "../train.py:VAE" and target["symbols"]["B"] == 10


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('run = "gone.py"', "there is no file gone.py"),
        ('run = "train.py"\ninput = "3x4"', "run and inputs contradict each other"),
        ('run = "-m"', "run must be a command such as"),
        ('device = "cpu"', "no target"),
    ],
)
def test_a_command_that_makes_no_sense_is_one_message(tmp_path: Path, table: str, said: str) -> None:
    (tmp_path / "train.py").touch()
    (tmp_path / "vaelint.toml").write_text(f"[[targets]]\n{table}\n")
    with pytest.raises(UsageError) as error:
        load(tmp_path)
    assert said in error.value.message


def test_packages_that_draw_and_log_do_nothing_where_they_are_not_installed() -> None:
    said: list[str] = []
    missing = sorted(n for n in NOTHING if importlib.util.find_spec(n) is None)
    with absent_packages(said.append):
        for name in missing:
            importlib.import_module(name)
        if "matplotlib" in missing:
            plots = importlib.import_module("matplotlib.pyplot")
            figure, axes = plots.subplots(2, 3)
            axes[0, 1].imshow(1).set_title("x")
            figure.savefig("x.png")
            figure, (left, right) = plots.subplots(1, 2)
            heights, _, _ = left.hist([1, 2])
            assert not list(heights) and [right.plot(1) for _ in axes] == []
        if "tqdm" in missing:
            bar = importlib.import_module("tqdm").tqdm([3, 4], desc="x")
            assert list(bar) == [3, 4] and len(bar) == 2
            importlib.import_module("tqdm").tqdm.pandas()
    assert len(said) == len(missing)
    assert not set(missing) & set(sys.modules)


def test_from_python_a_command_is_run_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    seen = Checker().run("train.py", "--epochs", "2", device="none")
    assert seen.clean and seen.report.target == "train.py:VAE"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "absent.py").write_text("import json\n\nsizes = json.load(open('data/config.json'))\n")
    (finding,) = vaelint.run("absent.py").report.findings
    assert finding.message == "the script reads data/config.json, which is not there" and finding.span.line == 3
    with pytest.raises(UsageError, match=r"there is no file gone\.py"):
        vaelint.run("gone.py")


@pytest.mark.parametrize(("rows", "codes"), [(100, ["VAE102"]), (160, [])])
def test_a_batch_size_in_the_loop_is_wrong_where_a_smaller_batch_comes(tmp_path: Path, rows: int, codes: list[str]) -> None:
    text = (DATA / "train.py").read_text().replace("model(x)", "model(x.view(args.batch_size, 12))").replace("rand(100,", f"rand({rows},")
    (tmp_path / "fixed.py").write_text(text.replace("zeros(100)", f"zeros({rows})"))
    done = run("--output-format", "json", "fixed.py", cwd=tmp_path)
    (target,) = json.loads(done.stdout)["targets"]
    assert [f["code"] for f in target["findings"]] == codes and done.returncode == len(codes), done.stdout
    assert any("instead of 16 the script raises at fixed.py:" in n for n in target["notes"])
