"""The limit of memory of a watched script, below a limit that the user's shell has set."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

CODE = """
import resource
from vaelint.observe.limits import limited
with limited(60) as said:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
print(said, soft <= hard, resource.getrlimit(resource.RLIMIT_DATA)[0] == hard)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is of Linux")
def test_a_script_is_watched_below_the_shells_own_limit() -> None:
    def shell() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (1 << 28, 1 << 28))

    done = subprocess.run([sys.executable, "-c", CODE], preexec_fn=shell, capture_output=True, text=True, timeout=60)
    assert done.stdout.split()[-2:] == ["True", "True"], done.stderr
