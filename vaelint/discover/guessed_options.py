"""Values for options that no text gives: configurations that lie in the repository, names and folders to write to. Imports no torch."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise, product
from pathlib import Path

from vaelint.discover.argparse_options import Option, known_value, options_of
from vaelint.discover.told_options import value_of_option
from vaelint.discover.variants import CONFIGURATIONS, with_option

_CONFIGURATION = re.compile(r"(^|_)(config|cfg|conf|yaml|hparams)(_|s?$|file|path)|(^|_)params?_(json|ya?ml|file|path)$", re.IGNORECASE)
_NAME = re.compile(
    r"(^|_)(name|run|exp|experiment|tag|id|title|comment|project|out|output|save|log|logs|results?|ckpt|checkpoints?)(_|$|dir|path|name|id)"
)
_DATA = re.compile(r"data|(^|_)(root|images?|corpus)(_|$)")
_FILE = re.compile(r"(^|_)(file(name)?|path|csv|txt|text|corpus)s?$")
_PLACE = re.compile(r"(^|_)(path|dir|directory|folder|location)$")
_WORD = re.compile(r"[a-z0-9]+")
_MOST = 3
_WAYS = 4


def guessed_ways(
    trees: Sequence[ast.Module], folder: Path, script: str = "", told: Mapping[str, str] | None = None
) -> list[tuple[str, ...]]:
    """Ways to give all options that have to be given, where some value may do for each; at most four.

    `script`: the name of the script's file, which a configuration of its own may be like. `told`: values that texts give.
    """
    known: list[list[tuple[str, ...]]] = []
    for option in {o.typed: o for o in options_of(trees)}.values():
        if option.required:
            value = value_of_option(option, told or {})
            values = guesses(option, trees, folder, script) if value is None else [str(value)]
            known.append([(value,) if option.positional else (option.typed, value) for value in values])
    return [tuple(word for part in way for word in part) for way in islice(product(*known), _WAYS)]


def unset_options(trees: Sequence[ast.Module], folder: Path, script: str = "") -> tuple[str, ...]:
    """Options that argparse does not ask for, that have no value, and that are called like data, configurations or names, each with one."""
    found: list[str] = []
    for option in {o.typed: o for o in options_of(trees)}.values():
        kind = option.given.get("type")
        text = kind is None or (isinstance(kind, ast.Name) and kind.id == "str")
        stored = option.value("action") in (None, "store")
        if option.positional or option.required or not text or not stored or option.value("default"):
            continue
        if "default" in option.given and not isinstance(option.given["default"], ast.Constant):
            continue
        found += [word for value in guesses(option, trees, folder, script)[:1] for word in (option.typed, value)]
    return tuple(found)


def unset_numbers(trees: Sequence[ast.Module]) -> tuple[str, ...]:
    """Whole numbers that argparse does not ask for and has no value of, each with a small one: the script may ask for them itself."""
    found: list[str] = []
    for option in options_of(trees):
        kind = option.given.get("type")
        whole = isinstance(kind, ast.Name) and kind.id == "int" and not {"default", "nargs"} & set(option.given)
        if whole and not (option.positional or option.required) and option.value("action") in (None, "store"):
            found += [option.typed, str(known_value(option))]
    return tuple(found)


def plain_words(tree: ast.Module, trees: Sequence[ast.Module]) -> tuple[str, ...]:
    """What a script that reads `sys.argv` itself may be given: names of files of the kind that its code reads."""
    places = [
        n.slice.value for n in ast.walk(tree) if isinstance(n, ast.Subscript) and isinstance(n.slice, ast.Constant) and _is_argv(n.value)
    ]
    kind = _kind_of_file(trees)
    return tuple(f"data{kind}" for _ in range(max((p for p in places if isinstance(p, int)), default=0))) if kind else ()


def _is_argv(node: ast.expr) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == "argv") or (isinstance(node, ast.Name) and node.id == "argv")


def guesses(option: Option, trees: Sequence[ast.Module], folder: Path, script: str = "") -> list[str]:
    """Values that may do for an option that has to be given, the likeliest first; none where nothing tells one.

    What a script writes is held back, so that any name does where it writes. Data that are not there are made up, or named.
    """
    kind = option.given.get("type")
    if _CONFIGURATION.search(option.dest):
        return likest(script, folder, trees)
    if isinstance(kind, ast.Name) and kind.id == "float":
        return ["1.0"]
    if words := _compared(option.dest, trees):
        return words[:_MOST]
    if _DATA.search(option.dest):
        there = [p.name for p in sorted(folder.glob("data*")) if p.is_dir() and not (p / "__init__.py").exists()]
        return [*there, "data"][:1]
    if _FILE.search(option.dest) and (ending := _kind_of_file(trees)):
        return [f"{option.dest}{ending}"]
    named = _NAME.search(option.dest) or _PLACE.search(option.dest) or option.dest.startswith("model")
    return [option.dest] if named else []


def _kind_of_file(trees: Sequence[ast.Module]) -> str:
    """The ending of the files that the code reads: tables, or texts by their lines; "" where it reads neither."""
    called = {n.attr for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    if called & {"read_csv", "read_table"}:
        return ".csv"
    items = [item for tree in trees for n in ast.walk(tree) if isinstance(n, ast.With) for item in n.items]
    opened = {i.optional_vars.id for i in items if isinstance(i.optional_vars, ast.Name) and "open(" in ast.unparse(i.context_expr)}
    loops = (n.iter for tree in trees for n in ast.walk(tree) if isinstance(n, ast.For | ast.comprehension))
    whole = any(
        n.attr == "read" and "open(" in ast.unparse(n.value) for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Attribute)
    )
    by_line = whole or "readlines" in called or any(isinstance(i, ast.Name) and i.id in opened for i in loops)
    return ".txt" if by_line else ""


def _compared(dest: str, trees: Sequence[ast.Module]) -> list[str]:
    """The words that the code compares an option with."""
    found: dict[str, None] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr == dest:
                texts = (n.value for c in node.comparators for n in ast.walk(c) if isinstance(n, ast.Constant))
                found.update(dict.fromkeys(t for t in texts if isinstance(t, str) and t))
    return list(found)


def other_configurations(words: Sequence[str], trees: Sequence[ast.Module], folder: Path) -> Iterator[tuple[str, ...]]:
    """A command whose configuration is not there, with those that are: that of the likest name first.

    One that is named without its ending, `--config vae`, is there; others beside it may run where it does not.
    """
    given = {before: word for before, word in pairwise(words) if before.startswith("-")}
    given.update(word.partition("=")[::2] for word in words if word.startswith("--") and "=" in word)
    for option in options_of(trees):
        value = next((given[n] for n in option.names if n in given), option.value("default"))
        name = next((n for n in option.names if n in given), option.typed)
        if isinstance(value, str) and value.endswith(CONFIGURATIONS) and not (folder / value).is_file():
            yield from (with_option(words, name, file) for file in likest(value, folder, trees))
        elif not value and _CONFIGURATION.search(option.dest) and not option.positional:
            yield from (with_option(words, name, file) for file in likest(words[0], folder, trees))
        elif isinstance(value, str) and value:
            own = _configurations(folder)
            beside = {f.stem for f in own if any(f.parent == o.parent and o.stem == value and o.suffix == f.suffix for o in own)}
            yield from (with_option(words, name, stem) for stem in _by_likeness(beside - {value}, value))


def likest(path: str, folder: Path, trees: Sequence[ast.Module] = ()) -> list[str]:
    """The configurations of a repository, that of the likest name first: by the words that both have, then by their letters.

    Before that, those that hold what the code in `trees` looks up.
    """
    looked = {n.value for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    own = {f.as_posix(): len(_keys_of(folder / f) & looked) for f in _configurations(folder)}
    return sorted(_by_likeness(own, path), key=lambda name: -own[name])[:_MOST]


_KEY = re.compile(r"""^(?:\{?\s{0,4}["'](\w+)["']\s*:|(\w+)\s*:|\[(\w+)\])""", re.MULTILINE)


def _keys_of(file: Path) -> set[str]:
    """What a configuration gives at its outermost level, or nearly so."""
    if file.suffix == ".py":
        return set()
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    return {key for found in _KEY.findall(text) for key in found if key}


def _by_likeness(names: Iterable[str], path: str) -> list[str]:
    def unlike(name: str) -> float:
        file = Path(name)
        shared = set(_WORD.findall(file.stem.lower())) & set(_WORD.findall(Path(path).stem.lower()))
        return -len(shared) - difflib.SequenceMatcher(None, file.name, Path(path).name).ratio()

    return sorted(names, key=unlike)


def _configurations(folder: Path) -> list[Path]:
    """The configurations of a repository, from its folder: files of their kinds, and Python files in folders that are called so."""
    found = [f for place in (".", "*", "*/*") for f in folder.glob(f"{place}/*") if f.suffix in CONFIGURATIONS or _is_python_one(f)]
    own = [f.relative_to(folder) for f in found if f.is_file()]
    own = [f for f in own if not any(part.startswith(".") for part in f.parts)]
    named = [f for f in own if _CONFIGURATION.search(f.stem) or any(_CONFIGURATION.search(p) for p in f.parent.parts)]
    return sorted(named, key=lambda f: (len(f.parts), f))


def _is_python_one(file: Path) -> bool:
    return file.suffix == ".py" and bool(_CONFIGURATION.search(file.parent.name)) and file.stem != "__init__"
