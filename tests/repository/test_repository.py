"""What the code of a repository says of constructor arguments. Nothing of it is run."""

from __future__ import annotations

import textwrap
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from vaelint.discover.texts import as_text
from vaelint.repository.constructions import configured, constructions, keys_of
from vaelint.repository.scopes import Repository
from vaelint.repository.values import Reader
from vaelint.source.target import Expression

MODEL = "class VAE(nn.Module):\n    def __init__(self, width, latent): ...\nclass Encoder(nn.Module):\n    def __init__(self, n): ...\n"


def told(folder: Path, **files: str) -> list[dict[str, Any]]:
    """The arguments of each place that builds VAE, in a repository of these files."""
    (folder / ".git").mkdir()
    for name, text in {"model": MODEL, **files}.items():
        path = folder / (name.replace("__", "/") if "__" in name else f"{name}.py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    home = folder / "model.py"
    return [c.arguments for c in constructions(Reader(Repository(folder, home)), home, "VAE", ["width", "latent"])]


IMPORTS = "import argparse, json, torch\nfrom types import SimpleNamespace\nfrom model import VAE, Encoder\n"
CALLS = {
    "literals": "VAE(784, latent=20)",
    "names": "w = 28 * 28\nz = [8, 20][1]\nVAE(w, z)",
    "the last value before": "z = 3\nz = 20\nVAE(784, z)\nz = 4",
    "parts of a tuple": "w, (a, z) = 784, (load(), 20)\nVAE(w, z)",
    "a dict": "p = {'w': 784, **dict(z=20)}\nVAE(p['w'], p.get('z', 1))",
    "spread": "VAE(**{'width': 784, 'latent': 20})",
    "a list that was filled": "w = [1]\nw.append(784)\nw.insert(0, 20)\nVAE(w[-1], w[0])",
    "a dict that was filled": "p = {}\np.update(z=20)\np.setdefault('w', 784)\nVAE(p['w'], p['z'])",
    "a branch that was filled": "w = [784]\nif False:\n    w.clear()\nw.append(20)\nVAE(*w)",
    "methods of other objects": "p = SimpleNamespace(z=20)\np.freeze()\nVAE(784, p.z)",
    "wrapped": "m = torch.nn.DataParallel(VAE(784, 20).to('cpu'))",
    "options": """
        p = argparse.ArgumentParser()
        p.add_argument('-w', '--my-width', type=int, default='784')
        p.add_argument('--z', default=20)
        args = p.parse_args()
        VAE(args.my_width, args.z)
    """,
    "options of a function": """
        def options(p):
            p.add_argument('--z', default=20)
            p.add_argument('--flag', action='store_true')
        def get():
            p = argparse.ArgumentParser()
            options(p)
            return p.parse_args()
        if __name__ == '__main__':
            args = get()
            VAE(784, 3 if args.flag else args.z)
    """,
    "parameters and their callers": """
        def main(args, z):
            train(args.width, z)
        def train(width, z, more=0):
            model = VAE(width, z + more)
        main(SimpleNamespace(width=784), z=20)
    """,
    "defaults": "def make(width=784, z=20):\n    return VAE(width, z)",
    "a configuration class": "@dataclass\nclass Config:\n    width: int = 784\n    z: int = 20\nc = Config()\nVAE(c.width, c.z)",
    "attributes of self": """
        class Trainer:
            def __init__(self, z=20):
                self.width, self.z = 784, z
                self.net = self.build()
            def build(self):
                return VAE(self.width, self.z)
    """,
    "a small function": "def sizes(k):\n    if k > 2:\n        return 0\n    return 10 * k\nVAE(784, sizes(2))",
    "the branch of the default": """
        p = argparse.ArgumentParser()
        p.add_argument('--data', default='mnist')
        args = p.parse_args()
        if args.data == 'mnist':
            width = 784
        else:
            width = 1024
        VAE(width, 20)
    """,
    "a registry": "MODELS = {'vae': VAE}\nMODELS['vae'](784, 20)",
    "an alias": "from model import VAE as Net\nbuilt = Net\nbuilt(784, 20)",
}


@pytest.mark.parametrize("case", CALLS)
def test_arguments_are_read(tmp_path: Path, case: str) -> None:
    found = told(tmp_path, train=IMPORTS + textwrap.dedent(CALLS[case]))
    assert found == [{"width": 784, "latent": 20}]


@pytest.mark.parametrize(
    "text",
    [
        "from other import VAE\nVAE(784, 20)",
        "class VAE: ...\nVAE(784, 20)",
        "VAE = 3\nVAE(784, 20)",
        "from model import VAE\nVAE(len(data), f.read())",
        "from model import VAE\nz = z0\nz0 = z\nVAE(z, z0)",
    ],
)
def test_other_classes_and_values_of_running_code_are_left_out(tmp_path: Path, text: str) -> None:
    assert told(tmp_path, train=text, other="class VAE: ...\n") == []


def test_imports_are_followed(tmp_path: Path) -> None:
    train = "import settings as s\nfrom settings import sizes\nfrom model import VAE\nVAE(s.WIDTH, sizes.z)"
    assert told(tmp_path, settings="WIDTH = 784\nclass sizes:\n    z = 20\n", train=train) == [{"width": 784, "latent": 20}]


def test_configuration_files_are_read(tmp_path: Path) -> None:
    train = """
        import json
        from model import VAE
        with open('conf/a.json') as f:
            config = json.load(f)
        VAE(config['model']['width'], latent=config['model']['z'])
    """
    files = {"conf__a.json": '{"model": {"width": 784, "z": 20}, "name": "x"}'}
    assert told(tmp_path, train=train, **files) == [{"width": 784, "latent": 20}]
    assert [c.arguments for c in configured(tmp_path, ["z", "width"])] == [{"width": 784, "z": 20}]
    assert configured(tmp_path, ["z", "depth"]) == []


def test_what_must_be_run_stays_code(tmp_path: Path) -> None:
    train = IMPORTS + "n = 7\nVAE(Encoder(n + 1), [torch.nn.ReLU()])"
    (found,) = told(tmp_path, train=train)
    assert isinstance(found["width"], Expression) and found["width"].text == "Encoder(8)"
    assert as_text(found["width"], tmp_path / "model.py") == "Encoder(8)"
    assert as_text(found["width"], tmp_path / "other.py") == "__import__('importlib').import_module('model').Encoder(8)"
    assert found["latent"].text == "[torch.nn.ReLU()]"


def test_a_namespace_has_what_is_stored_in_it_elsewhere(tmp_path: Path) -> None:
    load = "def prepare(args):\n    args.shape = [1, 28, 28]\n    return data, args\n"
    train = """
        import argparse
        from model import VAE
        from load import prepare
        p = argparse.ArgumentParser()
        p.add_argument('--z', default=20)
        args = p.parse_args()
        data, args = prepare(args)
        VAE(args, args.z)
    """
    (found,) = told(tmp_path, load=load, train=train)
    assert found == {"width": Namespace(z=20, shape=[1, 28, 28]), "latent": 20}


def test_the_keys_that_a_constructor_reads() -> None:
    import ast

    tree = ast.parse("def __init__(self, c):\n    self.c = c\n    a = c['width'] + c.z + self.c['depth'] + c.get('more', 1)")
    assert sorted(keys_of(tree, "c")) == ["depth", "width", "z"]
