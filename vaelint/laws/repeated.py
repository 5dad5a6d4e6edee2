"""Law B1, for layers: each place of a stack has weights of its own.

Read off the built model: a container in which a module with weights stands several times.
Layers that share their weights on purpose are called in a loop, or made first and named; what was made inside of the list itself is
to be made once for each place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import nn

from vaelint.core.finding import Severity
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.rule import Found


@law("places-have-weights", "each place of a stack of layers has weights of its own", covered=("VAE514",), cost="replay")
def places_have_weights(bench: Bench) -> Iterator[Broken]:
    """Only containers that the step's model holds, and modules with parameters."""
    record = bench.model.record
    for path, container in record.model.named_modules():
        if not isinstance(container, nn.Sequential | nn.ModuleList):
            continue
        places = [m for m in container if isinstance(m, nn.Module)]  # one may be None
        times = Counter(map(id, places))
        again = [m for m in places if times[id(m)] > 1 and any(True for _ in m.parameters())]
        span, way = record.births.get(id(container)), record.births.around.get(id(again[0]), ()) if again else ()
        if span is None or not way:
            continue
        lines = range(span.line, (span.end_line or span.line) + 1)
        inside = next((place for place in way if place.file == span.file and place.line in lines), None)  # or a function called there
        if inside is None and len(set(map(id, again))) < len({id(m) for m in places if any(True for _ in m.parameters())}):
            continue  # some places have their own: who made it so had a plan
        count = times[id(again[0])]
        found = Found(
            inside or span,
            label=f"one {type(again[0]).__name__} is at {count} places of {path}",
            why="multiplying a list repeats the module, not its constructor: all places have the same weights, and the model has a part "
            "of the parameters that it seems to have",
            help="make one for each place: [Layer() for _ in range(n)]; where the weights are shared on purpose, call one layer in a loop",
            severity=None if inside is not None else Severity.INFO,
        )
        yield Broken("layer-repeated", found, "as many modules as places", f"one module at {count} places")
        return
