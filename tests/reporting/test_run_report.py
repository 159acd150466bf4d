"""The report: self-contained, escaped, the records' own numbers, whole from any part of a run."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from run_folders import CAP, HOSTILE, PROBLEMS, SEED, make_record, make_run

from lengthwise.errors import CheckpointError, InputError
from lengthwise.reporting.figures import series, tradeoff
from lengthwise.reporting.plot_data import budget_curve, load_run, number, percent, points, settings
from lengthwise.reporting.plot_values import Curve, Mark, running_mean, tick_texts, ticks
from lengthwise.reporting.run_report import build_report
from lengthwise.statistics.metrics import accuracy_at_budget, mean_tokens_at_budget
from lengthwise.statistics.records import Record, compare

LAB_LINE = "The lab is a teaching and regression instrument, not evidence about large models"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return build_report([run]).read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Collects every tag with its attributes and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.split("</style>")[1]))


def cells(page: str, record: str) -> list[str]:
    """The cells of a record's row in the main table, without the intervals below them."""
    row = re.search(rf'<tr[^>]*data-record="{record}">(.*?)</tr>', page)
    assert row is not None
    return [re.sub(r"<small>.*?</small>|<[^>]*>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", row[1])]


def test_no_request_leaves_the_page_and_tags_close(page: str) -> None:
    parsed = Tags(page)
    assert not parsed.open
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "link", "iframe", "img", "object", "embed")
        assert not {"src", "href", "xlink:href", "srcset", "onerror", "onload"} & attributes.keys()
        assert "id" not in attributes
    assert "url(" not in page and "@import" not in page and "://" not in page
    assert "prefers-color-scheme: dark" in page


def test_hostile_text_is_escaped_everywhere(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    shutil.copytree(run, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model": HOSTILE, "data": HOSTILE, "environment": {HOSTILE: HOSTILE}}
    config["method"] = {"name": HOSTILE, "paper": HOSTILE, "summary": HOSTILE}
    (folder / "config.json").write_text(json.dumps(config))
    record = Record.load(folder / "records" / "before.json")
    levels = [HOSTILE if c == "2" else c for c in record.categories or []]
    for name in ("before", "after"):
        fields = json.loads((folder / "records" / f"{name}.json").read_text())
        fields["context"]["grader"], fields["categories"] = HOSTILE, levels
        (folder / "records" / f"{name}.json").write_text(json.dumps(fields))
    page = build_report([folder]).read_text(encoding="utf-8")
    assert "<script" not in page and "<img" not in page
    assert page.count("&lt;script&gt;") > 10
    assert not Tags(page).open


def test_table_shows_the_records_own_numbers(run: Path, page: str) -> None:
    for path in (run / "records").glob("*.json"):
        record = Record.load(path)
        s = record.summary(seed=SEED)
        shown = cells(page, path.stem)
        assert shown[1:] == [
            percent(s.accuracy),
            number(s.mean_tokens),
            percent(s.truncation_rate),
            number(s.tokens_correct),
            number(s.tokens_wrong),
            number(s.token_efficiency),
            str(s.cap),
            str(PROBLEMS),
        ]
        low, high = s.accuracy_interval.low, s.accuracy_interval.high
        assert f"{percent(low)} to {percent(high)}" in page


def test_headline_and_claims_are_the_paired_comparison(run: Path, page: str) -> None:
    before, after = (Record.load(run / "records" / f"{when}.json") for when in ("before", "after"))
    gain = compare(before, after, seed=SEED, allow=("model",)).accuracy_difference
    headline = re.search(r"<h1>(.*?)</h1>", page)
    assert headline is not None
    assert f"{points(gain.low)} to {points(gain.high)} points" in headline[1]
    assert f"from {before.tokens.mean():.1f} to {after.tokens.mean():.1f} tokens" in headline[1]
    assert f"{1 - after.tokens.mean() / before.tokens.mean():.0%} fewer, 98.7% of the removable ones" in headline[1]
    # .95 and .96 greedy on 48 problems: no interval that excludes 0, so nothing is claimed
    assert "none: the interval holds 0" in page


def test_every_part_is_there(page: str) -> None:
    text = text_of(page)
    for part in (
        "Before, after and controls", "What changed", "Accuracy against tokens", "Training", "How long", "By level",
        "Answers side by side", "Warnings in training", "Resolved config", "Environment", LAB_LINE,
        "few distinct problems", "base stopped after its first pass", "base cut at 30 tokens",
        "shortest sound answers: 27.0", "(steps 5, 9)", "cut on purpose", "settings.steps",
    ):  # fmt: skip
        assert part in text, part
    assert "Missing in this folder" not in text and "not finished" not in text
    assert page.count("wrong-card") == 3 + 1  # three wrong answers and the rule in the style


def test_nothing_undefined_is_shown_as_a_number(page: str) -> None:
    assert not re.search(r"\b(nan|inf|infinity|none[%.]|undefined)\b", text_of(page), re.IGNORECASE)
    assert "nan" not in "".join(re.findall(r'(?:d|x|y|transform|viewBox)="([^"]*)"', page)).lower()


def test_rebuilds_are_identical(run: Path, page: str, tmp_path: Path) -> None:
    again = build_report([run], tmp_path / "again.html")
    assert again.read_text(encoding="utf-8") == page
    assert (tmp_path / "again.png").read_bytes() == (run / "report.png").read_bytes()
    assert (run / "report.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".partial-*"))


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (["config.json"], "config.json"),
        (["metrics.jsonl"], "metrics.jsonl"),
        (["outcome.json"], "This run is not finished: 60 of 60 training steps"),
        (["samples.json"], "samples.json"),
        (["records/after.json"], "no measurement before and after"),
        (["records/before.json", "records/control-cut.json"], "records/before.json, records/control-cut.json"),
        (["records", "outcome.json", "metrics.jsonl"], "0 of 60 training steps"),
        (["records", "outcome.json", "metrics.jsonl", "config.json", "samples.json"], "config.json, metrics.jsonl"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_builds_from_part_of_a_run(run: Path, tmp_path: Path, gone: list[str], said: str) -> None:
    folder = tmp_path / "part"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("report.*"))
    for name in gone:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    page = build_report([folder]).read_text(encoding="utf-8")
    assert said in text_of(page)
    assert not Tags(page).open
    assert (folder / "report.png").is_file() == (folder / "records").is_dir()


def test_half_written_records_of_a_killed_run_are_passed_over(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "records", tmp_path / "records")
    (tmp_path / "records" / ".partial-17-after.json").write_text("{")
    assert list(load_run(tmp_path).records) == list(load_run(run).records)


def test_damaged_and_absent_runs_are_errors(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        build_report([tmp_path])
    with pytest.raises(InputError, match="no such folder"):
        build_report([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="folders"):
        build_report([])


def test_over_five_percent_cut_warns_and_shows_finished_tokens(tmp_path: Path) -> None:
    record = make_record("before", accuracy=0.8, passes=8.0)
    summary = record.summary(seed=SEED)
    assert summary.truncation_rate > 0.05
    record.save(tmp_path / "records" / "before.json")
    text = text_of(build_report([tmp_path]).read_text(encoding="utf-8"))
    assert f"{percent(summary.truncation_rate)} of the responses were cut" in text
    assert f"finished: {number(summary.tokens_finished)}" in text and "cut on purpose" not in text


def test_several_runs_share_a_page_and_unlike_ones_are_refused(run: Path, tmp_path: Path) -> None:
    second, unlike = make_run(tmp_path / "b", lab=False), make_run(tmp_path / "c")
    for name in ("before", "after"):
        make_record(name, accuracy=0.9, passes=1.5, grader="other/2").save(unlike / "records" / f"{name}.json")
    target = build_report([run, second, unlike], tmp_path / "all.html")
    page = target.read_text(encoding="utf-8")
    shared = page.split('<section class="run">')[0]
    assert re.search(
        r"<h1>Of 2 runs on the same problems [ab] saves the most: [\d.]+% of the tokens, at .[\d.]+ points", shared
    )
    assert "3 runs compared" in shared and (tmp_path / "all.png").is_file()
    table = shared[shared.index("<tbody>") :]
    assert "</span>a</td>" in table and "</span>b</td>" in table and "</span>c</td>" not in table
    assert len(re.findall(">before</text>", shared)) == 1  # one base, measured alike
    assert "grader: &#39;g/1&#39; and &#39;other/2&#39;" in shared
    assert page.count('<section class="run">') == 3 and page.count(LAB_LINE) == 2
    assert not Tags(page).open


def test_comparison_lies_beside_the_first_run_by_default(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert build_report([tmp_path / "a", tmp_path / "b"]) == tmp_path.resolve() / "comparison.html"
    assert "Missing in this folder" in (tmp_path / "comparison.html").read_text()


def test_budget_curve_is_the_forced_cut_of_the_metrics() -> None:
    record = make_record("before", accuracy=0.78, passes=2.5)
    xs, ys = budget_curve(record)
    longest = max(row[0] for row in record.num_tokens)
    budgets = np.unique(np.linspace(1, longest, 80).astype(int))
    for i in (0, 17, 40, -1):
        budget = int(budgets[i])
        assert xs[i] == pytest.approx(mean_tokens_at_budget(record.num_tokens, budget, cap=CAP))
        assert ys[i] == pytest.approx(accuracy_at_budget(record.correct, record.num_tokens, budget, cap=CAP))
    assert (xs[-1], ys[-1]) == pytest.approx((record.tokens.mean(), record.accuracies.mean()))


@pytest.mark.parametrize(
    ("low", "high", "count", "wanted"),
    [
        (0, 1, 5, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0, 81, 4, ["0", "50", "100"]),
        (0, 16000, 4, ["0", "5,000", "10,000", "15,000", "20,000"]),
        (0.0, 0.0, 4, None),
    ],
)
def test_ticks_are_round_and_cover_the_data(low: float, high: float, count: int, wanted: list[str] | None) -> None:
    values = ticks(low, high, count)
    assert values[0] <= low and values[-1] >= high and len(values) > 1
    assert wanted is None or tick_texts(values) == wanted


def test_running_mean_skips_gaps() -> None:
    # windows of 2: [1], [1, 3], [3, -], [-, -], [-, 5]
    assert running_mean([1.0, 3.0, None, None, 5.0], 2) == [1.0, 2.0, 3.0, None, 5.0]


def test_curves_break_at_gaps_and_empty_ones_draw_nothing() -> None:
    curve = Curve([1, 2, 3, 4, 5], [1.0, 2.0, None, 3.0, 4.0], "<b>", "c-after")
    svg = series("t", [curve])
    [drawn] = re.findall(r"<g><title>&lt;b&gt;</title><path d=\"([^\"]*)\"", svg)
    assert drawn.count("M") == 2 and "<b>" not in svg
    assert series("t", [Curve([1, 2], [None, None], "x", "c-after")]) == ""
    assert tradeoff([]) == ""


def test_labels_that_find_no_place_go_to_the_legend() -> None:
    svg = tradeoff([Mark(50, 0.5, f"a rather long name {i}", "c-after") for i in range(40)])
    for i in range(40):
        assert f">a rather long name {i}</text>" in svg or f"</span>a rather long name {i}</li>" in svg
    assert "</li>" in svg


def test_number_formats() -> None:
    assert [number(v) for v in (0.0, 29.96, 16916.3, None, float("nan"))] == ["0.0", "30.0", "16,916", "–", "–"]
    assert [points(v) for v in (0.208, -0.004, -0.0001, None)] == ["+20.8", "−0.4", "+0.0", "–"]
    assert percent(None) == "–" and percent(1 / 3) == "33.3%"
    config = {"a": {"b": 1e-4, "c": None}, "d": [1, 2], "e": True, "f": float("nan")}
    assert settings(config) == [("a.b", "0.0001"), ("a.c", "none"), ("d", "1, 2"), ("e", "yes"), ("f", "undefined")]
