"""Whether running a file starts something, as far as its source shows. Runs nothing, imports no torch."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from vaelint.discover.sources import TRAINS, Class, Sources, methods_called, names_called, tree_of

_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_FITS = frozenset({"fit", "fit_generator"})


def starts(file: Path, sources: Sources) -> bool:
    """Whether running the file does something: a block for `__main__`, or a loop or call at its top level.

    What it imports counts in so far as its objects and functions may train.
    """
    tree = tree_of(file)
    if tree is None:
        return False
    if any(isinstance(n, ast.If) and "__name__" in ast.unparse(n.test) for n in tree.body):
        return True
    ran = [n for n in tree.body if not isinstance(n, _DEFINES)]
    ran = [n for n in ran if any(isinstance(part, ast.Call) for part in ast.walk(n))]
    if any(_does(node, tree) for node in ran):
        return True
    said = sources.of(file) if ran else []
    functions = {name: called for s in said for name, called in s.functions.items()}
    training = _leading_to({name for name, called in functions.items() if called & TRAINS}, functions)
    if any(names_called(node) & training for node in ran):
        return True
    return bool(ran) and _calls_trainer(tree, {name: c for s in said for name, c in s.classes.items()})


def _does(node: ast.stmt, tree: ast.Module) -> bool:
    """Whether a statement with a call in it is a loop that may train, or a call that is there for itself."""
    if isinstance(node, ast.For | ast.While | ast.With) and (methods_called(node) & TRAINS or _calls_own(node, tree)):
        return True
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and methods_called(node.value) & _FITS:
        return True
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    called = node.value.func
    return (isinstance(called, ast.Name) and called.id != "print") or (isinstance(called, ast.Attribute) and called.attr in TRAINS)


def _calls_own(node: ast.AST, tree: ast.Module) -> bool:
    """Whether a piece of code calls functions that the file defines or imports by name."""
    own = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    own |= {a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
    return bool(names_called(node) & own)


def _calls_trainer(tree: ast.Module, classes: Mapping[str, Class]) -> bool:
    """Whether a file has an object of the repository train: `model = VAE()`, `model.learn(x)`, which calls `backward`."""
    methods = {name: m for name, c in classes.items() if (m := _training_methods(c, classes))}
    if not methods:
        return False
    ran = [n for top in tree.body if not isinstance(top, _DEFINES) for n in ast.walk(top)]
    at_once = {name for name, found in methods.items() if "__init__" in found}
    if any(isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in at_once for n in ran):
        return True  # `Detector(args)`, whose constructor trains
    made = [n for n in ran if isinstance(n, ast.Assign) and isinstance(n.value, ast.Call)]
    objects = {t.id: methods[name] for n in made for name in names_called(n) & set(methods) for t in n.targets if isinstance(t, ast.Name)}
    called = [n.func for n in ran if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    if any(isinstance(f.value, ast.Name) and f.attr in objects.get(f.value.id, ()) for f in called):
        return True
    return any(f.attr in methods.get(name, ()) for f in called if isinstance(f.value, ast.Call) for name in names_called(f.value))


def _training_methods(owner: Class, classes: Mapping[str, Class]) -> set[str]:
    """The methods of a class that take gradients, its own and those that it inherits, also by another one of its methods."""
    line, known = [owner], set[str]()
    for c in line:
        line += [classes[b] for b in c.bases if b in classes and b not in known and classes[b] is not owner]
        known |= set(c.bases)
    calls = {name: called for c in reversed(line) for name, called in c.methods.items()}
    return _leading_to({name for name, called in calls.items() if called & TRAINS}, calls)


def _leading_to(found: set[str], calls: Mapping[str, frozenset[str]]) -> set[str]:
    """`found`, and what calls one of these, or calls what does."""
    while more := {name for name, called in calls.items() if name not in found and called & found}:
        found |= more
    return found
