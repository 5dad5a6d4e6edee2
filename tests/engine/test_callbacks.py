"""`vaelint.lightning.Check` and `vaelint.huggingface.Check` on stand-ins that call them as Lightning and transformers do.

tests/packages/test_frameworks.py has the libraries themselves.
"""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from test_alone import VAE, elbo
from torch.utils.data import DataLoader, TensorDataset

import vaelint.huggingface
import vaelint.lightning
from vaelint.attached import NotClean, Watching

Fit = Callable[[Any, VAE], int]


def batches() -> DataLoader[tuple[torch.Tensor, ...]]:
    return DataLoader(TensorDataset(torch.rand(203, 12)), batch_size=16)


def fit_as_lightning(check: Any, model: VAE) -> int:
    """One epoch; how many batches it had."""
    trainer, optimizer, done = types.SimpleNamespace(is_global_zero=True), torch.optim.Adam(model.parameters()), 0
    check.on_fit_start(trainer, model)
    try:
        for done, (x,) in enumerate(batches(), 1):
            check.on_train_batch_start(trainer, model, (x,), done - 1)
            optimizer.zero_grad()
            elbo(model(x), x).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    except BaseException as error:
        check.on_exception(trainer, model, error)
        raise
    check.on_train_end(trainer, model)
    return done


def fit_as_transformers(check: Any, model: VAE) -> int:
    """One epoch; how many batches it had."""
    state, optimizer, done = types.SimpleNamespace(is_world_process_zero=True), torch.optim.Adam(model.parameters()), 0
    check.on_train_begin(None, state, None, model=model)
    for (x,) in batches():
        done += 1
        optimizer.zero_grad()
        elbo(model(x), x).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        check.on_step_end(None, state, None, model=model)
    check.on_train_end(None, state, None, model=model)
    return done


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning", "transformers"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, type, Fit]]:
    """How a Check is made for a library, its callback's class, and a training that calls it."""
    base = type("Callback", (), {})
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning", "transformers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    made = types.ModuleType(request.param)
    made.__dict__["TrainerCallback" if request.param == "transformers" else "Callback"] = base
    monkeypatch.setitem(sys.modules, request.param, made)
    if request.param == "transformers":
        yield vaelint.huggingface.Check, base, fit_as_transformers
    else:
        yield vaelint.lightning.Check, base, fit_as_lightning


def test_a_right_training_goes_on_and_nothing_is_said(library: tuple[Any, type, Fit], recwarn: pytest.WarningsRecorder) -> None:
    make, base, fit = library
    check = make(device="none")
    assert issubclass(type(check), base)
    torch.manual_seed(0)
    assert fit(check, VAE()) == 13
    (report,) = check.reports
    assert report.clean and report.symbols == {"B": 16, "D": 12, "L": 4}, str(report)
    assert report.target.endswith("test_callbacks.py:VAE") and not recwarn.list


def test_a_wrong_training_is_stopped_or_warned_of(library: tuple[Any, type, Fit]) -> None:
    make, _, fit = library
    with pytest.raises(NotClean, match="shared-noise") as raised:
        fit(make(device="none"), VAE(shared=True))
    assert raised.value.reports[0].codes == ("VAE201",)
    lenient = make(device="none", fail_on="never")
    with pytest.warns(UserWarning, match="VAE201"):
        assert fit(lenient, VAE(shared=True)) == 13
    assert [r.codes for r in lenient.reports] == [("VAE201",)]
    left = make(device="none", ignore="VAE201")
    assert fit(left, VAE(shared=True)) == 13 and left.reports[0].clean


def test_a_training_that_breaks_raises_its_own_error_and_leaves_no_hook() -> None:
    before = DataLoader.__iter__
    watching = Watching()
    watching.begin([VAE()])
    assert DataLoader.__iter__ is not before
    watching.close()
    assert DataLoader.__iter__ is before and not watching.is_due
    watching.end()
    assert watching.reports == []


def test_an_unknown_bar_is_refused() -> None:
    with pytest.raises(ValueError, match="fail_on is one of error, warning, info, never, not 'all'"):
        Watching(fail_on="all")


def test_the_callbacks_are_imported_without_torch() -> None:
    code = "import sys, vaelint.lightning, vaelint.huggingface; print(sorted({'torch', 'lightning', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
