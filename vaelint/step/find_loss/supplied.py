"""Values for what training code gets from elsewhere: what the repository says of a name, else numbers of vaelint's own."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import field

from vaelint.late import dataclass
from vaelint.repository.constructions import completed
from vaelint.repository.objects import Unknown, written
from vaelint.repository.scopes import Scope
from vaelint.repository.values import Reader
from vaelint.step.find_loss.cut_statements import attributes_of
from vaelint.step.find_loss.factors import weighted
from vaelint.step.find_loss.trainer import attributes_of_self, stand_in
from vaelint.step.meaning import LITERALS, Kind, kinds

_MOST_UNKNOWN = 4  # attributes of a trainer that numbers of ours may stand for


@dataclass
class Supplied:
    """What one attempt to cut out a loss supplies, and from where."""

    reader: Reader
    scope: Scope
    trainer: ast.ClassDef | None
    models: Set[str]  # what the model is called
    inputs: Sequence[str]
    tokens: Set[str]  # the inputs that are sequences of tokens
    options: Sequence[argparse.Namespace]  # what the model was built with
    made_up: list[tuple[str, str]] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)
    names: dict[tuple[str, str, str], None] = field(default_factory=dict)

    def value(self, name: str, body: Sequence[ast.AST]) -> str | None:
        """A value for a name that the training code gets from elsewhere: the device, what the repository says, else a weight of 1."""
        means = kinds(name)
        first = self.inputs[0] if self.inputs else "x"
        if Kind.DEVICE in means or Kind.BATCH_SIZE in means:
            return f"{first}.device" if Kind.DEVICE in means else f"{first}.size(0)"
        said = self._said(ast.Name(name, ast.Load()), attributes_of(name, body))
        if said is not None:
            if said != name:
                self.told.append((name, said))
            return said
        value = next((LITERALS[m] for m in means if m in LITERALS), None)
        if value is not None:
            self.made_up.append((name, value))
        return value

    def next_tokens(self, name: str, data: Mapping[str, str], together: Iterable[set[str]]) -> str | None:
        """The tokens that come next, for what a batch of tokens holds beside the input; None where it is something else.

        `together` are names that one assignment or loop fills.
        """
        beside = next((n for names in together if name in names for n in sorted(names) if data.get(n) in self.tokens), None)
        if beside is None:
            return None
        value = f"{data[beside]}.roll(-1, 1)"
        self.made_up.append((name, value))
        return value

    def as_weights(self, body: Sequence[ast.stmt], root: str) -> bool:
        """Whether numbers of ours can stand for all that the code reads from something unknown; they do then."""
        made = weighted(body, root)
        self.made_up += made or []
        return made is not None

    def of_trainer(self, body: Sequence[ast.stmt]) -> list[str]:
        """Statements that make a `self` of the trainer's class. Raises Unknown where something that it needs cannot be known."""
        missing = "self"
        for _ in range(_MOST_UNKNOWN if self.trainer is not None else 0):
            made_up, told = list(self.made_up), list(self.told)
            try:
                return stand_in(self.trainer, attributes_of_self(*body), self.models, self._attribute)  # type: ignore[arg-type]
            except Unknown as error:
                self.made_up[:], self.told[:], missing = made_up, told, str(error)
                if not self.as_weights(body, missing):
                    break
        raise Unknown(missing)

    def _said(self, node: ast.expr, attributes: set[str], *, by_attribute: bool = False) -> str | None:
        """What the repository says of a name, as text; of options that are read by attribute, no more than these.

        `by_attribute` makes a Namespace of a dict: whatever it is there, its keys are read as attributes.
        """
        try:
            if not attributes:
                value = self.reader.read(node, self.scope)
                if by_attribute and isinstance(value, dict):
                    value = argparse.Namespace(**value)
                is_options = isinstance(value, argparse.Namespace) and isinstance(node, ast.Name)
                whole = completed(self.reader, node.id, self.scope, value) if is_options else value  # type: ignore[attr-defined]
                return self._written(self._fitted(whole))
            values = {a: self.reader.read(ast.Attribute(node, a, ast.Load()), self.scope) for a in sorted(attributes)}
            return self._written(self._fitted(argparse.Namespace(**values)))
        except Unknown:
            return None

    def _fitted(self, value: object) -> object:
        """Options as the model was built with, where it got such: it is one object there, and ours has the sizes of the input."""
        for other in self.options if isinstance(value, argparse.Namespace) else ():
            if vars(value).keys() <= vars(other).keys():
                return argparse.Namespace(**{key: vars(other)[key] for key in vars(value)})
        return value

    def _written(self, value: object) -> str:
        text, names = written(value)
        self.names.update(dict.fromkeys(names))
        return text

    def _hparams(self) -> str | None:
        """The arguments of the trainer's constructor that are known, as Lightning's `save_hyperparameters` keeps them."""
        assert self.trainer is not None
        init = next((n for n in self.trainer.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        names = [a.arg for a in (*init.args.args, *init.args.kwonlyargs)][1:] if init is not None else []
        known: dict[str, object] = {}
        for name in names:
            assert init is not None
            try:
                known[name] = self.reader.read(
                    ast.Name(name, ast.Load()), Scope(self.scope.file, (self.trainer, init), init.body[0].lineno)
                )
            except Unknown:
                continue
        try:
            text = self._written(argparse.Namespace(**known))
        except Unknown:
            return None
        self.told.append(("self.hparams", text))
        return text

    def _attribute(self, name: str) -> str | None:
        """A value for an attribute of the trainer."""
        means = kinds(name)
        first = self.inputs[0] if self.inputs else "x"
        if Kind.DEVICE in means:
            return f"{first}.device"
        if name == "hparams":
            return self._hparams()
        parts = {f"self.{name}"}
        read = {
            n.attr for n in ast.walk(self.trainer or ast.Module([], [])) if isinstance(n, ast.Attribute) and ast.unparse(n.value) in parts
        }
        said = self._said(ast.Attribute(ast.Name("self", ast.Load()), name, ast.Load()), set(), by_attribute=bool(read - set(dir(dict))))
        if said is not None:
            self.told.append((f"self.{name}", said))
        return said if said is not None else self.value(name, [])
