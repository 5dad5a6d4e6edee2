"""A dataclass whose methods are written when its first object is made, against the standard one."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from vaelint import late

Decorator = Callable[..., Any]


def family(dataclass: Decorator) -> tuple[Any, Any, Any]:
    """A base, a frozen one below it, one with a default that is made."""

    @dataclass(frozen=True)
    class Base:
        a: int
        b: str = "b"

    @dataclass(frozen=True)
    class Below(Base):
        c: tuple[int, ...] = ()

    @dataclass
    class Plain:
        items: list[int] = dataclasses.field(default_factory=list)
        name: str = dataclasses.field(default="n", repr=False, compare=False)
        total: int = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            self.total = len(self.items)

    return Base, Below, Plain


def test_objects_are_as_those_of_the_standard_one() -> None:
    seen = []
    for dataclass in (late.dataclass, dataclasses.dataclass):
        base, below, plain = family(dataclass)
        one = below(1, c=(2,))
        with pytest.raises(dataclasses.FrozenInstanceError):
            one.a = 2
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'") as without:
            base()
        seen.append(
            [
                repr(one),
                repr(plain([1, 2])),
                plain([1]) == plain([1], "other"),
                plain.__hash__,
                one == below(1, "b", (2,)),
                hash(one) == hash(below(1, c=(2,))),
                base(1) == one,
                dataclasses.replace(one, a=3),
                dataclasses.asdict(plain()),
                below.__match_args__,
                str(without.value),
                one.__init__.__qualname__,
            ]
        )
    assert repr(seen[0]) == repr(seen[1])


def test_a_class_is_asked_before_it_has_an_object() -> None:
    _, below, plain = family(late.dataclass)
    assert [f.name for f in dataclasses.fields(below)] == ["a", "b", "c"] and dataclasses.is_dataclass(plain)
    standard: Any = dataclasses.dataclass(frozen=True)(
        type("Standard", (family(late.dataclass)[0],), {"__annotations__": {"d": "int"}, "d": 4})
    )
    assert dataclasses.astuple(standard(1)) == (1, "b", 4)


def test_threads_that_make_the_first_object_together_all_get_one() -> None:
    made: list[Any] = []
    for _ in range(50):
        _, below, _ = family(late.dataclass)
        start = threading.Barrier(4)

        def make(cls: type = below, start: threading.Barrier = start) -> None:
            start.wait()
            made.append(cls(1))

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(made) == 200 and {o.a for o in made} == {1}


def test_it_works_after_user_code_has_thrown_out_the_modules() -> None:
    code = "import sys\nfrom vaelint.config.declared import Key\nsys.modules.clear()\nprint(Key('k', None))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("Key(name='k', value=None"), done.stderr
