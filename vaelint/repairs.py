"""How a finding can be mended: `repairs.DrawLike(noise=noise, scale=scale, like=like)`.

The types stand in the families, beside the functions that propose their edits. A family is
imported when one of its types is first asked for: rules are listed without. Imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from vaelint.core.claim_and_repair import Repair as Repair

if TYPE_CHECKING:
    from vaelint.faults.devices.devices_claims import *  # noqa: F403
    from vaelint.faults.gradients.gradients_claims import *  # noqa: F403
    from vaelint.faults.kl.kl_claims import *  # noqa: F403
    from vaelint.faults.likelihood.likelihood_claims import *  # noqa: F403
    from vaelint.faults.numerics.numerics_claims import *  # noqa: F403
    from vaelint.faults.sampling.sampling_claims import *  # noqa: F403
    from vaelint.faults.shapes.shapes_claims import *  # noqa: F403

_FAMILIES = ("devices", "gradients", "kl", "likelihood", "numerics", "sampling", "shapes")


def __getattr__(name: str) -> type[Repair]:
    for family in _FAMILIES:
        found = getattr(importlib.import_module(f"vaelint.faults.{family}.{family}_claims"), name, None)
        if isinstance(found, type) and issubclass(found, Repair):
            globals()[name] = found
            return found
    raise AttributeError(f"there is no repair {name}: define your own as a frozen dataclass that derives from Repair")
