"""Trains each bug of the gallery beside the right model and writes what came to docs/gallery/measured.json.

    python benchmarks/gallery.py [--steps 2000] [--seeds 3] [--only NAME]...

The data are made up: pictures of 16x16 with one soft spot, whose place, width and brightness are random. All models are measured with the
same yardstick, whatever they were trained with: the negative ELBO of pictures not trained on, in nats a picture, by the right formulas
(Kingma & Welling 2014, eq. 10), with the posterior that the encoder gives. Less is better. Beside it: the KL in nats, and the standard
deviation over the batch of what is decoded from the prior's draws, as a share of the data's.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

from gallery_sources import FOLDER, RIGHT, bugs

_EVERY = 100
_BATCH = 32


def pictures(count: int, seed: int, side: int = 16) -> Float[torch.Tensor, "N D"]:
    """Pictures of one soft spot each, in [0, 1]."""
    own = torch.Generator().manual_seed(seed)
    x, y, width, light = (torch.rand(count, 1, 1, generator=own) for _ in range(4))
    at = torch.linspace(0, 1, side)
    distance = (at[None, :, None] - x) ** 2 + (at[None, None, :] - y) ** 2
    return ((0.3 + 0.7 * light) * torch.exp(-distance / (2 * (0.05 + 0.15 * width) ** 2))).flatten(1)


def loaded(source: str) -> ModuleType:
    """The functions and the class of a source."""
    module = ModuleType("gallery")
    exec(compile(source, "gallery.py", "exec"), module.__dict__)
    return module


@torch.no_grad()
def measured(model: Any, x: Float[torch.Tensor, "N D"]) -> tuple[float, float, float]:
    """Negative ELBO and KL, in nats a picture, and the spread of what the prior gives over that of the data."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    mu, logvar = model.encode(x)
    logits = model.dec(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu))
    if any(isinstance(m, torch.nn.Sigmoid) for m in model.dec):
        logits = logits.float()  # what its loss takes for logits, it is measured as
    nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)
    drawn = model.dec(torch.randn_like(mu)).sigmoid()
    spread = float(drawn.std(0).mean() / x.std(0).mean())
    torch.set_rng_state(state)
    return float((nll + kl).mean()), float(kl.mean()), spread


def trained(source: str, seed: int, steps: int) -> list[tuple[float, float, float]]:
    """What was measured at the start and after each hundred steps."""
    module = loaded(source)
    torch.manual_seed(seed)
    model = module.VAE()
    optimizer = module.make_optimizer(model)
    x, held = pictures(4096, 1), pictures(512, 2)
    curve = [measured(model, held)]
    for step in range(1, steps + 1):
        module.train_step(model, optimizer, x[torch.randint(len(x), (_BATCH,))])
        if step % _EVERY == 0:
            curve.append(measured(model, held))
    return curve


def averaged(source: str, seeds: int, steps: int) -> dict[str, list[float]]:
    """The mean over seeds of each curve; a number that is not finite stays out of JSON as None."""
    runs = torch.tensor([trained(source, seed, steps) for seed in range(seeds)], dtype=torch.float64).mean(0)
    return {
        name: [round(float(v), 3) if v.isfinite() else None for v in runs[:, column]]
        for column, name in enumerate(("bound", "kl", "spread"))
    }


def main() -> None:
    """Measures all bugs, or those named, and keeps the rest as it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # one of the bugs makes torch warn, which is in its text
    file = FOLDER / "measured.json"
    curves = json.loads(file.read_text())["curves"] if options.only else {}
    for name, source in [("right", RIGHT), *((b.name, b.source) for b in bugs())]:
        if not options.only or name in options.only:
            curves[name] = averaged(source, options.seeds, options.steps)
            print(name, curves[name]["bound"][-1], curves[name]["kl"][-1], curves[name]["spread"][-1], flush=True)
    facts = {"every": _EVERY, "steps": options.steps, "seeds": options.seeds, "torch": torch.__version__.partition("+")[0]}
    file.write_text(json.dumps(facts | {"curves": curves}, indent=1) + "\n")


if __name__ == "__main__":
    main()
