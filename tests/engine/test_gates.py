"""The nodes that all ways from a draw to the reconstruction go through."""

from __future__ import annotations

import torch
from torch import fx

from vaelint.record.flow import analyse_flow
from vaelint.record.record import Record


def test_gates_are_passed_by_every_way() -> None:
    def step(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = x * 2
        b, c = a + 1, a - 1
        d = b * c
        e = torch.exp(d)
        return e + d, d - 3

    graph = fx.symbolic_trace(step).graph
    flow = analyse_flow(Record(graph, torch.nn.Identity(), "concrete", {}))
    nodes = list(graph.nodes)
    x, ends = nodes[0], [n for n in nodes if n.name in ("add_1", "sub_1")]
    by_hand = [
        n for n in flow.sorted(flow.descendants(x) & flow.ancestors(*ends)) if n is not x and x not in flow.ancestors(*ends, stop={n})
    ]
    assert flow.gates(x, ends) == by_hand and [n.name for n in by_hand] == ["mul", "mul_1"]
