"""One wrong change at a time, in every class and many spellings, put into every way of building a loss. Plain text, nothing is run here.

A `Change` says what one statement should be and what it is instead; `data/changes.txt` has them. A form says how the statements become a
file: a function, helpers, a method, a module of its own, a training step, inside forward, a dict of outputs, a loop over the samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MARK = "  # changed"
CHANGES = Path(__file__).parents[1] / "data" / "changes.txt"

SLOTS: dict[str, str] = {
    "heads": "mu, logvar = self.enc(x).chunk(2, dim=-1)",
    "std": "std = torch.exp(0.5 * logvar)",
    "eps": "eps = torch.randn_like(std)",
    "z": "z = mu + eps * std",
    "recon": "recon = self.dec(z)",
    "rec": "rec = ((recon - x) ** 2).sum(-1).mean()",
    "kl": "kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(-1).mean()",
    "total": "loss = rec + kl",
}
"""The statements of a correct VAE on rows of numbers."""

LAYERS = {
    "rows": (
        "self.enc = nn.Sequential(nn.Linear(13, 17), nn.Tanh(), nn.Linear(17, 8))",
        "self.dec = nn.Sequential(nn.Linear(4, 17), nn.Tanh(), nn.Linear(17, 13))",
    ),
    "maps": (
        "self.enc = nn.Conv2d(3, 8, 4, 4)",
        "self.dec = nn.ConvTranspose2d(4, 3, 4, 4)",
    ),
    "tokens": (
        "self.emb = nn.Embedding(19, 6, padding_idx=0)",
        "self.enc = nn.Sequential(nn.Linear(6, 17), nn.Tanh(), nn.Linear(17, 8))",
        "self.dec = nn.Sequential(nn.Linear(4, 17), nn.Tanh(), nn.Linear(17, 7 * 19))",
    ),
    "moments": (
        "self.enc = nn.Sequential(nn.Linear(13, 17), nn.Tanh(), nn.Linear(17, 8))",
        "self.dec = nn.Sequential(nn.Linear(4, 17), nn.Tanh(), nn.Linear(17, 26))",
    ),
}
INPUTS = {"rows": "x=5x13", "maps": "x=5x3x20x24", "tokens": "x=5x7:int64[0,19)", "moments": "x=5x13"}


@dataclass(frozen=True)
class Change:
    """One wrong statement and its right twin. Lines of `wrong` that end in MARK are where the finding belongs."""

    group: str
    codes: tuple[str, ...]  # any of these
    slot: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    slots: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # statements that both have
    base: str = "rows"
    range: str = ""  # of the data, as it is declared
    whole: bool = False  # needs the whole batch at once: not in a loop over the samples
    missed: bool = False  # a known gap

    def __str__(self) -> str:
        return f"{self.group}: {' '.join(self.wrong)}"


def read_changes(path: Path = CHANGES) -> list[Change]:
    """The changes in a file of differences, in their order; its first lines say how it is written."""
    found: list[Change] = []
    group = ""
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        first, *lines = block.strip("\n").split("\n")
        if first.startswith("## "):
            group = first[3:]
        elif first and not first.startswith("#"):
            found.append(_change(group, first.split(" "), lines))
    return found


def _change(group: str, head: list[str], lines: list[str]) -> Change:
    codes, slot, *flags = head
    slots: dict[str, tuple[str, ...]] = {}
    for name, _, text in (line[1:].partition(" ") for line in lines if line.startswith("@")):
        slots[name] = (*slots.get(name, ()), text)
    body = [(line[0], line[2:]) for line in lines if not line.startswith("@")]
    right = tuple(text for mark, text in body if mark in " -*")
    wrong = tuple(text + (MARK if mark in "+*" else "") for mark, text in body if mark in " +*~")
    base = next((f for f in flags if f in INPUTS), "rows")
    declared = next((f for f in flags if f[0] in "[{"), "")
    return Change(group, tuple(codes.split("|")), slot, right, wrong, slots, base, declared, "whole" in flags, "missed" in flags)


@dataclass(frozen=True)
class Case:
    """A change in a form, with other statements dressed as they may be: two files that differ in one statement."""

    change: Change
    form: str
    dress: str = "plain"

    @property
    def inputs(self) -> str:
        """The declared input."""
        return INPUTS[self.change.base] + (f":float32{self.change.range}" if self.change.range else "")

    @property
    def step(self) -> str:
        """The step that runs it."""
        return STEPS[self.form]

    def source(self, *, wrong: bool) -> str:
        """The file's text; where it is wrong, the lines of the change end in MARK."""
        change = self.change
        texts = {k: tuple(v.split("\n")) for k, v in {**SLOTS, **DRESSED[self.dress]}.items()}
        slots = {**texts, **change.slots, change.slot: change.wrong if wrong else change.right}
        return FORMS[self.form]({k: list(v) for k, v in slots.items()}, list(LAYERS[change.base]))

    @property
    def changed_lines(self) -> list[int]:
        """1-based numbers of the lines where the finding may stand."""
        return [i for i, line in enumerate(self.source(wrong=True).split("\n"), 1) if line.endswith(MARK)]


def forms_of(change: Change) -> list[str]:
    """The forms that a change can be put into."""
    return [form for form in FORMS if not (change.whole and form == "loop")]


def dresses_of(change: Change) -> list[str]:
    """How the other statements may be dressed: not those that the change is about, nor what would hide it."""
    taken = {change.slot, *change.slots}
    unfit: set[str] = set()
    if change.base != "rows":
        unfit |= {"masked", "module loss"}
    if "std" in change.slots:
        unfit |= {"free bits", "in place kl"}
    if change.slot == "std":
        unfit |= {"sampled", "distributions"}  # a KL of the wrong scale is that of a posterior, too
    return [name for name, slots in DRESSED.items() if not taken & set(slots) and name not in unfit]


# -- forms

_HEAD = [
    "import torch",
    "import torch.nn.functional as F",
    "from torch import nn",
    "from torch.distributions import Bernoulli, Categorical, Independent, Normal, kl_divergence",
    "",
    "",
]
_ALL = "recon, x, mu, logvar, std, z"

Slots = dict[str, list[str]]


def _class(layers: list[str], forward: list[str], more: Sequence[str] = ()) -> list[str]:
    made = ["class VAE(nn.Module):", "    def __init__(self):", "        super().__init__()"]
    return [*made, *("        " + i for i in layers), "", "    def forward(self, x):", *("        " + f for f in forward), *more]


def _drawn(s: Slots) -> list[str]:
    return [*s["heads"], *s["std"], *s["eps"], *s["z"], *s["recon"]]


def _in(spaces: int, lines: list[str]) -> list[str]:
    return [" " * spaces + line for line in lines]


def _function(s: Slots, layers: list[str]) -> str:
    loss = [f"def objective({_ALL}):", *_in(4, [*s["rec"], *s["kl"], *s["total"], "return loss"])]
    return "\n".join([*_HEAD, *_class(layers, [*_drawn(s), f"return {_ALL}"]), "", "", *loss, ""])


def _helpers(s: Slots, layers: list[str]) -> str:
    parts = []
    for name, slot in (("distance", "rec"), ("divergence", "kl")):
        parts += ["", "", f"def {name}({_ALL}):", *_in(4, [*s[slot], f"return {slot}"])]
    total = [f"rec = distance({_ALL})", f"kl = divergence({_ALL})", *s["total"], "return loss"]
    return "\n".join(
        [*_HEAD, *_class(layers, [*_drawn(s), f"return {_ALL}"]), *parts, "", "", f"def objective({_ALL}):", *_in(4, total), ""]
    )


def _method(s: Slots, layers: list[str]) -> str:
    loss = ["", f"    def objective(self, {_ALL}):", *_in(8, [*s["rec"], *s["kl"], *s["total"], "return loss"])]
    return "\n".join([*_HEAD, *_class(layers, [*_drawn(s), f"return {_ALL}"], loss), ""])


def _module(s: Slots, layers: list[str]) -> str:
    loss = ["class Objective(nn.Module):", f"    def forward(self, {_ALL}):", *_in(8, [*s["rec"], *s["kl"], *s["total"], "return loss"])]
    return "\n".join([*_HEAD, *_class(layers, [*_drawn(s), f"return {_ALL}"]), "", "", *loss, ""])


def _training_step(s: Slots, layers: list[str]) -> str:
    body = ["x = batch", f"{_ALL} = self(x)", *s["rec"], *s["kl"], *s["total"], 'return {"loss": loss, "kl": kl}']
    more = ["", "    def training_step(self, batch, batch_idx):", *_in(8, body)]
    return "\n".join([*_HEAD, *_class(layers, [*_drawn(s), f"return {_ALL}"], more), ""])


def _forward(s: Slots, layers: list[str]) -> str:
    return "\n".join([*_HEAD, *_class(layers, [*_drawn(s), *s["rec"], *s["kl"], *s["total"], "return loss, recon"]), ""])


def _dict(s: Slots, layers: list[str]) -> str:
    names = _ALL.split(", ")
    out = "return {" + ", ".join(f'"{n}": {n}' for n in names) + "}"
    taken = [", ".join(names) + " = " + ", ".join(f'out["{n}"]' for n in names)]
    loss = ["def objective(out):", *_in(4, [*taken, *s["rec"], *s["kl"], *s["total"], 'return {"loss": loss, "rec": rec.detach()}'])]
    return "\n".join([*_HEAD, *_class(layers, [*_drawn(s), out]), "", "", *loss, ""])


def _loop(s: Slots, layers: list[str]) -> str:
    rows = "recon_all, x_all, mu_all, logvar_all, std_all, z_all"
    body = ["whole = 0", f"for {_ALL} in zip({rows}):", *_in(4, [*s["rec"], *s["kl"], *s["total"], "whole = whole + loss"])]
    loss = [f"def objective({rows}):", *_in(4, [*body, "return whole / len(x_all)"])]
    return "\n".join([*_HEAD, *_class(layers, [*_drawn(s), f"return {_ALL}"]), "", "", *loss, ""])


FORMS = {
    "function": _function,
    "helpers": _helpers,
    "method": _method,
    "module": _module,
    "training_step": _training_step,
    "forward": _forward,
    "dict": _dict,
    "loop": _loop,
}
_CALL = f"{_ALL} = model(x); loss = "
STEPS = {
    "function": f"{_CALL}objective({_ALL})",
    "helpers": f"{_CALL}objective({_ALL})",
    "method": f"{_CALL}model.objective({_ALL})",
    "module": f"{_CALL}Objective()({_ALL})",
    "training_step": "loss = model.training_step(x, 0)['loss']",
    "forward": "loss, recon = model(x)",
    "dict": "loss = objective(model(x))['loss']",
    "loop": f"{_CALL}objective({_ALL})",
}

DRESSED: dict[str, dict[str, str]] = {
    "plain": {},
    "in place": {"total": "loss = rec.clone()\nloss += kl"},
    "named sum": {"total": "terms = [rec, kl]\nloss = sum(terms)"},
    "masked": {"rec": "mask = torch.ones_like(x)\nrec = (((recon - x) ** 2) * mask).sum(-1).mean()"},
    "module loss": {"rec": "rec = nn.MSELoss(reduction='sum')(recon, x) / (x.numel() / x.size(-1))"},
    "free bits": {"kl": "kl = torch.clamp(0.5 * (mu ** 2 + logvar.exp() - logvar - 1), min=0.02).sum(-1).mean()"},
    "distributions": {"kl": "kl = kl_divergence(Normal(mu, std), Normal(torch.zeros_like(mu), torch.ones_like(mu))).sum(-1).mean()"},
    "in place kl": {"kl": "kl = mu.pow(2)\nkl += logvar.exp()\nkl -= logvar\nkl -= 1\nkl = 0.5 * kl.sum(-1).mean()"},
    "sampled": {"kl": "kl = (Normal(mu, std).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(-1).mean()"},
}
"""What the statements beside the changed one may look like."""
