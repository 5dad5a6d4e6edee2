"""What a script raised while it was watched, in words, and the one thing to do about it."""

from __future__ import annotations

import os
import re
import sys
import traceback
from pathlib import Path

from vaelint.core.errors import TargetError
from vaelint.core.messages import message_of
from vaelint.loading.placeholder import installing
from vaelint.observe.data.stand_ins import NotStoodInError
from vaelint.observe.data.unknown.variables import wanted_variable

DISTRIBUTIONS = {
    "cv2": "opencv-python-headless", "skimage": "scikit-image", "sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml",
    "attr": "attrs", "Bio": "biopython", "pl_bolts": "lightning-bolts", "mpl_toolkits": "matplotlib", "dateutil": "python-dateutil",
    "dotenv": "python-dotenv", "umap": "umap-learn", "skbio": "scikit-bio", "git": "GitPython", "hydra": "hydra-core",
}  # fmt: skip
"""What pip calls a package that is imported under another name."""


_HDF5 = re.compile(r"unable to open file: name = '([^']+)'")  # how h5py names what is not there


_RESOURCE = re.compile(r"Resource '?([\w.]+)'? not found")  # how NLTK names what is not there

Said = tuple[str, str]
"""What happened, and what to type."""


def said_of(error: BaseException, home: str = "") -> Said:
    """What a script raised that was started in the folder `home`, and what to do about it."""
    if isinstance(error, TargetError):
        return f"the script stops: {error}", error.help
    if isinstance(error, NotStoodInError):
        said, _, package = str(error).partition(": install ")
        return f"the script needs {package}: {said}", f"pip install {DISTRIBUTIONS.get(package, package)}"
    told: Said | None = None
    if isinstance(error, FileNotFoundError):
        told = _of_a_file(error, home)
    elif isinstance(error, ModuleNotFoundError) and error.name:
        told = _of_a_module(error, error.name)
    elif (variable := wanted_variable(error)) is not None:
        told = f"the script wants the environment variable {variable}", f"set it: {variable}=VALUE before the command"
    return told or _as_it_is(error, home)


def _of_a_file(error: FileNotFoundError, home: str) -> Said | None:
    named = _HDF5.search(str(error))
    file = error.filename or (named and named[1])
    if not file:
        return None  # its own: it looked for a file itself
    shown = _from_here(file, home) if home else file
    help = f"put {_missing(shown)} there, or name another place with the script's options"
    return f"the script reads {shown}, which is not there", help


def _of_a_module(error: ModuleNotFoundError, whole: str) -> Said:
    name = whole.partition(".")[0]
    if name == "tensorflow":
        return "the package tensorflow is not installed here", installing(name)
    if whole != name and _imported_by_itself(error, name):
        return f"{whole} is imported, which the repository does not have", "add the file, or take the import out"
    if whole != name and (own := _own_file(name)) is not None:
        return f"{whole} is imported, and {name} is {own} here", _AS_A_MODULE
    if name in sys.modules and whole != name:
        return f"the {name} that is installed has no module {whole}", f"install the version of {name} that the script is written for"
    install = f"pip install {DISTRIBUTIONS.get(name, name)}"
    if (gone := _looked_for_in()) is not None:
        return f"{name} is not installed here, nor is there {gone}, where the script looks for modules", f"put {gone} there, or {install}"
    return f"the package {name} is not installed here", install


_AS_A_MODULE = "run it as a module, from above its package: vaelint run -m PACKAGE.MODULE"


def _own_file(name: str) -> str | None:
    """The file of a module that is no package and is below the working directory."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if not isinstance(file, str) or hasattr(sys.modules[name], "__path__"):
        return None
    return _shown(file) if Path(file).resolve().is_relative_to(Path.cwd().resolve()) and "site-packages" not in file else None


def _looked_for_in() -> str | None:
    """A folder below the working directory that the script has put on Python's path, and that is not there."""
    here = os.path.realpath(".") + os.sep
    gone = [os.path.realpath(p) for p in sys.path if p and not os.path.lexists(p)]
    return next((os.path.relpath(p).replace(os.sep, "/") for p in gone if p.startswith(here) and not p.endswith((".zip", ".egg"))), None)


def said_without(path: str, line: str, what: str) -> Said:
    """What is said of a script that looked into a folder, or for a file, which is not there; `line` is where it did."""
    shown = _shown(path)
    looks = "looks for" if Path(shown).suffix else "looks into"
    return f"the script {looks} {shown}, which is not there{line}: {_its(what)}", f"put {_missing(shown)} there, or name another place"


def said_to_be_read(path: str, line: str) -> Said:
    """What is said of a script that reads a file which is not there, of which nothing tells what it holds."""
    shown = _shown(path)
    return f"the script reads {shown}, which is not there{line}", f"put {_missing(shown)} there, or name another place"


def said_of_a_pointer(path: str, line: str, what: str) -> Said:
    """What is said of a script that reads what Git LFS has left in the place of a file."""
    return f"the script reads {_shown(path)}, of which Git LFS has left only a pointer here{line}: {_its(what)}", "git lfs pull"


def said_in_place_of(file: str, line: str, what: str) -> Said:
    """What is said of a script that reads a file which is not there, and cannot do with what was made up for it."""
    shown = _shown(file)
    more = f"put {_missing(shown)} there, or name another place with the script's options"
    return f"the script reads {shown}, which is not there{line}; with made-up data in its place {_its(what)}", more


def _shown(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else Path(relative).as_posix()


def _its(what: str) -> str:
    return what.removeprefix("the script ").replace("raises", "it raises", 1) if what.startswith("the script ") else what


def _as_it_is(error: BaseException, home: str) -> Said:
    lines = [line for line in message_of(error).splitlines() if line.strip()]
    lines = [line for line in lines if any(map(str.isalnum, line))] or lines  # NLTK frames what it says with asterisks
    text = " ".join(line.strip() for line in lines[: 2 if lines[0].endswith(":") else 1]) if lines else ""
    if not text and (frames := traceback.extract_tb(error.__traceback__)):
        text = frames[-1].line or ""  # `assert x is not None` says no more than itself
    if isinstance(error, ImportError) and "relative import with no known parent" in text:
        return f"the script raises ImportError: {text}", _AS_A_MODULE
    said = f"the script raises {type(error).__name__}: {text}".removesuffix(": ")
    if "is held back while the script is watched" in message_of(error):
        return said, "put the file there, or let the script fetch it: --allow-writes"
    if isinstance(error, LookupError) and (named := _RESOURCE.search(message_of(error))) is not None:
        return said, f"python -m nltk.downloader {named[1]}"
    if isinstance(error, FileNotFoundError):
        return said, "put it there, or name another one with the script's options"
    if (package := _called_otherwise(error)) is not None:
        return said, f"install the version of {DISTRIBUTIONS.get(package, package)} that the script is written for"
    if (path := _named_path(message_of(error), home)) is not None:
        return said, f"put {_missing(path)} there, or name another place with the script's options"
    return said, "run it with python first: it raises the same there"


_CALLED = re.compile(r"^(\w+)(?:\.__init__)?\(\) (?:takes|got an unexpected keyword|missing)")


def _called_otherwise(error: BaseException) -> str | None:
    """The installed package of which the script calls a function or class with other arguments than it takes."""
    found = _CALLED.match(message_of(error)) if isinstance(error, TypeError) else None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if found is None or not frames:
        return None
    module = sys.modules.get(str(getattr(frames[-1].f_globals.get(found[1]), "__module__", None)))
    own = str(getattr(module, "__file__", None))
    return module.__name__.partition(".")[0] if module is not None and "site-packages" in Path(own).parts else None


_LACKS = re.compile(
    r"no such|not? .*(?:found|there)|unknown|missing|invalid|n[o']t exist|(?:can ?no|n')t (?:find|open|read|load)", re.IGNORECASE
)
_PATH = re.compile(r"(?<![\w:/.])(?:[~\w.-]*/)+[\w.-]+")


def _named_path(message: str, home: str) -> str | None:
    """The path that is not there of which a message says so in words of its own: one of those that the command names."""
    paths = [found.rstrip(".") for found in _PATH.findall(message)] if _LACKS.search(message) else []
    named = [_from_here(p, home) for p in paths if any(p in word for word in sys.argv[1:])]
    return next((p for p in named if not os.path.lexists(p)), None)


def _from_here(file: str | bytes, home: str) -> str:
    """A path of a script that was started in the folder `home`."""
    return os.path.normpath(Path(home) / os.fsdecode(file))


def _missing(file: str | bytes) -> str:
    """What is not there: the file, or the outermost of its folders that is missing."""
    path = Path(os.fsdecode(file))
    gone = [p for p in (path, *path.parents) if not os.path.lexists(p)] or [path]
    return gone[-1].as_posix() if len(gone) == 1 else f"your data, the folder {gone[-1].as_posix()},"


def _imported_by_itself(error: ModuleNotFoundError, package: str) -> bool:
    """Whether a file of the package, one that is not installed, asked for the module of it that is missing."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = [f.f_code.co_filename for f in frames if str(f.f_globals.get("__name__")).partition(".")[0] == package]
    own += list(getattr(sys.modules.get(package), "__path__", ()))
    return any(not {"site-packages", "dist-packages"} & set(Path(file).parts) for file in own)
