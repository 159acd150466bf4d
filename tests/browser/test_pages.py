"""Every page in a real browser: light, dark, narrow and printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import PROGRAM, Page, chromium
from report_pages import UNBROKEN, build_pages

import lengthwise
from lengthwise.reporting.glossary import MEANINGS, WORDS

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no chromium, chromium-browser or google-chrome on the PATH")

PAPER = 717  # A4 without its margins, in pixels
MODES = {
    "light": {"width": 1280},
    "dark": {"width": 1280, "scheme": "dark"},
    "narrow": {"width": 420, "height": 800},
    "narrow and dark": {"width": 420, "height": 800, "scheme": "dark"},
    "printed": {"width": PAPER, "media": "print"},
}
NAMES = ("shorten", "several runs", "grade", "look", "compare", "compare-records", "evaluate-context")
LEAST_CONTRAST = 4.5  # of WCAG AA, for text

# What stands on a page, as values: run inside of it.
FACTS = """(() => {
  const root = document.documentElement, shown = e => e.getClientRects().length > 0;
  const rgb = text => { const found = (text.match(/[\\d.]+/g) || []).map(Number);
    return text.startsWith("color(") ? found.map((v, i) => i < 3 ? 255 * v : v) : found; };
  const linear = v => (v /= 255) <= .03928 ? v / 12.92 : Math.pow((v + .055) / 1.055, 2.4);
  const light = c => .2126 * linear(c[0]) + .7152 * linear(c[1]) + .0722 * linear(c[2]);
  const over = (top, under) => { const a = top[3] === undefined ? 1 : top[3];
    return [0, 1, 2].map(i => top[i] * a + under[i] * (1 - a)); };
  const behind = e => { const layers = [];
    for (; e; e = e.parentElement) layers.push(rgb(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), getComputedStyle(root).colorScheme && matchMedia(
      "(prefers-color-scheme: dark)").matches && !matchMedia("print").matches ? [18, 18, 18] : [255, 255, 255]); };
  const pale = [], clipped = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !shown(e) || /^(SCRIPT|STYLE|title)$/.test(e.tagName)) continue;
    const style = getComputedStyle(e), ink = e.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const paper = behind(e), a = light(over(rgb(ink), paper)), b = light(paper);
    const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (contrast < LEAST) pale.push([walker.currentNode.data.trim().slice(0, 40), contrast.toFixed(2)]);
  }
  for (const e of document.querySelectorAll("body *")) {
    const style = getComputedStyle(e);
    if (shown(e) && !/^(auto|scroll)$/.test(style.overflowX) && style.overflowX !== "visible" && e.innerText
        && e.scrollWidth > e.clientWidth + 1) clipped.push(e.className + ": " + e.innerText.slice(0, 40));
  }
  const overlaps = [];
  for (const svg of document.querySelectorAll("svg")) {
    const boxes = [...svg.querySelectorAll("text")].filter(shown).map(t => [t.textContent, t.getBoundingClientRect()]);
    const frame = svg.closest(".scroll, .card").getBoundingClientRect();
    boxes.forEach(([text, box], i) => {
      if (box.left < frame.left - 1) clipped.push(svg.getAttribute("aria-label") + ": " + text);
      for (const [other, b] of boxes.slice(i + 1))
        if (Math.min(box.right, b.right) - Math.max(box.left, b.left) > 1
            && Math.min(box.bottom, b.bottom) - Math.max(box.top, b.top) > 2)
          overlaps.push(svg.getAttribute("aria-label") + ": " + text + " / " + other);
    });
  }
  const top = [...document.querySelectorAll("h1, .kicker, .alert, .note, .facts, .card, p")].filter(
    e => shown(e) && e.getBoundingClientRect().top < innerHeight);
  const title = document.querySelector("h1");
  return {
    wide: root.scrollWidth, room: root.clientWidth, pale, clipped, overlaps,
    h1: title.innerText, h1_bottom: title.getBoundingClientRect().bottom + scrollY, height: innerHeight,
    fold: top.map(e => e.innerText).join("\\n"), ran: String(window.ran),
    images: [...document.querySelectorAll("svg, [role=img]")].map(e => e.getAttribute("aria-label") || ""),
    unnamed: [...document.querySelectorAll("svg")].filter(e => e.getAttribute("role") !== "img").length,
  };
})()"""
# Prose: what the package itself says, without what stands in files and in logs.
PROSE = """[...document.querySelectorAll("h1, h2, h3, th, .note, dt, .alert")].filter(
  e => !e.closest("article, .pairs")).map(e => e.innerText).join("\\n")"""
FOCUSABLE = """[...document.querySelectorAll("a[href], button, input, summary, [tabindex]")].filter(
  e => e.getClientRects().length && e.tabIndex >= 0).length"""
MARK = """(() => { const e = document.activeElement; if (e === document.body || e.dataset.reached) return false;
  const style = getComputedStyle(e); e.dataset.reached = 1;
  const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  return seen ? "seen" : e.outerHTML.slice(0, 80); })()"""
REACHED = """[...document.querySelectorAll("a[href], button, input, summary, [tabindex]")].filter(
  e => e.getClientRects().length && e.tabIndex >= 0 && !e.dataset.reached).map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build_pages(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("browser")) as page:
        yield page


def facts(browser: Page) -> dict[str, Any]:
    return browser.run(FACTS.replace("LEAST", str(LEAST_CONTRAST)))


def test_every_template_is_looked_at(pages: dict[str, Path]) -> None:
    assert tuple(pages) == NAMES
    templates = Path(lengthwise.__file__).parent / "reporting" / "templates"
    assert len(list(templates.glob("*.html.j2"))) == len(NAMES) - 1  # one run and several have one in common


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_right_in_every_mode(pages: dict[str, Path], browser: Page, name: str) -> None:
    wrong: dict[str, object] = {}
    for mode, look in MODES.items():
        browser.look(**look)
        address = pages[name].as_uri()
        browser.open(address)
        found = facts(browser)
        assert [asked for asked in browser.requests if not asked.startswith("data:")] == [address], mode
        assert browser.complaints == [], mode
        assert found["ran"] == "undefined", "a script of a response ran"
        wrong |= {f"{mode}: {what}": found[what] for what in ("pale", "clipped", "overlaps") if found[what]}
        if found["wide"] > found["room"]:
            wrong[f"{mode}: scrolls"] = f"{found['wide']} pixels on {found['room']}"
    assert not wrong, wrong


@pytest.mark.parametrize("name", NAMES)
def test_a_page_begins_with_what_it_found_and_explains_its_words(
    pages: dict[str, Path], browser: Page, name: str
) -> None:
    browser.look(width=420, height=800)
    browser.open(pages[name].as_uri())
    found = facts(browser)
    assert re.search(r"\d.*\.$", found["h1"], re.DOTALL), "no sentence with a number"
    assert found["h1_bottom"] < found["height"], "the conclusion ends below the fold of a telephone"
    assert not re.search(r"\b[0-9a-f]{8,}\b|sha256|[a-z]+_[a-z_]+=", found["fold"].replace(UNBROKEN, "")), (
        "an internal id"
    )
    assert all(found["images"]) and not found["unnamed"], "a chart without a name"
    tips = browser.run("[...document.querySelectorAll('svg title')].map(e => e.textContent)")
    measured = [tip for tip in tips if re.search(r"\w: accuracy [\d.]+%|, level ", tip)]
    assert all(re.search(r"\([\d.]+%? to [\d.]+%?\)", tip) for tip in measured), f"no interval: {measured}"
    explained = set(browser.run("[...document.querySelectorAll('abbr[title]')].map(e => e.innerText.toLowerCase())"))
    known = {word.lower() for word in MEANINGS}
    said = {word.lower() for word in WORDS.findall(browser.run(PROSE))} & known
    assert said <= explained, f"not explained: {said - explained}"


@pytest.mark.parametrize("name", NAMES)
def test_what_can_be_focused_is_reached_by_the_keyboard_and_seen(
    pages: dict[str, Path], browser: Page, name: str
) -> None:
    browser.look(width=1280)
    browser.open(pages[name].as_uri())
    for _ in range(3 * browser.run(FOCUSABLE) + 40):
        browser.press("Tab", 9)
        assert browser.run(MARK) in ("seen", False)
    assert browser.run(REACHED) == []
