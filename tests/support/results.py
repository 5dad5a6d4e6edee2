"""Results made by hand for the tests of the reports: what the three bugs of tests/data/vae_three_bugs.py come to."""

from __future__ import annotations

from pathlib import Path

from vaelint.core.finding import Certainty, Evidence, Finding, Label, Severity, ShapeRow, Span, Suggestion
from vaelint.core.result import TargetResult

FILE = "vae_three_bugs.py"
LINES = (Path(__file__).parents[1] / "data" / FILE).read_text().split("\n")


def at(text: str, occurrence: int = 0) -> Span:
    """The place of a text in the model file."""
    hits = [(n, line.index(text) + 1) for n, line in enumerate(LINES, 1) if text in line]
    line, column = hits[occurrence]
    return Span(FILE, line, column, line, column + len(text))


def shared_noise() -> Finding:
    eps = at("torch.randn(self.latent_dim, device=mu.device)")
    return Finding(
        code="VAE201",
        name="shared-noise",
        severity=Severity.ERROR,
        certainty=Certainty.CONFIRMED,
        message="one noise vector serves the whole batch",
        span=eps,
        label="eps: (L), no B",
        labels=(Label(at("torch.exp(0.5 * logvar)"), "std: (B, L)"), Label(at("eps * std"), "(L) is stretched over B here")),
        shapes=(
            ShapeRow("std", ("B", "L")),
            ShapeRow("eps", ("L",), "lacks B"),
            ShapeRow("eps * std", ("B", "L"), "a legal broadcast, so PyTorch says nothing"),
        ),
        why="z = mu + eps * std wants its own eps for each image; with a shared one the gradient stays unbiased, but its noise no longer "
        "averages out over the batch",
        help="draw eps in the shape of std",
        fix=Suggestion(FILE, eps.line, eps.line, "        eps = torch.randn_like(std)\n"),
        evidence=Evidence("distinct rows of (z - mu) / std", "1 of 8", "1 of 8", "cpu", "with the help applied, 8 of 8"),
        facts={"rows": 8, "spread": 1.2e-07},
        fingerprint="0123456789abcdef",
    )


def crossed() -> Finding:
    return Finding(
        code="VAE301",
        name="crossed-broadcast",
        severity=Severity.ERROR,
        certainty=Certainty.PROVED,
        message="each reconstruction is compared with every input of the batch",
        span=at("F.mse_loss(recon, x)"),
        label="compares B*B pairs, not B",
        labels=(
            Label(at("self.dec(z).unsqueeze(1)"), "recon: (B, 1, D) is made here"),
            Label(at("x.flatten(1)"), "x: (B, D) is made here"),
        ),
        shapes=(
            ShapeRow("recon", ("B", "1", "784")),
            ShapeRow("x", ("B", "784"), "lined up from the right: B meets 1"),
            ShapeRow("recon - x", ("B", "B", "784")),
        ),
        when="B > 1; at B = 1 both losses agree, so a one-image test cannot see it",
        notes=("mse_loss warns of it once for a line; `((recon - x) ** 2).mean()` never does",),
        help="give recon the shape of x before the loss",
    )


def refuted() -> Finding:
    return Finding(
        code="VAE701",
        name="unstable-log",
        severity=Severity.WARNING,
        certainty=Certainty.REFUTED,
        message="the logarithm of a value that can be 0",
        span=at("torch.exp(0.5 * logvar)", 1),
        evidence=Evidence("smallest argument of log", "0", "0.31", "cpu"),
    )


def result() -> TargetResult:
    """A whole result: two findings that stand, one refuted, a loss, an anatomy."""
    kl = at("-0.5 * torch.sum(1 + logvar - mu.pow(2) - torch.exp(0.5 * logvar))")
    span = {"file": FILE, "line": kl.line, "column": kl.column, "end_line": kl.end_line, "end_column": kl.end_column}
    made = TargetResult(
        target=f"{FILE}:VAE",
        rung="symbolic",
        symbols={"B": 32, "D": 784, "L": 20},
        anatomy={
            "sites": [{"mu": {"shape": ["B", "L"], "span": None, "expression": "mu"}, "parameterisation": "logvar"}],
            "recon": {"shape": ["B", "1", "D"], "span": span, "expression": "recon"},
        },
        loss={
            "terms": [
                {
                    "role": "reconstruction",
                    "kernel": "squared error",
                    "weight": "1/(B*B*D)",
                    "reduction": "mean over B, B, D",
                    "sign": "+",
                    "span": None,
                    "note": "",
                },
                {
                    "role": "kl",
                    "kernel": "Gaussian KL to N(0, I)",
                    "weight": "1",
                    "reduction": "sum",
                    "sign": "+",
                    "span": span,
                    "note": "exact",
                },
            ],
            "beta": {"expression": "B*D", "value": 25088.0, "note": "moves with the batch size"},
            "objective": "a beta-VAE with beta = B*D; read as an ELBO, the decoder's variance is B*D/2",
            "notes": [],
        },
        findings=[shared_noise(), crossed(), refuted()],
        not_applicable=[{"code": "VAE312", "reason": "no padding mask found"}],
        quiet=["VAE202", "VAE203"],
        confirm={"device": "cpu", "outcome": "ran", "reason": None},
        timing={"trace_s": 0.1},
        notes=["latent_dim=20 was taken from the constructor's default"],
    )
    made.settle()
    return made
