"""`--watch` between its rounds: what is saved while a round runs is not lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from vaelint.cli.rounds import watch
from vaelint.core.checked import Checked
from vaelint.core.result import Request, TargetResult

NOTHING: dict[str, list[str]] = {"lacks": [], "listings": [], "modules": [], "absent": []}


@pytest.mark.parametrize("saves", [1, 5], ids=["once", "in every round"])
def test_what_is_saved_during_a_round_makes_another_and_no_endless_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    monkeypatch.chdir(tmp_path)
    model, rounds, looks = tmp_path / "model.py", [0], [0]
    model.write_text("")

    def once() -> list[Checked]:
        rounds[0] += 1
        if rounds[0] <= saves:
            model.write_text("#" * rounds[0])
        (tmp_path / "report.json").write_text("")
        return [Checked(TargetResult("model.py:VAE"), "", Request("model.py:VAE"), {"files": [str(model)], **NOTHING})]

    def sleep(seconds: float) -> None:
        looks[0] += 1
        if looks[0] > 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        watch(once)
    assert rounds == [2]
