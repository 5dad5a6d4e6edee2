"""Speed as ratios within one run: `vaelint check` against `import torch`, and against the model's own forward and backward.

    python benchmarks/speed.py [--repeat 5]

Prints a table: minimum and median wall of each command, and the ratio of the minima. The large model is diffusers' AutoencoderKL
(84 M parameters) where that package is installed. The last rows check a chain of layers of growing length and fit the exponent.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MLP = Path(__file__).resolve().parent.parent / "tests" / "data" / "mlp_vae.py"
LARGE = "diffusers.models.autoencoders.autoencoder_kl:AutoencoderKL"
LARGE_INIT = (
    "block_out_channels=(128, 256, 512, 512)", "layers_per_block=2", "latent_channels=4",
    "down_block_types=" + repr(("DownEncoderBlock2D",) * 4), "up_block_types=" + repr(("UpDecoderBlock2D",) * 4),
)  # fmt: skip
REAL = """
import time, torch
from diffusers.models import AutoencoderKL
m = AutoencoderKL({init})
x = torch.rand(1, 3, 256, 256)
t = time.perf_counter()
out = m(x, sample_posterior=True).sample
torch.nn.functional.mse_loss(out, x).backward()
print(time.perf_counter() - t)
"""
CHAIN = """
import torch
from torch import nn
class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.ModuleList(nn.Linear(8, 8) for _ in range({n}))
        self.m, self.l, self.d = nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(4, 8)
    def forward(self, x):
        for layer in self.e:
            x = torch.tanh(layer(x))
        mu, logvar = self.m(x), self.l(x)
        return self.d(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)), mu, logvar
def loss_fn(recon, x, mu, logvar):
    return ((recon - x).pow(2).sum(1) + 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum(1)).mean()
"""


def walls(command: list[str], repeat: int) -> list[float]:
    """Wall seconds of a whole command, several times."""
    found = []
    for _ in range(repeat):
        started = time.perf_counter()
        subprocess.run(command, check=False, capture_output=True)
        found.append(time.perf_counter() - started)
    return found


def vaelint(*words: str) -> list[str]:
    """The command line of a check."""
    return [sys.executable, "-m", "vaelint", "check", *words, "--exit-zero"]


def row(name: str, seconds: list[float], base: float) -> None:
    """Prints one line of the table."""
    print(f"{name:<46} min {min(seconds):7.2f} s   median {statistics.median(seconds):7.2f} s   ratio {min(seconds) / base:6.2f}")


def main() -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    torch = walls([sys.executable, "-c", "import torch"], repeat)
    base = min(torch)
    row("import torch", torch, base)
    row("check, MLP VAE, --device none", walls(vaelint(f"{MLP}:VAE", "--input", "32x784", "--device", "none"), repeat), base)
    row("check, MLP VAE, --device cpu", walls(vaelint(f"{MLP}:VAE", "--input", "32x784", "--device", "cpu"), repeat), base)
    if importlib.util.find_spec("diffusers") is not None:
        init = [w for i in LARGE_INIT for w in ("--init", i)]
        static = walls(vaelint(LARGE, "--input", "sample=1x3x256x256", *init, "--device", "none"), 1)
        real = subprocess.run([sys.executable, "-c", REAL.format(init=", ".join(LARGE_INIT))], check=False, capture_output=True, text=True)
        row("check, AutoencoderKL 84 M, --device none", static, base)
        if real.returncode == 0:
            seconds = float(real.stdout)
            print(f"{'its forward + backward at 256x256, once':<46} {seconds:11.2f} s   {seconds / static[0]:.1f} times the check")
        else:
            print("its forward + backward did not run:", real.stderr.strip().splitlines()[-1])
    sizes, times = (50, 500, 5000), []
    with tempfile.TemporaryDirectory() as folder:
        for n in sizes:
            path = Path(folder) / f"chain{n}.py"
            path.write_text(CHAIN.format(n=n))
            taken = walls(vaelint(f"{path}:Chain", "--input", "16x8", "--device", "none"), 1)
            times.append(max(1e-3, taken[0] - base))
            row(f"check, {2 * n} layer operations, --device none", taken, base)
    slope = math.log(times[-1] / times[0]) / math.log(sizes[-1] / sizes[0])
    print(f"time beyond importing torch grows with the power {slope:.2f} of the graph's size")


if __name__ == "__main__":
    main()
