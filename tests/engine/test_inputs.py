"""`--input` texts: what they mean, what is refused, and the tensors made from them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vaelint.core.errors import UsageError
from vaelint.core.inputs import InputSet, InputSpec, parse_input
from vaelint.loading.tensors import make_inputs

NAMES = st.from_regex(r"[a-wyzA-Z_][a-wyzA-Z_0-9]{0,5}", fullmatch=True)
SIZES = st.lists(st.tuples(st.integers(1, 99), st.one_of(st.just(""), NAMES)), max_size=5)
FLOATS = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def parts(draw: st.DrawFn) -> dict[str, Any]:
    """The fields of any input a user may describe; the test builds the InputSpec, since the suite's type checker draws random numbers."""
    sizes = draw(SIZES)
    dtype = draw(st.sampled_from(["float32", "float64", "float16", "int64", "uint8"]))
    fields: dict[str, Any] = {
        "name": draw(st.none() | NAMES),
        "sizes": tuple(s for s, _ in sizes),
        "symbols": tuple(n for _, n in sizes),
        "dtype": dtype,
    }
    whole = st.integers(0, 200) if dtype == "uint8" else st.integers(-1000, 1000)
    number = whole.map(float) if "int" in dtype else FLOATS
    kind = draw(st.sampled_from(["none", "set", "closed", "open", "half", "all"]))
    if kind == "none":
        return fields
    if kind == "set":
        values = tuple(draw(st.lists(number, min_size=1, max_size=4)))
        return fields | {"low": min(values), "high": max(values), "values": values}
    low = draw(number)
    ends = {"closed": (low, low + 5.0, False, False), "open": (low, low + 5.0, True, True), "half": (low, math.inf, False, True)}
    return fields | dict(zip(("low", "high", "low_open", "high_open"), ends.get(kind, (-math.inf, math.inf, True, True)), strict=True))


@given(parts())
def test_what_is_written_is_read_back(fields: dict[str, Any]) -> None:
    spec = InputSpec(**fields)
    assert parse_input(str(spec)) == spec


@given(parts(), st.integers(0, 3))
def test_values_lie_in_the_declared_range(fields: dict[str, Any], seed: int) -> None:
    spec = InputSpec(**fields | {"sizes": (4,), "symbols": ("",)})
    (tensor,) = make_inputs(InputSet.from_specs([spec]), ["x"], seed=seed).values()
    assert tensor.dtype == getattr(torch, spec.dtype)
    if spec.values is not None:
        assert all(v in torch.tensor(spec.values, dtype=tensor.dtype) for v in tensor)
    elif spec.low is not None and spec.high is not None and spec.dtype != "float16" and spec.dtype != "uint8":
        slack = 1e-6 * max(abs(spec.low), abs(spec.high)) if math.isfinite(spec.high) else 1e-6 * abs(spec.low)
        assert bool((tensor.double() >= spec.low - slack).all() and (tensor.double() <= spec.high + slack).all())


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused_with_help(text: str) -> None:
    try:
        parse_input(text)
    except UsageError as error:
        assert error.help


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("32x784", InputSpec(None, (32, 784), ("", ""))),
        ("x=32x1x28x28:float32[0,1]", InputSpec("x", (32, 1, 28, 28), ("",) * 4, "float32", 0.0, 1.0)),
        ("tokens=16x20:int64[0,1000)", InputSpec("tokens", (16, 20), ("", ""), "int64", 0.0, 1000.0, True)),
        ("mask=8x4:float32{0,1}", InputSpec("mask", (8, 4), ("", ""), "float32", 0.0, 1.0, False, (0.0, 1.0))),
        ("counts=8x60[0,inf)", InputSpec("counts", (8, 60), ("", ""), "float32", 0.0, math.inf, True)),
        ("Bx784:double", InputSpec(None, (32, 784), ("B", ""), "float64")),
        ("N@10x16", InputSpec(None, (10, 16), ("N", ""))),
    ],
)
def test_documented_forms(text: str, spec: InputSpec) -> None:
    assert parse_input(text) == spec


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("32y784", "'32y784' is not a size"),
        ("0x784", "at least 1"),
        ("32x784:float320", "quote the argument"),
        ("32x784:floot", "unknown dtype"),
        ("32x784[1,0]", "empty"),
        ("32:int64[0,0)", "empty"),
        ("32:int64{0.5}", "whole numbers"),
        ("32:uint8[0,256]", "holds 0 to 255"),
        ("32:int8{-200,1}", "holds -128 to 127"),
        ("32x784[0;1]", "not understood"),
        ("32x784[a,1]", "not a number"),
        ("", "not understood"),
    ],
)
def test_mistakes_are_named(text: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_input(text)
    assert part in caught.value.message + caught.value.help


@pytest.mark.parametrize(
    ("texts", "dims"),
    [
        (["32x784"], [("B", "D")]),
        (["8x3x64x64"], [("B", "C", "H", "W")]),
        (["8x20x3"], [("B", "T", "F")]),
        (["2x1x8x64x64"], [("B", "C", "T", "H", "W")]),
        (["20xBx28"], [("T", "B", "F")]),
        (["Nx16", "adj=NxN"], [("N", "D"), ("N", "N")]),
        (["x=8x784", "y=8x10"], [("B", "D"), ("B", "D2")]),
        (["x=8x3x32x32", "t=8x3x32x32"], [("B", "C", "H", "W"), ("B", "C", "H", "W")]),
        (["x=8x3x32x32", "edges=2x40:int64"], [("B", "C", "H", "W"), ("N", "D")]),
    ],
)
def test_sizes_get_symbols(texts: list[str], dims: list[tuple[str, ...]]) -> None:
    assert list(InputSet.from_texts(texts).dims) == dims


@given(st.lists(parts(), min_size=1, max_size=3))
def test_symbols_give_the_sizes_back(given_fields: list[dict[str, Any]]) -> None:
    unnamed = [InputSpec(None, f["sizes"], ("",) * len(f["sizes"]), f["dtype"]) for f in given_fields]
    inputs = InputSet.from_specs(unnamed)
    assert inputs.sizes() == [s.sizes for s in unnamed]
    assert all(len(set(dims)) == len(dims) for dims in inputs.dims)


def test_sizes_move_by_symbol() -> None:
    inputs = InputSet.from_texts(["x=16x20x3", "y=16x5"])
    assert inputs.sizes({"B": 7, "T": 11}) == [(7, 11, 3), (7, 5)]


def test_lengths_follow_the_time_axis() -> None:
    inputs = InputSet.from_texts(["tokens=16x20:int64[0,50)", "lengths=16:int64[1,20]"])
    lengths = make_inputs(inputs, ["tokens", "lengths"], {"D": 7, "B": 5})["lengths"]
    assert lengths.shape == (5,) and lengths[0] == 7 and lengths.tolist() == sorted(lengths.tolist(), reverse=True)


def test_lengths_say_that_time_comes_first() -> None:
    inputs = InputSet.from_texts(["x=20x16x3", "lengths=16:int64[1,20]"])
    assert (inputs.dims[0][:2], inputs.dims[1], inputs.batch, inputs.length_symbol(1)) == (("T", "B"), ("B",), "B", "T")
    ranks = InputSet.from_texts(["x=20x16x3", "ranks=16:int64[0,20)"])
    assert (ranks.dims[0][0], ranks.length_symbol(1)) == ("B", None)


def test_places_in_the_batch_follow_its_size() -> None:
    inputs = InputSet.from_texts(["x=10x16", "edges=2x40:int64[0,10)"])
    assert int(make_inputs(inputs, ["x", "edges"], {"B": 3})["edges"].max()) == 2


def test_two_values_for_one_size_are_refused() -> None:
    with pytest.raises(UsageError, match="as 10 and as 12"):
        InputSet.from_texts(["x=N@10x4", "y=N@12"])


def test_names_are_given_to_unnamed_inputs_and_kept_for_named_ones() -> None:
    inputs = InputSet.from_texts(["4x2", "label=4:int64[0,3)"])
    made = make_inputs(inputs, ["label", "x"])
    assert list(made) == ["label", "x"] and made["x"].shape == (4, 2)


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    first = make_inputs(InputSet.from_texts(["4x2"]), ["x"], seed=3)["x"]
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first, make_inputs(InputSet.from_texts(["4x2"]), ["x"], seed=3)["x"])


def test_inputs_can_be_fake() -> None:
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    with FakeTensorMode():
        made = make_inputs(InputSet.from_texts(["x=4x2:float32[0,1]", "n=4:int64[1,2]"]), ["x", "n"])
    assert isinstance(made["x"], FakeTensor) and made["n"].dtype is torch.int64


def test_the_batch_is_the_second_size_where_all_inputs_share_it_and_not_the_first() -> None:
    found = InputSet.from_texts(["past=14x6x3", "ahead=5x6", "hour=5x6:int64[0,24)"])
    assert found.symbols["B"] == 6 and [dims.index("B") for dims in found.dims] == [1, 1, 1]
    assert "B" in found.second_axis_note


def test_whole_numbers_that_count_the_first_size_are_lengths_of_the_samples_along_the_second() -> None:
    found = InputSet.from_texts(["steps=9x7x4", "length=7:int64[1,9]"])
    assert found.symbols == {"B": 7, "T": 9, "F": 4} and found.dims == (("T", "B", "F"), ("B",))


@pytest.mark.parametrize(
    "texts",
    [
        ["x=32x10", "adjacency=10x10"],
        ["x=32x10x3", "weights=10"],
        ["x=32x10x3", "label=32:int64[0,10)"],
        ["x=Bx10x3", "table=5x10"],
        ["x=10x10x3", "length=10:int64[1,10]"],
        ["x=32x10x3"],
    ],
)
def test_the_batch_stays_the_first_size_of_the_first_input(texts: list[str]) -> None:
    found = InputSet.from_texts(texts)
    assert found.dims[0][0] == "B" and not found.second_axis_note
