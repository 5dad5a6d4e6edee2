"""What keeps a rule silent has a name, a model that shows it, and a line in the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import jsonschema
import pytest
from expectations import FIXTURES, read_fixture

from vaelint.core.result import TargetResult
from vaelint.faults.kl import categorical_faults, missing
from vaelint.faults.likelihood import likelihood, targets
from vaelint.faults.numerics import numerics
from vaelint.faults.sampling import idle
from vaelint.pipeline.check import check_target
from vaelint.report import as_json, full
from vaelint.report.parts.view import View

pytestmark = pytest.mark.filterwarnings("ignore")
SCHEMA = json.loads((FIXTURES.parent / "vaelint" / "report" / "schema.json").read_text())

SHOWN = {
    "VAE204": {
        "a sum of another form than mu + scale * noise": "systems/ok_draw_bent_onto_a_ball.py",
        "neither a constant nor an unused draw beside it": "systems/ok_vq_learned_gates.py",
        "both parts come from one head": "systems/ok_vq_learned_gates.py",
    },
    "VAE306": {
        "one of several views of the same data, which are drawn by the same code": "systems/ok_one_of_two_augmented_views.py",
        "noise on a part of the data, the same for all samples": "systems/ok_some_columns_jittered_in_a_copy.py",
        "jitter beside a turn that was drawn": "systems/ok_clouds_turned_and_jittered.py",
        "a draw whose posterior is not known": "vae211_posterior_not_used/bad__noise.py",
        "a step that does not train the encoder": "systems/ok_step_of_the_critic.py",
        "the reconstruction meets the data in another term": "systems/ok_critic_features.py",
        "features of the data from layers that are not trained": "systems/ok_frozen_backbone.py",
        "data that the model was built with": "vae306_wrong_target/good__built_with.py",
    },
    "VAE310": {
        "divided by a statistic of the reconstruction": "systems/ok_structural_similarity.py",
        "each element is weighed with what the decoder put out, held": "systems/ok_held_variance_weighs.py",
    },
    "VAE412": {
        "likelihood and KL are one expression": "vae422_importance_weights_inverted/good.py",
        "another term sees the latent": "systems/ok_steps_stacked_for_kl.py",
        "its heads are trained by another way than the draw": "vae207_not_reparameterized/good__wake_sleep.py",
        "the loss has no gradient in its draw, and trains what makes its heads": "systems/ok_wake_and_sleep_in_one_sum.py",
        "the step holds what makes its heads": "systems/ok_dreams_look_like_data_to_a_held_encoder.py",
        "its draws see a context alone, and are averaged within the logarithm": "systems/ok_predicted_from_context.py",
    },
    "VAE419": {
        "the negative entropy, which the constant of a uniform prior is left out of": "systems/ok_quantised_by_chance.py",
    },
    "VAE701": {
        "a log or root of the data alone": "vae306_wrong_target/good__another_sample.py",
        "non-finite results are replaced": "systems/ok_continuous_bernoulli.py",
        "the scale of a density, which its own log keeps from 0": "vae204_frozen_noise/good__ones.py",
        "a flow's scale, which its own log keeps from 0": "systems/ok_flow_with_gates.py",
        "reported as a negative scale": "systems/ok_raw_deviation_squared.py",
        "a root of values that are never exactly 0": "vae701_unstable_log/good__cube.py",
    },
}
"""By rule and exemption a model for which it holds."""

TABLES: dict[str, Sequence[tuple[str, Callable[..., bool]]]] = {
    "VAE204": idle.SUMS,
    "VAE306": (*targets.CORRUPTIONS, *targets.MODELS, *targets.ADDENDS),
    "VAE310": likelihood.NOT_GAUSSIAN,
    "VAE412": (*missing.LOSSES, *missing.POSTERIORS),
    "VAE419": categorical_faults.CONSTANTS,
    "VAE701": (*numerics.BEFORE, *numerics.AFTER),
}


def test_each_exemption_has_a_model() -> None:
    assert {code: [name for name, _ in table] for code, table in TABLES.items()} == {code: list(shown) for code, shown in SHOWN.items()}


@pytest.mark.parametrize("file", sorted({f for shown in SHOWN.values() for f in shown.values()}))
def test_it_is_named_with_its_place(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURES.parent)
    result = check_target(read_fixture(FIXTURES / file).request("none"), lambda m: None)
    wanted = {(code, name) for code, shown in SHOWN.items() for name, model in shown.items() if model == file}
    rows = {(row["code"], row["exemption"]) for row in result.exempt}
    assert wanted <= rows
    assert all(row["file"] == f"fixtures/{file}" and row["line"] > 0 for row in result.exempt if row["line"])
    jsonschema.validate(json.loads(as_json.render([result])), SCHEMA)
    code, name = min(wanted)
    row = next(r for r in result.exempt if (r["code"], r["exemption"]) == (code, name))
    line = f"exempt: {code} at {row['file']}:{row['line']}: {name}" if row["line"] else f"exempt: {code}: {name}"
    said = " ".join(full.render([result], View(verbose=True)).split())
    assert line in said
    assert line not in " ".join(full.render([result], View()).split())


def test_nothing_is_said_where_none_holds() -> None:
    assert "exempt" not in TargetResult("m.py:VAE").to_json()
    assert TargetResult.from_json(TargetResult("m.py:VAE").to_json()).exempt == []
