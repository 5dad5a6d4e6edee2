"""Weights of the KL without effect, and schedules that lead nowhere, in whichever way the code is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.faults.schedule.dropped_products import dropped_products
from vaelint.faults.schedule.dropped_steps import dropped_steps
from vaelint.faults.schedule.idle_arguments import idle_arguments
from vaelint.faults.schedule.idle_attributes import idle_attributes
from vaelint.faults.schedule.reset_counters import reset_counters
from vaelint.faults.schedule.schedule import StuckWeight, UnusedWeight, idle_weights, returning_weights

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def unused_weights(model: Model) -> list[UnusedWeight]:
    """VAE415: named KL weights without effect."""
    return idle_weights(model) + idle_arguments(model) + idle_attributes(model) or dropped_products(model)


def stuck_weights(model: Model) -> list[StuckWeight]:
    """VAE416: schedules that run and lead nowhere."""
    return returning_weights(model) or reset_counters(model) or dropped_steps(model)
