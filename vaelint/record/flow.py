"""Who depends on whom, by value: data, parameters, noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import fx

from vaelint.core.reach import reachable
from vaelint.record import ops
from vaelint.record.record import Record


@dataclass(frozen=True)
class Flow:
    """Sets of nodes of one record."""

    record: Record
    order: dict[fx.Node, int]
    data: frozenset[fx.Node]  # depends on the value of an input
    random: frozenset[fx.Node]  # draws
    noisy: frozenset[fx.Node]  # depends on a draw
    pure_noise: frozenset[fx.Node]  # depends on a draw, on no input and no parameter
    learned: frozenset[fx.Node]  # depends on a parameter
    users: dict[fx.Node, list[fx.Node]]  # value users

    @cached_property
    def refined(self) -> frozenset[fx.Node]:
        """What was made of values, no parameters, in which the step itself follows a gradient: moments that an inner loop refined."""
        if not self.record.inner:
            return frozenset()
        return frozenset(self.descendants(*(n for n in self.order if id(n.meta.get("val")) in self.record.inner)))

    def ancestors(self, *starts: fx.Node, stop: frozenset[fx.Node] | set[fx.Node] = frozenset()) -> set[fx.Node]:
        """Nodes whose values `starts` depend on, themselves included; `stop` is reached, not passed."""
        return reachable(starts, ops.value_inputs, stop)

    def descendants(self, *starts: fx.Node, stop: frozenset[fx.Node] | set[fx.Node] = frozenset()) -> set[fx.Node]:
        """Nodes whose values depend on `starts`, themselves included; `stop` is reached, not passed."""
        return reachable(starts, lambda node: self.users.get(node, ()), stop)

    def sorted(self, nodes: set[fx.Node] | frozenset[fx.Node]) -> list[fx.Node]:
        """`nodes` in the order they ran."""
        return sorted(nodes, key=self.order.__getitem__)


def analyse_flow(record: Record) -> Flow:
    """One pass over the graph, linear in its nodes."""
    data: set[fx.Node] = set()
    random: set[fx.Node] = set()
    noisy: set[fx.Node] = set()
    learned: set[fx.Node] = set()
    users: dict[fx.Node, list[fx.Node]] = {}
    order: dict[fx.Node, int] = {}
    for i, node in enumerate(record.graph.nodes):
        order[node] = i
        if node.op == "placeholder":
            data.add(node)
            continue
        if node.op == "get_attr" and node.meta.get("parameter"):
            learned.add(node)
        if ops.is_random(node) and node not in learned:
            random.add(node)
            noisy.add(node)
        for source in ops.value_inputs(node):
            users.setdefault(source, []).append(node)
            for group in (data, noisy, learned):
                if source in group:
                    group.add(node)
    return Flow(
        record, order, frozenset(data), frozenset(random), frozenset(noisy), frozenset(noisy - data - learned), frozenset(learned), users
    )
