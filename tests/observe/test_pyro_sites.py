"""What Pyro's sites tell of guide and model, without Pyro. tests/packages/test_frameworks.py has Pyro itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from vaelint.core.finding import Span
from vaelint.record.guide_and_model import Site
from vaelint.trace.pyro_sites import Sites

B, D, L = 32, 784, 50
DATA = (("data", -1, B),)
Q = Site("z", Span("vae.py", 20), (B,), (L,), DATA, 1.0, False, "Normal")
P = replace(Q, place=Span("vae.py", 10))
X = Site("x", Span("vae.py", 12), (B,), (D,), DATA, 1.0, True, "Bernoulli")


def seen(guide: list[Site], model: list[Site]) -> Sites:
    """One step of SVI made at line 30."""
    sites, traces = Sites(), (object(), object())
    sites.svi = Span("vae.py", 30)
    sites.begin()
    for trace, own in zip(traces, (guide, model), strict=True):
        for site in own:
            sites.add(trace, site)
    return sites


@pytest.mark.parametrize(
    ("guide", "model"),
    [
        ([Q], [P, X]),
        ([replace(Q, scale=0.3)], [replace(P, scale=torch.tensor(0.3)), X]),  # annealed
        ([replace(Q, scale=60000 / B)], [replace(P, scale=60000 / B), replace(X, scale=60000 / B)]),  # subsampled
        ([replace(Q, law="Delta", scale=1.0)], [replace(P, scale=0.3), X]),  # a point: log q is 0 whatever it is weighed by
        (
            [replace(Q, batch=(5, B), plates=(*DATA, ("particles", -2, 5)))],
            [replace(P, batch=(5, B), plates=(*DATA, ("particles", -2, 5))), X],
        ),
        ([replace(Q, batch=(B, B), plates=(*DATA, ("pairs", -2, B)))], [replace(P, batch=(B, B), plates=(*DATA, ("pairs", -2, B))), X]),
        ([Q, replace(Q, name="extra", scale=2.0)], [P, X]),  # an auxiliary site of the guide
        ([replace(Q, batch=(), event=(B, L), plates=())], [replace(P, batch=(), event=(B, L), plates=()), X]),  # no plate, all one draw
        ([], [X]),
        ([Q, replace(X, observed=False, alone=True)], [P, X]),  # auxiliary by its own word
        ([Q, replace(X, scale=0.0, observed=False)], [P, X]),  # it does not count
        ([Q, X], [P, X]),
        ([Q], [P, X, replace(P, name="noise")]),  # nothing of it is learned
        ([Q], [P, X, replace(P, name="y", learned=True, alone=True)]),  # all of its values are gone through
        ([Q], [P, X, replace(P, name="w", law="Delta", learned=True)]),
    ],
)
def test_a_right_pair_is_silent(guide: list[Site], model: list[Site]) -> None:
    sites = seen(guide, model)
    sites.end()
    assert sites.found == [] and sites.swapped is None


def test_two_weights_of_one_latent() -> None:
    sites = seen([Q], [replace(P, scale=0.3), X])
    sites.end()
    (found,) = sites.found or []
    assert found.span == Q.place and found.label == "'z': log q is weighed by 1"
    assert [(x.span, x.text) for x in found.labels] == [(P.place, "log p is weighed by 0.3")]


def test_what_the_guide_draws_is_observed_in_the_model() -> None:
    sites = seen([Q, replace(X, place=Span("vae.py", 22), observed=False)], [P, X])
    sites.end()
    (found,) = sites.found or []
    assert found.span == Span("vae.py", 22) and found.label == "'x': the guide draws it, and the model observes it"
    assert [(x.span, x.text) for x in found.labels] == [(X.place, "the model observes it")]


def test_a_learned_latent_of_the_model_that_the_guide_does_not_draw() -> None:
    sites = seen([Q], [P, X, replace(P, name="w", place=Span("vae.py", 11), learned=True)])
    sites.end()
    (found,) = sites.found or []
    assert found.span == Span("vae.py", 11) and found.label == "'w': the model draws it, and the guide does not"


def test_a_plate_at_another_axis_than_its_rows() -> None:
    wrong = (("data", -2, B),)
    sites = seen([replace(Q, batch=(B, B), plates=wrong)], [replace(P, batch=(B, B), plates=wrong), X])
    sites.end()
    (found,) = sites.found or []
    assert found.label == "'z': plate 'data' is at axis -2, its 32 rows along axis -1" and "dim=-1" in found.help


def test_the_first_step_speaks_and_later_ones_do_not() -> None:
    sites = seen([Q], [P, X])
    sites.end()
    sites.begin()
    sites.add(sites, replace(Q, scale=0.5))
    sites.end()
    assert sites.found == []


def test_model_and_guide_exchanged() -> None:
    error = seen([P, X], [Q]).swapped
    assert error is not None and (error.code, error.span) == ("VAE009", Span("vae.py", 30))
    assert "model and guide are exchanged" in str(error) and "observes 'x' at vae.py:12" in error.notes[0]


def test_what_pyro_raises_is_said_in_words_of_its_sites() -> None:
    def said(sites: Sites, text: str) -> Any:
        return sites.explain(ValueError(text))

    bare = replace(Q, plates=())
    outside = said(seen([bare], [replace(P, plates=()), X]), 'at site "z", invalid log_prob shape\n  Expected [], actual [32]')
    assert "site 'z' has 32 draws that no plate declares independent" in str(outside) and "pyro.plate" in outside.help
    one = said(seen([bare], [P, X]), 'at site "z", invalid log_prob shape\n  Expected [], actual [32]')
    assert one.span == Q.place  # the one that lacks it
    both = said(seen([replace(bare, batch=(B, L), event=())], [P, X]), 'at site "z", invalid log_prob shape')
    assert "32 x 50 draws" in str(both) and ".to_event(1)" in both.help
    image = said(seen([replace(bare, batch=(B, 1, 8), event=(8,), declared=1)], [P, X]), 'at site "z", invalid log_prob shape')
    assert ".to_event(3)" in image.help
    other = said(
        seen([Q], [replace(P, event=(1,)), X]), "Model and guide shapes disagree at site 'z': torch.Size([32, 1]) vs torch.Size([32, 50])"
    )
    assert str(other) == "the guide draws 'z' as (32, 50), the model has a prior of (32, 1)" and other.span == P.place
    event = said(seen([Q], [P]), "Shape mismatch inside plate('data') at site x dim -1, 32 vs 784")
    assert "site 'x' has 784 independent draws along axis -1, where plate 'data' has 32" in str(event)
    assert said(seen([Q], [P, X]), "something else at site 'z'") is None
    assert said(Sites(), "at site 'z', invalid log_prob shape") is None
    assert seen([Q], [P, X]).explain(TypeError("at site 'z', invalid log_prob shape")) is None
