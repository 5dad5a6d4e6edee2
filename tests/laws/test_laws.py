"""The laws of the objective: no algebraic rewriting changes what is said of a loss, and one wrong change gives one finding at its line."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lawmodels import KERNELS, NAMES, Objective, settle, verdict
from thorough import examples

from vaelint.core.finding import Finding, Severity
from vaelint.core.result import Request, TargetResult

BATCHES, DATA, LATENTS = (3, 5, 8), (11, 24, 13), (2, 4, 7)

LAW = settings(phases=[Phase.generate], deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


Checked = Callable[[Objective], TargetResult]


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checked]:
    """Checks an objective, in a process of its own: in this one every call of vaelint has its types checked, four times as slow."""
    folder = tmp_path_factory.mktemp("laws")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), settle, (str(folder),)) as pool:

        def check(objective: Objective) -> TargetResult:
            (folder / "model.py").write_text(objective.source())
            given = f"x={objective.batch}x{objective.data}:float32[0,1]"
            request = Request("model.py:VAE", (given,), step=objective.step, device="none")
            return TargetResult.from_json(pool.submit(verdict, request.to_json()).result())

        yield check


@st.composite
def objectives(draw: st.DrawFn, /, **fixed: Any) -> Objective:
    """Correct objectives in any spelling; what is in `fixed` is not varied."""
    values: dict[str, Any] = {
        "batch": draw(st.sampled_from(BATCHES)),
        "data": draw(st.sampled_from(DATA)),
        "latent": draw(st.sampled_from(LATENTS)),
        "parameterisation": draw(st.sampled_from(("logvar", "log_std", "softplus"))),
        "likelihood": draw(st.sampled_from(("mse", "bce", "logits"))),
        "reduction": draw(st.sampled_from(("sum", "mean", "sample"))),
        "kl": draw(st.sampled_from(("manual", "manual", "halves", "normal", "independent"))),
        "names": draw(st.sampled_from(NAMES)),
        "order": draw(st.integers(0, 23)),
        "picks": tuple(draw(st.lists(st.integers(0, 59), min_size=12, max_size=12))),
        "rsample": draw(st.booleans()),
        "one_layer": draw(st.booleans()),
        "helpers": draw(st.booleans()),
        "method": draw(st.booleans()),
        "loop": draw(st.integers(0, 5)) == 0,
    }
    return Objective(**(values | fixed))


def told(result: TargetResult) -> list[Finding]:
    return [f for f in result.findings if f.severity is not Severity.INFO]


def shown(objective: Objective, result: TargetResult) -> str:
    lines = [f"{f.code} at line {f.span.line}: {f.message}" for f in told(result)]
    return "\n".join([objective.source(), *lines, str(result.loss), *result.notes])


@settings(LAW, max_examples=examples(6, 120))
@given(objective=objectives())
def test_a_rewriting_changes_nothing(checked: Checked, objective: Objective) -> None:
    result = checked(objective)
    where = shown(objective, result)
    assert not told(result) and result.status == "clean", where
    words = "sum over B, sum over {}" if objective.reduction == "sum" else "mean over B, sum over {}"
    terms = [(t["role"], t["kernel"], t["sign"], t["reduction"]) for t in result.loss["terms"]]
    reconstruction = ("reconstruction", KERNELS[objective.likelihood], "+", words.format("D"))
    assert terms == [reconstruction, ("kl", "Gaussian KL to N(0, 1)", "+", words.format("L"))], where
    assert result.loss["beta"]["value"] == pytest.approx(1, rel=1e-4), where


ANY_DRAW: dict[str, Any] = {"rsample": False}
MANUAL: dict[str, Any] = {"kl": "manual", "loop": False}
CHANGES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "subtracted": (("VAE407",), {"loop": False}),
    "sign of the formula": (("VAE407",), {"kl": "manual"}),
    "dropped half": (("VAE406",), {"kl": "manual", "likelihood": "logits"}),  # squared error without its half, too, is twice an ELBO
    "mean over the latent": (("VAE403",), {"kl": "manual", "loop": False, "latent": 7}),
    "mean reconstruction": (("VAE402",), {"likelihood": "mse", "reduction": "mean", "loop": False}),
    "batch sum": (("VAE401",), {"kl": "manual", "reduction": "mean", "loop": False}),
    "batch mean": (("VAE401", "VAE405"), {"kl": "manual", "reduction": "sum", "loop": False}),
    "summed over the batch": (("VAE404",), {"kl": "manual", "reduction": "mean", "loop": False}),
    "variance as std": (("VAE205",), {"parameterisation": "logvar", "kl": "manual"}),
    "read as logvar": (("VAE409", "VAE205"), {"parameterisation": "log_std", "kl": "manual"}),
    "swapped": (("VAE410",), {"parameterisation": "logvar", "kl": "manual", "helpers": True, "loop": False}),
    "uniform noise": (("VAE203",), ANY_DRAW),
    "shared noise": (("VAE201",), ANY_DRAW),
    "mean decoded": (("VAE208",), {}),
    "detached draw": (("VAE207", "VAE503"), ANY_DRAW),
    "crossed": (("VAE301",), {"likelihood": "mse", "loop": False, "reduction": "mean"}),
    "sigmoid twice": (("VAE303",), {"likelihood": "logits"}),
    "reversed": (("VAE411",), {"kl": "normal"}),
    "free bits upside down": (("VAE417",), {"kl": "manual", "reduction": "mean", "loop": False}),
    "item": (("VAE413",), {"loop": False, "reduction": "mean"}),
}
EITHER = ("read as logvar", "sigmoid twice")
"""Two places that disagree: either may be the one that is pointed at, with the other as a label."""

"""One change each: the code it must give, and what the objective must be for the change to be one."""


def right(objective: Objective, found: list[Finding], codes: tuple[str, ...]) -> bool:
    """Whether there is one finding, of one of the codes, at the changed line."""
    if len(found) != 1 or found[0].code not in codes:
        return False
    lines = {found[0].span.line} | ({label.span.line for label in found[0].labels} if objective.change in EITHER else set())
    return objective.changed_line in lines


@pytest.mark.parametrize("change", CHANGES)
def test_one_change_gives_one_finding_at_its_line(checked: Checked, change: str) -> None:
    codes, fixed = CHANGES[change]

    @settings(LAW, max_examples=examples(1, 8))
    @given(objective=objectives(**fixed, change=change))
    def law(objective: Objective) -> None:
        result = checked(objective)
        assert right(objective, told(result), codes), shown(objective, result)

    law()
