"""The pages that follow from the code: one a rule, their index, one a law, the keys, the gallery. Written at each build.

Only the keys are kept as a file, for those who read the guides without the site; a test holds it against the code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from comparison_page import comparison_page
from gallery_page import gallery_page
from law_pages import law_pages
from survey_page import survey_pages

from vaelint import catalogue
from vaelint.config import keys
from vaelint.core.result import ADVICE
from vaelint.rule import NEEDS, Rule

ROOT = Path(__file__).parent.parent


def write(folder: Path) -> None:
    """Writes them into the folder of the sources; pages of what is gone are removed, and what is as it was is not touched."""
    pages = {f"rules/{rule.code}.md": rule_page(rule) for rule in own_rules()}
    pages |= {"rules/index.md": index(own_rules()), "keys.md": key_tables(), "gallery.md": gallery_page()}
    pages |= {"comparison.md": comparison_page()} | law_pages(own_rules()) | survey_pages()
    for room in ("rules", "laws"):
        (folder / room).mkdir(exist_ok=True)
        for old in (folder / room).glob("*.md"):
            if f"{room}/{old.name}" not in pages:
                old.unlink()
    for name, text in pages.items():
        file = folder / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def own_rules() -> list[Rule]:
    """The rules that vaelint brings, whatever other packages are installed."""
    return [r for r in catalogue.all_rules() if r.module.startswith("vaelint_rules.")]


def rule_page(rule: Rule) -> str:
    """The page that `vaelint explain` prints, what it needs, and its two fixtures."""
    family = catalogue.FAMILIES[rule.code[:4]]
    needs = "".join(f"\n- It does not apply where {NEEDS[n]}." for n in rule.needs)
    body = catalogue.explain(rule).partition("\n")[2]
    facts = f"- Severity: {rule.severity.value}. Family: [{family}](index.md#{_anchor(family)}).{needs}"
    return f"# {rule.code} {rule.name}\n\n{facts}\n\n{body.strip()}\n" + "".join(_twins(rule))


def _twins(rule: Rule) -> Iterator[str]:
    for side, title in (("bad", "A whole model with it"), ("good", "The same model without it")):
        file = ROOT / "fixtures" / rule.stem / f"{side}.py"
        if file.exists():
            text = file.read_text(encoding="utf-8").strip()
            marked = ",".join(str(n) for n, line in enumerate(text.splitlines(), 1) if "# expect:" in line or "# or:" in line)
            option = f":emphasize-lines: {marked}\n" if marked else ""
            yield f"\n## {title}\n\n```{{code-block}} python\n{option}\n{text}\n```\n"


def index(rules: Sequence[Rule]) -> str:
    """All rules by family, each with a link to its page."""
    parts = ["# Rules\n\n`vaelint rules` lists them, `vaelint explain VAE201` prints the page of one.\n"]
    for prefix, family in catalogue.FAMILIES.items():
        members = [r for r in rules if r.code.startswith(prefix)]
        rows = "".join(f"| {r.code} | {r.name} | {r.severity.value} | {_cell(r.summary)} |\n" for r in members)
        about = "" if prefix != ADVICE else "\nAdvice, off unless it is selected: `--extend-select VAE8`.\n"
        parts.append(f"\n## {family}\n{about}\n| code | name | severity | what it finds |\n|---|---|---|---|\n{rows}")
    listed = "".join(f"{r.code}\n" for r in rules)
    return "".join(parts) + f"\n```{{toctree}}\n:hidden:\n\n{listed}```\n"


def key_tables() -> str:
    """The keys of the configuration, as editors are told of them."""
    top, target = ("".join(f"| `{k.name}` | {_cell(k.about)} |\n" for k in table) for table in (keys.TOP, keys.TARGET))
    head = "\n| key | says |\n|---|---|\n"
    return f"# Keys of the configuration\n\n## At the top\n{head}{top}\n## For a target\n\nIn `[[tool.vaelint.targets]]`.\n{head}{target}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")
