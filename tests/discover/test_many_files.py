"""In a repository of many files that import each other, each is read once, and for a class that is named only those that may train it."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from vaelint.config.closure import Imports, imported_by
from vaelint.discover.entries import entries

_FILES = 40
TRAIN = "import torch\nfrom shop.model import VAE\nif __name__ == '__main__':\n    VAE().loss().backward()\n"


def _repository(root: Path) -> Path:
    """Packages in a circle, a script that trains in each, and one script that trains the model."""
    shop = root / "shop"
    shop.mkdir()
    for n in range(_FILES):
        (shop / f"part{n}.py").write_text(f"import torch\nfrom shop import part{(n + 1) % _FILES}\nloss.backward()\n")
        (root / f"script{n}.py").write_text(f"from shop.part{n} import run\nif __name__ == '__main__':\n    run()\n")
    (shop / "model.py").write_text("class VAE: ...\n")
    (root / "zz_train.py").write_text(TRAIN)
    return shop / "model.py"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes | str]:
    texts: Counter[bytes | str] = Counter()
    parse = ast.parse

    def counted(source: bytes | str) -> ast.Module:
        texts[source] += 1
        return parse(source)

    monkeypatch.setattr(ast, "parse", counted)
    return texts


def test_a_named_class_is_sought_only_where_its_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsed: Counter[bytes | str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = _repository(tmp_path)
    (entry,) = entries(Path(), Path(), model)  # of forty scripts that start before it
    assert entry.file == Path("zz_train.py")
    assert len(parsed) <= 2


def test_each_file_is_parsed_a_few_times_however_many_import_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsed: Counter[bytes | str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _repository(tmp_path)
    assert len(entries(Path(), Path())) == 8
    assert parsed.total() <= 12 * (2 * _FILES + 2)  # 3200 times, were each read for each that imports it


def test_a_file_reaches_another_by_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pkg" / "inner").mkdir(parents=True)
    for name in ("pkg/__init__.py", "pkg/inner/__init__.py", "pkg/model.py"):
        (tmp_path / name).touch()
    (tmp_path / "pkg" / "inner" / "above.py").write_text("try:\n    from ..model import VAE\nexcept ImportError:\n    VAE = None\n")
    (tmp_path / "pkg" / "last.py").write_text("def late():\n    import pkg.inner.above\n")
    (tmp_path / "pkg" / "other.py").write_text("model = 1\n")
    model, files = tmp_path / "pkg" / "model.py", sorted(tmp_path.rglob("*.py"))
    reached = [f.relative_to(tmp_path).as_posix() for f in Imports().reaching(model, files)]
    assert reached == ["pkg/inner/above.py", "pkg/last.py", "pkg/model.py"]
    assert [f for f in files if model in imported_by(f)] == [tmp_path / f for f in reached]
