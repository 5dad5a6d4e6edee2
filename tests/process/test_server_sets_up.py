"""What a server does before it forks: it sets up what targets need, and marks the modules that are none of a user's."""

from __future__ import annotations

import subprocess
import sys

from vaelint.pipeline.check import check_here
from vaelint.process.warm import REQUEST


def test_the_model_that_is_checked_first_has_all_that_most_have() -> None:
    result = check_here(REQUEST, lambda message: None)
    assert (result.status, result.confirm["outcome"]) == ("clean", "ran")
    assert {term["role"] for term in result.loss["terms"]} == {"reconstruction", "kl"}


def told(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_modules_after_the_mark_are_told_whatever_user_code_does_to_them() -> None:
    code = """
import sys, types, threading
from vaelint.source import later_modules as m
assert set(m.later_modules()) == set(sys.modules) and not m.thrown_out()
import colorsys
m.mark()
assert not m.later_modules()
sys.modules["a"], sys.modules["b"] = types.ModuleType("a"), types.ModuleType("b")
assert list(m.later_modules()) == ["a", "b"] and not m.thrown_out()
gone = sys.modules.pop("colorsys")
assert list(m.later_modules()) == ["a", "b"] and m.thrown_out() == {"colorsys": gone}
sys.modules["colorsys"] = gone
assert list(m.later_modules()) == ["a", "b", "colorsys"] and not m.thrown_out()
assert list(m.came_since({"a": None})) == ["b"], "colorsys was there before"
m.mark()
assert not m.later_modules()
kept = dict(sys.modules)
sys.modules.clear()
assert not m.later_modules() and set(m.thrown_out()) == set(kept) - {m._MARK}
sys.modules.update((k, v) for k, v in kept.items() if k != m._MARK)
assert set(m.later_modules()) == set(kept) - {m._MARK} and not m.thrown_out()
m.mark()
ends = threading.Event()
def imports():
    n = 0
    while not ends.is_set():
        sys.modules[f"t{n}"] = None
        sys.modules.pop(f"t{n - 50}", None)
        n += 1
other = threading.Thread(target=imports)
other.start()
for _ in range(300):
    m.later_modules()
ends.set()
other.join()
print("done")
"""
    assert told(code) == "done\n"
