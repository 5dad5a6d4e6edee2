"""Private torch interfaces: one module reaches them, with two more for fake tensors, and says so where torch is not one it knows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from vaelint.core.errors import UsageError
from vaelint.trace import torch_private
from vaelint.trace.fakes import small_kernels, torch_fakes

ROOT = Path(__file__).resolve().parents[2]
HOLDERS = (torch.Tensor, torch.nn.LSTM(1, 1), torch.UntypedStorage, torch.distributions.Normal, torch.optim.Optimizer, torch.fx.Node)
PRIVATE = {n for h in HOLDERS for n in (*dir(h), *getattr(h, "__dict__", ())) if re.match("_(?!_)", n)}


def reached(tree: ast.AST) -> Iterator[str]:
    """The private names of torch that some code imports, or reads off something that is not its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if re.match(r"torch\b.*\._", a.name))
        elif isinstance(node, ast.ImportFrom) and re.match(r"torch\b", node.module or ""):
            yield from (f"{node.module}.{a.name}" for a in node.names if "._" in f"{node.module}.{a.name}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"torch(\.\w+)*\._[\w.]+", node.value):
            yield node.value
        elif isinstance(node, ast.Attribute) and re.match("_(?!_)", node.attr):
            text = ast.unparse(node)
            of_self = re.match(r"(self|cls|type\(self\))\._\w+$", text) is not None
            if text.startswith(("torch.", "nn.", "F.")) or (node.attr in PRIVATE and not of_self):
                yield text


def test_no_other_module_reaches_them() -> None:
    files = [f for folder in ("vaelint", "rules") for f in sorted((ROOT / folder).rglob("*.py"))]
    found = {str(f.relative_to(ROOT)): names for f in files if (names := list(reached(ast.parse(f.read_text()))))}
    assert set(found.pop("vaelint/observe/data/older_torch.py")) == {"torch._six"}  # a stand-in for what PyTorch has no more
    assert list(found) == [f"vaelint/trace/{name}.py" for name in ("fakes/small_kernels", "fakes/torch_fakes", "torch_private")], found
    assert len(found["vaelint/trace/torch_private.py"]) > 10


def test_the_versions_are_those_that_are_asked_for() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (a, b), (c, d) = torch_private.KNOWN
    assert f"torch>={a}.{b},<{c}.{d + 1}" in asked
    for version in (f"{a}.{b}.0", f"{c}.{d}.1+cu126", torch.__version__):
        torch_private.refuse_unknown(version)


def test_make_tries_the_oldest() -> None:
    """The version is read out of pyproject.toml by a pattern, which a line written otherwise would leave empty."""
    told = subprocess.run(["make", "-n", "test-oldest"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    (a, b), _ = torch_private.KNOWN
    assert f'"torch=={a}.{b}.*"' in told.stdout


@pytest.mark.parametrize("version", ["2.10.1", "2.16.0.dev20260101", "3.0.0", "what"])
def test_another_version_is_refused_in_words(version: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"does not know torch {version}: it was tried with 2.11 to 2.15")):
        torch_private.refuse_unknown(version)


def test_the_command_line_says_so_too(tmp_path: Path) -> None:
    """A torch of another number, otherwise the one that is here."""
    (tmp_path / "run.py").write_text(
        "import torch\ntorch.__version__ = '9.1.0'\n"
        "import sys\nfrom vaelint.process.worker import _load\n"
        "class Sock:\n    def sendall(self, data): print(data.decode())\n"
        "assert _load('vaelint.pipeline.check:check_target', Sock()) is None\n"
    )
    done = subprocess.run([sys.executable, str(tmp_path / "run.py")], capture_output=True, text=True, timeout=120, check=True)
    assert "does not know torch 9.1.0" in done.stdout
    assert 'pip install \\"torch>=2.11,<2.16\\"' in done.stdout


def test_an_operation_met_again_makes_what_torch_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick mode against torch's own, on operations of each kind, twice: the second time from what it remembers."""
    monkeypatch.setattr(torch_fakes, "_made", {})
    asked = torch_fakes._QuickFakeMode._asked
    answers: list[bool] = []

    def noted(self: Any, func: Any, args: Any, kwargs: Any) -> Any:
        made = asked(self, func, args, kwargs)
        answers.append(made is not None)
        return made

    monkeypatch.setattr(torch_fakes._QuickFakeMode, "_asked", noted)
    quick, plain = torch_fakes.fake_mode(), FakeTensorMode(allow_non_fake_inputs=True)
    assert type(quick) is not type(plain)
    seen = []
    with torch_private.lean_dynamo():
        for mode in (quick, quick, plain):
            with mode:
                seen.append([_told(t) for t in _operations()])
    assert seen[0] == seen[1] == seen[2]
    assert sum(answers) > 20, "most answers come from torch's kernels, on the way of fewest steps"


def _operations() -> list[torch.Tensor]:
    x, w = torch.randn(4, 3, 8, 8, requires_grad=True), torch.empty(5, 3, 3, 3)
    h = torch.nn.functional.conv2d(x, w, stride=2, padding=1)
    n = torch.nn.functional.group_norm(h, 5)
    flat = n.flatten(1)
    v = flat.t()
    made = [h, n, flat, v, v[1:3, ::2], v.detach(), x.to(memory_format=torch.channels_last), flat.double(), flat > 0, flat.sum()]
    made += [flat.mean(1, keepdim=True), torch.arange(3), torch.arange(3.0), flat * 2, x.expand(2, 4, 3, 8, 8)]
    made += [torch.ones(2, dtype=torch.int64) * 2, torch.ones(2, dtype=torch.int64) * 2.0, *flat.max(1), *flat.chunk(3, 1)]
    made += [flat.softmax(1), torch.cat([flat, flat]), flat.clone().add_(1), torch.bmm(n.flatten(2), n.flatten(2).mT)]
    made += [torch.nn.functional.linear(flat, torch.ones(7, flat.shape[1]), torch.ones(7)), n.transpose(1, 2).relu(), v.tanh() + n.mean()]
    made += [torch.nn.functional.linear(v.t(), torch.ones(7, flat.shape[1])), n.transpose(1, 3) * 2, torch.where(flat > 0, flat, 0.0)]
    made += [
        torch.stack([v, v]),
        torch.logsumexp(n, (1, 2)),
        flat.var(0),
        torch.nn.functional.mse_loss(flat, flat.detach()),
        n.permute(0, 2, 1, 3),
    ]
    cell = torch.nn.GRU(8, 5, batch_first=True)
    made += [
        *cell(x.detach()[:, 0]),
        *torch.split(flat, 2, 1),
        *flat.unbind(0),
        *flat.unsafe_chunk(2, 1),
        v.detach().clone().add_(1).sigmoid_(),
    ]
    made += [torch.empty(3, 4).normal_().masked_fill_(torch.ones(4) > 0, 1.0), torch.zeros(3, 4, dtype=torch.float64).copy_(torch.ones(4))]
    with pytest.raises(RuntimeError, match="shape"):
        torch.ones(2).add_(torch.ones(3, 2))
    with torch.inference_mode():
        made.append(w + 1)
    assert v.untyped_storage()._cdata == flat.untyped_storage()._cdata  # a view is one still
    base = torch.zeros(3)
    before = base._version
    base[:2].detach().mul_(2)
    assert base._version == before + 1
    first = torch.split(base, 1)[0].detach()
    first.mul_(2)
    base.unsafe_chunk(3)[0].mul_(2)
    assert base._version == before + 2  # parts that are not safe count for themselves
    return made


def _told(t: torch.Tensor) -> tuple[object, ...]:
    back = t.grad_fn.name() if t.grad_fn is not None else None
    keys = str(torch._C._dispatch_keys(t))
    return tuple(t.shape), t.stride(), t.storage_offset(), t.dtype, t.device, t.requires_grad, back, t._is_view(), t.is_inference(), keys


def test_a_small_operation_run_on_ones_makes_what_torch_makes() -> None:
    """Shape, strides and type of operations whose result no value moves, on arguments of many types and strides."""
    aten, found = torch.ops.aten, []
    with FakeTensorMode(allow_non_fake_inputs=True), torch_private.lean_dynamo():
        kinds = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool)
        for t in (s for kind in kinds for s in _strided(kind)):
            one = torch.zeros((), dtype=torch.float64)
            for func, args, kwargs in (
                (aten.add.Tensor, (t, t[:1]), {}), (aten.add.Tensor, (t, one), {}), (aten.mul.Scalar, (t, 2.0), {}),
                (aten.exp.default, (t,), {}), (aten.div.Tensor, (t, t), {}),
                (aten.sum.dim_IntList, (t, [1], True), {}), (aten.mean.default, (t,), {"dtype": torch.float64}),
                (aten.randn_like.default, (t,), {}), (aten.zeros_like.default, (t,), {"memory_format": torch.contiguous_format}),
                (aten.bitwise_and.Tensor, (t, t), {}), (aten.where.self, (t > 0, t, one), {}), (aten.amax.default, (t, [0]), {}),
                (aten.mm.default, (t, t.t()), {}), (aten.addmm.default, (one.to(t.dtype), t, t.t()), {}),
                (aten.pow.Tensor_Scalar, (t, 2), {}),
            ):  # fmt: skip
                if (small := small_kernels.made_of_ones(func, args, kwargs)) is not None:
                    made = func(*args, **kwargs)
                    assert (small.shape, small.stride(), small.dtype) == (made.shape, made.stride(), made.dtype), (
                        func,
                        t.dtype,
                        t.stride(),
                    )
                    found.append(func)
    assert len(found) > 300 and len(set(found)) == 14, "what torch refuses, such as the mean of integers, is left to it"


def _strided(kind: torch.dtype) -> list[torch.Tensor]:
    plain = torch.zeros(4, 6, dtype=kind)
    return [
        plain,
        plain.t(),
        plain[::2, 1:4],
        plain[:1].expand(5, 6),
        torch.zeros(4, 0, dtype=kind),
        torch.zeros(6, 4, 2, dtype=kind)[..., 1],
    ]


def test_a_run_on_ones_draws_nothing_and_leaves_large_and_random_operations_alone() -> None:
    aten, before = torch.ops.aten, torch.get_rng_state()
    with FakeTensorMode(allow_non_fake_inputs=True):
        small, large = torch.zeros(4, 4), torch.zeros(1024, 1024)
        assert small_kernels.made_of_ones(aten.randn_like.default, (small,), {}) is not None
        for func, args in (
            (aten.bernoulli.default, (small,)),
            (aten.exp.default, (large,)),
            (aten.embedding.default, (small, small.long())),
        ):
            assert small_kernels.made_of_ones(func, args, {}) is None
    assert torch.equal(before, torch.get_rng_state())


LATE = """
import sys, torch
from vaelint.trace.torch_private import late_dynamo
with late_dynamo():
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert "torch._dynamo.eval_frame" not in sys.modules, "an optimizer imports it"
    assert torch._dynamo.disable(len) is len and torch._dynamo.disable()(len) is len, "Keras calls it without a function"
    import torch._dynamo.eval_frame as frames
    assert torch._dynamo is sys.modules["torch._dynamo"] and frames is torch._dynamo.eval_frame
    assert torch._dynamo.config.cache_size_limit and torch._dynamo.is_compiling() is False
    optimizer.step()
import torch._dynamo
assert torch._dynamo.eval_frame is frames
"""


def test_dynamo_is_imported_when_it_is_asked_for_and_by_no_optimizer() -> None:
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
