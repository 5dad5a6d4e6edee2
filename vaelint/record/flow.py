"""Who depends on whom, by value: data, parameters, noise."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from torch import fx

from vaelint.core.reach import reachable
from vaelint.late import dataclass
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
    inputs: dict[fx.Node, list[fx.Node]]  # value inputs

    @cached_property
    def refined(self) -> frozenset[fx.Node]:
        """What was made of values, no parameters, in which the step itself follows a gradient: moments that an inner loop refined."""
        if not self.record.inner:
            return frozenset()
        return frozenset(self.descendants(*(n for n in self.order if id(n.meta.get("val")) in self.record.inner)))

    def ancestors(self, *starts: fx.Node, stop: frozenset[fx.Node] | set[fx.Node] = frozenset()) -> set[fx.Node]:
        """Nodes whose values `starts` depend on, themselves included; `stop` is reached, not passed."""
        return reachable(starts, self.inputs.__getitem__, stop)

    def descendants(self, *starts: fx.Node, stop: frozenset[fx.Node] | set[fx.Node] = frozenset()) -> set[fx.Node]:
        """Nodes whose values depend on `starts`, themselves included; `stop` is reached, not passed."""
        return reachable(starts, lambda node: self.users.get(node, ()), stop)

    def gates(self, start: fx.Node, ends: Iterable[fx.Node]) -> list[fx.Node]:
        """The nodes that all ways from `start` to any of `ends` go through, in the order they ran, without `start`. In one pass."""
        goals = set(ends)
        between = self.descendants(start) & self.ancestors(*goals)
        found: list[fx.Node] = []
        furthest = self.order[start]  # of what is read of the nodes so far
        for node in self.sorted(between):
            if node is not start and furthest <= self.order[node]:
                found.append(node)
            if node in goals:
                break  # what comes later is not on the way to this one
            furthest = max([furthest, *(self.order[user] for user in self.users.get(node, ()) if user in between)])
        return found

    def looks_up(self, node: fx.Node) -> bool:
        """Whether a row of what parameters made is taken by an index that is data: a layer, as an embedding is."""
        ins = ops.value_inputs(node)
        if ops.op(node) not in ("getitem", "index_select", "gather", "take_along_dim") or len(ins) < 2:
            return False
        table, *index = ins
        return table in self.learned and table not in self.data and all(n in self.data and n not in self.learned for n in index)

    def is_decoded(self, draw: fx.Node) -> bool:
        """Whether what layers make of a draw meets the bare data."""
        layers = [n for n in self.descendants(draw) if ops.uses_parameter(n)]
        return (
            any(i in self.data and i not in self.learned for n in self.descendants(*layers) for i in ops.value_inputs(n))
            if layers
            else False
        )

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
    inputs: dict[fx.Node, list[fx.Node]] = {}
    for i, node in enumerate(record.graph.nodes):
        order[node], inputs[node] = i, ops.value_inputs(node)
        if node.op == "placeholder":
            data.add(node)
            continue
        if node.op == "get_attr" and node.meta.get("parameter"):
            learned.add(node)
        if ops.is_random(node) and node not in learned:
            random.add(node)
            noisy.add(node)
        for source in inputs[node]:
            users.setdefault(source, []).append(node)
            for group in (data, noisy, learned):
                if source in group:
                    group.add(node)
    pure = frozenset(noisy - data - learned)
    sets = (frozenset(data), frozenset(random), frozenset(noisy), pure, frozenset(learned))
    return Flow(record, order, *sets, users, inputs)
