"""Rules of other packages: an example that is really installed, and packages that are broken in every way."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"
VAELINT = str(Path(sys.executable).parent / "vaelint")
CHECK = ("check", "model.py:VAE(latent_dim=784)", "--input", "32x784", "--device", "none")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package, installed by pip as a user would, without the index."""
    folder = tmp_path_factory.mktemp("acme")
    shutil.copytree(DATA / "acme_rules", folder / "source", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", folder / "site", folder / "source"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(DATA / "mlp_vae.py", tmp_path / "model.py")
    return tmp_path


def vaelint(site: Path, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([VAELINT, *args], cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def test_a_rule_of_another_package_is_a_rule(site: Path, project: Path) -> None:
    listed = vaelint(site, project, "rules").stdout
    assert listed.endswith(
        "from other packages\n  ACM101  wide-latent                  warning  The latent has as many numbers as the data.\n"
    )
    page = vaelint(site, project, "explain", "wide-latent").stdout
    assert page.startswith("# ACM101 wide-latent (warning)\n\nThe latent has as many numbers as the data.\n\n## What it does\n")
    urls = {r["code"]: r["url"] for r in json.loads(vaelint(site, project, "rules", "--output-format", "json").stdout)}
    assert (urls["ACM101"], urls["VAE201"]) == ("https://acme.example/vae/ACM101", "https://vaelint.invalid/rules/VAE201.html")
    done = vaelint(site, project, *CHECK, "--output-format", "json", "--output-format", "concise:out")
    (found,) = json.loads(done.stdout)["targets"][0]["findings"]
    assert (done.returncode, found["code"], found["span"]["line"]) == (1, "ACM101", 20)
    assert found["url"] == "https://acme.example/vae/ACM101"
    assert (project / "out").read_text() == "model.py:20:16: ACM101 the latent is no smaller than the data\n"
    small = vaelint(site, project, "check", "model.py:VAE", *CHECK[2:], "--output-format", "json")
    assert (small.returncode, "ACM101" in json.loads(small.stdout)["targets"][0]["quiet"]) == (0, True)


def test_the_configuration_knows_it(site: Path, project: Path) -> None:
    (project / "vaelint.toml").write_text('select = ["ACM"]\nseverity = { wide-latent = "error" }\n')
    done = vaelint(site, project, *CHECK, "--output-format", "full")
    assert "error[ACM101] wide-latent: the latent is no smaller than the data" in done.stdout
    assert "0 rules quiet" in done.stdout
    source = (project / "model.py").read_text()
    (project / "model.py").write_text(
        source.replace("return mu + eps * std", "return mu + eps * std  # vaelint: ignore[wide-latent] a study")
    )
    assert vaelint(site, project, *CHECK).returncode == 0
    (project / "vaelint.toml").write_text('select = ["ACN1"]\n')
    wrong = vaelint(site, project, *CHECK)
    assert (wrong.returncode, "no rule is selected by 'ACN1'" in wrong.stderr) == (2, True)


HEAD = "from vaelint.rule import Findings, Found, Model, Severity, rule\n\n\n"


def declared(*, code: str = "ACM101", name: str = "wide", more: str = "", check: str = "def check(model):\n    yield from ()\n") -> str:
    return f'{HEAD}@rule("{code}", "{name}", Severity.ERROR, message="m"{more})\n{check}'


def read(on: str = ".on('schedule.weights.stuck_weights')", check: str = "def check(model, stuck):\n    yield\n") -> str:
    return declared(check=check).replace('message="m")', f'message="m"){on}')


ALONE = "\n\ndef alone():\n    return 1\n"

BROKEN = {
    "import error": (
        "import no_such_package_of_acme\n",
        "cannot be loaded: ModuleNotFoundError: No module named 'no_such_package_of_acme'",
    ),
    "syntax": ("def broken(:\n", "cannot be loaded: SyntaxError: invalid syntax"),
    "exit": ("import sys\nsys.exit()\n", "cannot be loaded: SystemExit: without a word"),
    "raises at length": ("raise ValueError('one\\ntwo')\n", "cannot be loaded: ValueError: one"),
    "known code": (declared(code="ACM101") + "\n\n" + declared(code="ACM101", name="other")[len(HEAD) :], "ACM101 is declared twice"),
    "code of ours": (declared(code="VAE201"), "VAE201 is declared twice: in vaelint_rules.vae201_shared_noise and in broken_rules.rule"),
    "code like ours": (declared(code="VAE999"), "VAE999: codes that begin with VAE are vaelint's own"),
    "name of ours": (declared(name="shared-noise"), "'shared-noise' is declared twice"),
    "no code": (declared(code="wide"), "the code 'wide' must be two to four capitals and three digits"),
    "name in capitals": (declared(name="Wide Latent"), "the name 'Wide Latent' must be words in small letters"),
    "two arguments": (declared(check="def check(model, config):\n    yield\n"), "must take the model and nothing else"),
    "no argument": (declared(check="def check():\n    yield\n"), "the check of ACM101 must take the model and nothing else"),
    "unknown need": (declared(more=', needs=("sites",)'), "needs of ACM101 must be a tuple with any of site, draw, "),
    "one need": (declared(more=', needs="site"'), "needs of ACM101 must be a tuple"),
    "unknown fact": (read(".on('kl.missing.some')"), "there is no fact 'kl.missing.some' for ACM101: no function 'some' at the top"),
    "fact of no file": (read(".on('acme.blur:blurred')"), "no function 'blurred' at the top of the module 'acme.blur'"),
    "fact without a model": (
        read(".on('broken_rules.rule:alone')") + ALONE,
        "'broken_rules.rule:alone' of ACM101 must take the model",
    ),
    "fact without a parameter": (read(check="def check(model):\n    yield\n"), "def check(model: Model, stuck_weights) -> Findings"),
    "parameter without a fact": (read(check="def check(model, a, b):\n    yield\n"), "must take the model and one argument for each fact"),
    "no address": (declared(more=', url="acme"'), "the url of ACM101 must be an address, not 'acme'"),
    "old keyword": (declared(more=", level=3"), "cannot be loaded: TypeError: rule() got an unexpected keyword argument 'level'"),
    "nothing": ("x = 1\n", "declares no rule"),
}


LOAD_EACH = """
import json, os, sys
from vaelint.core.errors import UsageError
from vaelint.rule_packages import load_rules
for site in sys.argv[1:]:
    if os.fork() == 0:
        sys.path.insert(0, site)
        try:
            load_rules()
            print(json.dumps(["", ""]), flush=True)
        except UsageError as e:
            print(json.dumps([e.message, e.help]), flush=True)
        os._exit(0)
    os.wait()
"""


def test_a_broken_package_is_one_message_that_names_it(tmp_path: Path) -> None:
    sites = [tmp_path / str(i) for i in range(len(BROKEN))]
    for site, (source, _) in zip(sites, BROKEN.values(), strict=True):
        broken_site(site, source)
    done = subprocess.run([sys.executable, "-c", LOAD_EACH, *sites], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    for (kind, (_, words)), line in zip(BROKEN.items(), done.stdout.splitlines(), strict=True):
        said, help = json.loads(line)
        assert said.startswith("rule package 'broken_rules'"), kind
        assert words in said and "\n" not in said, kind
        assert help == "fix it, or uninstall it: pip uninstall broken-rules"


def broken_site(folder: Path, source: str, value: str = "broken_rules") -> None:
    """A package as pip leaves it behind."""
    (folder / "broken_rules").mkdir(parents=True)
    (folder / "broken_rules" / "__init__.py").write_text("")
    (folder / "broken_rules" / "rule.py").write_text(source)
    info = folder / "broken_rules-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-rules\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[vaelint.rules]\nbroken = {value}\n")


def test_a_broken_package_stops_a_check_before_the_target_runs(project: Path) -> None:
    broken_site(project, "raise ImportError('no')\n")
    done = vaelint(project, project, *CHECK)
    assert (done.returncode, done.stdout) == (2, "")
    assert "rule package 'broken_rules' cannot be loaded: ImportError: no" in done.stderr
    assert done.stderr.count("\n") == 2


def test_a_rule_that_fails_or_asks_for_what_is_not_there_costs_no_other_finding(project: Path) -> None:
    odd = declared(check="def check(model):\n    raise KeyError('x')\n")
    odd += '\n\n@rule("ACM102", "claims", Severity.INFO, message="m")\ndef claims(model):\n'
    odd += "    yield Found(None, claim=Claim('p'), repair=Repair())\n"
    broken_site(project, "print('hello')\n" + odd.replace("import Findings", "import Claim, Repair, Findings"))
    text = (project / "model.py").read_text()
    (project / "model.py").write_text(text.replace("torch.randn_like(std)", "torch.randn(std.shape[1])"))
    done = vaelint(project, project, "check", "model.py:VAE", "--input", "32x784", "--device", "cpu", "--output-format", "json", "--diff")
    (target,) = json.loads(done.stdout)["targets"]
    assert (done.returncode, target["status"]) == (2, "incomplete")
    assert {"VAE201", "ACM102"} <= {f["code"] for f in target["findings"]}
    assert [(row["code"], row["reason"]) for row in target["incomplete"]] == [("ACM101", "KeyError: 'x'")]
    assert re.search(r"no experiment of that name", done.stdout)


CLAIMING = """
from dataclasses import dataclass
from typing import Any

from vaelint.rule import Findings, Found, Model, Severity, claims, rule


@dataclass(frozen=True)
class Spread(claims.Claim):
    node: Any
    least: float


@rule("ACM101", "spread", Severity.WARNING, message="z is spread").on("theirs:drawn")
def check(model: Model, drawn: Any) -> Findings:
    for node, least in zip(drawn, (0.01, 1e6)):
        yield Found(model.where(node), claim=Spread("z has a spread", node=node, least=least))
    yield Found(None, claim=claims.ValueRange("z leaves [0, 1]", node=drawn[0], outside=(0.0, 1.0)))
"""
MEASURING = """
from broken_rules.rule import Spread

from vaelint.experiment.verdict import Verdict, experiment


def drawn(model):
    site = model.gaussian_sites[0]
    return [site.z, site.mu]


@experiment(Spread, "the standard deviation of a value", "exact")
def spread(trial, claim):
    found = float(trial.value(claim.node).std())
    return Verdict(found > claim.least, f"{found:.3g}")
"""


def test_a_rule_of_another_package_claims_with_types_of_vaelint_and_of_its_own(project: Path) -> None:
    broken_site(project, CLAIMING)
    (project / "theirs.py").write_text(MEASURING)
    told = ("--device", "cpu", "--select", "ACM101", "--output-format", "json", "--show-refuted")
    done = vaelint(project, project, "check", "model.py:VAE", "--input", "32x784:float32[0,1]", *told)
    (target,) = json.loads(done.stdout)["targets"]
    said = {f["evidence"]["claim"] + ", " + f["certainty"] for f in target["findings"]}
    assert said == {
        "the standard deviation of a value, confirmed",
        "the standard deviation of a value, refuted",
        "the smallest and the largest value, confirmed",
    }, done.stderr
    assert done.returncode == 1
