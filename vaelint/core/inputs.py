"""Input texts: `x=32x1x28x28:float32[0,1]` -> InputSpec, and the symbols that name their sizes. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vaelint.core.errors import UsageError
from vaelint.late import dataclass

BATCH = "B"
_DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64", "complex128")
_ALIASES = {"float": "float32", "double": "float64", "half": "float16", "long": "int64", "int": "int64", "short": "int16", "byte": "uint8"}
_LARGEST = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-(2**15), 2**15 - 1), "int32": (-(2**31), 2**31 - 1), "bool": (0, 1)}
_DEFAULT_SIZES = {BATCH: 32, "C": 3, "H": 32, "W": 32, "T": 20, "F": 8, "D": 64, "L": 20}  # of sizes given by name alone
_OTHER_SIZE = 16
_ROLES: dict[int, tuple[str, ...]] = {0: (), 1: ("D",), 2: ("T", "F"), 3: ("C", "H", "W"), 4: ("C", "T", "H", "W")}  # by their number
_MOST = 2**45  # numbers: with 4 bytes each they take all 47 bits of addresses that a process has

_SPEC = re.compile(
    r"(?:(?P<name>[^\W\d]\w*)\s*=\s*)?(?P<shape>\(\)|[^:\[\]{}()=]+?)\s*(?::\s*(?P<dtype>\w+)\s*)?(?P<range>[\[({].*)?", re.DOTALL
)
_INTERVAL = re.compile(r"(?P<open>[\[(])(?P<low>[^,]+),(?P<high>[^,]+)(?P<close>[\])])")
_SIZE = re.compile(r"(?P<symbol>[^\W\d]\w*)(?:@(?P<value>\d+))?|(?P<number>\d+)")
_WRITTEN = re.compile(r"(?:(?P<name>[^\W\d]\w*)\s*=\s*)?(?:[\w.]+\s*(?=[\[(]))?[\[(]*\s*(?P<sizes>\d+(?:[\s,;*\u00d7X]+\d+)*)[\s,]*[\])]*")
"""A shape as it is written elsewhere: `(32, 784)`, `32,784`, `torch.rand(32, 784)`, `32X784`."""
_FORM = "write [NAME=]SHAPE[:DTYPE][RANGE], for example 32x784 or x=32x1x28x28:float32[0,1]"


@dataclass(frozen=True)
class InputSpec:
    """One model input as the user said it. `symbols` has "" where a size was given as a number.

    `low`/`high` are None when no range was given (nothing is assumed then); `values` is the set of a `{0,1}` range.
    """

    name: str | None
    sizes: tuple[int, ...]
    symbols: tuple[str, ...]
    dtype: str = "float32"
    low: float | None = None
    high: float | None = None
    high_open: bool = False
    values: tuple[float, ...] | None = None
    low_open: bool = False

    @property
    def is_integer(self) -> bool:
        """Whether the values are whole numbers or booleans."""
        return self.dtype.startswith(("int", "uint", "bool"))

    @property
    def whole_range(self) -> tuple[int, int] | None:
        """Smallest and largest value of an integer input with a finite range, both included."""
        if self.values:
            return int(min(self.values)), int(max(self.values))
        if not self.is_integer or self.low is None or self.high is None or math.isinf(self.low) or math.isinf(self.high):
            return None
        low = math.floor(self.low) + 1 if self.low_open else math.ceil(self.low)
        high = math.ceil(self.high) - 1 if self.high_open else math.floor(self.high)
        return low, high

    def __str__(self) -> str:
        """The text that `parse_input` reads back to an equal spec."""
        shape = "x".join(f"{symbol}@{size}" if symbol else str(size) for size, symbol in zip(self.sizes, self.symbols, strict=True)) or "()"
        text = (f"{self.name}=" if self.name else "") + f"{shape}:{self.dtype}"
        if self.values is not None:
            return text + "{" + ",".join(_number_text(v) for v in self.values) + "}"
        if self.low is None or self.high is None:
            return text
        low, high = _number_text(self.low), _number_text(self.high)
        return f"{text}{'(' if self.low_open else '['}{low},{high}{')' if self.high_open else ']'}"


def _number_text(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 2**53 else repr(float(value))


def parse_input(text: str) -> InputSpec:
    """Reads `[NAME=]SHAPE[:DTYPE][RANGE]`. Sizes are separated by `x`; each is a number, a name, or `name@number`. Raises UsageError."""
    match = _SPEC.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--input {text!r} is not understood", _meant(text))
    sizes, symbols = _parse_shape(text, match["shape"])
    dtype = _parse_dtype(text, match["dtype"])
    spec = InputSpec(match["name"], sizes, symbols, dtype)
    return _with_range(text, spec, match["range"].strip()) if match["range"] else spec


def _meant(text: str, otherwise: str = _FORM) -> str:
    """What to type where the sizes are there and only written in another way."""
    if (found := _WRITTEN.fullmatch(text.strip())) is None:
        return otherwise
    shape = "x".join(re.findall(r"\d+", found["sizes"]))
    return f"write --input {found['name']}={shape}" if found["name"] else f"write --input {shape}"


def _parse_shape(text: str, shape: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    if shape == "()":
        return (), ()
    if shape == text.strip() and shape.isidentifier() and len(shape) > 1 and "x" not in shape:  # a word alone: no size is said at all
        help = f"write the shape of a batch: --input 32x784, or --input {shape}=32x784 where {shape} is an argument of forward"
        raise UsageError(f"--input {text!r} names no size", f"{help}; one axis of that name: --input {shape}@32")
    sizes, symbols = [], []
    for part in shape.strip().split("x"):
        match = _SIZE.fullmatch(part.strip())
        if match is None:
            help = _meant(text, f"sizes are numbers or names without an x in them, separated by x; {_FORM}")
            raise UsageError(f"--input {text!r}: {part.strip()!r} is not a size", help)
        symbol = match["symbol"] or ""
        size = int(match["number"] or match["value"] or _DEFAULT_SIZES.get(symbol, _OTHER_SIZE))
        if size < 1:
            raise UsageError(f"--input {text!r}: a size must be at least 1, not {size}", _FORM)
        sizes.append(size)
        symbols.append(symbol)
    if math.prod(sizes) > _MOST:
        raise UsageError(f"--input {text!r}: too large: {math.prod(sizes):.1e} numbers do not fit in memory", "write smaller sizes")
    return tuple(sizes), tuple(symbols)


def _parse_dtype(text: str, dtype: str | None) -> str:
    if dtype is None:
        return "float32"
    name = _ALIASES.get(dtype, dtype)
    if name in _DTYPES:
        return name
    known = next((d for d in sorted(_DTYPES, key=len, reverse=True) if dtype.startswith(d)), None)
    help = "known: " + ", ".join(_DTYPES)
    if known and dtype[len(known) :].isdigit():  # bash turns an unquoted `float32{0,1}` into the two words `float320 float321`
        help = f"quote the argument: '{text[: text.rindex(dtype)]}{known}{{0,1}}'"
    raise UsageError(f"--input {text!r}: unknown dtype {dtype!r}", help)


def _with_range(text: str, spec: InputSpec, written: str) -> InputSpec:
    if written.startswith("{") and written.endswith("}"):
        values = tuple(_number(text, part) for part in written[1:-1].split(","))
        low, high = min(values), max(values)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise UsageError(f"--input {text!r}: a set of values must be finite", "write {0,1}")
        _check_whole(text, spec, values)
        return _checked(text, InputSpec(spec.name, spec.sizes, spec.symbols, spec.dtype, low, high, False, values))
    match = _INTERVAL.fullmatch(written)
    if match is None:
        raise UsageError(f"--input {text!r}: range {written!r} is not understood", "write [low,high], [low,high) or {value,value}")
    low, high = _number(text, match["low"]), _number(text, match["high"])
    low_open, high_open = match["open"] == "(", match["close"] == ")"
    # an infinite end is never reached, so it is open however it was written
    ranged = InputSpec(
        spec.name, spec.sizes, spec.symbols, spec.dtype, low, high, high_open or math.isinf(high), None, low_open or math.isinf(low)
    )
    whole = ranged.whole_range
    if low > high or low == math.inf or high == -math.inf or (low == high and (low_open or high_open)) or (whole and whole[0] > whole[1]):
        raise UsageError(f"--input {text!r}: range {written} is empty", "write [low,high] with low below high")
    return _checked(text, ranged)


def _checked(text: str, spec: InputSpec) -> InputSpec:
    """The spec, if its dtype can hold its values."""
    whole, largest = spec.whole_range, _LARGEST.get(spec.dtype)
    if whole is not None and largest is not None and (whole[0] < largest[0] or whole[1] > largest[1]):
        raise UsageError(f"--input {text!r}: {spec.dtype} holds {largest[0]} to {largest[1]}", "write another range or dtype")
    return spec


def _check_whole(text: str, spec: InputSpec, values: tuple[float, ...]) -> None:
    if spec.is_integer and any(v != int(v) for v in values):
        raise UsageError(f"--input {text!r}: {spec.dtype} takes whole numbers", "write whole numbers or another dtype")


def _number(text: str, part: str) -> float:
    try:
        value = float(part.strip())
    except ValueError:
        raise UsageError(f"--input {text!r}: {part.strip()!r} is not a number", "ranges look like [0,1], [0,inf), {0,1}") from None
    if math.isnan(value):
        raise UsageError(f"--input {text!r}: nan is not a bound", "ranges look like [0,1], [0,inf), {0,1}")
    return value


@dataclass(frozen=True)
class InputSet:
    """All inputs of a target, with one symbol for sizes that belong together.

    `symbols` maps each symbol to its size; `dims` holds, per input, the symbols of its sizes; `batch` is the batch symbol
    ("B", or the user's name for the first size), None without inputs.
    """

    specs: tuple[InputSpec, ...]
    symbols: dict[str, int]
    dims: tuple[tuple[str, ...], ...]
    batch: str | None = None
    is_second: bool = False  # the batch was found on the second axis, and not named there

    @property
    def second_axis_note(self) -> str:
        """What was taken for the batch where the sizes tell that it is not first, and how to say otherwise; else empty."""
        if not self.is_second:
            return ""
        first = next(spec for spec in self.specs if len(spec.sizes) > 1)
        typed = "x".join((BATCH, *map(str, first.sizes[1:])))
        rows = self.symbols[BATCH]
        return (
            f"the second size, {rows}, is used as the batch: all inputs share it, and not the first; "
            f"where that is wrong, put the B where it belongs: --input {first.name or 'x'}={typed}"
        )

    def with_channels_last(self) -> InputSet:
        """An image as Keras has it: what is called C, H and W for want of a name is H, W and C."""
        told = {symbol for spec in self.specs for symbol in spec.symbols}
        other: dict[str, str] = {}
        for dims, spec in zip(self.dims, self.specs, strict=True):
            if len(dims) == 4 and not any(spec.symbols[1:]) and not told & {"C", "H", "W"}:
                other |= {d: d.replace(own, role) for d, own, role in zip(dims[1:], "CHW", "HWC", strict=True)}
        symbols = {other.get(k, k): v for k, v in self.symbols.items()}
        if len(symbols) < len(self.symbols):
            return self
        return replace(self, symbols=symbols, dims=tuple(tuple(other.get(d, d) for d in dims) for dims in self.dims))

    @staticmethod
    def from_texts(texts: Sequence[str]) -> InputSet:
        """Parses every text and names the sizes. Raises UsageError."""
        return InputSet.from_specs([parse_input(text) for text in texts])

    @staticmethod
    def from_specs(specs: Sequence[InputSpec]) -> InputSet:
        """Names the sizes: the first of the first input is B unless the user named a size B or named that one.

        Of sequences with time first, whose first sizes are no batch of all inputs while their second ones are, it is the second.
        """
        names = [spec.name for spec in specs if spec.name]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"--input {twice[0]} is given twice", "every input needs its own name")
        symbols: dict[str, int] = {}
        is_second = False
        for spec in specs:
            for symbol, size in zip(spec.symbols, spec.sizes, strict=True):
                if symbol:
                    symbols[symbol] = _agreed(symbol, symbols.get(symbol, size), size)
        told = frozenset(symbols)
        first = next((spec for spec in specs if spec.sizes), None)
        if first is not None and BATCH not in told and not first.symbols[0]:
            rows = None if told else _rows_along_second(specs)
            if rows is not None:
                specs = [replace(spec, symbols=_called_second(spec)) for spec in specs]
                told, is_second = frozenset({BATCH}), True
            symbols = {BATCH: first.sizes[0] if rows is None else rows} | symbols
        batch = BATCH if BATCH in symbols else (first.symbols[0] if first is not None else None)
        dims = tuple(_name_sizes(spec, symbols, told, batch, spec is first) for spec in specs)
        return InputSet(tuple(specs), symbols, dims, batch, is_second)

    def sizes(self, assignment: Mapping[str, int] | None = None) -> list[tuple[int, ...]]:
        """The shape of every input, with the symbols of `assignment` given other values."""
        values = {**self.symbols, **(assignment or {})}
        return [tuple(values[symbol] for symbol in dims) for dims in self.dims]

    def length_symbol(self, index: int) -> str | None:
        """The symbol that input `index` counts along: lengths in [1, T] of another input's T, so they must move with it."""
        spec, whole = self.specs[index], self.specs[index].whole_range
        if whole is None or spec.values is not None or len(spec.sizes) != 1 or spec.dtype not in ("int64", "int32"):
            return None
        others = (symbol for i, dims in enumerate(self.dims) if i != index for symbol in _along(dims, self.batch))
        return next((symbol for symbol in others if self.symbols[symbol] == whole[1] and symbol != self.batch), None)

    def index_symbol(self, index: int) -> str | None:
        """The batch symbol where input `index` holds places in the batch, as `edges=2x40:int64[0,10)` beside `x=10x16` does."""
        spec, whole = self.specs[index], self.specs[index].whole_range
        is_apart = (
            self.batch is not None and self.batch not in self.dims[index] and spec.values is None and spec.dtype in ("int64", "int32")
        )
        return self.batch if is_apart and whole is not None and whole == (0, self.symbols[str(self.batch)] - 1) else None


def _along(dims: tuple[str, ...], batch: str | None) -> tuple[str, ...]:
    """The symbol that lengths may count along: of the second size, or of the first where the second is the batch."""
    return dims[:1] if batch in dims[1:2] else dims[1:2]


def _rows_along_second(specs: Sequence[InputSpec]) -> int | None:
    """The size of the batch where every input has it, and none of the sequences has it first; None where the first sizes may be it.

    Sequences are `(T, B, ...)` then: two of them with other lengths, or one beside whole numbers of which each counts its steps.
    """
    tables = [spec for spec in specs if len(spec.sizes) > 1]
    lists = [spec for spec in specs if len(spec.sizes) == 1]
    rows = {spec.sizes[1] for spec in tables} | {spec.sizes[0] for spec in lists}
    steps = {spec.sizes[0] for spec in tables}
    if len(rows) != 1 or rows & steps:
        return None
    counts = any(spec.whole_range is not None and spec.whole_range[1] in steps and spec.whole_range[0] >= 1 for spec in lists)
    is_sequence = any(len(spec.sizes) > 2 or (counts and spec.is_integer) for spec in tables)
    return rows.pop() if is_sequence and (len(steps) > 1 or counts) else None


def _called_second(spec: InputSpec) -> tuple[str, ...]:
    """The sizes' names, with that of the batch along the second axis, or along the only one."""
    place = 1 if len(spec.sizes) > 1 else 0
    return tuple(BATCH if i == place else symbol for i, symbol in enumerate(spec.symbols))


def _agreed(symbol: str, one: int, other: int) -> int:
    """The size of a name that occurs twice: a bare name takes the size that was given with it elsewhere."""
    default = _DEFAULT_SIZES.get(symbol, _OTHER_SIZE)
    if one != other and default not in (one, other):
        raise UsageError(f"--input: the size {symbol} is given as {one} and as {other}", "give sizes that may differ different names")
    return other if one == default else one


def _name_sizes(spec: InputSpec, symbols: dict[str, int], told: frozenset[str], batch: str | None, is_first: bool) -> tuple[str, ...]:
    """The symbols of one input's sizes; new ones are added to `symbols`."""
    place = next((i for i, symbol in enumerate(spec.symbols) if symbol == batch), None)
    if place is None and batch is not None and spec.sizes and not spec.symbols[0]:
        named_it = is_first and batch not in told
        place = 0 if named_it or (not is_first and spec.sizes[0] == symbols[batch]) else None
    others = [i for i in range(len(spec.sizes)) if i != place]
    if place is None:
        roles = ("N", *_roles(len(others) - 1)) if others else ()
    else:
        roles = _roles(len(others))
    named = list(spec.symbols)
    if place is not None:
        named[place] = str(batch)
    for i, role in zip(others, roles, strict=True):
        named[i] = named[i] or _share(role, spec.sizes[i], symbols, told, named)
    return tuple(named)


def _roles(count: int) -> tuple[str, ...]:
    return _ROLES[count] if count in _ROLES else tuple(f"D{i + 1}" for i in range(count))


def _share(role: str, size: int, symbols: dict[str, int], told: frozenset[str], taken: Sequence[str]) -> str:
    """`role`, or `role` with a number, such that equal sizes at the same role share a symbol and different ones do not."""
    joint = "_" if role[-1].isdigit() else ""
    for count in range(1, len(symbols) + 2):
        symbol = role if count == 1 else f"{role}{joint}{count}"
        if symbol not in told and symbol not in taken and symbols.setdefault(symbol, size) == size:
            return symbol
    raise AssertionError("more candidates were tried than symbols exist")
