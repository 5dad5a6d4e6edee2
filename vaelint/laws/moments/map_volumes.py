"""The volumes of a recorded map of a draw, in many states of the draw and of the map's weights, and how addends of the loss follow them."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import fx

from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.replay.replay import ReplayError, gradients

_STATES = 24
_MOVED = 0.3  # how far the map's weights lie from their own values: near the identity all volumes are 1
_EXACT = 1e-6  # of the log-volumes, that a sum of the addends leaves
_FAR = 3.0  # times as far from 0 as the map's end lies
_UNEVEN = 1.05  # times what the others count

State = dict[fx.Node, torch.Tensor]


@dataclass(frozen=True)
class MapVolumes:
    """The map from a draw to one end of it."""

    bench: Bench
    site: Site
    end: fx.Node

    @cached_property
    def _states(self) -> list[State]:
        """Draws and weights of the map, that lie elsewhere in each state."""
        model = self.bench.model
        sizes = dict(model.symbols)
        numbers = [n for n in model.flow.ancestors(self.end, stop={self.site.z}) if n.op == "get_attr" and n.meta.get("parameter")]
        own = {n: v.detach().double() for n, v in model.replay(numbers, {}, sizes).items()}
        shape = model.replay.shape_of(self.site.z, sizes)
        states = []
        for seed in range(_STATES):
            generator = torch.Generator().manual_seed(40 + seed)
            held = {n: v + _MOVED * torch.randn(v.shape, dtype=torch.float64, generator=generator) for n, v in own.items()}
            states.append({**held, self.site.z: torch.randn(shape, dtype=torch.float64, generator=generator)})
        return states

    @cached_property
    def logs(self) -> torch.Tensor:
        """The logarithm of the volume by which the map changes each state, over all samples. Raises ReplayError where it has none."""
        model, z = self.bench.model, self.site.z
        found = []
        for state in self._states:
            leaf = state[z].clone().requires_grad_()
            last = model.replay([self.end], {**state, z: leaf * 1}, dict(model.symbols))[self.end].flatten(1)
            rows = [gradients(last[:, d], [leaf], retain=True)[0] for d in range(last.shape[1])]
            if any(r is None for r in rows):
                raise ReplayError("a part of the map does not move with the draw")
            found.append(torch.linalg.slogdet(torch.stack([r.flatten(1) for r in rows if r is not None], 1))[1].sum().detach())
        return torch.stack(found)

    def values(self, leaves: list[Leaf]) -> torch.Tensor:
        """What some addends are in the loss, in each state."""
        model, loss = self.bench.model, self.bench.model.record.loss
        assert loss is not None
        sizes = dict(model.symbols)
        quiet = silence_others(Term("other", leaves), model.replay, sizes)
        return torch.stack([model.replay([loss], {**quiet, **state}, sizes)[loss].sum().detach() for state in self._states])

    def off(self, leaves: list[Leaf]) -> float | None:
        """By what share of their own moves some addends part from the best multiple of the log-volumes; None where one does not move."""
        values, logs = self.values(leaves), self.logs
        values, logs = values - values.mean(), logs - logs.mean()
        if not bool(values.isfinite().all() and logs.isfinite().all()) or float(values.norm() * logs.norm()) < 1e-12:
            return None
        rest = values - (values * logs).sum() / logs.square().sum() * logs
        return float(rest.norm() / values.norm())

    def is_turned(self, leaves: list[Leaf], judged: list[Leaf]) -> bool:
        """Whether some addends rise with the log-volumes where the base density's cost rises with the distance of the map's end: a
        density takes the one from the other."""
        values, logs = self.values(leaves), self.logs
        slope = float(((values - values.mean()) * (logs - logs.mean())).sum())
        model, loss = self.bench.model, self.bench.model.record.loss
        assert loss is not None
        sizes = dict(model.symbols)
        quiet = silence_others(Term("other", judged), model.replay, sizes)
        ends = [model.replay([self.end], state, sizes)[self.end].detach() for state in self._states]
        near, far = (sum(float(model.replay([loss], {**quiet, self.end: by * y}, sizes)[loss].sum()) for y in ends) for by in (1.0, _FAR))
        return slope * (far - near) > 0

    def miscounted(self, leaves: list[Leaf]) -> tuple[Leaf, float] | None:
        """The addend that counts another time than the others do in the log-volumes, and how many times more often it should; None where
        no sum of the addends is the log-volumes, or all count alike."""
        if not 1 < len(leaves) < _STATES // 2:
            return None
        columns = torch.stack([v - v.mean() for v in (self.values([leaf]) for leaf in leaves)], 1)
        goal = self.logs - self.logs.mean()
        counts = torch.linalg.lstsq(columns, goal.unsqueeze(1), driver="gelsd").solution.squeeze(1)
        if not float((columns @ counts - goal).norm()) < _EXACT * float(goal.norm()):
            return None
        usual = float(counts.abs().sort().values[(len(counts) - 1) // 2])
        odd = max(range(len(leaves)), key=lambda k: float(counts[k].abs()))
        times = float(counts[odd].abs()) / usual if usual else 0.0
        return (leaves[odd], times) if times > _UNEVEN else None
