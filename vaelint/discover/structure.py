"""Which classes of a repository may be VAEs, read from their code. By structure: names of models mean nothing. Imports no torch."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path

from vaelint.late import dataclass
from vaelint.repository.python_files import python_files
from vaelint.source.notebook import source_of_file

_NOISE = frozenset({"randn", "randn_like", "rsample", "normal_", "normal", "rand_like", "gumbel_softmax", "kl_divergence"})
_NOISE |= {"standard_normal", "random_normal"}
_FAMILIES = ("Normal", "Bernoulli", "Categorical", "Laplace", "Gamma", "Beta", "Dirichlet", "VonMisesFisher", "Uniform")
_CODES = frozenset({"argmin", "argmax", "cdist"})
_GENERATES = ("sample", "generate", "random", "prior", "interpolate", "traverse", "plot", "init", "reset", "load", "save")
_ENTRY = ("forward", "training_step", "loss", "elbo", "compute_loss", "call", "train_step")


@dataclass
class Shape:
    """What the code of one class shows: where it is, what it is made of, and what it calls."""

    file: Path
    name: str
    line: int
    node: ast.ClassDef
    bases: tuple[str, ...]
    methods: dict[str, ast.FunctionDef]
    makes: frozenset[str]  # names that its methods call, which may be other classes
    noise: str = ""  # why it is thought to draw
    discrete: bool = False  # picks the nearest of some codes
    abstract: bool = False
    keras: bool = False  # of a file that imports Keras or tensorflow

    @property
    def target(self) -> str:
        """As `vaelint check` takes it."""
        return f"{_shown(self.file)}:{self.name}"


@dataclass
class Found:
    """The candidates of a folder, and what could not be read."""

    candidates: list[Shape] = field(default_factory=list)
    files: int = 0
    unread: list[tuple[str, str]] = field(default_factory=list)  # file, why


def _shown(path: Path) -> str:
    return Path(os.path.relpath(path)).as_posix()


def find(root: Path) -> Found:
    """The classes at or below `root` that may be VAEs: modules that draw noise or pick codes, themselves or by the parts they are made of.

    Parts of such a class are not listed beside it, but for those that are trained by themselves as well, nor are abstract bases.
    """
    found = Found()
    classes: dict[str, list[Shape]] = {}
    drawing: set[str] = set()  # functions that draw
    trained: set[str] = set()  # what is made where gradients are taken
    for path in python_files(root, notebooks=True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = _tree(path)
        except (OSError, SyntaxError, ValueError) as error:
            found.unread.append((_shown(path), f"{type(error).__name__}: {error}".replace("(<unknown>, ", "(")))
            continue
        if tree is None:
            continue
        found.files += 1
        of_keras = imports_keras(tree)
        drawing |= {n.name for n in tree.body if isinstance(n, ast.FunctionDef) and _calls(n) & _NOISE}
        trained |= _made_and_trained(tree)
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                shape = _shape(path, node)
                shape.keras = of_keras
                classes.setdefault(shape.name, []).append(shape)
    for shape in (s for shapes in classes.values() for s in shapes):
        shape.noise = _noise_of(shape, drawing)
    candidates = [s for shapes in classes.values() for s in shapes if _is_module(s, classes, 6) and _why(s, classes, 5)]
    parts = {name for s in candidates for name in _reach(s, classes) if name != s.name}
    bases = {b for s in candidates for b in s.bases}
    for shape in candidates:
        entry = any(_has(shape, name, classes, 6) for name in _ENTRY)
        unused = shape.name not in parts - trained or (shape.name in bases and any(_has(shape, n, classes, 1) for n in _ENTRY[1:]))
        if entry and unused and not shape.abstract:
            shape.noise = _why(shape, classes, 5)
            found.candidates.append(shape)
    found.candidates.sort(key=lambda s: (str(s.file), s.line))
    return found


def _made_and_trained(tree: ast.Module) -> set[str]:
    """The classes of objects that a function, or a script's top level, makes and has learn: `Adam(model.parameters())`, `backward()`."""
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    rest = ast.Module([n for n in tree.body if not isinstance(n, ast.FunctionDef | ast.ClassDef)], [])
    return {name for part in (*functions, rest) if "backward" in _calls(part) for name in _learning(part)}


def _learning(part: ast.AST) -> set[str]:
    """The classes of the objects of which a piece of code takes the parameters."""
    calls = [n.func for n in ast.walk(part) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    asked = {ast.unparse(f.value) for f in calls if f.attr == "parameters"}
    made = (n for n in ast.walk(part) if isinstance(n, ast.Assign) and any(ast.unparse(t) in asked for t in n.targets))
    return {name for n in made for name in _calls(n.value)}


def imports_keras(tree: ast.Module) -> bool:
    """Whether a file imports Keras or tensorflow."""
    named = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    named += [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    return any(name.partition(".")[0] in ("keras", "tensorflow") for name in named)


def _tree(path: Path) -> ast.Module | None:
    """A file as a tree; None for a notebook that has no torch in it, in whatever language it is. Raises as parsing does."""
    if path.suffix == ".ipynb" and b"torch" not in path.read_bytes():
        return None
    return ast.parse(source_of_file(path))


def _shape(path: Path, node: ast.ClassDef) -> Shape:
    methods = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef)}
    called = frozenset(name for method in methods.values() for name in _calls(method))
    abstract = any(_decorated(m, "abstractmethod") for m in methods.values()) or _only_raises(methods.get("forward"))
    abstract = abstract or any(_only_raises(methods.get(name)) for name in _own_calls(methods.get("forward")))
    looked_up = called & {"Embedding", "embedding", "one_hot"}
    discrete = bool(called & _CODES and looked_up | called & {"detach"}) or bool(
        looked_up and "detach" in called and called & {"min", "max"}
    )
    bases = tuple(ast.unparse(b).rpartition(".")[2].partition("[")[0] for b in node.bases)
    return Shape(path, node.name, node.lineno, node, bases, methods, called, "", discrete, abstract)


def _own_calls(method: ast.FunctionDef | None) -> set[str]:
    """The methods of its own object that a method calls."""
    called = [n.func for n in ast.walk(method) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)] if method else []
    return {f.attr for f in called if isinstance(f.value, ast.Name) and f.value.id == "self"}


def _calls(node: ast.AST) -> set[str]:
    """The last names of everything that is called or handed on in a piece of code."""
    names: set[str] = set()
    for n in ast.walk(node):
        if isinstance(n, ast.Call):
            names.add(n.func.attr if isinstance(n.func, ast.Attribute) else n.func.id if isinstance(n.func, ast.Name) else "")
    return names - {""}


def _decorated(method: ast.FunctionDef, name: str) -> bool:
    return any(ast.unparse(d).rpartition(".")[2] == name for d in method.decorator_list)


def _only_raises(method: ast.FunctionDef | None) -> bool:
    body = [s for s in method.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))] if method else []
    return bool(body) and isinstance(body[0], ast.Raise | ast.Pass)


def _noise_of(shape: Shape, drawing: set[str]) -> str:
    """How a class draws on its way forward; methods that only generate samples do not count unless another method calls them."""
    called = {name for key, m in shape.methods.items() for name in _calls(m) if name != key}
    for name, method in shape.methods.items():
        if name == "__init__" or (name.startswith(_GENERATES) and name not in called):
            continue
        calls = _calls(method)
        if hit := sorted(calls & _NOISE):
            return f"{name} calls {hit[0]}"
        if hit := sorted(calls & drawing):
            return f"{name} calls {hit[0]}, which draws"
        if "sample" in calls and any(c.endswith(_FAMILIES) for c in calls):
            return f"{name} samples a distribution"
    return ""


def _is_module(shape: Shape, classes: dict[str, list[Shape]], depth: int) -> bool:
    for base in shape.bases:
        if base.endswith("Module") or base in ("ModelMixin", "PreTrainedModel") or (shape.keras and base == "Model"):
            return True
        if depth and any(_is_module(s, classes, depth - 1) for s in classes.get(base, ()) if s is not shape):
            return True
    return False


def _why(shape: Shape, classes: dict[str, list[Shape]], depth: int) -> str:
    """Why a class may be a VAE: itself, a base of it, or a part that it is made of; "" if nothing says so."""
    if shape.noise:
        return shape.noise
    if shape.discrete:
        return "picks the nearest of its codes"
    if depth == 0:
        return ""
    for name in (*shape.bases, *sorted(shape.makes)):
        for other in classes.get(name, ()):
            if other is not shape and (why := _why(other, classes, depth - 1)):
                return f"{other.name}: {why}" if ": " not in why else why
    return ""


def _reach(shape: Shape, classes: dict[str, list[Shape]]) -> Iterator[str]:
    """The classes of the repository that a class constructs."""
    for name in shape.makes:
        if name in classes and name not in shape.bases:
            yield name


def _has(shape: Shape, method: str, classes: dict[str, list[Shape]], depth: int) -> bool:
    if method in shape.methods:
        return True
    return depth > 0 and any(_has(s, method, classes, depth - 1) for b in shape.bases for s in classes.get(b, ()) if s is not shape)
