"""A prior that generation draws from may be trained by another script of the folder."""

from __future__ import annotations

import json
from pathlib import Path

import commandline
from expectations import fixture_of

SECOND = """
from model import PotteryVAE


def prior_loss(model: PotteryVAE, z, kind):
    return (0.5 * ((z - model.centre(kind)) / model.spread(kind).exp()).pow(2) + model.spread(kind)).sum(1).mean()
"""


def test_a_prior_that_another_script_trains_is_not_accused(tmp_path: Path) -> None:
    fixture = fixture_of("vae222_generation_differs__untrained_prior")
    (tmp_path / "model.py").write_text(fixture.path.read_text())

    def said() -> set[str]:
        done = commandline.vaelint("check", "model.py:PotteryVAE", *fixture.options, "--output-format", "json", cwd=tmp_path)
        return {f["code"] for f in json.loads(done.stdout)["targets"][0]["findings"]}

    assert "VAE222" in said()
    (tmp_path / "second.py").write_text(SECOND)
    assert "VAE222" not in said()
