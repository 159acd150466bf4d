"""One drawing for page and file: text stays text, colors follow the page, nothing depends on the user's settings."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import lengthwise.reporting
from lengthwise.reporting.drawing import COLORS, RUN_COLORS, blank, color_of, inline_svg, styled
from lengthwise.reporting.figures import chart_by_length, tradeoff, write_tradeoff
from lengthwise.reporting.glossary import gloss
from lengthwise.reporting.mark_labels import label_marks
from lengthwise.reporting.plot_values import Chart, Curve, Mark

NAMES = [("base $x$", "c-before", "square"), ("dler", "c-run0", "dot"), ("random & <b>", "c-control", "ring")]
MARKS = [Mark(60, 0.8, name, kind, shape, (55, 66), (0.7, 0.9)) for name, kind, shape in NAMES]
MARKS.append(Mark(40, 0.5, "", "c-run0", "speck"))
CURVES = [Curve([20, 40, 60], [0.2, None, 0.8], "cut", "c-before thin")]


def test_colors_are_those_of_the_page_on_light_paper() -> None:
    css = (Path(lengthwise.reporting.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"--(\w+): (#\w{6});", css.split("@media")[0]))
    assert {name: light[name] for name in COLORS} == COLORS
    classes = dict(re.findall(r"\.(c-run\d) { --c: var\(--(\w+)\); }", css))
    assert [classes[f"c-run{place}"] for place in range(6)] == list(RUN_COLORS)
    assert color_of("c-run1 thin") == COLORS["r1"] and color_of("c-after") == COLORS["after"]


def test_a_drawing_in_a_page_is_text_without_ids_fonts_or_fixed_colors() -> None:
    svg = str(tradeoff(MARKS, CURVES, oracle=30.0))
    for text in ("base $x$", "random &amp; &lt;b&gt;", "mean response tokens", "100%"):
        assert re.search(rf"<text[^>]*>{re.escape(text)}</text>", svg), text
    assert svg.count('class="label"') == 3
    assert not re.search(r"\bid=|href|url\(|font-family|<style|<!--|<metadata|#[0-9a-f]{6}", svg)
    assert (
        "<title>dler: accuracy 80.0% (70.0% to 90.0%), 60.0 tokens (55.0 to 66.0)</title>" in svg
        and "shortest sound answers: 30.0" in svg
    )


def test_page_and_picture_are_the_same_whatever_the_users_settings_are(tmp_path: Path) -> None:
    page = tradeoff(MARKS, CURVES)
    write_tradeoff(MARKS, CURVES, tmp_path / "a.png")
    mine = {"font.size": 20, "font.family": "monospace", "text.usetex": True, "axes.grid": True, "lines.linewidth": 9}
    with matplotlib.rc_context(mine):
        assert tradeoff(MARKS, CURVES) == page
        write_tradeoff(MARKS, CURVES, tmp_path / "b.png")
        assert matplotlib.rcParams["font.size"] == 20
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG") and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("spread", [0.02, 0.3])
def test_labels_overlap_neither_one_another_nor_marks(spread: float) -> None:
    marks = [Mark(60 + 100 * spread * (i * 7 % 12) / 12, 0.5 + spread * (i * 5 % 12) / 12, f"method {i}", "c-run1")
             for i in range(12)]  # fmt: skip
    with styled():
        drawing = blank("t", 900, 430, left=58, right=24, top=22)
        drawing.axes.set(xlim=(0, 100), ylim=(0, 1))
        texts, unplaced = label_marks(drawing.axes, marks)
        renderer = FigureCanvasAgg(drawing.figure).get_renderer()
        boxes = [text.get_window_extent(renderer) for text in texts]
    assert len(texts) + len(unplaced) == 12 and len(texts) >= 6
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    points = [drawing.axes.transData.transform((mark.x, mark.y)) for mark in marks]
    assert not any(box.contains(*point) for box in boxes for point in points)


def test_groups_that_say_something_stay_and_turned_words_keep_their_turn() -> None:
    with styled():
        drawing = blank("a title", 200, 100, left=20, right=10, top=10)
        [line] = drawing.axes.plot([0, 1], [0, 1])
        drawing.tip(line, "what & why")
        drawing.figure.text(0.1, 0.5, "up", rotation=90, rotation_mode="anchor", ha="center")
        svg = inline_svg(drawing)
    assert 'viewBox="0 0 200 100"' in svg and 'aria-label="a title"' in svg
    assert "<g><title>what &amp; why</title><path" in svg
    assert re.search(r'<text[^>]*transform="rotate\(-90 20 50\)"[^>]*>up</text>', svg)


def test_words_of_the_field_are_explained_once_and_text_is_escaped() -> None:
    said = str(gloss("Uniform groups <b>, nats; uniform groups"))
    assert said.count("<abbr") == 2 and said.count('tabindex="0"') == 2 and "&lt;b&gt;" in said
    assert said.startswith('<abbr title="Answers to one problem') and "uniform groups" in said
    assert gloss("captions") == "captions"


def test_the_oracle_is_dotted_in_plot_and_legend() -> None:
    assert 'class="key line c-after dotted"' in tradeoff(MARKS, oracle=30.0)


def test_curves_show_their_intervals() -> None:
    curve = Curve([7, 8], [0.9, 0.4], "reader", "c-run0", [(0.8, 1.0), None])
    svg = str(chart_by_length(Chart("lines", [curve], "tokens", percent=True, top=1, across=[(7, "128"), (8, "256")])))
    assert "<title>reader: 90.0% (80.0% to 100.0%)</title>" in svg and "<title>reader: 40.0%</title>" in svg
    assert re.search(r"<text[^>]*>256</text>", svg)
