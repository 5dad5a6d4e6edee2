"""Questions about how the model is wired, each answered by a file of its own and computed once: `model.wiring.batch.mixed()`."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.posterior.heads import Alias, aliased_heads, aliased_likelihoods
from vaelint.core.finding import Span
from vaelint.faults.batch.batch_statistics import Scaled, batch_scaled
from vaelint.faults.batch.mixing import Batch
from vaelint.faults.batch.pinned import Pinned, fixed_divisors, pinned_sizes
from vaelint.faults.batch.single import Single
from vaelint.faults.codes.code_rows import CodeRows, code_rows
from vaelint.faults.codes.codebook import Codebook, EqualCodes, VqFault, equal_codes, find_codebooks, vq_faults
from vaelint.faults.devices.asked import Asked, asked_devices
from vaelint.faults.devices.devices import Stray, stray_tensors
from vaelint.faults.gradients.cuts import Cut, encoder_cuts
from vaelint.faults.gradients.first_values import initialised
from vaelint.faults.gradients.gradients import Gradients
from vaelint.faults.gradients.idle_prior import IdlePrior, idle_priors
from vaelint.faults.gradients.missed_parameters import Missed, missed_parameters
from vaelint.faults.gradients.saved import Twice, freed_graphs
from vaelint.faults.numerics.dtypes import Types
from vaelint.faults.numerics.numerics import Overflow, Unstable, half_overflows, unstable_logs
from vaelint.faults.numerics.overflow import Unbounded, unbounded_exponentials
from vaelint.faults.numerics.quotients import Divisor, Naive, naive_logs, zero_divisors
from vaelint.faults.numerics.vanished import Vanished, vanished_constants
from vaelint.faults.numerics.whole_numbers import Spoiled, spoiled_data
from vaelint.faults.shapes.annotations import Disagreement, disagreements
from vaelint.record.record import IdleStep
from vaelint.replay.intervals import Intervals

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


class Wiring:
    """The analyses behind the rules on batches, gradients, devices and numbers."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @cached_property
    def batch(self) -> Batch:
        """What becomes of the batch axis."""
        return Batch(self._model)

    @cached_property
    def draws(self) -> list[fx.Node]:
        """Draws that the loss or an output depends on, whatever for; masks by comparison with a draw count, dropout does not."""
        reach = self._model.reaching_loss
        return [n for n in self._model.record.graph.nodes if n in self._model.flow.random and (not reach or n in reach)]

    @cached_property
    def gradients(self) -> Gradients:
        """Which parameters which value's gradient reaches."""
        return Gradients(self._model)

    @property
    def idle_steps(self) -> list[IdleStep]:
        """Steps of optimizers over gradients that had been cleared."""
        return self._model.record.idle_steps

    @cached_property
    def annotations(self) -> list[Disagreement]:
        """Shape annotations that some call does not keep to."""
        return disagreements(self._model)

    @cached_property
    def codebooks(self) -> list[Codebook]:
        """Lookups of a nearest code: vector quantisation."""
        return find_codebooks(self._model)

    @cached_property
    def code_rows(self) -> list[CodeRows]:
        """Feature maps cut into rows for a codebook channel by channel."""
        return code_rows(self._model)

    @cached_property
    def cuts(self) -> list[Cut]:
        """Where the encoder is cut off from the reconstruction."""
        return encoder_cuts(self._model)

    @cached_property
    def vq_faults(self) -> list[VqFault]:
        """Gradients of a quantised model that do not arrive."""
        return vq_faults(self._model)

    @cached_property
    def aliases(self) -> list[Alias]:
        """Posteriors whose mean and scale are one value."""
        return aliased_heads(self._model)

    @cached_property
    def equal_codes(self) -> list[EqualCodes]:
        """Tables of codes that all start at one point."""
        return equal_codes(self._model)

    def initialised(self, parameter: fx.Node) -> Span | None:
        """Where a parameter gets the values that it starts with."""
        return initialised(self._model, parameter)

    @cached_property
    def aliased_likelihoods(self) -> list[tuple[fx.Node, fx.Node]]:
        """Decoders whose mean and variance are one value."""
        return aliased_likelihoods(self._model)

    @cached_property
    def missed(self) -> list[Missed]:
        """Parameters that no optimizer gets."""
        return missed_parameters(self._model)

    @cached_property
    def strays(self) -> list[Stray]:
        """Tensors that stay on the CPU when the model moves."""
        return stray_tensors(self._model)

    @cached_property
    def asked(self) -> list[Asked]:
        """Places that ask for a GPU by name."""
        return asked_devices(self._model)

    @cached_property
    def pinned(self) -> list[Pinned]:
        """Numbers that make the step raise at another batch size."""
        return pinned_sizes(self._model)

    @cached_property
    def divisors(self) -> list[Pinned]:
        """Sums over the batch that are divided by a fixed number."""
        return fixed_divisors(self._model)

    @cached_property
    def single(self) -> Single:
        """What becomes of a batch of one."""
        return Single(self._model)

    @cached_property
    def intervals(self) -> Intervals:
        """Between which bounds values lie."""
        return Intervals(self._model)

    @cached_property
    def unstable_logs(self) -> list[Unstable]:
        """Logarithms and roots of what can be zero."""
        return unstable_logs(self._model)

    @cached_property
    def freed_graphs(self) -> list[Twice]:
        """Second backward passes over what the first has freed."""
        return freed_graphs(self._model)

    @cached_property
    def batch_scaled(self) -> list[Scaled]:
        """Statistics over the batch that samples are scaled or shifted by."""
        return batch_scaled(self._model)

    @cached_property
    def idle_priors(self) -> list[IdlePrior]:
        """Prior networks that the KL leaves out, or is given without a gradient."""
        return idle_priors(self._model)

    @cached_property
    def naive_logs(self) -> list[Naive]:
        """Logarithms of exponentials that overflow first."""
        return naive_logs(self._model)

    @cached_property
    def zero_divisors(self) -> list[Divisor]:
        """Quotients whose divisor can be exactly zero."""
        return zero_divisors(self._model)

    @cached_property
    def half_overflows(self) -> list[Overflow]:
        """Exponentials and sums that float16 cannot hold."""
        return half_overflows(self._model)

    @cached_property
    def unbounded(self) -> list[Unbounded]:
        """How large layer outputs may become before an exponential of them overflows."""
        return unbounded_exponentials(self._model)

    @cached_property
    def vanished(self) -> list[Vanished]:
        """Constants against zero that rounding takes away."""
        return vanished_constants(self._model)

    @cached_property
    def spoiled(self) -> list[Spoiled]:
        """Data that whole-number arithmetic spoils."""
        return spoiled_data(self._model)

    @cached_property
    def numbers(self) -> Types:
        """Types of numbers."""
        return Types(self._model)

    def activation_made(self, node: fx.Node) -> Span | None:
        """Where the activation layer that a value comes out of was constructed; None for a function, and for a layer that the user's code
        calls by itself: it is that call that applies it."""
        path = str(node.meta.get("module") or "")
        layer = next((c.module for c in self._model.record.calls if c.path == path), None)
        if type(layer).__module__ != "torch.nn.modules.activation":
            return None
        around = next((c.module for c in self._model.record.calls if c.path == path.rpartition(".")[0]), None)
        return self.birth_of(node) if type(around).__module__.startswith("torch.nn.modules") else None

    def birth_of(self, node: fx.Node) -> Span | None:
        """Where the layer that a node ran in was constructed."""
        return self._model.birth(str(node.meta.get("module") or ""))
