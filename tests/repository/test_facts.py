"""A rule, the facts that it reads, its experiments and its repairs are found from each other by name."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from vaelint.catalogue import as_json, explain, explain_part
from vaelint.experiment.verdict import experiments
from vaelint.pipeline.rule_facts import resolved
from vaelint.replay.per_model import per_model
from vaelint.replay.traced import Traced
from vaelint.rule import Rule, fact_definition, fact_place
from vaelint.rule_packages import load_rules
from vaelint.rule_parts import parts

ROOT = Path(__file__).parents[2]
RULES = [r for r in load_rules() if r.module.startswith("vaelint_rules.")]
NAMED = sorted({name for r in RULES for name in r.facts})


def loaded(tree: ast.AST) -> Iterator[str]:
    """The modules that a file imports when it is loaded: not those for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        yield from loaded(node)


def test_what_rules_load_of_vaelint_is_the_door_for_rules() -> None:
    for file in sorted((ROOT / "rules").glob("*.py")):
        own = {m for m in loaded(ast.parse(file.read_text())) if m.partition(".")[0] in ("vaelint", "torch")}
        assert own <= {"vaelint.rule"}, file.name


@pytest.mark.parametrize("name", NAMED)
def test_a_fact_is_a_function_over_the_model_that_the_source_shows_where_it_is(name: str) -> None:
    function, _ = resolved(name)
    found = fact_definition(name)
    assert found is not None
    assert (inspect.unwrap(function).__module__, inspect.unwrap(function).__name__) == fact_place(name)
    assert found.line == inspect.getsourcelines(inspect.unwrap(function))[1] + len(written(function)[3])
    assert found.first == "model"


@cache
def written(function: Callable[..., object]) -> tuple[list[ast.arg], list[ast.AST], str, list[ast.expr]]:
    """A function's parameters, what is by name or may be left out of them, its result and its decorators, as the source has them."""
    (found,) = ast.parse(inspect.getsource(inspect.unwrap(function))).body
    assert isinstance(found, ast.FunctionDef)
    return (
        found.args.args,
        [*found.args.defaults, *found.args.kwonlyargs],
        ast.unparse(found.returns or ast.Constant(None)),
        found.decorator_list,
    )


@pytest.mark.parametrize("rule", [r for r in RULES if r.facts], ids=lambda r: r.code)
def test_a_check_declares_the_types_of_its_facts(rule: Rule) -> None:
    """In the words of the fact's own signature: type checkers see no more than a name between the two."""
    (model, *taken), *_ = written(rule.check)
    assert model.arg == "model"
    assert [p.arg for p in taken] == [fact_place(name)[1] for name in rule.facts], "a parameter has the name of its fact"
    for name, parameter in zip(rule.facts, taken, strict=True):
        (_, *rest), free, result, _ = written(resolved(name)[0])
        more = "..." if free else f"[{', '.join(ast.unparse(a.annotation or a) for a in rest)}]"
        assert ast.unparse(parameter.annotation or parameter) == (f"Callable[{more}, {result}]" if rest or free else result), name


FOR_PACKAGES = {"LossAgainstRepaired", "NonFinite", "ShuffleTarget"}
"""Experiments that rules of other packages can ask for; none of vaelint's own does."""


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.code)
def test_the_page_of_a_rule_says_where_its_parts_are(rule: Rule) -> None:
    found = parts(rule)
    page = explain(rule).partition("\n## Where it is\n")[2]
    for part in found:
        line = (ROOT / part.file).read_text().splitlines()[max(part.line - 1, 0)]
        assert not part.line or re.split(r"[.:]", part.name)[-1] in line, part
        assert part.place in page
    assert {p.kind for p in found} & {"fact", "law", "reported"}, "something must find it"


def test_experiments_repairs_and_laws_are_found_from_their_rules() -> None:
    """By the names in the sources; held against what is registered once all is imported."""
    from vaelint.confirm import run  # noqa: F401  registers experiments
    from vaelint.laws import every  # noqa: F401  registers laws
    from vaelint.laws.law import LAWS

    listed = json.loads(as_json(RULES, ""))
    named = {(p["kind"], p["name"]) for r in listed for p in r["parts"]}
    assert {law.name for law in LAWS} == {name for kind, name in named if kind == "law"}
    assert {e.kind.__name__ for e in experiments()} - {name for kind, name in named if kind == "experiment"} == FOR_PACKAGES


def test_a_rule_is_found_from_its_parts() -> None:
    for name in ("schedule.weights.stuck_weights", "stuck_weights", "WeightStays"):
        assert explain_part(name).endswith("## Rules\n- VAE416 kl-weight-stuck\n")
    assert "- VAE201 shared-noise\n" in explain_part("DrawLike")
    assert explain_part("shared-noise") == explain_part("nothing") == ""


def test_a_fact_is_worked_out_once_for_each_model() -> None:
    asked = list[object]()

    @per_model
    def count(model: Traced) -> int:
        asked.append(model)
        return len(asked)

    first, second = (object.__new__(Traced) for _ in range(2))
    first.facts, second.facts = {}, {}
    assert (count(first), count(first), count(second), count(first)) == (1, 1, 2, 1)
