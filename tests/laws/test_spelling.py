"""No finding hangs on a spelling: a fixture written in another way that means the same gets the findings that its comments expect."""

from __future__ import annotations

import ast
import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest
from expectations import FOUND_BY_THE_PASS, ROOT, Fixture, complaints, fixtures, read_fixture
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lawmodels import settle, verdict
from rewritings import REWRITINGS, Rewritten
from thorough import examples

from vaelint.core.result import Request, TargetResult

LAW = settings(phases=[Phase.generate], deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
EXAMPLES = examples(2, 6)

BY_NAME = (
    "vae415",
    "vae431",
    "vae409_kl_parameterisation__log_std",
    "vae409_kl_parameterisation__training_step",
    "vae205_variance_as_std__named_variance",
)
"""Where a name is all there is: a number that nothing reads is a weight of the KL by its name, and of two readings that are each right
by themselves the head's name says which is meant (the finding says so)."""
UNTOLD = (
    *("vae302", "vae307", "vae301_crossed_broadcast__gaussian_nll", "vae101_shape_mismatch__split_axis", "vae503_encoder_cut_off__numpy"),
    *("vae208_latent_not_sampled", "vae314", "vae420", "ok_hidden_size_not_given"),
)
"""Steps that raise, leave something else than an objective, or differ in the order of two arguments: without names nothing tells which
call is the loss. And constructor arguments that are chosen by their names."""
IN_ITS_FUNCTION = ("vae601_born_on_cpu__legacy_list",)
"""What torch's oldest constructors make goes past the recorder: the line is told by the source of the function that uses it."""
SETUP_AND_REAL_PASS = ("vae00", "vae7", *FOUND_BY_THE_PASS)
OF_LAWS = tuple(path.stem for path in (ROOT / "rules").glob("vae*.py") if "yield from ()" in path.read_text())

ALL = [
    f
    for side in ("bad", "good", "systems")
    for f in fixtures(side)
    if not f.stem.startswith((*SETUP_AND_REAL_PASS, *OF_LAWS)) and "--perturb" not in f.options
]

Checked = Callable[[Fixture, Rewritten], TargetResult]


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checked]:
    """Checks a rewritten fixture, in a process of its own: in this one every call of vaelint has its types checked."""
    folder = tmp_path_factory.mktemp("spelling")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), settle, (str(folder),)) as pool:

        def check(fixture: Fixture, new: Rewritten) -> TargetResult:
            (folder / "model.py").write_text(new.text)
            told = replace(fixture.request("none"), target=f"model.py:{fixture.name}")
            named = [option.partition("=") for option in told.inputs]
            inputs = tuple(f"{new.names.get(n, n)}{eq}{rest}" if eq else n for n, eq, rest in named)
            init = tuple(f"{new.names.get(n, n)}={v}" for n, _, v in (option.partition("=") for option in told.init))
            request: Request = replace(told, inputs=inputs, init=init)
            return TargetResult.from_json(pool.submit(verdict, request.to_json()).result())

        yield check


def firsts(source: str) -> dict[int, int]:
    """The first line of the statement that a line belongs to."""
    statements = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.stmt) and not hasattr(n, "body")]
    return {line: n.lineno for n in statements for line in range(n.lineno, (n.end_lineno or n.lineno) + 1)}


def by_statement(fixture: Fixture, source: str) -> Fixture:
    """The fixture with each expected line as the first of its statement."""
    first = firsts(source)
    expected = tuple(replace(e, lines=tuple(first.get(n, n) for n in e.lines)) for e in fixture.expectations)
    return dataclasses.replace(fixture, expectations=expected)


def fits(fixture: Fixture, rewriting: str) -> bool:
    """Whether the rewriting leaves the fixture what it is."""
    if rewriting == "extracted":  # an expression behind a name is in a function then
        return not fixture.stem.startswith((*BY_NAME, *IN_ITS_FUNCTION))
    if rewriting != "renamed":
        return True
    return "--step" not in fixture.options and not fixture.stem.startswith((*BY_NAME, *UNTOLD))


@pytest.mark.parametrize("rewriting", REWRITINGS)
def test_another_spelling_gets_the_same_findings(checked: Checked, rewriting: str) -> None:
    @settings(LAW, max_examples=EXAMPLES)
    @given(fixture=st.sampled_from([f for f in ALL if fits(f, rewriting)]))
    def law(fixture: Fixture) -> None:
        source = fixture.path.read_text(encoding="utf-8")
        new = REWRITINGS[rewriting](source, fixture.name)
        first = firsts(source)
        result = checked(fixture, new)
        lines = [new.origin.get(f.span.line, f.span.line) for f in result.findings]
        found = [replace(f, span=replace(f.span, line=first.get(n, n))) for f, n in zip(result.findings, lines, strict=True)]
        places = {(f.code, f.span.line): f for f in reversed(found)}  # over several lines, two of one statement have a line each
        wrong = complaints(by_statement(read_fixture(fixture.path), source), places.values())
        assert not wrong, "\n".join([fixture.id, *wrong, new.text, *result.notes])

    law()
