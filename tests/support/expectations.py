"""What a fixture expects of vaelint, read from the fixture's own comments.

The first line is the command line, without the file's name:

    # vaelint: check VAE --input 32x784 --init latent_dim=20

and each finding of severity warning or error stands on its culprit line:

    eps = torch.randn(self.latent_dim)     # expect: VAE201
    std = torch.exp(logvar)                # expect: VAE205 "variance"     the text stands in the message, a label or a note
    rec = F.mse_loss(recon, x)             # or: VAE301                    the line above or below is accepted as well
    kl = kl.mean()                         # expect: VAE402|VAE403         either code
    kl = kl.mean()                         # missed: VAE402                a known gap; the test fails once it is found

A comment alone on its line applies to the next line. Findings of severity info may be expected; nobody has to expect them.
"""

from __future__ import annotations

import argparse
import io
import re
import shlex
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vaelint.core.finding import Certainty, Finding, Severity
from vaelint.core.result import Request

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
SETS = ("systems", "seeds")  # of fixtures that are no rule's: folders of whole models
FOUND_BY_THE_PASS = (
    "vae424_latent_density_formula__prior_of_couplings",
    "vae424_latent_density_formula__shares_of_classes",
    "vae424_latent_density_formula__priors_upwards",
    "vae416_kl_weight_stuck__whole_epochs",
    "vae416_kl_weight_stuck__phase_by_its_part",
    "vae225",
    "vae228",
    "vae227",
    "vae504_optimizer_misses_parameters__replaced",
    "vae204_frozen_noise__constant",
    "vae334",
    "vae434",
    "vae435",
    "vae436",
    "vae441",
    "vae442",
    "vae444",
    "vae443",
    "vae407_kl_sign__entropy_of_classes",
    "vae407_kl_sign__classes_in_turn",
    "vae407_kl_sign__shares",
    "vae419_categorical_kl__over_latents",
    "vae419_categorical_kl__drawn_across",
    "vae419_categorical_kl__before_the_groups",
    "vae410_swapped_posterior__two_cuts",
    "vae515",
    "vae416_kl_weight_stuck__exchanged",
    "vae416_kl_weight_stuck__settings_in_a_dictionary",
    "vae416_kl_weight_stuck__never_counted",
    "vae416_kl_weight_stuck__attribute_never_counted",
    "vae416_kl_weight_stuck__curve_turned",
    "vae416_kl_weight_stuck__cut_phase",
    "vae416_kl_weight_stuck__share_of_the_whole",
    "vae208_latent_not_sampled__hard_without_noise",
    "vae407_kl_sign__classes_in_one_batch",
    "vae518_parts_start_equal",
    "vae518_parts_start_equal__seeds",
    "vae518_parts_start_equal__pseudo_inputs",
    "vae416_kl_weight_stuck__one_of_several_curves",
    "vae416_kl_weight_stuck__below_its_top",
    "vae211_posterior_not_used__classes",
    "vae211_posterior_not_used__nothing_left",
    "vae408_kl_formula__base_density_at_end",
    "vae408_kl_formula__mixture_own_density",
    "vae408_kl_formula__variance_for_scale_in_log_q",
    "vae415_beta_unused__of_all",
    "vae222",
    "vae319_softmax_of_bounded_scores__relaxed_draw",
    "vae103_batch_mixed__sorted_lengths",
    "vae114_axes_reread__patches",
    "vae505_vq_gradient__not_detached",
    "vae118",
    "vae306_wrong_target__drawn_words",
    "vae323_mask_inverted__kept_holes",
    "vae403_kl_mean_over_latent__full_warm_up",
    "vae406_kl_missing_half__full_warm_up",
    "vae228",
    "vae407_kl_sign__before_the_warm_up",
    "vae408_kl_formula__along_a_curve",
)  # laws that move a draw, or put other weights in, on the real run

_HEADER = re.compile(r"# vaelint: check (?P<words>.+)")
_MARKED = re.compile(r"#\s*(expect|or|missed)\b")
_COMMENT = re.compile(r'#\s*(?P<kind>expect|or|missed):\s*(?P<codes>VAE\d{3}(?:\|VAE\d{3})*)(?:\s+"(?P<text>[^"]+)")?')


@dataclass(frozen=True)
class Expectation:
    """One finding: any of the codes, at any of the lines (1-based; the first is where a person would edit)."""

    codes: tuple[str, ...]
    lines: tuple[int, ...]
    text: str | None = None
    missed: bool = False

    def is_met_by(self, finding: Finding) -> bool:
        """Whether this is the finding that is spoken of."""
        if finding.code not in self.codes or finding.span.line not in self.lines:
            return False
        said = "\n".join((finding.message, finding.label, *(label.text for label in finding.labels), *finding.notes))
        return self.text is None or self.text in said

    def __str__(self) -> str:
        text = f' "{self.text}"' if self.text else ""
        return f"{'|'.join(self.codes)}{text} at line {' or '.join(map(str, self.lines))}"


@dataclass(frozen=True)
class Fixture:
    """A model file with the command line and the findings that it asks for."""

    path: Path
    name: str  # of the class, function or instance
    options: tuple[str, ...]  # as typed after the target
    expectations: tuple[Expectation, ...]

    @property
    def side(self) -> str:
        """`bad` or `good` for the cases of a rule, else the folder: `systems`, `seeds`."""
        return self.path.parent.name if self.path.parent.name in SETS else self.path.stem.partition("__")[0]

    @property
    def stem(self) -> str:
        """The name that both sides of a case share, `vae201_shared_noise__expanded`; a system's or a seed's own."""
        return stem_of(self.path)

    @property
    def id(self) -> str:
        """`bad/vae201_shared_noise__expanded`."""
        return f"{self.side}/{self.stem}"

    @property
    def target(self) -> str:
        """The target as a user in the root of the repository types it."""
        return f"{self.path.relative_to(ROOT).as_posix()}:{self.name}"

    def request(self, device: str = "cpu") -> Request:
        """The command line as the worker gets it."""
        parser = argparse.ArgumentParser(exit_on_error=False)
        for option in ("--input", "--init", "--select", "--ignore"):
            parser.add_argument(option, action="append", default=[])
        for option in ("--loss", "--step"):
            parser.add_argument(option)
        parser.add_argument("--perturb", action="store_true")
        parser.add_argument("--allow-no-loss", action="store_true")
        parser.add_argument("--timeout", type=float, default=120.0)
        told = parser.parse_args(list(self.options))
        return Request(
            target=self.target,
            inputs=tuple(told.input),
            init=tuple(told.init),
            loss=told.loss,
            step=told.step,
            device=device,
            select=tuple(told.select),
            ignore=tuple(told.ignore),
            perturb=told.perturb,
            allow_no_loss=told.allow_no_loss,
            timeout=told.timeout,
            folder=str(self.path.parent.relative_to(ROOT)),  # other rules' cases are no training code of this one's
        )


@cache
def read_fixture(path: Path) -> Fixture:
    """The fixture in this file. Raises ValueError where the comments make no sense."""
    source = path.read_text(encoding="utf-8")
    header = _HEADER.fullmatch(source.split("\n", 1)[0])
    if header is None:
        raise ValueError(f"{path}:1: the first line must be `# vaelint: check NAME --input ...`")
    name, *options = shlex.split(header["words"])
    return Fixture(path, name, tuple(options), parse_expectations(source, str(path)))


def parse_expectations(source: str, where: str = "<text>") -> tuple[Expectation, ...]:
    """The expectations in the comments of a source text, in the order of their lines."""
    if not _MARKED.search(source):
        return ()
    found: list[Expectation] = []
    others: list[tuple[tuple[str, ...], int]] = []
    lines = source.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        comment = _COMMENT.match(token.string)
        if comment is None:
            if _MARKED.match(token.string):
                raise ValueError(f"{where}:{token.start[0]}: cannot read the expectation {token.string!r}")
            continue
        line = token.start[0]
        if not lines[line - 1][: token.start[1]].strip():
            line += 1  # alone on its line: it speaks of the next one
        codes = tuple(comment["codes"].split("|"))
        if comment["kind"] == "or":
            others.append((codes, line))
        else:
            found.append(Expectation(codes, (line,), comment["text"], comment["kind"] == "missed"))
    for codes, line in others:
        owners = [n for n, expectation in enumerate(found) if expectation.codes == codes]
        if len(owners) != 1:
            raise ValueError(
                f"{where}:{line}: `or: {'|'.join(codes)}` needs exactly one `expect` or `missed` of the same codes, there are {len(owners)}"
            )
        owner = found[owners[0]]
        found[owners[0]] = Expectation(owner.codes, (*owner.lines, line), owner.text, owner.missed)
    return tuple(found)


def complaints(fixture: Fixture, findings: Iterable[Finding]) -> list[str]:
    """Where findings and expectations differ, in words; empty when they agree. Refuted findings are not shown and do not count."""
    left = [f for f in findings if f.certainty is not Certainty.REFUTED]
    wrong: list[str] = []
    for expectation in fixture.expectations:
        met = next((f for f in left if expectation.is_met_by(f)), None)
        if met is not None:
            left.remove(met)
        if met is None and not expectation.missed:
            wrong.append(f"not found: {expectation}")
        if met is not None and expectation.missed:
            wrong.append(f"found at last: {expectation}; write `expect` for `missed`")
    wrong += [f"not expected: {f.code} at line {f.span.line}: {f.message}" for f in left if f.severity is not Severity.INFO]
    return wrong


def fixtures(side: str, start: str = "") -> Sequence[Fixture]:
    """All fixtures of one side (`bad`, `good`) or set (`systems`, `seeds`), by name; `start` is how the name of the case begins."""
    pattern = f"{side}/*.py" if side in SETS else f"vae*/{side}*.py"
    stems = {stem_of(path): path for path in FIXTURES.glob(pattern)}
    return [read_fixture(stems[stem]) for stem in sorted(stems) if stem.startswith(start)]


def stem_of(path: Path) -> str:
    """The stem of the fixture in a file."""
    if path.parent.name in SETS:
        return path.stem
    return "".join((path.parent.name, *path.stem.partition("__")[1:]))


def path_of(side: str, stem: str) -> Path:
    """The file of a fixture by its side and stem: `bad`, `vae201_shared_noise__expanded`."""
    if side in SETS:
        return FIXTURES / side / f"{stem}.py"
    rule, between, case = stem.partition("__")
    return FIXTURES / rule / f"{side}{between}{case}.py"


def fixture_of(stem: str, side: str = "bad") -> Fixture:
    """The fixture of this name: a system where the name is none of a rule's, else the case's bad side unless told otherwise."""
    return read_fixture(path_of("systems" if stem.startswith("ok_") else side, stem))
