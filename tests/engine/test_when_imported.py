"""Watches for a module of a library: each acts once its code has run, however many wait for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vaelint.trace.when_imported import when_imported


def test_two_that_wait_for_one_module_both_act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "awaited_by_two.py").write_text("ready = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: list[tuple[str, bool]] = []
    with (
        when_imported("awaited_by_two", lambda module: seen.append(("first", module.ready))),
        when_imported("awaited_by_two", lambda module: seen.append(("second", module.ready))),
    ):
        __import__("awaited_by_two")
    monkeypatch.delitem(sys.modules, "awaited_by_two")
    assert sorted(seen) == [("first", True), ("second", True)]
