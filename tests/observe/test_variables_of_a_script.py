"""Variables of the environment that a script cannot do without: made up, and said."""

from __future__ import annotations

from pathlib import Path

import commandline

TOLD = """
import os
import torch
from torch import nn

project = os.environ["NO_SUCH_PROJECT"]
rank = int(os.environ["NO_SUCH_RANK"])
if os.environ.get("NO_SUCH_PLACE"):
    raise SystemExit("a variable that the script can do without is not made up")
model = nn.Linear(6, 6)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for x in torch.utils.data.DataLoader(torch.randn(120, 6), batch_size=12):
    mu = model(x)
    loss = ((mu + torch.randn_like(mu) - x) ** 2).sum() + 0.5 * (mu**2).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def test_variables_that_a_script_wants_are_made_up_and_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TOLD)
    done = commandline.vaelint("run", "train.py", cwd=tmp_path)
    said = " ".join(done.stdout.split())
    assert done.returncode == 0, said
    assert "NO_SUCH_PROJECT" in said and "NO_SUCH_RANK" in said and "NO_SUCH_PLACE" not in said, said
