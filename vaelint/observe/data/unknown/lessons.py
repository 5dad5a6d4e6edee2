"""What the error of a script says of the data that were made up for it: another size, another number of axes, a name that it wants."""

from __future__ import annotations

import ast
import json
import math
import re
import traceback
from collections.abc import Callable

import torch

from vaelint.core.messages import message_of
from vaelint.observe.data.unknown.failing import SEEN, arrays_of, frames_of, held_at, line_of, tensors_at
from vaelint.observe.data.unknown.lessons_of_texts import columns_wanted, counts_in, lines_wanted, words_wanted
from vaelint.observe.data.unknown.undecided import Undecided, written_at
from vaelint.observe.data.unknown.variables import variable_wanted
from vaelint.observe.data.unknown.wishes import Node, Wishes, with_rank

Lesson = Callable[[BaseException, str, Wishes], bool]
_PAIRS = tuple(map(re.compile, (
    r"mat1 and mat2 shapes cannot be multiplied \(\d+x(?P<got>\d+) and (?P<need>\d+)x\d+\)",
    r"size mismatch, got input \(\d+\), mat \(\d+x(?P<got>\d+)\), vec \((?P<need>\d+)\)",
    r"expected input\[.*\] to have (?P<need>\d+) channels, but got (?P<got>\d+) channels",
    r"input\.size\(-1\) must be equal to input_size\. Expected (?P<need>\d+), got (?P<got>\d+)",
    r"input has inconsistent input_size: got (?P<got>\d+),? expected (?P<need>\d+)",
    r"normalized_shape=\[(?P<need>\d+)\], expected input .* but got input of size ?\[.*?(?P<got>\d+)\]",
    r"running_mean should contain (?P<got>\d+) elements not (?P<need>\d+)",
    r"size of tensor a \((?P<need>\d+)\) must match the size of tensor b \((?P<got>\d+)\)",
    r"X has (?P<got>\d+) features, but \w+ is expecting (?P<need>\d+) features",
    r"at index 0 has size (?P<need>\d+) and the array at index \d+ has size (?P<got>\d+)",
    r"to be equal size, but got \[(?:\d+, )*(?P<need>\d+)\] at entry \d+ and \[(?:\d+, )*(?P<got>\d+)\]",
    r"Expected size (?P<need>\d+) but got size (?P<got>\d+)",
    r"expected (?:last dimension|embed_dim) (?:to be|of) (?P<need>\d+),? but got (?P<got>\d+)",
)))  # fmt: skip
_SHAPES = tuple(map(re.compile, (
    r"target size \((?:torch\.Size\()?\[(?P<got>[\d, ]*)\]\)?\) .*input size \((?:torch\.Size\()?\[(?P<need>[\d, ]*)\]",
    r"could not broadcast input array from shape \((?P<got>[\d, ]*)\) into shape \((?P<need>[\d, ]*)\)",
    r"operands could not be broadcast together with shapes \((?P<need>[\d, ]*)\) \((?P<got>[\d, ]*)\)",
)))  # fmt: skip
_RESHAPED = re.compile(
    r"cannot reshape array of size (\d+) into shape \(?([\d, -]+)\)?|shape '\[([\d, -]+)\]' is invalid for input of size (\d+)"
)
_RANK = re.compile(
    r"array is (?P<a>\d)-dimensional, but (?P<b>\d) were indexed|too many indices for tensor of dimension (?P<c>\d)"
    r"|Dimension out of range \(expected to be in range of \[-(?P<d>\d)"
)
_WANTS = re.compile(r"Expected (?:\d)D .*?(?P<n>\d)D \(?batched\)? input to conv(?P<k>\d)d, but got input of size: \[(?P<size>[\d, ]+)\]")

_PERMUTED = (
    "axes don't match array",
    "number of dims don't match in permute",
    "number of dimensions in the tensor input does not match",
)

_OFTEN = 4  # as often as what was decided in a run is worth another run


def learn(error: BaseException, wishes: Wishes) -> bool:
    """Changes what is known by what an error says. Whether it did: whether another run makes sense."""
    text = message_of(error)
    before = json.dumps(wishes.to_json())
    return any(lesson(error, text, wishes) and json.dumps(wishes.to_json()) != before for lesson in _LESSONS)


# --- sizes -----------------------------------------------------------------------------------------------------------


def _sizes(error: BaseException, text: str, wishes: Wishes) -> bool:
    for pattern in _PAIRS:
        if found := pattern.search(text):
            got, need = int(found["got"]), int(found["need"])
            return _exchange(wishes, got, need) or ("tensor a" in text and _exchange(wishes, need, got)) or _further(wishes, got, need)
    for pattern in _SHAPES:
        if found := pattern.search(text):
            there, wanted = ([int(n) for n in found[k].split(",") if n.strip()] for k in ("got", "need"))
            if len(there) == len(wanted):
                return any(
                    a != b and (_exchange(wishes, a, b) or _exchange(wishes, b, a) or _pieces(wishes, a, b))
                    for a, b in zip(there, wanted, strict=True)
                )
    return False


def _asserted(error: BaseException, text: str, wishes: Wishes) -> bool:
    """`assert len(vector) == 300`: of two numbers one is a size that was made up."""
    frames = [(f, n) for f, n in traceback.walk_tb(error.__traceback__)]
    if not isinstance(error, AssertionError) or not frames:
        return False
    frame, line = frames[-1]
    tests = [n.test for n in written_at(frame, line) if isinstance(n, ast.Assert)]
    for test in tests:
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq) and _is_plain(test):
            both = ast.Expression(ast.Tuple([test.left, *test.comparators], ast.Load()))
            sides = eval(compile(ast.fix_missing_locations(both), "<assert>", "eval"), frame.f_globals, frame.f_locals)
            if all(isinstance(s, int) for s in sides) and _meets(error, wishes, test, *sides):
                return True
    passed = (frame.f_code.co_filename, line)
    of_network = isinstance(frame.f_locals.get("self"), torch.nn.Module)
    if tests and not of_network and (wishes.used or wishes.tables or wishes.public) and list(passed) not in wishes.passed:
        wishes.passed.append([*passed])
        return True
    return False


def _meets(error: BaseException, wishes: Wishes, test: ast.Compare, got: int, need: int) -> bool:
    """Makes two numbers one: axes, where they are counted, else a size."""
    counted = re.search(r"\.ndim|\.dim\(|len\([\w.]+\.shape\)", ast.unparse(test.left))
    if counted:
        return _with_axes(error, wishes, got, need)
    return _exchange(wishes, got, need) or _exchange(wishes, need, got)


def _is_plain(test: ast.expr) -> bool:
    """Whether an expression only looks: at names, attributes, entries and lengths."""
    calls = [n.func for n in ast.walk(test) if isinstance(n, ast.Call)]
    return all((isinstance(f, ast.Name) and f.id == "len") or (isinstance(f, ast.Attribute) and f.attr in ("size", "dim")) for f in calls)


def _pieces(wishes: Wishes, got: int, need: int) -> bool:
    """Names of images that fall into as many numbers as there are targets."""
    if not wishes.images or abs(got - need) > SEEN:
        return False
    wishes.pieces = (wishes.pieces or 4) + need - got
    return True


def _exchange(wishes: Wishes, got: int, need: int) -> bool:
    """Puts what the code needs in the place of a size that was made up, also where it comes with a factor."""
    free = [name for name in wishes.sizes if name not in wishes.told]
    for name in free:
        if wishes.size(name) == got:
            return _tell_all(wishes, wishes.sizes[name], need)
    for name in free:
        size = wishes.size(name)
        if got % size == 0 and need % (got // size) == 0:
            return _tell_all(wishes, wishes.sizes[name], need * size // got)
    for node in arrays_of(wishes):
        if len(node.axes) > 1 and got % math.prod(map(wishes.size, node.axes)) == 0:
            return _as_a_product(wishes, node, need * math.prod(map(wishes.size, node.axes)) // got)
    near = [name for name in free if 0 < abs(wishes.size(name) - got) <= SEEN and wishes.size(name) + need - got > 0]
    return bool(near) and _tell_all(wishes, wishes.sizes[near[0]], wishes.size(near[0]) + need - got)


def _tell_all(wishes: Wishes, value: int, need: int) -> bool:
    """All sizes of one value get another one; that of another array of made-up data is as free as before."""
    if any(wishes.size(n) == need for n in wishes.sizes if n not in wishes.told):
        wishes.sizes.update({n: need for n, v in wishes.sizes.items() if v == value})
        return True
    for name in [n for n, v in wishes.sizes.items() if v == value]:
        wishes.tell(name, max(need, 1))
    return True


def _as_a_product(wishes: Wishes, node: Node, need: int) -> bool:
    """The sizes of an array that is flattened: the sides of a square, or all in the last one."""
    *others, last = node.axes
    side = math.isqrt(need)
    for name in others:
        wishes.tell(name, 1)
    wishes.tell(last, need)
    if len(node.axes) >= 2 and side * side == need:
        wishes.tell(others[-1], side)
        wishes.tell(last, side)
    return True


def _further(wishes: Wishes, got: int, need: int) -> bool:
    """A table of more, or fewer, columns."""
    if not wishes.tables or abs(need - got) > 100_000 or need < 1:
        return False
    wishes.more += need - got
    return True


def _reshaped(error: BaseException, text: str, wishes: Wishes) -> bool:
    """`cannot reshape array of size 11100 into shape (28,28)`."""
    if (found := _RESHAPED.search(text)) is None:
        return False
    shape = [int(n) for n in (found[2] or found[3]).split(",") if n.strip()]
    size, fixed = int(found[1] or found[4]), [n for n in shape if n > 0]
    for node in arrays_of(wishes):
        own = [wishes.size(a) for a in node.axes]
        if own and size % math.prod(own) == 0:
            rows = size // math.prod(own)
            cells = math.prod(fixed) // (rows if fixed and fixed[0] == rows and -1 not in shape else 1)
            inner = fixed[-len(own) :] if len(fixed) >= len(own) > 1 else [cells]
            if len(inner) == len(own):
                for name, value in zip(node.axes, inner, strict=True):
                    wishes.tell(name, value)
                return True
    return False


# --- axes --------------------------------------------------------------------------------------------------------------


def _rank(error: BaseException, text: str, wishes: Wishes) -> bool:
    found = _RANK.search(text)
    if found is not None:
        got = int(found["a"] or found["c"] or found["d"])
        need = int(found["b"]) if found["b"] else got + 1
        return _with_axes(error, wishes, got, need)
    if (wants := _WANTS.search(text)) is not None:
        got, need = len(wants["size"].split(",")), int(wants["k"]) + 2
        return _with_axes(error, wishes, got, need, image=wants["k"] == "2")
    line = line_of(error)
    if any(said in text for said in _PERMUTED):
        axes = re.search(r"(?:transpose|permute)\((?:\w+, *)?[(\[]?([\d, -]+)", line)
        order = [int(n) for n in axes[1].strip(", ").split(",")] if axes else [0, 2, 1]
        need, last = len(order), order == _CHANNELS_LAST
        return any(_with_axes(error, wishes, got, need, image=need == 4, last=last) for got in range(need - 1, 0, -1))
    if "not enough values to unpack" in text or "too many values to unpack" in text:
        need, got = counts_in(text)
        if re.search(r"\.(shape|size\(\))", line):
            got = got or next((len(n.axes) + 1 for n in arrays_of(wishes)), 2)
            return _with_axes(error, wishes, got, need)
    if "tuple index out of range" in text and ".shape" in line:
        wanted = max([int(n) for n in re.findall(r"shape\[(\d+)\]", line)] or [1])
        return any(_with_axes(error, wishes, got, wanted + 1) for got in range(wanted, 0, -1))
    wants_more = re.search(r"input must have (\d) dimensions, got (\d)|expected (\d)D (?:or \d+D )?input \(got (\d)D", text)
    if wants_more is not None:
        need, got = (int(n) for n in wants_more.groups() if n is not None)
        return _with_axes(error, wishes, got, need)
    return False


_CHANNELS_LAST = [0, 3, 1, 2]  # how images whose channels come last are put in torch's order


def _with_axes(error: BaseException, wishes: Wishes, got: int, need: int, *, image: bool = False, last: bool = False) -> bool:
    """Gives an array other axes: the one that is at hand where it failed, else the last one with as many as there were.

    `image`: of four axes two are the sides of an image. `last`: its channels come behind these.
    """
    alike = [n for n in arrays_of(wishes) if len(n.axes) + (not n.whole) == got or len(n.axes) + 1 == got]
    at_hand = {tuple(t.shape) for t in tensors_at(error)}
    held = [n for n in alike if any(set(map(wishes.size, n.axes)) <= {*shape} for shape in at_hand)]
    chosen = (held or alike)[-1:]
    for node in chosen:
        with_rank(node, max(len(node.axes) + need - got, 0))
        if image and len(node.axes) == 3:
            for name in node.axes[:2] if last else node.axes[1:]:
                wishes.sizes[name] = 64
        if node.axes and node.values == "numbers" and node.below <= 2:
            node.values = "unit"
    return bool(chosen)


# --- kinds ---------------------------------------------------------------------------------------------------------------


def _decided(error: BaseException, text: str, wishes: Wishes) -> bool:
    """What the script has used in this run is known in the next, and is there from the beginning; what is at hand becomes an array."""
    if isinstance(error, FileNotFoundError | ModuleNotFoundError):
        return False
    if "made-up data" not in text:
        return False
    for node in (u.__dict__["made_of"][0] for u in held_at(error, Undecided)):
        if not node.kind and re.search(r"infer dtype|real number|integer", text):
            node.kind = "number"
        elif not node.kind:
            Undecided(node, wishes)._become("array", "numpy" if "ndarray" in text else "torch" if "Tensor" in text else "")
    wishes.restarts += 1
    return wishes.restarts < _OFTEN


def _types(error: BaseException, text: str, wishes: Wishes) -> bool:
    """Whole numbers where they are wanted, other floating-point numbers, numbers from 0 to 1."""
    if re.search(
        r"scalar types?:? Long|must be of integer|only applicable to index tensor|must be integers|to be of type Long|dtype int64", text
    ):
        return _as_numbers(error, wishes)
    if re.search(r"index out of range in self|out of bounds|Class values must be smaller", text):
        below = next((t.shape[0] for f in frames_of(error) for t in [f.f_locals.get("weight")] if isinstance(t, torch.Tensor)), 2)
        large = [n for n in arrays_of(wishes) if n.values == "numbers" and n.below > below]
        for node in large:
            node.below = int(below)
        return bool(large)
    if re.search(r"dtype|scalar type|Float but found|Double", text) and re.search(r"[Dd]ouble|Float|float", text):
        wanted = "float64" if re.search(r"but (?:found|got) [Ff]loat|!= float\b|expected .*[Dd]ouble", text) else "float32"
        changed = [n for n in arrays_of(wishes) if n.values != "numbers" and n.real != wanted]
        for node in changed:
            node.real = wanted
        return bool(changed)
    return False


def _as_numbers(error: BaseException, wishes: Wishes) -> bool:
    at_hand = {s for t in tensors_at(error) if t.is_floating_point() for s in t.shape[1:]}
    alike = [n for n in arrays_of(wishes) if n.values != "numbers"]
    held = [n for n in alike if set(map(wishes.size, n.axes)) <= at_hand and n.axes] or alike
    for node in held[-1:]:
        node.values, node.below = "numbers", 10 if node.axes else 2
    return bool(held)


_NOTHING = re.compile(
    r"num_samples=0|at least one array|zero-size array|index out of range|empty (?:sequence|range|slice|list)|division by zero"
    r"|non-empty|out of bounds for axis \d+ with size 0|no \w+ (?:were |was )?found",
    re.IGNORECASE,
)


def _in_folders(error: BaseException, text: str, wishes: Wishes) -> bool:
    """Nothing was found in a folder of files that was made up: its code may expect a folder for each class in it."""
    if not wishes.folders or wishes.nested or not _NOTHING.search(text):
        return False
    wishes.nested = True
    return True


_LESSONS: tuple[Lesson, ...] = (
    _decided,
    _sizes,
    _asserted,
    _reshaped,
    _rank,
    _types,
    columns_wanted,
    words_wanted,
    lines_wanted,
    variable_wanted,
    _in_folders,
)
