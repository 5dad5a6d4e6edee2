"""`vaelint.check` on objects, in the process of the caller."""

from __future__ import annotations

import gc
import importlib.util
import io
import linecache
import logging
import os
import signal
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.console
import torch

import vaelint
from vaelint.loading.input_values import input_texts
from vaelint.trace import torch_private

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def models() -> Iterator[dict[str, Any]]:
    """The modules of tests/data that the tests take objects from."""
    found = {}
    for name in ("mlp_vae", "vae_three_bugs"):
        spec = importlib.util.spec_from_file_location(f"api_{name}", DATA / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found[name] = module
    vaelint.check(found["mlp_vae"].VAE(), input="32x784", device="cpu")  # what libraries import for the first time stays imported
    yield found
    for module in found.values():
        del sys.modules[module.__name__]


def _is_users(file: str) -> bool:
    libraries = Path(torch.__file__).parents[1]  # of a base environment, where this one only adds to it
    installed = (sys.prefix, sys.base_prefix, str(libraries), str(Path(vaelint.__file__).parent.parent))
    return bool(file) and not file.startswith(installed)


def state(model: torch.nn.Module) -> dict[str, Any]:
    """All that a check in somebody's process must leave alone."""
    hooks = torch_private.hooks_of_all_modules()
    return {
        "torch's random state": torch.get_rng_state().tolist(),
        "numpy's random state": [*map(str, np.random.get_state())],
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad mode": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "anomaly": torch.is_anomaly_enabled(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "backends": [torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.cuda.matmul.fp32_precision],
        "matrix products": [torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32],
        "printing": dict(torch_private.print_options()),
        "distributions": torch_private.distributions_validate(),
        "numpy's errors": np.geterr(),
        "log": [logging.getLogger().level, list(logging.getLogger().handlers)],
        "python": [sys.excepthook, sys.stdout, sys.getrecursionlimit(), gc.isenabled()],
        "path": list(sys.path),
        "argv": list(sys.argv),
        "finders": list(sys.meta_path),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "warnings": list(warnings.filters),
        "bytecode": sys.dont_write_bytecode,
        "user modules": {n for n, m in list(sys.modules.items()) if _is_users(getattr(m, "__file__", None) or "")},
        "hooks": [len(h) for h in hooks],
        "functions": [torch.randn, torch.Tensor.backward, torch.nn.Module.__call__],
        "weights": {k: v.tolist() for k, v in model.state_dict().items()},
        "gradients": [p.grad for p in model.parameters()],
        "training": [m.training for m in model.modules()],
        "own hooks": [len(m._forward_hooks) for m in model.modules()],
    }


@pytest.mark.parametrize("device", ["none", "cpu"])
@pytest.mark.parametrize("kind", ["model", "class", "text"])
def test_nothing_is_left_changed(models: dict[str, Any], device: str, kind: str) -> None:
    model = models["vae_three_bugs"].VAE()
    before = state(model)
    what = {"model": model, "class": type(model), "text": f"{DATA / 'vae_three_bugs.py'}:VAE"}[kind]
    report = vaelint.check(what, input="32x784", device=device)
    assert {"VAE201", "VAE301"} <= set(report.codes)
    after = state(model)
    assert {k: (before[k], after[k]) for k in before if before[k] != after[k]} == {}


def test_a_module_that_the_user_imported_after_a_check_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("a/of_the_user.py", "b/another.py"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text((DATA / "mlp_vae.py").read_text())
    vaelint.check(f"{tmp_path}/a/of_the_user.py:VAE", input="32x784", device="none")
    monkeypatch.syspath_prepend(str(tmp_path / "a"))
    mine = importlib.import_module("of_the_user")
    vaelint.check(f"{tmp_path}/b/another.py:VAE", input="32x784", device="none")
    assert sys.modules.pop("of_the_user", None) is mine


def test_what_the_model_itself_changes_is_put_back(tmp_path: Path) -> None:
    (tmp_path / "rude.py").write_text(
        "import os, random, sys, torch, numpy, warnings\n"
        "torch.manual_seed(1); random.seed(1); numpy.random.seed(1)\n"
        "torch.set_default_dtype(torch.float64); torch.set_num_threads(3); torch.set_grad_enabled(True)\n"
        "torch.use_deterministic_algorithms(True); torch.autograd.set_detect_anomaly(True)\n"
        "sys.path.append('/nowhere'); sys.argv.append('x'); os.environ['RUDE'] = '1'; os.chdir('/')\n"
        "warnings.simplefilter('ignore')\n"
        "torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = True\n"
        "torch.set_float32_matmul_precision('medium'); torch.backends.cuda.matmul.allow_tf32 = True\n"
        "torch.set_printoptions(precision=2); torch.distributions.Distribution.set_default_validate_args(False)\n"
        "torch.nn.modules.module.register_module_forward_hook(lambda *a: None)\n"
        "import gc, logging\nlogging.basicConfig(level=5); sys.excepthook = print; sys.setrecursionlimit(4321); gc.disable()\n"
        "numpy.seterr(all='ignore'); sys.stdout = sys.stderr\n" + (DATA / "mlp_vae.py").read_text()
    )
    probe = torch.nn.Linear(1, 1)
    before = state(probe)
    vaelint.check(f"{tmp_path}/rude.py:VAE", input="32x784")
    assert {k: (before[k], v) for k, v in state(probe).items() if before[k] != v} == {}
    with torch.no_grad():
        vaelint.check(f"{tmp_path}/rude.py:VAE", input="32x784")
        assert not torch.is_grad_enabled()


def test_settings_that_torch_refuses_to_tell_are_no_hindrance(models: dict[str, Any]) -> None:
    """In a process of its own: what was said in the older and in the newer way cannot be taken back."""
    code = (
        "import torch, vaelint\ntorch.set_float32_matmul_precision('medium'); torch.backends.cuda.matmul.allow_tf32 = True\n"
        f"assert vaelint.check('{DATA}/mlp_vae.py:VAE', input='32x784').clean\nassert torch.backends.cuda.matmul.fp32_precision == 'tf32'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pythons_random_state_is_put_back() -> None:
    """In a process of its own: the checking of types in this suite draws from it."""
    code = (
        "import random, vaelint\nbefore = random.getstate()\n"
        f"assert 'VAE201' in vaelint.check('{DATA}/vae_three_bugs.py:VAE', input='32x784').codes\nassert random.getstate() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_as_it_stands_is_checked_in_its_own_state(models: dict[str, Any]) -> None:
    model = models["mlp_vae"].VAE()
    report = vaelint.check(model, input="32x784")
    assert (report.status, report.clean, report.codes) == ("clean", True, ())
    assert report.target == "VAE"
    assert vaelint.check(models["mlp_vae"].VAE, input="32x784", init={"latent_dim": 5}).symbols["L"] == 5


def test_loss_and_step_may_be_functions(models: dict[str, Any]) -> None:
    model = models["mlp_vae"].VAE()

    def squared(recon: Any, x: Any, mu: Any, logvar: Any) -> Any:
        kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
        return torch.nn.functional.mse_loss(recon, x) + kl

    def half_wrong(model: Any, x: Any) -> Any:
        recon, mu, logvar = model(x)
        return ((recon - x) ** 2).sum(1).mean() + (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean() / 2

    class Loss(torch.nn.Module):
        def forward(self, recon: Any, x: Any, mu: Any, logvar: Any) -> Any:
            return squared(recon, x, mu, logvar)

    assert vaelint.check(model, input="32x784", loss=squared).codes == ("VAE402",)
    assert vaelint.check(model, input="32x784", loss=Loss()).codes == ("VAE402",)
    assert vaelint.check(model, input="32x784", step=half_wrong).codes == ("VAE407",)
    assert not hasattr(models["mlp_vae"], "squared"), "the module has no new name"


def test_rules_may_be_chosen(models: dict[str, Any]) -> None:
    model = models["vae_three_bugs"].VAE()
    assert vaelint.check(model, input="32x784", select="VAE201").codes == ("VAE201",)
    assert "VAE201" not in vaelint.check(model, input="32x784", ignore=["shared-noise"]).codes
    with pytest.raises(vaelint.UsageError, match="no rule is selected by 'VAE999'"):
        vaelint.check(model, input="32x784", select="VAE999")
    with pytest.raises(vaelint.UsageError):
        vaelint.check(model, input="32y784:")
    with pytest.raises(vaelint.UsageError, match="input=32 is neither a shape nor a tensor") as caught:
        vaelint.check(model, input=32)
    assert caught.value.__notes__[0].startswith('help: write input="32x784", (32, 784), a tensor')


@pytest.mark.parametrize(
    "given",
    [
        (32, 784), [32, 784], torch.rand(32, 784), np.random.rand(32, 784).astype("float32"), {"x": torch.rand(32, 784)}, {"x": (32, 784)},
        (torch.rand(32, 784), torch.randint(10, (32,))), [torch.rand(32, 784), torch.randint(10, (32,))], ["32x784"],
        {"x": torch.rand(32, 784), "y": torch.randint(10, (32,))},
    ],
    ids=range(10),
)  # fmt: skip
def test_inputs_may_be_what_python_has(models: dict[str, Any], given: Any) -> None:
    report = vaelint.check(models["mlp_vae"].VAE(), input=given)
    assert report.clean, str(report)
    assert report.symbols["B"] == 32


def test_a_batch_of_a_loader_says_shapes_and_ranges(models: dict[str, Any]) -> None:
    data = torch.utils.data.TensorDataset(torch.rand(64, 784), torch.randint(10, (64,)))
    batch = next(iter(torch.utils.data.DataLoader(data, batch_size=16)))
    assert vaelint.check(models["mlp_vae"].VAE, input=batch).symbols["B"] == 16
    assert input_texts([torch.rand(2, 3), torch.tensor([3, 5]), torch.randn(2) * 0 - 7, torch.tensor([True]), torch.tensor(2.5)]) == (
        "2x3:float32[0,1]", "2:int64[3,5]", "2:float32", "1:bool", "():float32",
    )  # fmt: skip
    for wrong in (3.5, None, {"x": object()}, torch.tensor([float("nan")])):
        with pytest.raises(vaelint.UsageError):
            vaelint.check(models["mlp_vae"].VAE, input=wrong)


def test_a_step_says_which_inputs_it_takes(models: dict[str, Any]) -> None:
    def step(model: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        recon, mu, logvar = model(x)
        loss: torch.Tensor = models["mlp_vae"].loss_fn(recon, x, mu, logvar)
        return loss + 0 * y.float().mean()

    report = vaelint.check(models["mlp_vae"].VAE(), input=[torch.rand(8, 784), torch.randint(10, (8,)), torch.rand(8)], step=step)
    assert report.status == "clean", str(report)


def test_a_kernel_gets_one_output_with_the_whole_report(models: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich takes each console in a kernel for one that shows in the notebook."""
    shown: list[Any] = []
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *told: shown.append(told))
    report = vaelint.check(models["vae_three_bugs"].VAE(), input="32x784")
    html = report._repr_html_()
    assert "VAE201" in html and html.count("\n") > 20
    assert "VAE201" in report.render(color=True)
    assert shown == []


def test_a_report_shows_itself(models: dict[str, Any]) -> None:
    report = vaelint.check(models["vae_three_bugs"].VAE(), input="32x784")
    assert "error[VAE201] shared-noise" in str(report)
    assert repr(report) == f"<vaelint report of VAE: findings {', '.join(report.codes)}>"
    console = rich.console.Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(report)
    assert "error[VAE201] shared-noise" in console.export_text(clear=False)
    assert "color" in console.export_html(inline_styles=True)
    html = report._repr_html_()
    assert html.startswith('<div class="vaelint">') and "<script" not in html
    assert "VAE201" in html and "shared-noise" in html
    assert "sampling sites -&gt; " in html or "&quot;" in html, "what looks like markup is escaped"


def test_a_model_of_a_notebook_has_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython compiles each cell under a name of its own and leaves the text in linecache."""
    source = (DATA / "vae_three_bugs.py").read_text()
    for name in ("<ipython-input-3-0123456789ab>", "/tmp/ipykernel_77/123456.py"):
        module = types.ModuleType("notebook_of_mine")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(linecache.cache, name, (len(source), None, source.splitlines(keepends=True), name))
        exec(compile(source, name, "exec"), module.__dict__)
        report = vaelint.check(module.VAE(), input="32x784")
        assert {"VAE201", "VAE301"} <= set(report.codes)
        (shared,) = [f for f in report.findings if f.code == "VAE201"]
        assert (shared.span.file, shared.span.line, shared.span.column) == (name, 19, 15)
        assert "eps = torch.randn(self.latent_dim, device=mu.device)" in str(report)


def test_a_class_of_a_kernels_main_module_has_all_its_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """`__main__` has no file in a kernel, and Python then finds none for a class of it."""
    source, name = (DATA / "vae_three_bugs.py").read_text(), "<ipython-input-4-0123456789ab>"
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    monkeypatch.setitem(linecache.cache, name, (len(source), None, source.splitlines(keepends=True), name))
    typed: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), typed)
    report = vaelint.check(typed["VAE"](), input="32x784", loss=typed["loss_fn"])
    assert (report.complete, "VAE201" in report.codes) == (True, True), report.incomplete


@contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
        assert torch.get_default_device() == torch.device(name), "the check has taken it away"
    finally:
        torch.set_default_device(None)


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "set_default_device": lambda: default_device("meta"),
    "with device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.mark.parametrize("made", ["before", "inside", "by the check"])
@pytest.mark.parametrize("mode", MODES)
def test_the_callers_mode_makes_no_finding_and_stays(models: dict[str, Any], mode: str, made: str) -> None:
    classes = models["mlp_vae"]
    before = classes.VAE()
    with MODES[mode]():
        model = {"before": before, "by the check": classes.VAE}.get(made) or classes.VAE()
        modes = [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_device(), torch.is_autocast_enabled("cpu")]
        report = vaelint.check(model, input="32x784", loss=classes.loss_fn)
        assert (report.status, report.codes) == ("clean", ())
        now = [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_device(), torch.is_autocast_enabled("cpu")]
        assert now == modes


def test_the_real_pass_runs_whatever_the_callers_mode(models: dict[str, Any]) -> None:
    with torch.inference_mode(), default_device("meta"):
        report = vaelint.check(models["mlp_vae"].VAE(), input="32x784", loss=models["mlp_vae"].loss_fn, device="cpu")
    assert (report.status, report.confirm["outcome"]) == ("clean", "ran")
    assert any("meta device" in note for note in report.notes)


def test_a_buffer_without_values_is_said(models: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = models["mlp_vae"].VAE()
        model.register_buffer("scale", torch.ones(3))
    report = vaelint.check(model, input="32x784", loss=models["mlp_vae"].loss_fn)
    assert (report.status, report.codes) == ("failed", ("VAE002",))
    assert "the buffer scale of the model is on the meta device" in report.findings[0].message


def test_handlers_of_signals_that_a_model_sets_are_put_back(tmp_path: Path) -> None:
    text = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nsignal.alarm(3)\n"
    (tmp_path / "impolite.py").write_text(text + (DATA / "mlp_vae.py").read_text())
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    assert vaelint.check(f"{tmp_path}/impolite.py:VAE", input="32x784").clean
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
    assert signal.alarm(0) == 0, "it would have ended this process"


GROWS = """
import torch
from torch import nn

TABLE = {}


class Grows:
    @property
    def __class__(self):
        TABLE[len(TABLE)] = 1  # whoever looks at it, as another thread may at any time
        return int


TABLE[0] = Grows()


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(6, 4), nn.Linear(2, 6)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, dim=1)
        recon = self.dec(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        return (recon - x).pow(2).sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
"""


def test_a_table_that_grows_while_it_is_looked_through_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "grows.py").write_text(GROWS)
    assert vaelint.check(f"{tmp_path}/grows.py:VAE", input="5x6", step="loss = model(x)", device="none").clean
