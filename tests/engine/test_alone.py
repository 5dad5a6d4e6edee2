# mypy: disable-error-code="no-untyped-call,attr-defined"
"""Training that is written for several processes, and loaders that libraries put around torch's: watched as one plain loop."""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import vaelint
from vaelint.api import Report
from vaelint.observe.data.absent_loggers import absent_loggers

Batch = torch.Tensor


class VAE(nn.Module):
    def __init__(self, shared: bool = False) -> None:
        super().__init__()
        self.enc, self.mu, self.logvar = nn.Linear(12, 16), nn.Linear(16, 4), nn.Linear(16, 4)
        self.dec, self.shared = nn.Linear(4, 12), shared

    def forward(self, x: Batch) -> tuple[Batch, Batch, Batch]:
        h = F.relu(self.enc(x))
        mu, logvar = self.mu(h), self.logvar(h)
        epsilon = torch.randn(4, device=mu.device) if self.shared else torch.randn_like(mu)
        return torch.sigmoid(self.dec(mu + torch.exp(0.5 * logvar) * epsilon)), mu, logvar


def elbo(out: tuple[Batch, Batch, Batch], x: Batch) -> Batch:
    bce = F.binary_cross_entropy(out[0], x, reduction="sum")
    return bce - 0.5 * torch.sum(1 + out[2] - out[1].pow(2) - out[2].exp())


def worker(rank: int, world: int, shared: bool) -> None:
    os.environ["MASTER_ADDR"] = "localhost"
    dist.init_process_group("nccl", rank=rank, world_size=world)
    torch.cuda.set_device(rank) if torch.cuda.is_available() else None
    model = DistributedDataParallel(VAE(shared), device_ids=[rank], find_unused_parameters=True)
    optimizer = torch.optim.Adam(model.parameters())
    data = TensorDataset(torch.rand(203, 12))
    loader = DataLoader(data, batch_size=16, sampler=DistributedSampler(data, num_replicas=world, rank=rank), num_workers=2)
    for (x,) in loader:
        optimizer.zero_grad()
        with model.no_sync():
            loss = elbo(model(x), x)
            loss.backward()
        optimizer.step()
        dist.all_reduce(loss.detach())
        dist.barrier()


@pytest.mark.parametrize("shared", [False, True])
def test_a_launcher_runs_its_worker_once_in_a_group_of_one(shared: bool) -> None:
    with vaelint.observe(device="none") as seen:
        torch.multiprocessing.spawn(worker, args=(4, shared), nprocs=4)
    (report,) = seen.reports
    assert report.target.endswith(":VAE") and report.symbols == {"B": 16, "D": 12, "L": 4}, str(report)
    assert report.codes == (("VAE201",) if shared else ()), str(report)
    assert sum("run as one process" in n for n in report.notes) == 2
    assert not dist.is_initialized() and "MASTER_PORT" not in os.environ
    assert DistributedDataParallel.__module__ == "torch.nn.parallel.distributed" and "find_unused" in str(_parameters())


def _parameters() -> Any:
    import inspect

    return inspect.signature(DistributedDataParallel.__init__).parameters


@pytest.mark.parametrize("name", ["fully_shard", "FullyShardedDataParallel"])
def test_sharded_parameters_stay_whole(name: str) -> None:
    with vaelint.observe() as seen:
        dist.init_process_group("nccl", rank=0, world_size=4)
        model = getattr(importlib.import_module("torch.distributed.fsdp"), name)(VAE(shared=True))
        optimizer = torch.optim.Adam(model.parameters())
        for (x,) in DataLoader(TensorDataset(torch.rand(64, 12)), batch_size=8):
            optimizer.zero_grad()
            elbo(model(x), x).backward()
            model.clip_grad_norm_(1.0)
            optimizer.step()
    assert "VAE201" in {f.code for f in seen.report.findings} and any("parameters are not sharded" in n for n in seen.report.notes)
    assert "__new__" not in vars(importlib.import_module("torch.distributed.fsdp").FullyShardedDataParallel)


def test_what_the_launcher_says_is_there_for_who_cannot_do_without() -> None:
    seen_by_script: list[object] = []
    with vaelint.observe(device="none") as seen:
        seen_by_script += [int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"]), os.environ.get("RANK"), "RANK" in os.environ]
        with pytest.raises(KeyError):
            os.environ["SOMETHING_ELSE"]
    assert seen_by_script == [0, 1, None, False] and not seen.clean
    with pytest.raises(KeyError):
        os.environ["LOCAL_RANK"]


ADAPTER = '''
from torch.utils.data import DataLoader


class DataLoaderShard:
    """Takes each batch before the one that it hands over is used, and is no DataLoader."""

    def __init__(self, dataset, **how):
        self.base_dataloader = DataLoader(dataset, **how)

    def __iter__(self):
        batches = iter(self.base_dataloader)
        current = next(batches)
        for following in batches:
            yield current
            current = following
        yield current

    def __getattr__(self, name):
        return getattr(self.base_dataloader, name)
'''


@pytest.fixture
def accelerate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that is like accelerate in how its loaders run ahead."""
    (tmp_path / "accelerate").mkdir()
    (tmp_path / "accelerate" / "__init__.py").touch()
    (tmp_path / "accelerate" / "data_loader.py").write_text(ADAPTER)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "accelerate"}
    yield
    for name in [n for n in sys.modules if n.partition(".")[0] == "accelerate"]:
        del sys.modules[name]
    sys.modules.update(before)


class Ahead(DataLoader[tuple[Batch, ...]]):
    """A loader of the user's own that takes a batch ahead."""

    def __iter__(self) -> Any:
        batches = super().__iter__()
        current = next(batches)
        for following in batches:
            yield current
            current = following
        yield current


@pytest.mark.parametrize("kind", ["accelerate", "own"])
def test_a_loader_that_runs_ahead_gives_the_batch_that_is_used(accelerate: None, kind: str) -> None:
    def loop() -> Report:
        with vaelint.observe(device="none") as seen:
            if kind == "accelerate":
                Loader = importlib.import_module("accelerate.data_loader").DataLoaderShard
            else:
                Loader = Ahead
            model = VAE()
            optimizer = torch.optim.Adam(model.parameters())
            for (x,) in Loader(TensorDataset(torch.rand(203, 12)), batch_size=16):
                optimizer.zero_grad()
                elbo(model(x), x).backward()
                optimizer.step()
        return seen.report

    report = loop()
    assert report.clean and report.symbols == {"B": 16, "D": 12, "L": 4}, str(report)
    assert [t["role"] for t in report.loss["terms"]] == ["reconstruction", "kl"]


def test_a_model_that_was_made_before_the_watch_began_is_known_when_it_is_called() -> None:
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters())
    with vaelint.observe(device="none") as seen:
        for (x,) in DataLoader(TensorDataset(torch.rand(203, 12)), batch_size=16):
            optimizer.zero_grad()
            elbo(model(x), x).backward()
            optimizer.step()
    assert seen.report.clean and seen.report.symbols == {"B": 16, "D": 12, "L": 4}, str(seen.report)
    assert seen.report.confirm["outcome"] == "skipped" and seen.report.target.endswith(":VAE")


def test_a_lightning_trainer_gets_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    trainer: Any = type("Trainer", (), {"__init__": lambda self, **how: given.append(how)})
    made = types.ModuleType("lightning.pytorch.trainer.trainer")
    made.__dict__["Trainer"] = trainer
    monkeypatch.setitem(sys.modules, made.__name__, made)
    before = trainer.__init__
    with vaelint.observe(device="none") as seen:
        trainer(max_epochs=3, accelerator="cpu", devices=1)
        trainer(max_epochs=3, accelerator="auto", devices=4, strategy="ddp_find_unused_parameters_true", num_nodes=2)
    assert given == [{"max_epochs": 3, "accelerator": "cpu", "devices": 1}, {"max_epochs": 3, "accelerator": "auto", "devices": 1}]
    assert trainer.__init__ is before and not seen.clean


def test_what_only_lightning_1_took_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def init(self: Any, max_epochs: int = 1, devices: Any = "auto") -> None:
        given.append({"max_epochs": max_epochs, "devices": devices})

    trainer: Any = type("Trainer", (), {"__init__": init})
    made = types.ModuleType("pytorch_lightning.trainer.trainer")
    made.__dict__["Trainer"] = trainer
    monkeypatch.setitem(sys.modules, made.__name__, made)
    with vaelint.observe(device="none"):
        trainer(max_epochs=3, gpus=1, weights_summary=None)
        with pytest.raises(TypeError, match="max_epoch"):
            trainer(max_epoch=3)  # a mistake of the script
    assert given == [{"max_epochs": 3, "devices": "auto"}]


def test_a_lightning_logger_whose_package_is_absent_logs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(self: Any, folder: str) -> None:
        raise ModuleNotFoundError("No module named 'mlflow'")

    kinds: dict[str, Any] = {"MLFlowLogger": type("MLFlowLogger", (), {"__init__": lacking}), "CSVLogger": type("CSVLogger", (), {})}
    made, inner = types.ModuleType("pytorch_lightning.loggers"), types.ModuleType("pytorch_lightning.loggers.logger")
    made.__dict__.update(kinds)
    inner.__dict__["DummyLogger"] = type("DummyLogger", (), {"log_metrics": lambda self, metrics: None})
    for module in (made, inner):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    said: list[str] = []
    with absent_loggers(said.append):
        logger = kinds["MLFlowLogger"]("runs")
    logger.log_metrics({"loss": 1.0})
    assert said == ["the package of MLFlowLogger is not installed: nothing is logged"]
    assert kinds["MLFlowLogger"].__init__ is lacking
