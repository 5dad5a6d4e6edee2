"""Every class of wrong objective, in any spelling and any form, is found at its line; without the change there is silence."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
from changes import Case, Change, dresses_of, forms_of, read_changes
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lawmodels import settle, verdict
from thorough import examples

from vaelint.core.finding import Finding, Severity
from vaelint.core.result import Request, TargetResult

LAW = settings(phases=[Phase.generate], deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
EXAMPLES = examples(1, 4)

CHANGES = read_changes()
GROUPS = tuple(dict.fromkeys(c.group for c in CHANGES))

TWO_PLACES = frozenset({
    "parameterisation", "likelihood and activation", "range of the data", "softmax twice or along a wrong axis",
    "beta depends on the batch size", "beta depends on the data size", "beta depends on the latent size", "wrong axis summed",
})  # fmt: skip
"""Two places that disagree: either may be the one that is pointed at, with the other as a label."""

Checked = Callable[[Case, bool], TargetResult]


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checked]:
    """Checks a case, wrong or right, in a process of its own: in this one every call of vaelint has its types checked."""
    folder = tmp_path_factory.mktemp("changes")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), settle, (str(folder),)) as pool:

        def check(case: Case, wrong: bool) -> TargetResult:
            (folder / "model.py").write_text(case.source(wrong=wrong))
            request = Request("model.py:VAE", (case.inputs,), step=case.step, device="none")
            return TargetResult.from_json(pool.submit(verdict, request.to_json()).result())

        yield check


def told(result: TargetResult) -> list[Finding]:
    return [f for f in result.findings if f.severity is not Severity.INFO]


def shown(case: Case, result: TargetResult) -> str:
    lines = [f"{f.code} at line {f.span.line}: {f.message}" for f in told(result)]
    return "\n".join([case.source(wrong=True), f"wanted at {case.changed_lines}", *lines, *result.notes])


def is_found(case: Case, found: list[Finding]) -> bool:
    """Whether there is one finding, of one of the codes, at a changed line."""
    if len(found) != 1 or found[0].code not in case.change.codes:
        return False
    lines = {found[0].span.line}
    if case.change.group in TWO_PLACES:
        lines |= {label.span.line for label in found[0].labels}
    return bool(lines & set(case.changed_lines))


@st.composite
def cases(draw: st.DrawFn, changes: list[Change]) -> Case:
    """A change of the list in any form, with the other statements dressed in any way."""
    change = draw(st.sampled_from(changes))
    return Case(change, draw(st.sampled_from(forms_of(change))), draw(st.sampled_from(dresses_of(change))))


@pytest.mark.parametrize("group", GROUPS)
def test_a_change_is_found_at_its_line_and_its_twin_is_clean(checked: Checked, group: str) -> None:
    @settings(LAW, max_examples=EXAMPLES)
    @given(case=cases([c for c in CHANGES if c.group == group and not c.missed]))
    def law(case: Case) -> None:
        result = checked(case, True)
        assert is_found(case, told(result)), shown(case, result)
        twin = checked(case, False)
        assert not told(twin) and twin.status == "clean", shown(case, twin)

    law()


@pytest.mark.parametrize("change", [c for c in CHANGES if c.missed], ids=str)
def test_a_known_gap_is_still_one(checked: Checked, change: Change) -> None:
    case = Case(change, "function")
    assert not is_found(case, told(checked(case, True))), "it is found now: take `missed` off"


def test_every_class_has_its_spellings() -> None:
    assert {group: n for group in GROUPS if (n := sum(c.group == group for c in CHANGES)) < 6} == {}
