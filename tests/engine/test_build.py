"""Importing a target and building it: what works, what is inferred, and what each failure says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from usermodels import Load, failure

from vaelint.core.inputs import InputSet
from vaelint.loading.build import load_target
from vaelint.source.target import parse_init, parse_target

# -- loading


def test_a_class_a_factory_and_an_instance(load: Load) -> None:
    text = """
        from torch import nn
        class VAE(nn.Module):
            def __init__(self, latent_dim=3):
                super().__init__()
                self.fc = nn.Linear(4, latent_dim)
        def make(latent_dim):
            return VAE(latent_dim)
        ready = VAE(5)
    """
    inputs = InputSet.from_texts(["8x4"])
    for name, width in (("VAE", 3), ("VAE(latent_dim=7)", 7), ("make", 20), ("ready", 5)):
        loaded = load(f"model.py:{name}", model=text)
        init = loaded.resolve_init(inputs, {})
        first, second = loaded.build(init), loaded.build(init)
        assert isinstance(first, nn.Module) and first is not second and first.fc.out_features == width  # type: ignore[union-attr]


def test_relative_imports_and_siblings(load: Load) -> None:
    files = {
        "repo__DIR__setup": "",
        "repo__DIR__pkg__DIR____init__": "",
        "repo__DIR__pkg__DIR__base": "from torch import nn\nclass Base(nn.Module): ...\n",
        "repo__DIR__pkg__DIR__nets__DIR____init__": "from .vae import VAE\n",
        "repo__DIR__pkg__DIR__nets__DIR__vae": """
            from ..base import Base
            from pkg.base import Base as Same
            import layers
            import tools.util
            class VAE(Base): same = Base is Same
        """,
        "repo__DIR__pkg__DIR__nets__DIR__layers": "x = 1\n",
        "repo__DIR__tools__DIR__util": "x = 1\n",
    }
    loaded = load("repo/pkg/nets/vae.py:VAE", **files)
    assert loaded.module.__name__ == "pkg.nets.vae" and loaded.obj.same and loaded.obj is sys.modules["pkg.nets"].VAE
    assert loaded.notes == []


def test_relative_imports_without_init_files(load: Load) -> None:
    text = "from .parts import n\nfrom ..top import m\nfrom torch import nn\nclass VAE(nn.Module): k = n + m\n"
    assert load("a/b/vae.py:VAE", a__DIR__b__DIR__vae=text, a__DIR__b__DIR__parts="n = 1", a__DIR__top="m = 2").obj.k == 3


def test_a_module_named_like_its_package(load: Load) -> None:
    text = "from .parts import n\nimport parts\nfrom torch import nn\nclass VAE(nn.Module): k = n\n"
    loaded = load("vae/vae.py:VAE", vae__DIR____init__="from .vae import VAE", vae__DIR__vae=text, vae__DIR__parts="n = 1")
    assert loaded.obj.k == 1 and loaded.notes == []


def test_a_module_named_like_a_folder_above_its_package(load: Load) -> None:
    """Without an `__init__.py` of its own, `hvae` would be found at hvae/models/hvae.py, were that folder searched."""
    files = {
        "setup": "",
        "hvae__DIR__models__DIR____init__": "from hvae.models.vae import VAE",
        "hvae__DIR__models__DIR__vae": "from hvae.models.parts import n\nfrom torch import nn\nclass VAE(nn.Module): k = n\n",
        "hvae__DIR__models__DIR__hvae": "from hvae.models import VAE\nclass HVAE(VAE): ...\n",
        "hvae__DIR__models__DIR__parts": "n = 1",
    }
    assert load("hvae/models/vae.py:VAE", **files).obj.k == 1
    assert load("hvae/models/hvae.py:HVAE", **files).obj.k == 1


def test_an_argument_that_lets_nobody_copy_it_is_given_as_it_is(load: Load) -> None:
    text = """
        from torch import nn
        class Config(dict):
            __getattr__ = dict.__getitem__
        class VAE(nn.Module):
            def __init__(self, cfg):
                super().__init__()
                self.fc = nn.Linear(4, cfg.latent)
    """
    loaded = load("model.py:VAE", model=text)
    init = loaded.resolve_init(InputSet.from_texts(["8x4"]), parse_init(["cfg=Config(latent=3)"]))
    assert loaded.build(init).fc.out_features == 3  # type: ignore[union-attr]


def test_modules_of_another_folder_do_not_answer(load: Load) -> None:
    text = "import utils\nfrom torch import nn\nclass VAE(nn.Module): where = utils.where\n"
    one = load("one/model.py:VAE", one__DIR__model=text, one__DIR__utils="where = 1")
    two = load("two/model.py:VAE", two__DIR__model=text, two__DIR__utils="where = 2")
    assert (one.obj.where, two.obj.where) == (1, 2)


def test_a_file_named_like_a_known_module(load: Load) -> None:
    assert load("types.py:VAE", types="from torch import nn\nclass VAE(nn.Module): ...\n").name == "VAE"
    import types

    assert hasattr(types, "ModuleType")


def test_a_module_by_dotted_name(load: Load) -> None:
    loaded = load("lib.vae:VAE", lib__DIR____init__="", lib__DIR__vae="from torch import nn\nclass VAE(nn.Module): ...\n")
    assert loaded.obj.__module__ == "lib.vae"


def test_no_files_are_left_behind(load: Load, tmp_path: Path) -> None:
    load(model="import helper\nfrom torch import nn\nclass VAE(nn.Module): ...\n", helper="")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["helper.py", "model.py"]


def test_the_file_sees_only_its_own_name_as_arguments(load: Load) -> None:
    text = """
        import argparse, sys
        from torch import nn
        parser = argparse.ArgumentParser()
        parser.add_argument("--dim", type=int, default=4)
        args = parser.parse_args()
        class VAE(nn.Module):
            argv = list(sys.argv)
    """
    loaded = load(model=text)
    assert len(loaded.obj.argv) == 1 and loaded.obj.argv[0].endswith("model.py") and loaded.namespace["args"].dim == 4


def test_arguments_are_known_after_a_stop(load: Load) -> None:
    text = """
        import argparse
        from torch import nn
        data = open("/nowhere/at/all")
        parser = argparse.ArgumentParser()
        parser.add_argument("--dim", type=int, default=4)
        args = parser.parse_args()
        class VAE(nn.Module):
            dim = args.dim
    """
    loaded = load(model=text)
    assert loaded.obj.dim == 4 and len([n for n in loaded.notes if "stopped" in n]) == 1


def test_required_arguments_of_a_script_do_not_end_the_analysis(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    text = """
        import argparse
        from torch import nn
        parser = argparse.ArgumentParser()
        parser.add_argument("data")
        args = parser.parse_args()
        data = open(args.data)
        class VAE(nn.Module): ...
        def loss(x): return x
    """
    loaded = load(model=text)
    assert "stopped at line 6 (SystemExit: 2)" in loaded.notes[0] and "loss" in loaded.namespace


def test_what_a_script_chooses_after_it_stopped_is_there(load: Load) -> None:
    text = """
        import torch
        from torch import nn
        rows = open("no_such_file.csv").read()
        if torch.cuda.is_available():
            print("on the GPU")
            Tensor = torch.cuda.FloatTensor
        else:
            Tensor = torch.FloatTensor
        if rows:
            raise ValueError(rows)
        width = int(rows)
        class VAE(nn.Module):
            kind = Tensor
    """
    loaded = load(model=text)
    assert loaded.obj.kind is not None and [n for n in loaded.notes if "stopped" in n] == [
        "model.py stopped at line 4 (FileNotFoundError: [Errno 2] No such file or directory: 'no_such_file.csv'); "
        "of what follows only definitions were read"
    ]


def test_cells_of_a_notebook_may_import_from_the_future_late(load: Load) -> None:
    text = """
        import torch
        from __future__ import print_function
        class VAE(torch.nn.Module):
            size = 3
    """
    loaded = load(model=text)
    assert loaded.obj.size == 3 and "model.py:3: an import from __future__ comes too late in the file" in loaded.notes[0]


def test_training_at_the_top_level_is_not_run(load: Load) -> None:
    text = """
        import torch
        from torch import nn
        class VAE(nn.Module): ...
        def train(model):
            loss = step(model)
            loss.backward()
        def step(model): raise RuntimeError("must not run")
        model = VAE()
        for epoch in range(10**9):
            train(model)
        beta = 2
        if __name__ == "__main__":
            train(model)
    """
    loaded = load(model=text)
    assert loaded.notes == ["training at the top level of model.py was not run (line 10)"] and loaded.namespace["beta"] == 2


def test_a_main_guard_is_not_run(load: Load) -> None:
    assert load(model='from torch import nn\nclass VAE(nn.Module): ...\nif __name__ == "__main__":\n    1 / 0\n').notes == []


# -- packages that are not installed


def test_irrelevant_missing_packages_are_replaced(load: Load) -> None:
    text = """
        import nosuchvision.transforms as T
        import nosuchtqdm
        from nosuchvision import datasets, transforms
        from nosuchboard.writer import *
        from torch import nn
        pipeline = T.Compose([T.ToTensor(), transforms.Normalize(0.5, 0.5)])
        @nosuchtqdm.decorate
        def keep(x: "nosuchvision.Image") -> nosuchvision.Tensor["b d"]: return x
        @datasets.register("name")
        class VAE(nn.Module):
            limit: int | datasets.Kind = 3
    """
    loaded = load(model=text.replace("nosuchvision.Tensor", "T.Tensor"))
    assert loaded.notes == [
        f"{p} is not installed; the model is analysed without it" for p in ("nosuchvision", "nosuchtqdm", "nosuchboard")
    ]
    assert loaded.namespace["keep"](4) == 4 and isinstance(loaded.build({}), nn.Module)


def test_guarded_imports_fail_as_the_file_expects(load: Load) -> None:
    text = """
        import importlib.util
        try:
            import nosuchpackage
            fast = True
        except ImportError:
            fast = False
        found = importlib.util.find_spec("nosuchpackage")
        from torch import nn
        class VAE(nn.Module): ...
    """
    loaded = load(model=text)
    assert not loaded.namespace["fast"] and loaded.namespace["found"] is None and loaded.notes == []


def test_using_a_missing_package_names_it(load: Load) -> None:
    text = """
        import nosuchvision
        from torch import nn
        class VAE(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = nosuchvision.models.vgg16(pretrained=False)
                nosuchvision.log("built")
            def forward(self, x): return self.net(x) + 1
        class Mixed(nosuchvision.Mixin, nn.Module):
            def __init__(self):
                super().__init__()
        class Alone(nosuchvision.Base): ...
    """
    model = load(model=text).build({})
    error = failure(lambda: model(torch.ones(1)))  # a logger alone would hurt nobody
    assert error.code == "VAE001" and "nosuchvision" in error.message and error.help == "install it: pip install nosuchvision"
    assert error.span is not None and error.span.line == 7
    assert "nosuchvision.Base" in failure(lambda: load("model.py:Alone", model=text).build({})).message
    assert isinstance(load("model.py:Mixed", model=text).build({}), nn.Module)
    assert "comes from the package nosuchvision" in failure(lambda: load("model.py:nosuchvision.VAE", model=text)).message


def test_a_missing_lightning_is_stood_in_for(load: Load) -> None:
    text = """
        import pytorch_lightning as pl
        import torch
        from torch import nn
        class VAE(pl.LightningModule):
            def __init__(self, latent_dim=3, beta=2.0):
                super().__init__()
                self.save_hyperparameters()
                self.fc = nn.Linear(4, self.hparams.latent_dim)
            def training_step(self, batch, batch_idx):
                loss = self.fc(batch.to(self.device)).mean() * self.hparams["beta"]
                self.log("loss", loss)
                self.log_dict({"loss": loss}, prog_bar=True)
                return loss
    """
    model: Any = load(model=text).build({"latent_dim": 5})
    assert model.training_step(torch.ones(2, 4), 0).ndim == 0 and model.fc.out_features == 5


def test_logging_of_a_real_lightning_module_is_silenced(load: Load) -> None:
    text = """
        from torch import nn
        class LightningModule(nn.Module):
            def log(self, name, value): raise RuntimeError("no trainer")
        class VAE(LightningModule):
            def training_step(self, batch, i): self.log("a", 1); return 3
    """
    model: Any = load(model=text).build({})
    assert model.training_step(None, 0) == 3


# -- failures


@pytest.mark.parametrize(
    ("target", "text", "code_line", "part"),
    [
        ("model.py:VAE", "import os\nx = 1 / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("model.py:VAE", "import os\nclass VAE(:\n", 2, "not valid Python"),
        ("model.py:VAE", "import sys\n\nsys.exit(3)\n", 3, "ends the program (exit 3)"),
        ("model.py:VAE", "from torch import nosuchname\nimport os.nosuch\nx = 1", 2, "No module named 'os.nosuch'"),
        ("model.py:VAF", "class VAE: ...\n", 1, "has no VAF"),
        ("model.py:size", "size = 4\n", 1, "is of type int, not a model"),
    ],
)
def test_import_failures_point_at_the_line(load: Load, target: str, text: str, code_line: int, part: str) -> None:
    error = failure(lambda: load(target, model=text))
    assert error.code == "VAE001" and part in error.message and error.span is not None
    assert (error.span.file, error.span.line) == ("model.py", code_line)


def test_a_file_of_another_name_is_suggested_for_its_stem(load: Load) -> None:
    assert failure(lambda: load("modle.py:VAE", model="x = 1")).help == "did you mean model.py?"
    assert failure(lambda: load("z.py:VAE", model="x = 1")).help == "the path starts at the working directory"


def test_of_several_statements_on_a_line_the_one_that_raised_is_left_out(load: Load) -> None:
    text = "from torch import nn\nmade = []; made.append(1); 1 / 0; made.append(2)\nclass VAE(nn.Module): ...\n"
    loaded = load("model.py:VAE", model=text)
    assert vars(loaded.module)["made"] == [1]
    assert [note for note in loaded.notes if "stopped at line 2" in note] == loaded.notes


def test_a_missing_name_suggests_and_lists(load: Load) -> None:
    error = failure(lambda: load("model.py:VEA", model="from torch import nn\nclass VAE(nn.Module): ...\nclass Other(nn.Module): ...\n"))
    assert "VAE" in error.help and error.notes == ("nn.Module classes in it: VAE, Other",)


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("modle.py:VAE", "there is no file modle.py"),
        ("folder/:VAE", "is a folder"),
        ("./book.txt:VAE", "not a Python file"),
        ("nosuchpackage.vae:VAE", "there is no module nosuchpackage"),
        ("folder:VAE", "is a folder without __init__.py"),
        ("link.py:VAE", "is a broken link"),
    ],
)
def test_targets_that_are_not_there(load: Load, tmp_path: Path, target: str, part: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.py").symlink_to("nowhere.py")
    (tmp_path / "book.txt").write_text("{}")
    error = failure(lambda: load(target, model="x = 1"))
    assert error.code == "VAE001" and part in error.message and error.help


def test_a_broken_package_does_not_hide_the_file(load: Load) -> None:
    loaded = load(
        "pkg/vae.py:VAE",
        pkg__DIR____init__="1 / 0",
        pkg__DIR__base="n = 3",
        pkg__DIR__vae="from .base import n\nfrom torch import nn\nclass VAE(nn.Module): k = n\n",
    )
    assert loaded.obj.k == 3 and "ZeroDivisionError" in loaded.notes[0]


def test_an_installed_package_that_needs_a_missing_one_is_stood_in_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `torch.utils.tensorboard` is there without tensorboard, and says so only once it is imported."""
    installed = tmp_path / "site-packages" / "shiny_writer"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("import nowhere_at_all\n\nclass Writer:\n    pass\n")
    monkeypatch.syspath_prepend(installed.parent)
    (tmp_path / "vae.py").write_text(
        "from shiny_writer import Writer\nfrom torch import nn\n\n"
        "class VAE(nn.Linear):\n    def __init__(self):\n        super().__init__(3, 3)\n        self.writer = Writer\n"
    )
    loaded = load_target(parse_target(f"{tmp_path}/vae.py:VAE"))
    assert loaded.build({}).in_features == 3
    assert any("nowhere_at_all is not installed, which shiny_writer.Writer needs" in note for note in loaded.notes)
