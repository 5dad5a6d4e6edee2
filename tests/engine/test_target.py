"""Target and `--init` texts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaelint.core.errors import UsageError
from vaelint.source.target import Expression, TargetSpec, module_classes, parse_init, parse_target

LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("text", "path", "module", "name"),
    [
        ("model.py:VAE", "model.py", None, "VAE"),
        ("src/nets/model.py:VAE", "src/nets/model.py", None, "VAE"),
        ("pkg.models.vae:VAE", None, "pkg.models.vae", "VAE"),
        ("C:\\code\\model.py:VAE", "C:\\code\\model.py", None, "VAE"),
        ("model.py:make.vae", "model.py", None, "make.vae"),
    ],
)
def test_forms(text: str, path: str | None, module: str | None, name: str) -> None:
    assert parse_target(text) == TargetSpec(text, path, module, name, {})


def test_constructor_arguments_in_the_target() -> None:
    spec = parse_target("m.py:VAE(latent_dim=20, sizes=[1, 2], opt={'a': 1}, act='relu:x')")
    assert spec.init == {"latent_dim": 20, "sizes": [1, 2], "opt": {"a": 1}, "act": "relu:x"}


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True).filter(lambda s: s.isidentifier()), LITERALS, max_size=3))
def test_init_reads_any_literal(init: dict[str, object]) -> None:
    assert parse_init([f"{key}={value!r}" for key, value in init.items()]) == init


def test_a_namespace_can_be_given() -> None:
    args = parse_init(["args=Namespace(latent_dim=4, sizes=[1])"])["args"]
    assert vars(args) == {"latent_dim": 4, "sizes": [1]}


def test_what_is_not_a_literal_is_kept_for_the_module() -> None:
    given = parse_init(["act=nn.ReLU()", "encoder=Encoder(3, k=[1])", "kind=Kind.A"])
    assert given == {"act": Expression("nn.ReLU()"), "encoder": Expression("Encoder(3, k=[1])"), "kind": Expression("Kind.A")}
    assert parse_target("m.py:VAE(act=nn.ReLU())").init == {"act": Expression("nn.ReLU()")}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("model.py", "write FILE.py:NAME"),
        ("", "write FILE.py:NAME"),
        ("model.py:VAE(20)", "by name"),
        ("model.py:VAE(a=b)", "not a Python literal"),
        ("model.py:VAE(a=", "write FILE.py:NAME"),
        ("model.py:VAE(a=[)", "cannot read"),
        ("model.py:VAE(**{})", "**"),
    ],
)
def test_mistakes_in_a_target_are_named(text: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    assert part in caught.value.message + caught.value.help


@pytest.mark.parametrize(("item", "part"), [("act=relu", "act='relu'"), ("20", "KEY=VALUE"), ("a=", "nothing"), ("a=1+x", "literal")])
def test_mistakes_in_init_are_named(item: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_init([item])
    assert part in caught.value.message + caught.value.help


def test_a_file_without_a_name_lists_its_modules(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text("import torch.nn as nn\nclass A(nn.Module): ...\nclass B(A): ...\nclass C: ...\n")
    assert module_classes(str(file)) == ["A", "B"]
    with pytest.raises(UsageError) as caught:
        parse_target(str(file))
    assert "A, B" in caught.value.help


def test_reading_texts_needs_no_torch() -> None:
    code = "import sys, vaelint.source.target, vaelint.core.inputs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
