"""Model files for the laws: one correct objective in many spellings, and one change at a time. Plain text, nothing is run here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

MARK = "  # changed"

NAMES: tuple[Mapping[str, str], ...] = (
    {},
    {
        "x": "data",
        "mu": "mean",
        "std": "sigma",
        "eps": "noise",
        "z": "latent",
        "recon": "x_hat",
        "rec": "nll",
        "kl": "kld",
        "loss": "total",
    },
    {"x": "v", "mu": "a", "head": "b", "std": "c", "eps": "e", "z": "w", "recon": "y", "rec": "first", "kl": "second", "loss": "third"},
)
"""Other names for the variables; those left out keep their own."""

STD: dict[str, tuple[str, ...]] = {
    "logvar": ("torch.exp(0.5 * {h})", "torch.exp({h} / 2)", "({h} * 0.5).exp()", "{h}.mul(0.5).exp()", "torch.sqrt(torch.exp({h}))", "{h}.exp().sqrt()", "torch.exp({h}) ** 0.5"),
    "log_std": ("torch.exp({h})", "{h}.exp()"),
    "softplus": ("F.softplus({h})", "F.softplus({h}) + 1e-4", "nn.functional.softplus({h})"),
}  # fmt: skip
"""The standard deviation from the head, by what the head is."""

EPS = (
    "torch.randn_like({s})",
    "torch.randn({s}.shape, device={s}.device)",
    "torch.randn({m}.size(0), {m}.size(1), device={m}.device)",
    "torch.empty_like({m}).normal_()",
)
Z = ("{m} + {s} * {e}", "{e} * {s} + {m}", "{e}.mul({s}).add_({m})", "torch.addcmul({m}, {s}, {e})", "{m}.add({s} * {e})")
SQUARE = ("{v}.pow(2)", "{v} ** 2", "{v}.square()", "{v} * {v}", "torch.pow({v}, 2)", "torch.square({v})")

VAR = {
    "logvar": ("{h}.exp()", "torch.exp({h})"),
    "log_std": ("torch.exp(2 * {h})", "(2 * {h}).exp()", "{h}.exp() ** 2", "{h}.exp().square()"),
    "softplus": ("{s} ** 2", "{s}.pow(2)", "{s} * {s}"),
}
LOGVAR = {
    "logvar": ("{h}",),
    "log_std": ("2 * {h}", "{h} * 2"),
    "softplus": ("2 * {s}.log()", "torch.log({s} ** 2)", "{s}.pow(2).log()"),
}

TOTALS = (
    "{rec} + {kl}", "{kl} + {rec}", "-(-{rec} - {kl})", "torch.add({rec}, {kl})", "sum(({rec}, {kl}))", "torch.stack([{rec}, {kl}]).sum()",
    "{rec}.clone().add_({kl})", "{rec} - (-{kl})",
)  # fmt: skip
"""The sum of both terms."""

TO_SCALAR = {
    "sum": ("({e}).sum()", "torch.sum({e})", "({e}).sum(1).sum()", "({e}).sum(dim=-1).sum(0)", "torch.einsum('ij->', {e})"),
    "mean": (
        "({e}).sum(1).mean()", "torch.mean(torch.sum({e}, dim=1))", "({e}).sum() / {x}.size(0)", "torch.sum({e}) / len({x})", "({e}).sum(-1).sum() / {x}.shape[0]",
        "torch.einsum('ij->i', {e}).mean()", "torch.mean(torch.sum({e}, dim=-1), dim=0)", "({e}).mean(0).sum()", "({e}).sum().div({x}.shape[0])",
    ),
    "sample": ("({e}).sum(1)", "torch.sum({e}, dim=-1)", "torch.einsum('ij->i', {e})", "({e}).flatten(1).sum(1)"),
}  # fmt: skip
"""From one number per element to the loss: summed, averaged over the batch, or kept per sample."""

SQUARED = (
    "({r} - {x}) ** 2",
    "({x} - {r}).pow(2)",
    "F.mse_loss({r}, {x}, reduction='none')",
    "torch.square({r} - {x})",
    "({r} - {x}).abs().square()",
)
WHOLE: dict[str, dict[str, tuple[str, ...]]] = {
    "mse": {
        "sum": ("F.mse_loss({r}, {x}, reduction='sum')", "nn.MSELoss(reduction='sum')({r}, {x})", "F.mse_loss({r}, {x}) * {x}.numel()"),
        "mean": ("F.mse_loss({r}, {x}, reduction='sum') / {x}.size(0)", "F.mse_loss({r}, {x}) * {x}.size(1)"),
    },
    "bce": {
        "sum": ("F.binary_cross_entropy({r}, {x}, reduction='sum')", "nn.BCELoss(reduction='sum')({r}, {x})"),
        "mean": ("F.binary_cross_entropy({r}, {x}, reduction='sum') / {x}.size(0)", "F.binary_cross_entropy({r}, {x}) * {x}.size(1)"),
    },
    "logits": {
        "sum": ("F.binary_cross_entropy_with_logits({r}, {x}, reduction='sum')", "nn.BCEWithLogitsLoss(reduction='sum')({r}, {x})"),
        "mean": ("F.binary_cross_entropy_with_logits({r}, {x}, reduction='sum') / {x}.size(0)",),
    },
}
EACH: dict[str, tuple[str, ...]] = {
    "mse": SQUARED,
    "bce": ("F.binary_cross_entropy({r}, {x}, reduction='none')",),
    "logits": ("F.binary_cross_entropy_with_logits({r}, {x}, reduction='none')", "F.softplus({r}) - {x} * {r}", "-torch.distributions.Bernoulli(logits={r}).log_prob({x})"),
}  # fmt: skip
KERNELS = {"mse": "squared error", "bce": "Bernoulli on probabilities", "logits": "Bernoulli on logits"}


@dataclass(frozen=True)
class Objective:
    """One spelling of a VAE and its loss. Numbers pick a spelling from the lists above (modulo their length)."""

    batch: int
    data: int
    latent: int
    parameterisation: str  # logvar | log_std | softplus
    likelihood: str  # mse | bce | logits
    reduction: str  # sum | mean | sample (averaged after both terms are added)
    kl: str  # manual | halves | normal | independent
    names: Mapping[str, str]
    order: int = 0
    picks: tuple[int, ...] = (0,) * 12
    rsample: bool = False
    one_layer: bool = True  # mean and scale from one layer, split
    helpers: bool = False  # the terms in functions of their own
    loop: bool = False  # a loop over the samples
    method: bool = False  # the loss is a method
    change: str = ""  # what is wrong

    def name(self, canonical: str) -> str:
        """What a variable is called here."""
        return self.names.get(canonical, self.scale_name if canonical == "head" else canonical)

    @property
    def scale_name(self) -> str:
        """The scale as it is handed to the loss."""
        return {"logvar": "logvar", "log_std": "log_std", "softplus": "std"}[self.parameterisation]

    def pick(self, place: int, options: tuple[str, ...]) -> str:
        """One of the options."""
        return options[self.picks[place] % len(options)]

    # -- the file

    def source(self) -> str:
        """The file's text; the changed line ends in MARK."""
        head = [
            "import torch",
            "import torch.nn.functional as F",
            "from torch import nn",
            "from torch.distributions import Independent, Normal, kl_divergence",
            "",
            "",
        ]
        loss = self._loss()
        if self.method:
            body = ["    @staticmethod", *("    " + line if line else line for line in loss)]
            return "\n".join([*head, *self._helpers(), *self._model(), "", *body, ""])
        return "\n".join([*head, *self._model(), "", "", *self._helpers(), *loss, ""])

    @property
    def step(self) -> str:
        """The step that runs it."""
        return f"recon, mu, s = model(x); loss = {'model.' if self.method else ''}objective(recon, x, mu, s)"

    def _changed(self, line: str, change: str) -> str:
        return line + MARK if self.change == change else line

    def _model(self) -> list[str]:
        n = self.name
        x, h, mu, std, eps, z, recon = (n(v) for v in ("x", "h", "mu", "std", "eps", "z", "recon"))
        s = n("head") if self.parameterisation != "softplus" else "raw"
        width = 2 * self.latent if self.one_layer else self.latent
        squash = ", nn.Sigmoid()" if self.likelihood == "bce" else ""
        lines = [
            "class VAE(nn.Module):",
            "    def __init__(self):",
            "        super().__init__()",
            f"        self.enc = nn.Sequential(nn.Linear({self.data}, 17), nn.Tanh())",
            f"        self.heads = nn.Linear(17, {width})",
            *([] if self.one_layer else [f"        self.other = nn.Linear(17, {width})"]),
            f"        self.dec = nn.Sequential(nn.Linear({self.latent}, 17), nn.ReLU(), nn.Linear(17, {self.data}){squash})",
            "",
            f"    def forward(self, {x}):",
            f"        {h} = self.enc({x})",
            f"        {mu}, {s} = " + (f"self.heads({h}).chunk(2, dim=-1)" if self.one_layer else f"self.heads({h}), self.other({h})"),
        ]
        written = self.pick(0, STD[self.parameterisation]).format(h=s)
        if self.change == "variance as std":
            written = f"torch.exp({s})"
        lines.append(self._changed(f"        {std} = {written}", "variance as std"))
        if self.rsample:
            lines.append(f"        {z} = Normal({mu}, {std}).rsample()")
        else:
            lines += self._draw(mu, std, eps, z)
        fed = mu if self.change == "mean decoded" else z
        lines.append(self._changed(f"        {recon} = self.dec({fed})", "mean decoded"))
        if self.change == "sigmoid twice":
            lines[-1] = f"        {recon} = self.dec({fed})"
            lines.append(f"        {recon} = torch.sigmoid({recon}){MARK}")
        out = std if self.parameterisation == "softplus" else s
        lines.append(f"        return {recon}, {mu}, {out}")
        return lines

    def _draw(self, mu: str, std: str, eps: str, z: str) -> list[str]:
        draw = self.pick(1, EPS).format(s=std, m=mu)
        draw = {"uniform noise": f"torch.rand_like({std})", "shared noise": f"torch.randn({std}.size(1), device={std}.device)"}.get(
            self.change, draw
        )
        place = self.change if self.change in ("uniform noise", "shared noise") else "-"
        m, s = (f"{mu}.detach()", f"{std}.detach()") if self.change == "detached draw" else (mu, std)
        made = self.pick(2, Z).format(m=m, s=s, e=eps)
        if self.change == "detached draw":
            made = f"{m} + {s} * {eps}"
        if self.change == "shared noise":
            made = f"{m} + {s} * {eps}"
        return [self._changed(f"        {eps} = {draw}", place), self._changed(f"        {z} = {made}", "detached draw")]

    # -- the loss

    def _terms(self) -> tuple[str, str]:
        """Element-wise KL, or the KL of each sample, as an expression; the second value says which: "each" or "sample"."""
        m, h = self.name("mu"), self.name("head")
        s = h if self.parameterisation == "softplus" else self.pick(0, STD[self.parameterisation]).format(h=h)
        if self.kl in ("normal", "independent"):
            q, p = f"Normal({m}, {s})", f"Normal(torch.zeros_like({m}), torch.ones_like({m}))"
            if self.kl == "independent":
                q, p = f"Independent({q}, 1)", f"Independent({p}, 1)"
            if self.change == "reversed":
                q, p = p, q
            return f"kl_divergence({q}, {p})", "sample" if self.kl == "independent" else "each"
        square = self.pick(3, SQUARE).format(v=m)
        if self.change == "read as logvar":
            var, logvar = f"{h}.exp()", h
        else:
            var = self.pick(4, VAR[self.parameterisation]).format(h=h, s=h)
            logvar = self.pick(5, LOGVAR[self.parameterisation]).format(h=h, s=h)
        flip = self.change == "sign of the formula"
        drop = self.change == "dropped half"
        if self.kl == "halves":
            parts = [
                ("+", f"0.5 * {square}"),
                ("+", f"{var} / 2"),
                ("-", "0.5"),
                ("-", f"0.5 * {logvar}" if self.parameterisation != "log_std" else h),
            ]
            return _signed(self._ordered(parts), negative=False), "each"
        parts = [("+", square), ("+", var), ("-", "1"), ("-", logvar)]
        inner = _signed(self._ordered(parts), negative=self.picks[6] % 2 == 1)
        positive = (self.picks[6] % 2 == 0) != flip
        outer: tuple[str, ...]
        if drop:
            outer = ("({e})",) if positive else ("-({e})",)
        else:
            outer = (
                ("0.5 * ({e})", "({e}) / 2", "({e}) * 0.5", "({e}).mul(0.5)")
                if positive
                else ("-0.5 * ({e})", "({e}) / -2", "-({e}) / 2", "({e}) * -0.5")
            )
        return self.pick(7, outer).format(e=inner), "each"

    def _ordered(self, parts: list[tuple[str, str]]) -> list[tuple[str, str]]:
        orders = list(permutations(range(len(parts))))
        return [parts[i] for i in orders[self.order % len(orders)]]

    def _reduced(self, place: int, each: str, kind: str, reduction: str) -> str:
        x = self.name("x")
        if kind == "each":
            return self.pick(place, TO_SCALAR[reduction]).format(e=each, x=x)
        return {"sum": f"{each}.sum()", "mean": f"{each}.mean()", "sample": each}[reduction]

    def _kl(self) -> str:
        each, kind = self._terms()
        x = self.name("x")
        if self.change == "mean over the latent":
            return {"sum": f"({each}).mean(1).sum()", "mean": f"({each}).mean()", "sample": f"({each}).mean(1)"}[self.reduction]
        if self.change == "summed over the batch":
            return f"({each}).sum(0).mean()"
        if self.change == "batch sum":
            return f"({each}).sum()"
        if self.change == "batch mean":
            return f"({each}).sum(1).mean()"
        if self.change == "free bits upside down":
            return f"torch.min({each}, torch.full_like({self.name('mu')}, 0.1)).sum() / {x}.size(0)"
        if self.change == "free bits":
            return f"torch.max({each}, torch.full_like({self.name('mu')}, 0.1)).sum() / {x}.size(0)"
        made = self._reduced(8, each, kind, self.reduction)
        return f"({made}).item()" if self.change == "item" else made

    def _rec(self) -> str:
        r, x = self.name("recon"), self.name("x")
        r = f"{r}.unsqueeze(1)" if self.change == "crossed" else r
        if self.change == "mean reconstruction":
            return f"F.mse_loss({r}, {x})"
        whole = WHOLE[self.likelihood].get(self.reduction, ())
        each = tuple(self._reduced(9, e.format(r=r, x=x), "each", self.reduction) for e in EACH[self.likelihood])
        if self.change == "crossed":
            return f"(({r} - {x}) ** 2).sum() / {x}.size(0)" if self.reduction != "sum" else f"(({r} - {x}) ** 2).sum()"
        return self.pick(10, tuple(w.format(r=r, x=x) for w in whole) + each)

    def _helpers(self) -> list[str]:
        if not self.helpers or self.loop:
            return []
        n = self.name
        return [
            f"def divergence({n('x')}, {n('mu')}, {n('head')}):",
            self._changed(f"    return {self._kl()}", self.change if self.change in IN_KL else "-"),
            "",
            "",
            f"def distance({n('recon')}, {n('x')}):",
            self._changed(f"    return {self._rec()}", self.change if self.change in IN_RECON else "-"),
            "",
            "",
        ]

    def _loss(self) -> list[str]:
        n = self.name
        r, x, m, h, rec, kl, loss = n("recon"), n("x"), n("mu"), n("head"), n("rec"), n("kl"), n("loss")
        lines = [f"def objective({r}, {x}, {m}, {h}):"]
        if self.loop:
            return [*lines, *self._looped()]
        in_rec, in_kl = self.change if self.change in IN_RECON else "-", self.change if self.change in IN_KL else "-"
        if self.helpers:
            given = f"{h}, {m}" if self.change == "swapped" else f"{m}, {h}"
            lines.append(f"    {rec} = distance({r}, {x})")
            lines.append(self._changed(f"    {kl} = divergence({x}, {given})", "swapped"))
        else:
            lines.append(self._changed(f"    {rec} = {self._rec()}", in_rec))
            lines.append(self._changed(f"    {kl} = {self._kl()}", in_kl))
        totals: tuple[str, ...] = TOTALS if self.reduction != "sample" else TOTALS[:5]
        if self.change == "sign of the formula":
            totals = TOTALS[:2]  # of two signs that should differ, nobody knows which is meant
        total = self.pick(11, totals).format(rec=rec, kl=kl)
        if self.change == "subtracted":
            total = f"{rec} - {kl}"
        if self.change == "item":
            total = f"{rec} + {kl}"
        lines.append(self._changed(f"    {loss} = {total}", "subtracted"))
        lines.append(f"    return {loss}.mean()" if self.reduction == "sample" else f"    return {loss}")
        return lines

    def _looped(self) -> list[str]:
        n = self.name
        r, x, m, h, rec, kl, loss = n("recon"), n("x"), n("mu"), n("head"), n("rec"), n("kl"), n("loss")
        rows = [f"    {loss} = 0", f"    for {r}_i, {x}_i, {m}_i, {h}_i in zip({r}, {x}, {m}, {h}):"]
        row = {r: f"{r}_i", x: f"{x}_i", m: f"{m}_i", h: f"{h}_i"}
        inner = Objective(
            **{**self.__dict__, "loop": False, "names": {**self.names, **{c: row[n(c)] for c in ("recon", "x", "mu", "head")}}}
        )
        each, kind = inner._terms()
        one = self.pick(10, EACH[self.likelihood]).format(r=f"{r}_i", x=f"{x}_i")
        rows.append(f"        {rec} = ({one}).sum()")
        rows.append(
            self._changed(
                f"        {kl} = ({each}).sum()" if kind == "each" else f"        {kl} = {each}",
                self.change if self.change in IN_KL else "-",
            )
        )
        rows.append(f"        {loss} = {loss} + {rec} + {kl}")
        rows.append(f"    return {loss}" if self.reduction == "sum" else f"    return {loss} / {x}.size(0)")
        return rows

    @property
    def changed_line(self) -> int:
        """The 1-based number of the changed line."""
        return next(i for i, line in enumerate(self.source().split("\n"), 1) if line.endswith(MARK))


def _signed(parts: list[tuple[str, str]], *, negative: bool) -> str:
    """`a + b - c`, every sign turned if `negative`."""
    text = ""
    for sign, part in parts:
        shown = sign if not negative else {"+": "-", "-": "+"}[sign]
        text += (f" {shown} " if text else ("-" if shown == "-" else "")) + (f"({part})" if "+" in part or " - " in part else part)
    return text


IN_KL = frozenset({
    "dropped half", "sign of the formula", "read as logvar", "mean over the latent", "summed over the batch", "batch sum", "batch mean", "free bits upside down", "item",
    "reversed",
})  # fmt: skip
IN_RECON = frozenset({"mean reconstruction", "crossed"})


def settle(folder: str) -> None:
    """Makes a fresh process ready to check files of one folder; the tensors are tiny, so on one thread."""
    import torch

    os.chdir(folder)
    torch.set_num_threads(1)


def verdict(request: dict[str, Any]) -> dict[str, Any]:
    """A check in this process, as JSON values both ways."""
    from vaelint.core.result import Request
    from vaelint.pipeline.check import check_target

    return check_target(Request.from_json(request), lambda message: None).to_json()
