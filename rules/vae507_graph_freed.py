"""backward() runs a second time over a freed graph.

## What it does
Looks at the `backward()` calls of the step: two over one part of the graph, the first without `retain_graph=True`. And
at attributes of the model that still carry their graph when the step ends and that the next step computes with: a
hidden state, a running loss.

## Why is this bad
A backward pass frees the values it used. The second raises: "Trying to backward through the graph a second time".

## Example
    rec.backward()
    kl.backward()                      # both go through the encoder
    self.hidden = hidden               # and the next step starts from it

## Use instead
    (rec + kl).backward()
    self.hidden = hidden.detach()

## When to ignore
Never: backward raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.gradients.saved import Twice


@rule(
    "VAE507",
    "graph-freed",
    Severity.ERROR,
    message="backward() runs a second time over a freed graph",
    basis="shapes",
).on("gradients.saved.freed_graphs")
def check(model: Model, freed_graphs: list[Twice]) -> Findings:
    """Second calls, and attributes that carry a graph into the next step."""
    for twice in freed_graphs:
        if twice.attribute:
            yield Found(
                twice.span,
                label=f"{twice.attribute} keeps its graph, and the next step computes with it",
                why="the first step's backward pass frees that graph; the second step's raises",
                help="keep the value without its graph: .detach()",
                claim=claims.SecondStep("the second step's backward pass raises"),
            )
        else:
            yield Found(
                twice.span,
                label="goes through a part that an earlier backward() has freed",
                why="backward frees the values it has used",
                help="add the losses and call backward() once, or pass retain_graph=True to the earlier call",
                claim=claims.SecondBackward("the second call raises"),
            )
