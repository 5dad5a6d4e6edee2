"""What the full report says of a target after its findings: the loss in a table, and what was checked and what was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vaelint.core.finding import Certainty, Severity
from vaelint.core.result import TargetResult
from vaelint.report.parts.places import place_in, with_cells
from vaelint.report.parts.text import Line, cells, clean, hanging, table
from vaelint.report.parts.view import View

SETUP = "VAE0"  # codes about the check itself

_LEFT_OUT = ("--device none", 'device="none"')
"""Why there was no real pass where the user left it out, in the words of the command line and in Python's."""

_RUNGS = {
    "symbolic": "traced with symbolic sizes",
    "concrete": "traced at several concrete sizes",
    "real": "traced on real tensors at several sizes",
}


def loss_block(result: TargetResult, width: int) -> list[Line]:
    """One row per term, then the effective beta and the objective. Empty if no loss is known."""
    loss = result.loss
    terms: list[dict[str, Any]] = loss.get("terms") or []
    lines: list[Line] = []
    if terms:
        rows = [["term", "kernel", "reduced by", "weight", "at"]]
        for t in terms:
            told = str(t.get("weight") or "?")
            weight = told if told.startswith("?") else f"{t.get('sign') or '+'} {told}"
            rows.append(
                [
                    term_name(t),
                    str(t.get("kernel") or "?"),
                    _grouped(str(t.get("reduction") or "-")),
                    weight,
                    place_in(t.get("span")),
                ]
            )
        head, *body = table(rows)
        if max(map(cells, [head, *body])) + 4 > width:  # no room for columns: one sentence a term
            head, body = "", [_sentence(*row) for row in rows[1:]]
        lines += [[(f"    {head}", "dim")]] if head else []
        for text, term in zip(body, terms, strict=True):
            lead, text = ("    ", text) if head else (f"    {term_name(term)}: ", text)
            lines += hanging([(lead, "")], text, width)
            if term.get("note"):
                lines += hanging([("      ", "")], str(term["note"]), width, "dim")
    beta = loss.get("beta")
    if beta:
        value = beta.get("value")
        number = f" = {_number(value)}" if value is not None and str(beta.get("expression")) != _number(value) else ""
        remark = f" ({beta['note']})" if beta.get("note") else ""
        lines += hanging([("    ", ""), ("effective beta: ", "key")], f"{beta.get('expression')}{number}{remark}", width)
    if loss.get("objective"):
        lines += hanging([("    ", ""), ("objective: ", "key")], str(loss["objective"]), width)
    for note in loss.get("notes") or []:
        lines += hanging([("    ", ""), ("note: ", "key")], str(note), width)
    return [[("loss of ", "head"), (clean(result.target), "head")], *lines] if lines else []


def term_name(term: Mapping[str, Any]) -> str:
    """`kl`, and the name under which the training logs it: `kl (train/kld)`."""
    role = str(term.get("role") or "?")
    return f"{role} ({clean(str(term['logged']))})" if term.get("logged") not in (None, "", role) else role


def _grouped(reduction: str) -> str:
    """`mean over B, sum over H, W` of `mean over B, sum over H, sum over W`."""
    words: dict[str, list[str]] = {}
    for part in reduction.split(", "):
        how, _, size = part.rpartition(" ")
        words.setdefault(how, []).append(size)
    return ", ".join(f"{how} {', '.join(sizes)}".strip() for how, sizes in words.items())


def _sentence(_: str, kernel: str, reduction: str, weight: str, place: str) -> str:
    """A row of the table without its role, in words."""
    parts = (kernel, reduction if reduction != "-" else "", f"weight {weight}" if weight != "?" else "weight not known", place)
    return "; ".join(part for part in parts if part)


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.6g}"


def _not_applicable(result: TargetResult) -> list[str]:
    """Each reason why rules do not apply, with the rules."""
    rows = result.not_applicable
    reasons = dict.fromkeys(row["reason"] for row in rows)
    return [f"{reason}: {', '.join(row['code'] for row in rows if row['reason'] == reason)}" for reason in reasons]


def summary(result: TargetResult, view: View) -> list[Line]:
    """One line of counts; then sizes, the real pass, what did not apply, and notes."""
    output, width, (more, refuted) = view.output.get(id(result), ""), view.width, view.hints
    said, rules = verdict_words(result), _rules(result, "" if view.verbose else f" ({more}: why)")
    head: Line = [(f"{clean(result.target)}: ", "head"), (said, _style(result))]
    lines: list[Line] = [[*head, (f"; {rules}" if rules else "", "")]]
    if sum(cells(t) for t, _ in lines[0]) > width:
        lines = hanging(head[:1], said, width, _style(result))
        lines += hanging([("  ", "")], rules, width) if rules else []
    if result.rung:
        sizes = ", ".join(f"{k}={v}" for k, v in result.symbols.items())
        lines += hanging([("  ", "")], _RUNGS[result.rung] + (f"; {sizes}" if sizes else ""), width)
    if lossless(result):
        lines += hanging([("  ", "")], seen_words(result), width)
    lines += hanging([("  ", "")], ran_words(result), width)
    for gap, help in result.gaps():
        lines += hanging([("  incomplete: ", "error")], gap, width)
        lines += hanging([("  help: ", "help")], help, width) if help else []
    hidden = [f for f in result.findings if f.certainty is Certainty.REFUTED]
    if hidden and not view.show_refuted:
        codes, count = ", ".join(sorted({f.code for f in hidden})), len(hidden)
        text = f"{count} finding{'s' * (count != 1)} refuted by the real pass and not shown: {codes} ({refuted})"
        lines += hanging([("  ", "")], text, width)
    for note in result.notes:
        lines += hanging([("  note: ", "key")], with_cells(note), width)
    printed = output.strip("\n")
    if view.verbose:
        for fit in result.fits:
            lines += hanging([("  fits: ", "key")], str(fit["text"]), width)
        for text in _not_applicable(result):
            lines += hanging([("  not applicable: ", "key")], text, width)
        if result.quiet:
            lines += hanging([("  quiet: ", "key")], ", ".join(result.quiet), width)
        for chosen in result.assumptions:
            lines += hanging([("  chosen by vaelint: ", "key")], f"{chosen.text()}: {chosen.why}", width)
        for row in result.exempt:
            where = f" at {row['file']}:{row['line']}" if row["line"] else ""
            lines += hanging([("  exempt: ", "key")], f"{row['code']}{where}: {row['exemption']}", width)
        if result.timing:
            times = ", ".join(f"{k.removesuffix('_s')} {v:.2f} s" for k, v in result.timing.items())
            lines += hanging([("  time: ", "key")], times, width)
        if printed:
            lines.append([("  printed by the code:", "key")])
            lines += [[("  | ", "gutter"), (clean(t), "")] for t in printed.splitlines()]
    elif printed:
        count = len(printed.splitlines())
        lines += hanging([("  ", "")], f"the code printed {count} line{'s' * (count != 1)} ({more} shows them)", width)
    return lines


def _shown(result: TargetResult) -> Counter[str]:
    return Counter(f.severity.value for f in result.findings if f.certainty is not Certainty.REFUTED)


def verdict_words(result: TargetResult) -> str:
    """How many findings, and how many of them a real pass confirmed."""
    if unasked(result):
        return "traced; no rule was asked (vaelint check asks them)"
    counts = _shown(result)
    words = ", ".join(f"{counts[s.value]} {_plural(s, counts[s.value])}" for s in Severity if counts[s.value])
    if result.status == "failed":
        return "could not be analysed" + (f" ({words})" if words else "")
    tested = [f for f in result.findings if f.certainty is not Certainty.REFUTED and not f.code.startswith(SETUP)]
    sure = sum(f.certainty is Certainty.CONFIRMED for f in tested)
    part = " in the model alone, as no loss is known" if lossless(result) else ""
    start = "incomplete, " if result.status == "incomplete" else ""
    confirmed = f"; {sure} of {len(tested)} confirmed by running" if tested else ""
    return start + (words or "no findings") + part + confirmed + _not_run(result)


def unasked(result: TargetResult) -> bool:
    """Whether no rule was asked at all, as by `vaelint trace`: nothing is said of what it would have found."""
    asked = result.findings or result.quiet or result.not_applicable or result.confirm
    return result.trail is not None and result.status == "clean" and not asked


def _not_run(result: TargetResult) -> str:
    """That the user switched the real pass off: what is said rests on the recording alone."""
    reason = result.confirm.get("reason")
    return f"; no real pass ({reason})" if reason in _LEFT_OUT else ""


def lossless(result: TargetResult) -> bool:
    """Whether the model was analysed and its loss is not known."""
    return result.status != "failed" and bool(result.anatomy) and not result.loss


def seen_words(result: TargetResult) -> str:
    """What was seen of a model whose loss is not known, which rules ran, and which could not."""
    sites = result.anatomy.get("sites") or []
    places = ", ".join(dict.fromkeys(f"{s['kind']} at {place_in(s['z'].get('span'))}" for s in sites if s.get("z")))
    seen = f"{len(sites)} sampling site{'s' * (len(sites) != 1)}" + (f" ({places})" if places else "") if sites else "no sampling site"
    ran = len(result.quiet) + len({f.code for f in result.findings})
    lacking: Counter[str] = Counter(row["reason"] for row in result.not_applicable)
    without = "; ".join(f"{count} did not: {reason}" for reason, count in lacking.most_common())
    return f"seen: {seen}, no loss; {ran} rules ran" + (f", {without}" if without else "")


def _plural(severity: Severity, count: int) -> str:
    return {"info": "remark"}.get(severity.value, severity.value) + "s" * (count != 1)


def _style(result: TargetResult) -> str:
    counts = _shown(result)
    if not result.whole or counts["error"]:
        return "error"
    return "warning" if counts["warning"] else "clean"


def _rules(result: TargetResult, why: str) -> str:
    quiet, unfit = len(result.quiet), len(result.not_applicable)
    if result.status == "failed" and not quiet + unfit:
        return ""  # none was asked
    stopped = sum(bool(row["code"]) for row in result.incomplete)
    return (
        f"{quiet} rule{'s' * (quiet != 1)} quiet, "
        + (f"{stopped} could not run, " if stopped else "")
        + f"{unfit} not applicable"
        + (why if unfit else "")
    )


def ran_words(result: TargetResult) -> str:
    """What became of the real pass."""
    outcome, device, reason = (result.confirm.get(k) for k in ("outcome", "device", "reason"))
    if outcome == "ran":
        said = "; ".join(filter(None, [reason, result.confirm.get("inputs")]))
        return f"real pass: ran on {device}" + (f" ({said})" if said else "") + _measures(result.confirm)
    if outcome is None:
        return "real pass: not run" + (", as the target could not be analysed" if result.status == "failed" else "")
    return f"real pass: {outcome}" + (f" on {device}" if device else "") + (f": {reason}" if reason else "")


def _measures(facts: dict[str, Any]) -> str:
    """What the pass was expected to need, and what came out: `; about 628 parameters, 2.1 kB of activations, 9.2 kFLOP; loss 36.2`."""
    text = ""
    if "estimated_flops" in facts:
        sizes = (facts.get("parameters", 0), " parameters"), (facts.get("estimated_activation_bytes", 0), "B of activations")
        counts = ", ".join((_scaled(n) + unit).replace("  ", " ") for n, unit in (*sizes, (facts["estimated_flops"], "FLOP forward")))
        text += f"; estimated {counts}"
    if facts.get("finite") is False or facts.get("grad_finite") is False:
        text += f"; the {'loss' if facts.get('finite') is False else 'gradient'} is not finite"
    elif "loss" in facts:
        text += f"; loss {_number(facts['loss'])}"
    if "gradient_ratio" in facts:
        text += f", gradient of the encoder's first layer {_number(facts['gradient_ratio'])} times the decoder's"
    step = facts.get("optimizer")
    if step and "loss_after" in step:
        text += f", {_number(step['loss_after'])} after a step of {step['name']}"
        text += "" if step.get("moved") else ", which moves no parameter"
    elif step and "moved" in step:
        text += f", of {step['parameters']} parameters the script's step of {step['name']} moved {step['moved'] or 'none'}"
    elif step:
        text += f"; no step of {step['name']} ({step.get('reason')})"
    return text


def _scaled(count: int | float) -> str:
    """`9.2 k`: three digits and the prefix of a thousand, ready for a unit."""
    for prefix in ("", "k", "M", "G", "T"):
        if count < 1000 or prefix == "T":
            return f"{count:.3g} {prefix}"
        count /= 1000
    return ""


def total(results: Sequence[TargetResult]) -> list[Line]:
    """The last line of a report on several targets."""
    counts: Counter[str] = Counter("traced" if unasked(r) else r.status for r in results)
    words = {"clean": "clean", "traced": "traced", "findings": "with findings", "incomplete": "incomplete", "failed": "not analysed"}
    parts = ", ".join(f"{counts[k]} {word}" for k, word in words.items() if counts[k])
    return [[(f"{len(results)} targets: ", "head"), (parts, "")]]
