"""Pictures and the HTML page: what is in them, that user text cannot break out of them, and how a browser shows them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import commandline
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from results import crossed, result

from vaelint.core.finding import Span
from vaelint.core.result import Request, TargetResult
from vaelint.core.visible import visible_lines
from vaelint.pipeline.check import check_target
from vaelint.report import html, mermaid, svg
from vaelint.report.parts.layout import place
from vaelint.report.parts.markup import element, join, text
from vaelint.report.parts.ordering import crossings, ordered
from vaelint.report.parts.view import View

DATA = Path(__file__).parents[1] / "data"
VAELINT = str(Path(sys.executable).parent / "vaelint")
SCRIPT = resources.files("vaelint.report").joinpath("picture.js").read_text(encoding="utf-8")
BUGGY = (DATA / "vae_three_bugs.py").read_text()
FAILING = BUGGY.replace("nn.Linear(latent_dim, hidden_dim), nn.ReLU()", "nn.Linear(latent_dim, 64), nn.ReLU()")
CHROMIUM = next((c for n in ("chromium", "chromium-browser", "google-chrome") if (c := shutil.which(n))), None)

DEEP = """
import torch
from torch import nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.one, self.two = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.two(F.silu(self.one(F.silu(x))))


class Deep(nn.Module):
    def __init__(self, blocks=55):
        super().__init__()
        self.down = nn.ModuleList([Block(16) for _ in range(blocks)])
        self.heads, self.lift = nn.Linear(16, 8), nn.Linear(4, 16)
        self.up = nn.ModuleList([Block(16) for _ in range(blocks)])

    def forward(self, x):
        h = x
        for block in self.down:
            h = block(h)
        mu, logvar = self.heads(h).chunk(2, dim=1)
        h = self.lift(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu))
        for block in self.up:
            h = block(h)
        return F.mse_loss(h, x, reduction="sum") / len(x) - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
"""


def checked(folder: Path, text: str, target: str, shape: str, monkeypatch: pytest.MonkeyPatch, device: str = "none") -> TargetResult:
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "model", raising=False)
    (folder / "model.py").write_text(text)
    return check_target(Request(f"model.py:{target}", (shape,), device=device, trail="with"), lambda message: None)


class Strict(HTMLParser):
    """Elements that are closed in the order they were opened, identifiers, links, and anything that would use the network."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: dict[str, int] = {}
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.tags[tag] = self.tags.get(tag, 0) + 1
        assert tag != "script" or not attrs, "a script is written out, of ours"
        assert tag not in ("link", "img", "iframe", "object", "base"), tag
        assert not [k for k in told if k.startswith("on") or k in ("src", "srcset", "xlink:href")], told
        if "id" in told:
            self.ids.append(str(told["id"]))
        if tag == "a":
            self.links.append(str(told.get("href")))
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert parser.scripts == ([SCRIPT] if 'class="drawn"' in page else []), "the one script is the file of ours, to the letter"
    assert len(re.findall("Content-Security-Policy", page)) == 1 and html.policy("".join(parser.scripts)) in page
    assert len(parser.ids) == len(set(parser.ids))
    assert {x.removeprefix("#") for x in parser.links} <= set(parser.ids)
    return parser


def test_the_page_of_three_bugs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked(tmp_path, BUGGY, "VAE", "32x784", monkeypatch, "cpu")
    page = html.render([result])
    parser = parsed(page)
    codes = [f.code for f in result.findings]
    assert len(codes) == 3
    for i, f in enumerate(result.findings):
        assert f'id="t0-f{i}"' in page
        assert f.evidence is not None
        assert text(f.evidence.measured) in page
    kinds = ("input", "encoder", "heads", "reparameterization", "noise", "latent", "decoder", "loss", "total")
    assert all(f'class="box {k}' in page for k in kinds)
    assert "eps (20)" in page
    first, rest = page.index('id="t0-f0"'), page.index("<svg")
    assert first < page.index('class="shape bad">(20)') < page.index('class="shape good">(B, L)') < rest, "what is wrong comes first"
    assert first < page.index("<del>") < page.index("<ins>+         eps = torch.randn_like(std)") < rest or result.findings[0].fix is None
    drawn = page[rest:]
    assert 'class="box noise wrong error"' in drawn and "(20), wanted (B, L)" in drawn and "arrow of-noise bad" in drawn
    assert "…" not in drawn[: drawn.index("</svg>")], "labels are whole"
    assert ">scalar<" in drawn and ">()<" not in drawn
    assert parser.tags["h1"] == 1
    assert not re.search(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[a-z]", page.replace(BUGGY, ""))


def test_check_and_trace_write_the_page(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(BUGGY)
    for command, code in (("check", 1), ("trace", 0)):
        words = (command, "model.py:VAE", "--input", "32x784", "--output-format", "html:page.html")
        done = commandline.vaelint(*words, cwd=tmp_path, env={"VAELINT_DEVICE": "none"})
        assert (done.returncode, done.stderr) == (code, ""), done.stderr
        parsed((tmp_path / "page.html").read_text())


def test_a_failing_decoder_is_drawn_up_to_the_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked(tmp_path, FAILING, "VAE", "32x784", monkeypatch)
    page = html.render([result])
    parsed(page)
    assert 'class="box failed wrong error"' in page
    assert "(B, 64) with (784, 128)" in page
    assert "constructed at model.py:15" in page


def test_a_large_model_has_a_small_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked(tmp_path, DEEP, "Deep", "8x16", monkeypatch)
    assert result.trail is not None
    assert len(result.trail["steps"]) > 550
    drawn = svg.render([result])
    boxes = re.findall(r'class="box (\w+)', drawn)
    assert len(boxes) <= 40
    assert "51 more" in drawn
    assert "down.2 ... down.52" in drawn
    assert len(re.findall(r'class="box', svg.render([result], View(everything=True)))) > 550


def test_svg_and_mermaid_hold_hostile_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = "'</style><script>alert(1)</script>\"]; click x --> y %% & \x07 \ud7ff'"
    result = checked(tmp_path, BUGGY.replace("torch.exp(0.5", f"({bad} and torch).exp(0.5"), "VAE", "32x784", monkeypatch)
    root = ElementTree.fromstring(svg.render([result]))
    assert not [e for e in root.iter() if e.tag.endswith("script")]
    chart = mermaid.render([result])
    assert "<script" not in chart
    assert all(len(re.findall(r'"', line)) in (0, 2) for line in chart.splitlines())
    assert parsed(html.render([result])).tags["script"] == 1


@settings(deadline=None)
@given(st.text(), st.text())
def test_user_text_stays_text(first: str, second: str) -> None:
    page = join(element("p", first, title=second), second)
    parser = Strict()
    seen: list[str] = []
    parser.handle_data = seen.append  # type: ignore[method-assign,assignment]
    parser.feed(page)
    parser.close()
    assert parser.tags == {"p": 1}
    nowhere = {chr(plane + last): "\ufffd" for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF)}
    told = visible_lines(first + second)
    assert "".join(seen) == "".join(nowhere.get(c, c) for c in told)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 25).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))))))
def test_boxes_never_overlap(drawn: tuple[int, set[tuple[int, int]]]) -> None:
    count, pairs = drawn
    arrows = [(a, b) for a, b in sorted(pairs) if a != b]
    placed = place(count, arrows, 100, 10)
    for i in range(count):
        for j in range(i):
            assert placed.layer[i] != placed.layer[j] or abs(placed.centre[i] - placed.centre[j]) >= 100.0 - 1e-6
    assert all(placed.layer[a] < placed.layer[b] for a, b in arrows if a < b)
    assert all(c - 50.0 + 1e-6 >= 0 and c + 50.0 <= placed.width + 1e-6 for c in placed.centre)


def probed(probe: str, folder: Path, *options: str) -> dict[str, Any]:
    """What a page that holds the report in a frame says of it, in Chromium."""
    (folder / "probe.html").write_text(probe)
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--virtual-time-budget=4000",
         f"--user-data-dir={folder / 'profile'}", *options, "--dump-dom", (folder / "probe.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r"PROBE(\{.*\})END", done.stdout)
    assert found is not None, done.stdout[-500:]
    told: dict[str, Any] = json.loads(found[1])
    return told


_PROBE = """<iframe id=f src=page.html style="width:400px;height:900px;border:0"></iframe><script>
f.onload = () => {
  const d = f.contentDocument, s = d.querySelector('.picture .title').getBoundingClientRect(), c = e => f.contentWindow.getComputedStyle(e);
  d.querySelectorAll('details').forEach(e => e.open = true);
  document.body.innerText = 'PROBE' + JSON.stringify({
    wide: d.documentElement.scrollWidth, letters: s.height, paper: c(d.body).backgroundColor, ink: c(d.body).color,
    unnamed: [...d.querySelectorAll('a,summary,[tabindex]')].filter(e => !(e.textContent.trim() || e.ariaLabel)).length,
    levels: [...d.querySelectorAll('h1,h2,h3,h4')].map(e => +e.tagName[1]),
    outside: [...d.querySelectorAll('.finding')].filter(e => e.getBoundingClientRect().width > 400).length,
    spilt: [...d.querySelectorAll('.box')].filter(b => [...b.querySelectorAll('text')].some(t =>
      t.getBBox().width > b.querySelector('.form').getBBox().width + 4)).length,
  }) + 'END';
}
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("dark", [False, True])
def test_chromium_shows_it_on_a_phone(dark: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked(tmp_path, BUGGY, "VAE", "32x784", monkeypatch)
    (tmp_path / "page.html").write_text(html.render([result]))
    seen = probed(_PROBE, tmp_path, f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    assert seen["wide"] <= 400
    assert seen["letters"] >= 8
    assert (seen["unnamed"], seen["outside"], seen["spilt"]) == (0, 0, 0)
    assert all(b - a <= 1 for a, b in zip(seen["levels"], seen["levels"][1:], strict=False))

    def brightness(colour: str) -> float:
        return sum(int(x) for x in re.findall(r"\d+", colour)[:3]) / 3

    assert (brightness(seen["paper"]) < 60) is dark
    assert abs(brightness(seen["paper"]) - brightness(seen["ink"])) > 150


_ZOOM = """<iframe id=f src=page.html style="width:700px;height:900px;border:0"></iframe><script>
f.onload = () => {
  const w = f.contentWindow, d = f.contentDocument, room = d.querySelector('.drawn .scroll'), svg = room.querySelector('svg');
  const wide = () => Math.round(svg.getBoundingClientRect().width), seen = {start: wide(), injected: d.title};
  const box = room.querySelector('.box.latent'), rect = () => box.getBoundingClientRect();
  const at = () => [rect().left + rect().width / 2, rect().top + rect().height / 2];
  box.scrollIntoView({block: 'center'});
  let middle = at();
  const key = k => room.dispatchEvent(new w.KeyboardEvent('keydown', {key: k, bubbles: true, cancelable: true}));
  const wheel = ctrlKey => room.dispatchEvent(
    new w.WheelEvent('wheel', {deltaY: -100, ctrlKey, clientX: middle[0], clientY: middle[1], bubbles: true, cancelable: true}));
  seen.scrolls = wheel(false); seen.plain = wide();
  wheel(true); wheel(true); // wider than its room: now it can be moved there
  for (let i = 0, _ = middle = at(); i < 4; i++) seen.taken = !wheel(true);
  seen.wheel = wide(); seen.moved = Math.hypot(at()[0] - middle[0], at()[1] - middle[1]);
  const pointer = (kind, clientX, clientY) => room.dispatchEvent(
    new w.PointerEvent(kind, {pointerType: 'mouse', button: 0, clientX, clientY, bubbles: true}));
  const before = [room.scrollLeft, room.scrollTop];
  pointer('pointerdown', 300, 300); pointer('pointermove', 260, 240); pointer('pointerup', 260, 240); pointer('pointermove', 0, 0);
  seen.dragged = [room.scrollLeft - before[0], room.scrollTop - before[1]];
  seen.page = d.documentElement.scrollWidth;
  key('0'); seen.reset = wide(); seen.chosen = d.querySelector('.zoom input').checked;
  key('+'); seen.plus = wide(); key('-'); seen.minus = wide();
  const fingers = gap => [0, 1].map(i => new w.Touch({identifier: i, target: room, clientX: 300 + i * gap, clientY: 300}));
  const touch = (kind, gap) => room.dispatchEvent(new w.TouchEvent(kind, {touches: fingers(gap), bubbles: true, cancelable: true}));
  touch('touchstart', 100); touch('touchmove', 200); seen.pinch = wide() / seen.minus;
  d.querySelectorAll('.zoom input')[0].click(); seen.again = wide();
  d.querySelector('[aria-label="Zoom in"]').click(); seen.button = wide(); seen.said = d.querySelector('.zoom output').textContent;
  document.body.innerText = 'PROBE' + JSON.stringify(seen) + 'END';
}
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_picture_is_zoomed_and_moved_and_no_other_script_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = html.render([checked(tmp_path, BUGGY, "VAE", "32x784", monkeypatch)])
    ours = page.index("<title>")
    hostile = "<script>document.title = 'it ran'</script><img src=x onerror=\"document.title = 'it ran'\">"
    (tmp_path / "page.html").write_text(page.replace("</main>", hostile + "</main>"))
    seen = probed(_ZOOM, tmp_path)
    assert seen["injected"] == page[ours + 7 : page.index("</title>")], "nothing runs but the script of that hash"
    assert (seen["scrolls"], seen["plain"], seen["taken"]) == (True, seen["start"], True), "a plain wheel scrolls the page"
    assert seen["wheel"] > 2 * seen["start"] and seen["moved"] < 3, "what is under the pointer stays there"
    assert seen["dragged"] == [40, 60] and seen["page"] <= 700
    assert seen["reset"] == seen["start"] == seen["again"] and seen["chosen"]
    assert seen["minus"] == pytest.approx(seen["start"], abs=2) and seen["plus"] == pytest.approx(1.25 * seen["start"], abs=2)
    assert seen["pinch"] == pytest.approx(2, rel=0.02)
    assert seen["button"] > seen["start"] and seen["said"].endswith(" %")


def test_a_page_of_several_targets_one_of_them_not_analysed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    lost = replace(crossed(), code="VAE001", message="cannot <import>", span=Span("gone.py", 3), labels=(), shapes=())
    page = html.render([result(), TargetResult("gone.py:VAE", "failed", findings=[lost])])
    parser = parsed(page)
    assert parser.tags["h1"] == 3, "the overview and each target"
    assert "cannot &lt;import&gt;" in page
    assert "could not be analysed" in page


def test_an_overview_has_each_target_and_its_beta_on_one_axis() -> None:
    def of(name: str, beta: float | None) -> TargetResult:
        loss = {"beta": {"expression": "B*D", "value": beta}, "objective": "an ELBO"} if beta is not None else {}
        return TargetResult(
            f"{name}.py:VAE", loss=loss, findings=[crossed()] if name == "b" else [], status="findings" if name == "b" else "clean"
        )

    page = html.render([of("a", 1.0), of("b", 25088.0), of("c", 0.001), of("d", None)])
    table = page[page.index("<table") : page.index("</table>")]
    parser = parsed(page)
    assert all(f"#t{i}" in parser.links for i in range(4))
    dots = {float(b): float(x) for b, x in re.findall(r'aria-label="effective beta ([\d.e+-]+)">.*?cx="([\d.]+)"', table)}
    low, one, high = (dots[b] for b in sorted(dots))
    assert len(dots) == 3 and low < one < high
    assert (high - one) / (one - low) == pytest.approx(4.4 / 3, rel=0.02), "equal factors are equal ways"
    assert "reconstruction 1" in table and "B*D = 2.509e+04" in table and "2 clean" not in table
    assert "4 targets: 3 clean, 1 with findings" in page


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 9), st.data())
def test_an_order_of_layers_crosses_no_more_than_the_one_it_was_given(width: int, data: st.DataObject) -> None:
    layers = [list(range(n, n + width)) for n in (0, width, 2 * width)]
    shuffled = [data.draw(st.permutations(level)) for level in layers]
    pairs = data.draw(st.lists(st.tuples(st.integers(0, 2 * width - 1), st.integers(0, width - 1)), max_size=3 * width))
    down = {n: sorted({width * (a // width + 1) + b for a, b in pairs if a == n}) for n in range(3 * width)}
    up = {n: [m for m in down if n in down[m]] for n in down}
    found = ordered(shuffled, up, down)
    assert [sorted(level) for level in found] == layers
    assert crossings(found, down) <= crossings(shuffled, down)


def test_strands_that_a_picture_begins_with_crossed_are_disentangled() -> None:
    down = {**{n: [n + 5] for n in range(10)}, **{n: [] for n in range(10, 15)}}
    up = {n: [n - 5] if n > 4 else [] for n in range(15)}
    mixed = [[0, 1, 2, 3, 4], [7, 5, 9, 6, 8], [13, 10, 12, 14, 11]]
    assert (crossings(mixed, down) > 5, crossings(ordered(mixed, up, down), down)) == (True, 0)
