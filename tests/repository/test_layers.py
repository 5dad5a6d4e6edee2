"""Who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "sympy", "numpy", "jaxtyping", "beartype", "rich"}


def imported(code: str) -> set[str]:
    """The heavy packages that are loaded after `code` ran in a fresh process."""
    ask = f"import sys\n{code}\nprint(','.join(sorted({HEAVY!r} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split(",")) - {""}


@pytest.mark.parametrize(
    "code",
    [
        "import vaelint",
        "import vaelint.cli.app",
        "import vaelint.process.front, vaelint.process.worker, vaelint.process.protocol, vaelint.config.file",
        "import vaelint.policy.suppress, vaelint.source.target, vaelint.core.inputs",
        "import vaelint.report.full, vaelint.report.as_json, vaelint.report.concise",
    ],
)
def test_the_front_imports_nothing_heavy(code: str) -> None:
    assert imported(code) == set()


def test_the_measure_can_fail() -> None:
    assert "rich" in imported("import rich")


TELLS = ("rules", "rules --output-format json", "explain VAE416", "explain WeightStays", "config", "config --schema", "--version")


@pytest.mark.parametrize("command", [words.split() for words in TELLS], ids=TELLS)
def test_what_only_tells_starts_without_torch(command: list[str]) -> None:
    code = f"from vaelint.cli.app import main\ntry:\n    main({command!r})\nexcept SystemExit as e:\n    assert not e.code, e.code"
    assert imported(code) == set()


@pytest.mark.parametrize(
    ("package", "homes"), [("typer", {"app.py", "commands.py"}), ("rich", {"api.py", "text.py", "page.py", "progress.py", "tree.py"})]
)
def test_typer_and_rich_have_few_homes(package: str, homes: set[str]) -> None:
    users = set()
    for file in [*(ROOT / "vaelint").rglob("*.py"), *(ROOT / "rules").glob("*.py")]:
        if package not in (text := file.read_text(encoding="utf-8")):
            continue
        for node in ast.walk(ast.parse(text)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            users |= {file.name for n in names if n.split(".")[0] == package}
    assert users == homes


def test_no_import_goes_up() -> None:
    """Not for type checkers either: a cycle of types is one that readers have to follow."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (c for c in linter["contracts"] if c["type"] == "layers")
    assert linter["exclude_type_checking_imports"] is False
    assert layers["exhaustive"] is True
    assert "ignore_imports" not in layers, "what is new goes where the arrows go down"


def test_no_circle_of_more_than_three_files() -> None:
    graph = grimp.build_graph("vaelint", cache_dir=None)
    circles = {frozenset(graph.find_downstream_modules(m) & graph.find_upstream_modules(m)) | {m} for m in graph.modules}
    assert [sorted(c) for c in circles if len(c) > 3] == []


@pytest.mark.parametrize("device", ["none", "cpu"])
def test_a_check_does_not_import_the_compiler(device: str) -> None:
    """It takes as long as torch itself. A placeholder stands for what fake tensors ask of it."""
    target = f"{ROOT / 'tests' / 'data' / 'mlp_vae.py'}:VAE"
    code = (
        "import sys, importlib\ncheck = importlib.import_module('vaelint.pipeline.check')\nfrom vaelint.core.result import Request\n"
        f"result = check.check_target(Request({target!r}, ('32x784',), device={device!r}), lambda m: None)\n"
        "assert result.status == 'clean', result\n"
        "print([m for m in sys.modules if m.startswith(('torch._dynamo', 'torch._inductor'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
