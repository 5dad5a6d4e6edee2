"""The time from a save to the findings in an editor, as a ratio to `import torch` in a new process on the same machine.

    python benchmarks/editor.py [--repeat 9]

A client of `vaelint server` saves a model in turns with and without a bug, and waits until the findings have changed: tracing, rules, laws
and the real pass are all in it. An import is timed after each save, so that both see the same load. Prints minimum and median of both,
and the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from lspclient import Client  # noqa: E402 - of the tests

RIGHT = (ROOT / "tests" / "data" / "mlp_vae.py").read_text()
WRONG = RIGHT.replace("randn_like(std)", "randn(self.latent_dim, device=mu.device)")


def import_torch() -> float:
    """Seconds of `import torch` in a new process, its start included."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - began


async def measured(folder: Path, repeat: int) -> tuple[list[float], list[float]]:
    """Seconds of each re-check, and of each import beside it."""
    (folder / "vae.py").write_text(RIGHT)
    (folder / "vaelint.toml").write_text('[[targets]]\ntarget = "vae.py:VAE"\ninput = "32x784"\n')
    checks, imports = [], []
    async with Client(folder, fixes=False) as client:
        client.open("vae.py")
        await client.shown("vae.py")
        for turn in range(repeat):
            text, codes = (WRONG, ["VAE201"]) if turn % 2 == 0 else (RIGHT, [])
            began = time.perf_counter()
            client.save("vae.py", f"{text}# {turn} {began}\n")  # a text that no kept result answers for
            await client.shown("vae.py", *codes)
            checks.append(time.perf_counter() - began)
            imports.append(import_torch())
    return checks, imports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=9)
    with tempfile.TemporaryDirectory() as folder:
        checks, imports = asyncio.run(measured(Path(folder), parser.parse_args().repeat))
    for name, of in (("minimum", min), ("median", statistics.median)):
        check, torch = of(checks), of(imports)
        print(f"{name}: re-check {check:.2f} s, import torch {torch:.2f} s, ratio {check / torch:.2f}")


if __name__ == "__main__":
    main()
