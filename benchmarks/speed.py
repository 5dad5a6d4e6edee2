"""Speed as ratios within one run: `vaelint check` against `import torch`, and against the model's own forward and backward.

    python benchmarks/speed.py [--repeat 5] [--only-gate]

Prints a table: minimum and median wall of each command, and the ratio of the minima. What laws cost is told in CPU time of processes of
their own, as a ratio to importing torch in the same process. limits.md says what each figure cannot go below. The large models are
diffusers' AutoencoderKL (84 M parameters, and as wide as makes it a billion) where that package is installed; they are measured in CPU
time as well, imports apart. The last rows check a chain of layers of growing length and fit the exponent.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MLP = Path(__file__).resolve().parent.parent / "tests" / "data" / "mlp_vae.py"
COUNT = 50
HEAVY = ("sympy", "torch._dynamo", "torch._inductor", "torch.distributed", "torch.distributions", "torch._functorch", "numpy")
LARGE = "diffusers.models.autoencoders.autoencoder_kl:AutoencoderKL"
CHANNELS = {"84 M": (128, 256, 512, 512), "1 B": (448, 896, 1792, 1792)}
LOSS = "loss = ((recon - sample).pow(2).sum(dim=(1, 2, 3)) + posterior.kl()).mean()"
STEP = f"posterior = model.encode(sample).latent_dist; recon = model.decode(posterior.sample()).sample; {LOSS}"
# Both import everything first: what is compared is the analysis and the arithmetic.
STATIC = """
import json, resource, sys, time, torch, vaelint.pipeline.check
import {module}
from vaelint.core.result import Request
check = sys.modules["vaelint.pipeline.check"].check_target
wall, cpu = time.perf_counter(), time.process_time()
result = check(Request({target!r}, ("sample=1x3x256x256",), init={init!r}, step={step!r}, device="none"), lambda message: None)
seen = [time.process_time() - cpu, time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6]
print(json.dumps([*seen, result.status, result.loss["beta"]["expression"]]))
"""
REAL = """
import json, resource, time, torch
from diffusers.models import AutoencoderKL
model, sample = AutoencoderKL({init}), torch.rand(1, 3, 256, 256)
wall, cpu = time.perf_counter(), time.process_time()
{step}
loss.backward()
print(json.dumps([time.process_time() - cpu, time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6]))
"""
LAWS = """
import json, sys, time
before = time.process_time()
import torch
imported = time.process_time()
import vaelint.pipeline.check
from vaelint.core.result import Request
check = sys.modules["vaelint.pipeline.check"].check_target
result = check(Request({target!r}, {inputs!r}, device="cpu", laws={laws!r}), lambda message: None)
print(json.dumps([imported - before, time.process_time() - imported, len(result.laws)]))
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


def walls(command: list[str], repeat: int, folder: Path | None = None) -> list[float]:
    """Wall seconds of a whole command, several times."""
    found = []
    for _ in range(repeat):
        started = time.perf_counter()
        subprocess.run(command, check=False, capture_output=True, cwd=folder)
        found.append(time.perf_counter() - started)
    return found


def vaelint(*words: str) -> list[str]:
    """The command line of a check."""
    return [sys.executable, "-m", "vaelint", "check", *words, "--exit-zero", "--no-cache"]


def row(name: str, seconds: list[float], base: float) -> None:
    """Prints one line of the table."""
    print(f"{name:<46} min {min(seconds):7.2f} s   median {statistics.median(seconds):7.2f} s   ratio {min(seconds) / base:6.2f}")


def repository(folder: Path, count: int) -> None:
    """A repository of small models, configured."""
    for i in range(count):
        shutil.copyfile(MLP, folder / f"m{i}.py")
        os.utime(folder / f"m{i}.py", (1e9, 1e9))
    table = "".join(f'[[tool.vaelint.targets]]\ntarget = "m{i}.py:VAE"\ninput = "32x784"\n' for i in range(count))
    (folder / "pyproject.toml").write_text('[tool.vaelint]\ndevice = "none"\n' + table)


def gate(base: float, repeat: int) -> None:
    """What a hook or a CI job waits for: a cold check, unchanged targets, one changed among many, many cold."""
    command = [sys.executable, "-m", "vaelint", "check", "--exit-zero"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository(folder, COUNT)
        one = [*command, "m0.py:VAE"]
        cold = min(walls([*one, "--no-cache"], repeat, folder))
        row("check of one target, no cache", [cold], base)
        walls(one, 1, folder)
        kept = walls(one, repeat, folder)
        row("the same, unchanged", kept, base)
        for jobs in (1, 2):
            many = walls([*command, "--no-cache", "--jobs", str(jobs)], max(1, repeat // 3), folder)
            each = (min(many) - cold) / (COUNT - 1)
            print(f"{f'{COUNT} targets, no cache, --jobs {jobs}':<46} min {min(many):7.2f} s   {each:.3f} s each beyond the first")
        walls([*command, "--jobs", "2"], 1, folder)
        changed = []
        for i in range(repeat):
            path = folder / f"m{i}.py"
            path.write_text(path.read_text() + "\n")
            os.utime(path, (1e9, 1e9))
            changed += walls(command, 1, folder)
        print(f"{f'{COUNT} targets, one changed':<46} min {min(changed):7.2f} s   {min(changed) / cold:.2f} times the cold check of one")


def starts(base: float, repeat: int) -> None:
    """What only tells something, against Python itself, which starts for each of them."""
    row("python -c pass", walls([sys.executable, "-c", "pass"], repeat), base)
    for words in (["--version"], ["rules"], ["explain", "VAE201"]):
        row(f"vaelint {' '.join(words)}", walls([sys.executable, "-m", "vaelint", *words], repeat), base)


def laws(repeat: int) -> None:
    """CPU time that laws add to the check of the MLP VAE, against importing torch in the same process."""
    seen: dict[str, float] = {}
    for which in ("none", "fast", "all"):
        code = LAWS.format(target=f"{MLP}:VAE", inputs=("32x784",), laws=which)
        torch_s, check_s, count = min((told(code) for _ in range(repeat)), key=lambda t: t[1] / t[0])
        seen[which] = check_s / torch_s
        name = f"check, MLP VAE, --device cpu --laws {which}"
        print(f"{name:<46} CPU {check_s:7.2f} s   {seen[which]:.2f} x import torch, {seen[which] - seen['none']:+.2f} for {count} laws")


def large() -> None:
    """The static part of a large model, imports apart, against its own forward and backward; and of one of a billion parameters."""
    for size, channels in CHANNELS.items():
        kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        init = {"block_out_channels": channels, "layers_per_block": 2, "latent_channels": 4, **kinds}
        texts = tuple(f"{k}={v!r}" for k, v in init.items())
        static = told(STATIC.format(module=LARGE.partition(":")[0], target=LARGE, init=texts, step=STEP))
        print(f"AutoencoderKL, {size}: static part {seconds(static)}; {static[3]}, beta {static[4]}")
        if size == "84 M":
            real = told(REAL.format(init=", ".join(texts), step=STEP))
            print(f"    its forward + backward  {seconds(real)}: {real[0] / static[0]:.0f} x CPU, {real[2] / static[2]:.1f} x the memory")
            words = [w for t in texts for w in ("--init", t)]
            whole = walls(vaelint(LARGE, "--input", "sample=1x3x256x256", *words, "--step", STEP, "--device", "none"), 1)[0]
            bare = walls([sys.executable, "-c", f"import torch, {LARGE.partition(':')[0]}"], 1)[0]
            print(f"    the whole command {whole:.2f} s, of which importing torch and diffusers takes {bare:.2f} s")


def told(code: str) -> list[Any]:
    """What a program of its own prints, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"this did not run: {done.stderr.strip().splitlines()[-1]}")
    found: list[Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def seconds(seen: list[Any]) -> str:
    """CPU time, wall time and memory of the whole process."""
    return f"{seen[0]:6.2f} s of CPU ({seen[1]:.2f} s), {seen[2]:.2f} GB"


def imports() -> None:
    """Heavy modules that a check imports beyond those of torch itself."""
    code = (
        "import sys, torch; before = set(sys.modules)\n"
        "import vaelint.pipeline.check as c\nfrom vaelint.core.result import Request\n"
        f"sys.modules['vaelint.pipeline.check'].check_target(Request({str(MLP) + ':VAE'!r}, ('32x784',), device='none'), lambda m: None)\n"
        "new = set(sys.modules) - before\n"
        f"for name in {HEAVY}:\n"
        "    mine = [m for m in new if m == name or m.startswith(name + '.')]\n"
        "    print(f'{name:<22}', f'{len(mine):4} modules more' if mine else 'torch has it' if name in before else 'not imported')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    print(done.stdout.rstrip() or done.stderr)


def main() -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only-gate", action="store_true", help="leave out the large model and the chains")
    told = parser.parse_args()
    repeat = told.repeat
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode: so has a checkout after its first run
    commands = {"import torch": [sys.executable, "-c", "import torch"]}
    commands |= {f"check, MLP VAE, --device {d}": vaelint(f"{MLP}:VAE", "--input", "32x784", "--device", d) for d in ("none", "cpu")}
    for command in commands.values():
        walls(command, 1)
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeat):  # in turns, so that a slow minute is one for all
        for name, command in commands.items():
            taken[name] += walls(command, 1)
    base = min(taken["import torch"])
    for name, found in taken.items():
        row(name, found, base)
    starts(base, repeat)
    laws(repeat)
    gate(base, repeat)
    imports()
    if told.only_gate:
        return
    if importlib.util.find_spec("diffusers") is not None:
        large()
    chains(base)


def chains(base: float) -> None:
    """Checks of chains of layers: the exponent of the time beyond importing torch, and what one operation costs."""
    sizes, times = (50, 500, 5000), []
    with tempfile.TemporaryDirectory() as folder:
        for n in sizes:
            path = Path(folder) / f"chain{n}.py"
            path.write_text(CHAIN.format(n=n))
            taken = walls(vaelint(f"{path}:Chain", "--input", "16x8", "--device", "none"), 1)
            times.append(max(1e-3, taken[0] - base))
            row(f"check, {2 * n} layer operations, --device none", taken, base)
    slope = math.log(times[-1] / times[0]) / math.log(sizes[-1] / sizes[0])
    each = (times[-1] - times[0]) / (2 * (sizes[-1] - sizes[0]))
    print(f"time beyond importing torch grows with the power {slope:.2f} of the graph's size; {1000 * each:.2f} ms an operation")


if __name__ == "__main__":
    main()
