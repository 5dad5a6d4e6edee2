"""Inside pytest: the `vaelint` fixture for models a test has made, and `--vaelint`, which makes each configured target a test.

    def test_wiring(vaelint):
        vaelint.assert_clean(MyVAE(latent_dim=20), input="32x784")

Imports torch only once a check is asked for: pytest loads this file at its start, in every project.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from vaelint.api import Report, Seen
    from vaelint.cache.store import Cache
    from vaelint.config.settings import Settings
    from vaelint.core.errors import UsageError
    from vaelint.core.result import TargetResult
    from vaelint.process.gate import Hired


class Checker:
    """What the fixture hands out."""

    def check(self, target: Any, **how: Any) -> Report:
        """`vaelint.check`: the report, whatever it says."""
        from vaelint.api import check

        return check(target, **how)

    def observe(self, **how: Any) -> AbstractContextManager[Seen]:
        """`vaelint.observe`: `with vaelint.observe() as seen: train()`."""
        from vaelint.api import observe

        return observe(**how)

    def run(self, *command: str, **how: Any) -> Seen:
        """`vaelint run` in a process of its own: `vaelint.run("train.py", "--epochs", "1").clean`."""
        from vaelint.api import run

        return run(*command, **how)

    def assert_clean(self, target: Any, **how: Any) -> Report:
        """Fails the test, with the whole report, unless the target was analysed and nothing of severity warning or error stands.

        Args:
            target: a model, a class, a function that makes a model, or a text such as "model.py:VAE".
            how: `input`, `init`, `loss`, `step`, `device`, `select`, `ignore`, `seed`, `allow_no_loss`, as `vaelint.check` takes them.
        """
        __tracebackhide__ = True
        from vaelint.core.errors import UsageError

        try:
            report = self.check(target, **how)
        except UsageError as error:
            pytest.fail(_said(error), pytrace=False)
        if not report.clean:
            pytest.fail(_failing(report), pytrace=False)
        return report


@pytest.fixture(scope="session")
def vaelint() -> Checker:
    """Checks the wiring of variational autoencoders: `vaelint.assert_clean(model, input="32x784")`."""
    return Checker()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vaelint")
    group.addoption("--vaelint", action="store_true", help="check each target of the vaelint configuration as a test")
    group.addoption("--vaelint-no-cache", action="store_true", help="neither use nor keep results of other runs")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Adds the configured targets, before `-k` and `-m` choose among all."""
    if not config.getoption("--vaelint"):
        return
    from vaelint.config import file as configuration
    from vaelint.config.options import Options
    from vaelint.config.settings import resolve
    from vaelint.core.errors import UsageError

    try:
        settings = resolve((), configuration.load(config.rootpath), Options())
    except UsageError as error:
        raise pytest.UsageError(_said(error)) from None
    if not settings.targets:
        raise pytest.UsageError(f"--vaelint: no target is configured at or above {config.rootpath}: add [[tool.vaelint.targets]]")
    desk = Desk(settings, keep=not config.getoption("--vaelint-no-cache"))
    config.add_cleanup(desk.close)
    for number, target in enumerate(settings.targets):
        name = target.request.target
        item = TargetItem.from_parent(session, name=name, nodeid=f"vaelint::{name}", desk=desk, number=number)
        items.append(item)


def _failing(result: TargetResult, report: str = "") -> str:
    """The report under one line for pytest's summary: what was found and where."""
    from vaelint.report.parts.closing import verdict_words
    from vaelint.report.parts.places import place_of

    wrong = [f for f in result.findings if f.certainty.value != "refuted" and f.severity.value != "info"]
    first = ", ".join(f"{f.code} {f.name} at {place_of(f.span)}" for f in wrong[:3])
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    head = first + more if wrong else f"{result.target}: {verdict_words(result)}"
    return f"{head}\n\n{report or result}"


def _said(error: UsageError) -> str:
    return f"vaelint: {error.message}" + (f"\nhelp: {error.help}" if error.help else "")


class Desk:
    """What the tests of one session share: the configuration, a warm worker, the kept results."""

    def __init__(self, settings: Settings, keep: bool) -> None:
        self.settings, self._keep = settings, keep
        self._hired: Hired | None = None
        self._cache: Cache | None = None

    def check(self, number: int) -> tuple[Any, bool]:
        """The result of one target, judged as the command line would, and whether it stays below the bar."""
        from dataclasses import replace

        from vaelint.cache.folder import of_results
        from vaelint.cache.store import Cache
        from vaelint.cli.exits import EXIT_CLEAN
        from vaelint.cli.outcome import exit_code
        from vaelint.core.finding import Severity
        from vaelint.policy.judge import judge
        from vaelint.process import gate

        if self._hired is None:
            self._hired = gate.Hired()
            self._cache = Cache(of_results(), lambda words: None) if self._keep else None
        alone = replace(self.settings, targets=self.settings.targets[number : number + 1])
        (checked,) = gate.run(alone.requests, self._hired, cache=self._cache)
        judge([checked.result], alone)
        bar = Severity(self.settings.fail_on.value)
        return checked.result, exit_code([checked.result], bar, False) == EXIT_CLEAN

    def close(self) -> None:
        """Ends the worker."""
        if self._hired is not None:
            self._hired.__exit__()


class TargetItem(pytest.Item):
    """One configured target as a test."""

    def __init__(self, *, desk: Desk, number: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._desk, self._number = desk, number
        self._request = desk.settings.targets[number].request
        self.add_marker("vaelint")

    def runtest(self) -> None:
        from vaelint.core.errors import UsageError

        try:
            result, fine = self._desk.check(self._number)
        except UsageError as error:  # a broken rule package, for one
            pytest.fail(_said(error), pytrace=False)
        if not fine:
            from vaelint.report import full
            from vaelint.report.parts.view import View

            pytest.fail(_failing(result, full.render([result], View(docs=self._desk.settings.docs_url.value))), pytrace=False)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return Path(self._request.target.partition("(")[0].rpartition(":")[0]), None, f"vaelint {self._request.target}"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vaelint: a target of the vaelint configuration (--vaelint)")
