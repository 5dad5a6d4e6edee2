"""A training that was observed is not observed again, unless what its script read has changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vaelint.cache.store import Cache
from vaelint.core.checked import Checked
from vaelint.core.run_request import observed_request
from vaelint.process import gate

TRAIN = """
import os
import torch
from torch import nn

rows = torch.tensor([[float(word) for word in line.split()] for line in open("rows.txt")])
model = nn.ModuleDict({"encode": nn.Linear(6, 4), "decode": nn.Linear(2, 6)})
optimizer = torch.optim.SGD(model.parameters(), float(os.environ.get("RATE", "1e-3")))
for x in torch.utils.data.DataLoader(rows, batch_size=8):
    mu, logvar = model["encode"](x).chunk(2, dim=1)
    recon = model["decode"](mu + torch.randn_like(mu) * (0.5 * logvar).exp())
    loss = 0.5 * (recon - x).pow(2).sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    torch.save(model.state_dict(), "model.pt")
"""


def test_an_observed_training_is_kept_until_what_it_read_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "rows.txt").write_text("0.1 0.2 0.3 0.4 0.5 0.6\n" * 40)

    def checked(allow_writes: bool = False) -> Checked:
        for file in tmp_path.glob("*.*"):
            if file.stat().st_mtime > time.time() - 1:
                os.utime(file, (time.time() - 1, time.time() - 1))
        (found,) = gate.run(
            [observed_request(["train.py"], allow_writes=allow_writes)], hired, cache=Cache(str(tmp_path / "kept"), said.append)
        )
        assert found.result.status != "failed", found.result.findings
        return found

    said: list[str] = []
    with gate.Hired(None) as hired:
        first, again = checked(), checked()
        assert (first.kept, again.kept, said) == (False, True, [])
        assert [n for n in again.result.notes if n not in first.result.notes] == [again.result.notes[1]]
        assert again.result.notes[1].startswith("kept: not run again")
        (tmp_path / "rows.txt").write_text("0.6 0.5 0.4 0.3 0.2 0.1\n" * 40)
        assert not checked().kept, "its data"
        assert not checked(allow_writes=True).kept and not checked(allow_writes=True).kept, "what it writes is wanted"
