"""What a finding may claim of a real run: `claims.NoiseRows("all rows are equal", site=site)`.

The types stand in the families, beside the experiments that measure them. A family is
imported when one of its types is first asked for: rules are listed without. Imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from vaelint.core.claim_and_repair import Claim as Claim

if TYPE_CHECKING:
    from vaelint.faults.batch.batch_claims import *  # noqa: F403
    from vaelint.faults.bounds.bounds_claims import *  # noqa: F403
    from vaelint.faults.devices.devices_claims import *  # noqa: F403
    from vaelint.faults.gradients.gradients_claims import *  # noqa: F403
    from vaelint.faults.kl.kl_claims import *  # noqa: F403
    from vaelint.faults.likelihood.likelihood_claims import *  # noqa: F403
    from vaelint.faults.numerics.numerics_claims import *  # noqa: F403
    from vaelint.faults.sampling.sampling_claims import *  # noqa: F403
    from vaelint.faults.schedule.schedule_claims import *  # noqa: F403
    from vaelint.faults.shapes.shapes_claims import *  # noqa: F403

_FAMILIES = ("batch", "bounds", "devices", "gradients", "kl", "likelihood", "numerics", "sampling", "schedule", "shapes")


def __getattr__(name: str) -> type[Claim]:
    for family in _FAMILIES:
        found = getattr(importlib.import_module(f"vaelint.faults.{family}.{family}_claims"), name, None)
        if isinstance(found, type) and issubclass(found, Claim):
            globals()[name] = found
            return found
    raise AttributeError(f"there is no claim {name}: define your own as a frozen dataclass that derives from Claim")
