"""The commands with which a repository trains: scripts that start one, with the arguments that its own texts give them.

Imports no torch.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from vaelint.discover.argparse_options import chosen_ways, compared_options, filled_options
from vaelint.discover.guessed_options import guessed_ways, likest, plain_words, unset_numbers, unset_options
from vaelint.discover.sources import Sources, names_called, tree_of
from vaelint.discover.starting import starts
from vaelint.discover.subcommands import training_command
from vaelint.discover.told_options import texts_of, told_values, value_of_option
from vaelint.late import dataclass
from vaelint.repository.python_files import python_files

_COMMAND = re.compile(r"(?:^|[\s;&`$/])(?:(?:python3?|vaelint run)\s+|\./(?=[\w./-]+\.py\b))(?P<words>[^\n`|;&#]+)")
_OPTION = r"--[\w-]+(?:[ =][^\s-]\S*)?"
_CONTINUED = re.compile(rf"\\[ \t]*(?:#[^\n]*)?\n|\n(?=[ \t]*{_OPTION}(?:[ \t]+{_OPTION})*[ \t]*(?:\n|$))")
"""Where a command goes on: texts have blanks and comments behind the backslash, though a shell reads them otherwise, or leave it out
before a line of options."""
_NO_VALUE = re.compile(r"[<>\[\]{}*]|\.\.\.|\$|\bpaths?/to/|\byour[_-]\w", re.IGNORECASE)
_VARIABLES = re.compile(r"""\s(?:["']?\$[@*]["']?(?=\s|$)|--?[A-Za-z][\w-]*(?:=|\s+)["']?[^\s"'$]*\$\S*)""")
"""Options whose values a shell fills in, and arguments that it hands on: a command may run without them."""
_SAYS = re.compile(r"\s(-h|--help|--version)\b")
_TO_FILE = re.compile(r"\s[12]?>>?\s*\S+")
_BARE = re.compile(r"(?:\.{0,2}/)?(?:[\w-]+/)*\w[\w-]*")  # a script whose name has no ending
_MOST = 8


@dataclass(frozen=True)
class Entry:
    """A way to start a training, from the folder of the repository.

    `lacks`: options that it cannot do without and that no text gives. `others`: further commands for the same script, in the order in
    which they are worth a try: those that texts give, and the script by itself. `told`: those that texts give.
    """

    file: Path
    words: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    others: tuple[tuple[str, ...], ...] = ()
    told: tuple[tuple[str, ...], ...] = ()

    @property
    def command(self) -> str:
        """As it is typed."""
        left = [word for option in self.lacks for word in ((option, "VALUE") if option.startswith("-") else (option.upper(),))]
        return shlex.join([*self.words, *left])


def entries(
    root: Path, folder: Path, of: Path | None = None, vaes: Collection[Path] = (), beyond: Callable[[list[Path]], None] = lambda files: None
) -> list[Entry]:
    """The entries at or below `root`, as they are started in `folder`: first those that reach a class that may be a VAE, of these those
    that a text names. At most eight.

    Args:
        of: only those whose script imports this file, or is it.
        vaes: the files of such classes.
        beyond: gets the scripts that reach one and come after the eighth.
    """
    told, sources = _told(folder), Sources()
    files = python_files(root, notebooks=True, scripts=True)
    if of is not None:
        files = sources.reaching(of, files)
    starting = [f for f in files if sources.trains(f) and starts(f, sources)]
    reaching = {f for f in starting if not sources.imported_by(f).isdisjoint(vaes)}
    ordered = sorted(starting, key=lambda f: (f not in reaching, f.resolve() not in told))
    if more := [f for f in ordered[_MOST:] if f in reaching]:
        beyond(more)
    first = ordered[:_MOST]
    return [_entry(file, folder, told.get(file.resolve(), []), sources) for file in first]


def _entry(file: Path, folder: Path, told: list[tuple[str, ...]], sources: Sources) -> Entry:
    """How a script is started: as texts say, by itself, and with the options that it cannot do without."""
    ways = told
    reach = [t for t in map(tree_of, sorted(sources.imported_by(file))) if t is not None]
    tree = tree_of(file) or ast.Module([], [])
    command, reach = training_command(reach)
    bare = (*_by_itself(file, folder, tree), *command)
    given = told_values(folder, file.name)
    filled, lacks = filled_options(reach, lambda option: value_of_option(option, given))
    choices = chosen_ways(reach)
    filled = (*filled, *choices[0])
    alone = [(*bare, *filled), bare, *((*bare, *filled[: len(filled) - len(choices[0])], *c) for c in choices[1:])]
    alone.append((*bare, *filled, *compared_options(reach)))
    if unset := unset_options(reach, folder, file.name):
        alone.append((*bare, *filled, *unset))
    if numbers := unset_numbers(reach):
        alone.append((*bare, *filled, *unset, *numbers))
    if not told and (plain := plain_words(tree, reach)):
        alone.append((*bare, *plain))
    if "LightningCLI" in names_called(tree):
        alone = [*((*bare, "fit", "--config", c) for c in likest(file.name, folder)), (*bare, "fit")]
    if lacks:
        alone = [(*bare, *words) for words in guessed_ways(reach, folder, file.name, given)]
    ways = [*ways[:1], *alone, *ways[1:]]
    ways = [w for w in dict.fromkeys(ways) if len(w) > len(bare) or not (lacks or filled)]
    return Entry(file, ways[0] if ways else bare, () if ways else lacks, tuple(ways[1:]), tuple(told))


def _by_itself(file: Path, folder: Path, tree: ast.Module) -> tuple[str, ...]:
    """The words that start a file: its path, or `-m` and its name where it imports relatively, which needs the package around it, or by
    the name of its folder, where a file beside it has that name too and would be found first."""
    path = Path(os.path.relpath(file, folder))
    relative = any(isinstance(n, ast.ImportFrom) and n.level for n in tree.body)
    around = file.parent.name
    if (file.parent / f"{around}.py").is_file():
        relative |= any(isinstance(n, ast.ImportFrom) and str(n.module).startswith(f"{around}.") for n in tree.body)
    if relative and path.suffix == ".py" and all(part.isidentifier() for part in path.with_suffix("").parts):
        return ("-m", ".".join(path.with_suffix("").parts))
    return (path.as_posix(),)


def _told(folder: Path) -> dict[Path, list[tuple[str, ...]]]:
    """The scripts that texts of the repository start, each with the commands that can be taken as they are."""
    found: dict[Path, list[tuple[str, ...]]] = {}
    said = [_from(folder, text, words) for text in texts_of(folder) for words in _commands(text)]
    files = [Path(os.path.relpath(f, folder)).as_posix() for f in python_files(folder, notebooks=True)] if said else []
    for words in said:
        below = [f for f in files if f.endswith(f"/{words[0]}")]
        if _file_of(words, folder) is None and len(below) == 1:  # after `cd src`, or "in the folder src"
            words = [below[0], *words[1:]]
        file = _file_of(words, folder)
        if file is not None and tuple(words) not in found.setdefault(file, []):
            found[file].append(tuple(words))
    return found


def _from(folder: Path, text: Path, words: Sequence[str]) -> Sequence[str]:
    """The words as they are typed in `folder`, where a text of another folder names the script from its own."""
    file = text.parent / words[0]
    if text.parent == folder or (folder / words[0]).is_file() or not file.is_file():
        return words
    return [Path(os.path.relpath(file, folder)).as_posix(), *words[1:]]


def _commands(file: Path) -> Iterator[Sequence[str]]:
    try:
        yield from commands_in(file.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return


def commands_in(text: str) -> Iterator[Sequence[str]]:
    """The words after `python` of the commands that a text holds, those that can be taken as they are."""
    for match in _COMMAND.finditer(_CONTINUED.sub(" ", text)):
        said = _VARIABLES.sub("", _TO_FILE.sub("", match["words"]))
        if _NO_VALUE.search(said) or _SAYS.search(said):
            continue
        try:
            words = shlex.split(said)
        except ValueError:
            continue
        if words and (words[0].endswith((".py", ".ipynb")) or _BARE.fullmatch(words[0]) or (words[0] == "-m" and len(words) > 1)):
            yield words


def _file_of(words: Sequence[str], folder: Path) -> Path | None:
    if words[0] != "-m":
        return (folder / words[0]).resolve() if (folder / words[0]).is_file() else None
    base = folder / words[1].replace(".", "/")
    return next((f.resolve() for f in (base.with_suffix(".py"), base / "__main__.py") if f.is_file()), None)
