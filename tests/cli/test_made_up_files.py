"""Data that a watched script reads and that are not there: files and folders, and the data sets of libraries."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import sys
import time
import traceback
import types
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import commandline
import numpy as np
import pytest
import torch

from vaelint.core.finding import Finding, Severity, Span
from vaelint.core.result import Request, TargetResult
from vaelint.observe.data.absent_files import COUNT, AbsentFiles, guessed_size, png
from vaelint.observe.data.after_import import changed_when_imported
from vaelint.observe.data.library_sets import library_data
from vaelint.observe.data.older_names import older_names
from vaelint.observe.data.public_files import public_file
from vaelint.observe.data.torchvision import stand_in
from vaelint.observe.data.unknown.wishes import Wishes
from vaelint.observe.data.wanted import is_wanted
from vaelint.observe.script import passing_version_asserts
from vaelint.pipeline.attempts import clean_copy
from vaelint.pipeline.other_data import places_of
from vaelint.pipeline.script_errors import said_of
from vaelint.trace.spans import SpanFinder

TRAIN = """\
import torch
from torch import nn, optim

rows = [[float(word) for word in line.split()] for line in open("data/binarized_mnist_train.amat")]


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(784, 8), nn.Linear(4, 784)

    def forward(self, x):
        mu, logvar = self.encode(x).chunk(2, dim=1)
        return self.decode(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar


model = VAE()
optimizer = optim.Adam(model.parameters())
for x in torch.utils.data.DataLoader(torch.tensor(rows), batch_size=10):
    recon, mu, logvar = model(x)
    loss = nn.functional.binary_cross_entropy_with_logits(recon, x, reduction="sum") - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_a_public_file_that_is_not_there_is_made_up_and_the_folder_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    done = commandline.vaelint("run", "--output-format", "json", "train.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (target,) = json.loads(done.stdout)["targets"]
    said = "made-up data instead of data/binarized_mnist_train.amat (binarised MNIST): 1000 images of 784 numbers, 0 or 1 (train.py:4)"
    assert said in target["notes"] and target["status"] == "clean"
    assert [p.name for p in tmp_path.iterdir()] == ["train.py"]


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz", {"imgs": (4096, 64, 64), "latents_classes": (4096, 6)}),
        ("mnist.npz", {"x_train": (60000, 28, 28), "y_test": (10000,)}),
    ],
)
def test_arrays_of_public_files_have_their_shapes(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    known, file = public_file(name), io.BytesIO()
    assert known is not None and known.write(file)
    held = np.load(io.BytesIO(file.getvalue()), allow_pickle=True)
    assert all(held[key].shape == shape for key, shape in shapes.items()) and held[next(iter(shapes))].dtype == np.uint8


def test_files_that_nothing_is_known_of_are_not_made_up() -> None:
    assert public_file("features.npz") is None and public_file("train.csv") is None


@pytest.mark.parametrize(("code", "folders"), [("Image.open(path)", [""]), ("datasets.ImageFolder(root)", ["a", "b"]), ("json.load", [])])
def test_a_folder_of_images_is_made_where_the_code_reads_images(tmp_path: Path, code: str, folders: list[str]) -> None:
    said: list[str] = []
    make = AbsentFiles(said.append, lambda: " (train.py:3)", lambda: code)
    made = make("data/faces", str(tmp_path / "faces"), open, lambda path: Path(path).mkdir(parents=True, exist_ok=True), True)
    assert made is bool(folders) and len(said) == bool(folders)
    files = [p for p in (tmp_path / "faces").rglob("*") if p.is_file()]
    assert len(files) == (COUNT if folders else 0)
    assert {p.parent.relative_to(tmp_path / "faces").as_posix().strip(".") for p in files} == set(folders)


WANTED = """
def has(path):
    return exists(path)

assert exists("a"), "no data"  # wanted
if not has("b"):  # wanted
    raise RuntimeError
if exists("c"):  # optional
    load("c")
if not exists("d"):  # optional
    makedirs("d")
if not exists("e"):  # wanted
    download("e")
"""


def test_a_path_that_a_script_cannot_do_without_is_told_from_one_that_it_makes(tmp_path: Path) -> None:
    file, said = tmp_path / "train.py", list[bool]()
    file.write_text(WANTED)

    def exists(path: str) -> bool:
        said.append(is_wanted(f for f, _ in traceback.walk_stack(sys._getframe(1)) if f.f_code.co_filename == str(file)))
        return True

    names: dict[str, Any] = {"exists": exists, "load": print, "makedirs": print, "download": print}
    exec(compile(WANTED, str(file), "exec"), names)
    assert said == ["# wanted" in line for line in WANTED.splitlines() if line.endswith(("# wanted", "# optional"))]


def test_names_of_older_releases_are_given_to_the_script_and_to_nobody_else(tmp_path: Path) -> None:
    said: list[str] = []
    names: dict[str, Any] = {}
    code = "import numpy as np, torch\nmade = np.product((2, 3)) + np.int(0)\nbatch = iter(torch.utils.data.DataLoader([1])).next()"
    with older_names(said.append, lambda file: file == "train.py"):
        exec(compile(code, "train.py", "exec"), names)
        assert not hasattr(np, "product")
    assert names["made"] == 6 and said == [
        "this NumPy has no numpy.product: the script got prod", "this NumPy has no numpy.int: the script got int"
    ]  # fmt: skip


def test_what_reads_folders_of_images_is_stood_in_for_by_all_its_names() -> None:
    folder: Any = stand_in(lambda _: None)["torchvision.datasets.folder"]
    assert folder.has_file_allowed_extension("a/B.PNG", folder.IMG_EXTENSIONS) and not folder.is_image_file("labels.csv")
    assert folder.pil_loader is folder.default_loader and folder.ImageFolder


def test_networks_that_torchvision_has_are_stood_in_for_and_others_can_be_imported() -> None:
    said: list[str] = []
    models: Any = stand_in(said.append)["torchvision.models"]
    with torch.device("meta"):
        assert sum(p.numel() for p in models.vgg11_bn(weights=models.VGG11_BN_Weights.DEFAULT).parameters()) == 132_868_840
        assert sum(p.numel() for p in models.resnet50(pretrained=True).parameters()) == 25_557_032
        assert models.resnet18()(torch.rand(2, 3, 64, 64)).shape == (2, 1000)
    with pytest.raises(AttributeError, match="install torchvision"):
        models.densenet121()


def test_where_python_itself_looks_for_modules_no_images_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "absent"))
    make = AbsentFiles(lambda what: None, lambda: " (train.py:3)", lambda: "Image.open(path)")
    for path in (str(tmp_path / "absent"), "/usr/lib/python311.zip"):
        assert not make(path, str(tmp_path / "twin"), open, lambda path: None, True)


def test_a_made_up_image_is_a_png_of_the_size_that_is_said() -> None:
    height, width = guessed_size("transforms.Resize(64)")
    data = png(torch.full((3, height, width), 7, dtype=torch.uint8))
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and int.from_bytes(data[16:20], "big") == width and int.from_bytes(data[20:24], "big") == height
    start = data.index(b"IDAT") + 4
    pixels = zlib.decompressobj().decompress(data[start:])
    assert len(pixels) == height * (3 * width + 1) and set(pixels) == {0, 7}


@pytest.mark.skipif(importlib.util.find_spec("keras") is not None, reason="Keras is installed")
def test_the_data_sets_of_a_keras_that_is_not_installed_are_there_for_the_script() -> None:
    said: list[str] = []
    with library_data("auto", said.append):
        keras: Any = importlib.import_module("keras.datasets.mnist")
        (images, labels), (others, _) = keras.load_data()
        tensorflow: Any = importlib.import_module("tensorflow")
        assert tensorflow.keras.datasets.cifar10.load_data()[0][1].shape == (50000, 1)
        with pytest.raises(ModuleNotFoundError, match="install tensorflow"):
            _ = tensorflow.function
    assert images.shape == (60000, 28, 28) and images.dtype == np.uint8 and labels.max() == 9 and len(others) == 10000
    assert len(said) == 2 and "keras" not in sys.modules and "tensorflow" not in sys.modules


def test_a_module_is_changed_when_it_is_imported_and_not_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_library.py").write_text("def fetch():\n    raise OSError('no network')\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def change(module: ModuleType) -> None:
        module.__dict__["fetch"] = lambda: "made up"

    with changed_when_imported({"some_library": change}):
        assert "some_library" not in sys.modules
        assert importlib.import_module("some_library").fetch() == "made up"
    with pytest.raises(OSError, match="no network"):
        importlib.import_module("some_library").fetch()


def test_a_number_is_indexed_as_before_pytorch_0_4_and_nothing_else_is() -> None:
    said: list[str] = []
    names: dict[str, Any] = {"torch": torch}
    with older_names(said.append, lambda file: file == "train.py"):
        exec(compile("read = torch.tensor(2.5).data[0]; row = torch.ones(2, 3)[0]", "train.py", "exec"), names)
        for index in (1, slice(None)):
            with pytest.raises(IndexError):
                exec(compile("torch.tensor(2.5)[index]", "train.py", "exec"), {"torch": torch, "index": index})
        with pytest.raises(IndexError):
            torch.tensor(2.5)[0]  # of a library
        assert torch.tensor([torch.tensor(2.5), torch.tensor(1.5)]).tolist() == [2.5, 1.5]  # a number is no sequence
    assert float(names["read"]) == 2.5 and names["row"].shape == (3,)
    assert said == ["this PyTorch has no loss.data[0]: the script got the number itself"]
    assert "__getitem__" not in vars(torch.Tensor)


def test_a_canvas_of_matplotlib_gives_its_colours_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("matplotlib.backends.backend_agg")
    module.__dict__["FigureCanvasAgg"] = type("FigureCanvasAgg", (), {"buffer_rgba": lambda self: memoryview(bytes(range(8)))})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    said: list[str] = []
    with older_names(said.append, lambda file: True):
        assert module.__dict__["FigureCanvasAgg"]().tostring_rgb() == bytes([0, 1, 2, 4, 5, 6])
    assert said == ["this Matplotlib has no tostring_rgb: the script got it of buffer_rgba"]


def test_a_part_of_the_images_that_is_kept_under_the_older_name_is_the_length() -> None:
    sets: Any = stand_in(lambda text: None)["torchvision.datasets"]
    made = sets.MNIST("data", train=True, download=True)
    assert len(made) == 60000
    made.train_data = made.train_data[:47000]
    assert len(made) == 47000


def test_a_backend_that_matplotlib_lacks_and_tensors_of_pyro_0_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def use(backend: str) -> None:
        if backend != "agg":
            raise ValueError(backend)

    drawing, tensors = types.ModuleType("matplotlib"), types.ModuleType("pyro.util")
    drawing.__dict__["use"] = use
    for module in (drawing, tensors):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    said: list[str] = []
    with older_names(said.append, lambda file: True):
        drawing.__dict__["use"]("agg")
        drawing.__dict__["use"]("kitcat")
        assert tensors.__dict__["ng_zeros"](2, 3).shape == (2, 3) and tensors.__dict__["ng_ones"](2).sum() == 2
    assert [text.partition(":")[0] for text in said] == [
        "this Matplotlib has no backend 'kitcat', which the script asks for",
        "this Pyro has no pyro.util.ng_zeros",
        "this Pyro has no pyro.util.ng_ones",
    ]


def test_matrices_of_graphs_and_type_variables_have_their_older_names() -> None:
    said: list[str] = []
    graphs, sets = importlib.import_module("networkx"), importlib.import_module("torch.utils.data.dataset")
    with older_names(said.append, lambda file: True):
        assert graphs.from_numpy_matrix(graphs.to_numpy_array(graphs.path_graph(3))).number_of_edges() == 2
        assert sets.T_co.__covariant__
    assert not hasattr(graphs, "from_numpy_matrix") and not hasattr(sets, "T_co")
    assert said == [
        "this NetworkX has no from_numpy_matrix: the script got its array",
        "this PyTorch has no torch.utils.data.dataset.T_co: the script got _T_co",
    ]


def test_what_stands_in_for_an_absent_matplotlib_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = types.ModuleType("matplotlib")  # whatever is asked of it comes from __getattr__
    monkeypatch.setitem(sys.modules, "matplotlib", absent)
    with older_names(print, lambda file: True):
        assert "use" not in vars(absent)


def test_an_assertion_about_a_version_stops_no_module_of_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import torch\nassert torch.__version__.startswith('0.3')\nassert len('ab') == 2, 'kept'\nmade = 1\n"
    for name in ("own_old_model", "library_old_model"):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    with passing_version_asserts(said.append, lambda file: Path(file).name.startswith("own_")):
        assert importlib.import_module("own_old_model").__dict__["made"] == 1
        with pytest.raises(AssertionError):
            importlib.import_module("library_old_model")
    assert said == ["own_old_model.py:2 asserts a version, which was passed over"]


def test_a_file_that_hdf5_does_not_find_is_named_at_the_line_of_the_script(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with pytest.raises(FileNotFoundError) as raised:
        h5py.File(tmp_path / "own.h5")
    assert said_of(raised.value)[0] == f"the script reads {tmp_path / 'own.h5'}, which is not there"
    places = SpanFinder(str(Path(__file__).parent)).of_traceback(raised.value)
    assert places and all(Path(s.file).suffix == ".py" for s in places)


SIZED = """\
import os
import struct
import zlib

import numpy as np
import torch
from torch import nn


def imread(path):
    data = open(path, "rb").read()
    width, height = struct.unpack(">II", data[16:24])
    start = data.index(b"IDAT")
    rows = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + struct.unpack(">I", data[start - 4 : start])[0]]), np.uint8)
    return rows.reshape(height, 1 + 3 * width)[:, 1:].reshape(height, width, 3)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, x):
        mu, logvar = self.encode(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)).chunk(2, dim=1)
        small = self.decode(mu + torch.randn_like(mu) * (0.5 * logvar).exp()).view(-1, 3, 2, 2)
        return small.repeat(1, 1, x.shape[2] // 2, x.shape[3] // 2), mu, logvar


model = VAE()
optimizer = torch.optim.Adam(model.parameters())
images = torch.stack([torch.from_numpy(imread("faces/" + name).copy()).permute(2, 0, 1) / 255 for name in sorted(os.listdir("faces"))[:32]])
for x in torch.utils.data.DataLoader(images, batch_size=8):
    recon, mu, logvar = model(x)
    spread = logvar if x.shape[3] in (64, 178) else logvar.exp()
    loss = ((recon - x) ** 2).sum() - 0.5 * (1 + logvar - mu**2 - spread).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_what_holds_only_for_the_size_that_was_guessed_is_not_reported(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SIZED)
    done = commandline.vaelint("run", "--output-format", "json", "train.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (target,) = json.loads(done.stdout)["targets"]
    assert not target["findings"] and target["confirm"]["outcome"] == "ran"
    assert any(n.startswith("VAE4") and "only with the guessed faces=images of 3x" in n for n in target["notes"])


def test_a_second_run_starts_where_the_first_had_not_begun() -> None:
    began: list[int] = []
    place = Span("train.py", 7, 1, 7, 5)

    def check(request: Request, emit: object, wishes: Wishes) -> list[TargetResult]:
        found = Finding("VAE408", "kl-formula", Severity.ERROR, "the KL", place) if not began else None
        wishes.sizes["faces"] = len(request.target)
        return [TargetResult("train.py", rung="real", findings=[found] if found is not None else [])]

    with clean_copy(check) as ask:
        began.append(1)
        answer = ask(Request("train.py"), Wishes(), 60.0)
        assert answer is not None and places_of(answer.results) == {("VAE408", "train.py", 7)}
        again = ask(Request("main.py"), answer.wishes, 60.0)
        assert again is not None and again.wishes.sizes == {"faces": 7} and answer.wishes.sizes == {"faces": 8}
    with clean_copy(check) as ask:
        answer = ask(Request("train.py"), Wishes(), 60.0)
        assert answer is not None and places_of(answer.results) == set()


def test_a_second_run_that_does_not_fit_or_takes_too_long_tells_nothing() -> None:
    for check in (lambda *_: 1 / 0, lambda *_: time.sleep(60)):
        with clean_copy(check) as ask:  # type: ignore[arg-type]
            assert ask(Request("train.py"), Wishes(), 0.5) is None


def test_tables_of_pandas_take_rows_as_they_did(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("pandas")
    kinds = {"DataFrame": type("DataFrame", (), {"items": lambda self: [("a", 1)]}), "Series": type("Series", (), {})}
    module.__dict__.update(kinds, concat=lambda tables, ignore_index: (len(tables), ignore_index))
    monkeypatch.setitem(sys.modules, "pandas", module)
    said: list[str] = []
    table: Any = kinds["DataFrame"]()
    with older_names(said.append, lambda file: True):
        assert table.append(table, ignore_index=True) == (2, True) and table.append([table, table]) == (3, False)
        assert list(table.iteritems()) == [("a", 1)]
    assert said[0] == "this pandas has no DataFrame.append: the script got concat" and "got items" in said[-1]
