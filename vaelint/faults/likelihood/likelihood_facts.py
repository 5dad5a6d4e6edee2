"""What is off, or notable, about reconstruction, target and likelihood. Each fact is worked out when a rule first asks."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.loss.signs import sign_place
from vaelint.core.finding import Label, Span
from vaelint.faults.likelihood import likelihood, targets
from vaelint.faults.likelihood.class_axis import OffClasses, off_classes
from vaelint.faults.likelihood.classes import Capped, capped_softmax, probabilities_for_logs
from vaelint.faults.likelihood.exchanged import Exchanged, exchanged_targets
from vaelint.faults.likelihood.itself import Itself, compared_with_itself
from vaelint.faults.likelihood.leak import leaked_tokens, shown_steps, where_it_enters
from vaelint.faults.likelihood.made_at import made_at
from vaelint.faults.likelihood.padding import Padding, padded
from vaelint.faults.likelihood.squashed import squashed_elsewhere
from vaelint.faults.likelihood.swapped import crossed_call
from vaelint.faults.likelihood.targets import Corruption
from vaelint.record import ops
from vaelint.record.record import MadeDistribution, span
from vaelint.record.walk import back
from vaelint.replay.ranges import value_range

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


class Likelihood:
    """What is off, or notable, about reconstruction, target and likelihood."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def broadcast(self, fact: ReconFact) -> str | None:
        """What the comparison with the target stretches, if anything."""
        return likelihood.broadcast(self._model, fact.pair)

    def activation(self, node: fx.Node) -> fx.Node | None:
        """The activation a value comes out of."""
        return likelihood.activation(node)

    def wrong_target(self, fact: ReconFact) -> Corruption | None:
        """A target with noise in it."""
        return targets.wrong_target(self._model, fact)

    def target_place(self, fact: ReconFact) -> Span | None:
        """Where the target was chosen: the statement that names it, else where it is compared."""
        return targets.chosen_at(self._model, fact)

    @cached_property
    def exchanged(self) -> list[Exchanged]:
        """Reconstructions held against other samples than their own."""
        return exchanged_targets(self._model)

    @cached_property
    def off_classes(self) -> list[OffClasses]:
        """Softmaxes over another axis than the classes."""
        return off_classes(self._model)

    @cached_property
    def self_targets(self) -> list[Corruption]:
        """Comparisons of the reconstruction with constants or with itself."""
        return targets.self_targets(self._model)

    @cached_property
    def with_itself(self) -> list[Itself]:
        """Terms that compare a value with a copy of itself."""
        told = {own.node for own in self.self_targets}
        return [found for found in compared_with_itself(self._model) if found.node not in told]

    def swapped_arguments(self, fact: ReconFact) -> bool:
        """Whether an asymmetric loss has its arguments exchanged."""
        return fact.probe.kernel == "bce_swapped" or likelihood.swapped(fact.pair, self._model)

    def exchanged_at(self, fact: ReconFact) -> Span | None:
        """Where data and reconstruction change places: the call of a helper that crosses them, else where the two are compared."""
        return crossed_call(self._model, fact.pair.meet) or span(fact.pair.meet)

    def sign_place(self, fact: ReconFact) -> fx.Node | None:
        """Where a reconstruction term gets its wrong sign."""
        alone = sum(other.term is fact.term for other in self._model.recons) == 1
        place = sign_place(self._model, fact.pair.leaf, fact.term.core if alone else None)
        return fact.pair.meet if place in (fact.term.core, fact.pair.leaf.node) else place

    def output_mismatch(self, fact: ReconFact) -> likelihood.Mismatch | None:
        """Declared data that the reconstruction cannot reach."""
        return likelihood.output_mismatch(self._model, fact)

    def target_range(self, fact: ReconFact) -> tuple[float, float] | None:
        """The declared range of the target."""
        return likelihood.target_range(self._model, fact.pair)

    def nll_fault(self, fact: ReconFact) -> tuple[fx.Node, str] | None:
        """What is wrong with a Gaussian likelihood of learned variance."""
        return likelihood.nll_fault(self._model, fact)

    def scale_of(self, fact: ReconFact) -> fx.Node | None:
        """What is learned of a likelihood's scale."""
        return likelihood.scale_of(self._model, fact)

    def compared_at(self, fact: ReconFact) -> Span | None:
        """Where reconstruction and target are compared; where the loss is made, when the call is in no file."""
        return span(fact.pair.meet) or made_at(self._model, fact.pair.meet)

    def takes_logits(self, fact: ReconFact, classes: bool = False) -> bool:
        """Whether the likelihood is Bernoulli (or, with `classes`, categorical) on logits: by its gradient, or torch's own with weights."""
        kernel, own = ("cross_entropy", "cross_entropy") if classes else ("bce_with_logits", "binary_cross_entropy_with_logits")
        return fact.probe.kernel == kernel or ops.op(fact.pair.meet) == own

    @cached_property
    def improbable(self) -> list[tuple[MadeDistribution, fx.Node]]:
        """Distributions whose probability, made of z, can leave [0, 1]: torch refuses it where it checks, and clips it where not."""
        found: list[tuple[MadeDistribution, fx.Node]] = []
        for made in self._model.record.distributions:
            if any(made.stack == other.stack for other, _ in found):
                continue  # one line, in a loop
            node = made.parameters.get("probs") if made.family != "Categorical" else None
            reach = value_range(self._model, node) if node is not None and node in self._model.decoded else None
            if node is not None and reach is not None and (reach.low < -1e-9 or reach.high > 1 + 1e-9):
                found.append((made, node))
        return found

    def given_at(self, fact: ReconFact) -> Span | None:
        """Where the likelihood is given the reconstruction: where its distribution is made, else where the two are compared."""
        behind = set(back(fact.pair.recon, ops.SHAPE | ops.CAST))
        behind |= {n for n in self._model.flow.users.get(fact.pair.recon, ()) if ops.op(n) == "sub"}  # normalised where it is made
        for made in reversed(self._model.record.distributions):
            if made.stack and behind & set(made.parameters.values()):
                return made.stack[0]
        return span(fact.pair.meet)

    def probabilities_for_logs(self, fact: ReconFact) -> tuple[float, float] | None:
        """The range of probabilities that stand where log-probabilities should."""
        return probabilities_for_logs(self._model, fact)

    def capped_softmax(self, fact: ReconFact) -> Capped | None:
        """A softmax whose scores are too close together to choose a class."""
        return capped_softmax(self._model, fact)

    def counted_padding(self, fact: ReconFact) -> Padding | None:
        """Where the model tells padding apart that the loss counts."""
        return padded(self._model, fact)

    def leaked_tokens(self, fact: ReconFact) -> fx.Node | None:
        """The token input that reaches its own prediction past z."""
        return leaked_tokens(self._model, fact)

    def leak_enters(self, fact: ReconFact, tokens: fx.Node) -> fx.Node | None:
        """The operation that lets a place see the token it is to predict; None where the decoder is handed that token."""
        return where_it_enters(self._model, fact, tokens)

    def shown_steps(self, fact: ReconFact) -> tuple[fx.Node, int] | None:
        """The input whose steps reach their own prediction past z, and the axis of the steps."""
        return shown_steps(self._model, fact)

    def squashed_elsewhere(self, fact: ReconFact) -> Label | None:
        """A sigmoid that another method puts on the decoder's output."""
        call = squashed_elsewhere(self._model, fact)
        place = span(fact.pair.raw[0]) if call is not None else None
        return (
            Label(
                Span(place.file, call.lineno, call.col_offset + 1, call.end_lineno, (call.end_col_offset or 0) + 1),
                "a sigmoid is applied here",
            )
            if call is not None and place is not None
            else None
        )

    @cached_property
    def crossed_terms(self) -> list[fx.Node]:
        """Per-sample terms that are combined for every pair of samples."""
        return likelihood.crossed_terms(self._model)

    @cached_property
    def unused_reconstruction(self) -> fx.Node | None:
        """The decoder's output, when no term of the loss depends on anything decoded."""
        return likelihood.unused_reconstruction(self._model)
