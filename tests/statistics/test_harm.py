"""Judges, the harmful score and accuracy at equal harm (spec page antidote, sections 7 and 12)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from lengthwise.errors import ConfigError, InputError
from lengthwise.reporting.harm_plot import HarmPoint, plot_harm
from lengthwise.statistics.harm import OwnJudge, accuracy_at_harm, load_judge, percent

PROMPTS = ["a?", "b?", "c?"]


def test_phrases_flag_what_matches_or_what_does_not() -> None:
    responses = ["no.", "sure: boom", "nothing"]
    assert load_judge("flag:boom")(PROMPTS, responses) == [False, True, False]
    assert load_judge(r"unless:^no\.")(PROMPTS, responses) == [False, True, True]


@pytest.mark.parametrize(
    ("returned", "flags"),
    [
        ([True, False, True], [True, False, True]),
        # strict: a probability that equals the threshold does not flag
        ([0.5, 0.51, 0.0], [False, True, False]),
        # 14 heads in the authors' judge: the largest probability counts
        ([[0.1, 0.2], [0.4, 0.9], [0.5, 0.5]], [False, True, False]),
        (torch.tensor([0.2, 0.7, 0.5]), [False, True, False]),
        (np.array([True, False, False]), [True, False, False]),
    ],
)
def test_antidote_7_own_judges_say_truths_or_probabilities(returned: Sequence[object], flags: list[bool]) -> None:
    assert OwnJudge("mine:judge", lambda prompts, responses: returned)(PROMPTS, ["x"] * 3) == flags


def test_a_threshold_of_ones_own() -> None:
    judge = OwnJudge("mine:judge", lambda prompts, responses: [0.6, 0.9, 1.0], threshold=0.9)
    assert judge(PROMPTS, ["x"] * 3) == [False, False, True]


@pytest.mark.parametrize(
    ("returned", "says"),
    [([True], "returned 1 entries for 3 responses"), ([2.0, 0, 0], "returned 2.0"), (["yes"] * 3, "returned 'yes'"),
     ([[], [], []], r"returned \[\]"), ([float("nan")] * 3, "returned nan")],
)  # fmt: skip
def test_judges_that_say_something_else_are_refused(returned: Sequence[object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        OwnJudge("mine:judge", lambda prompts, responses: returned)(PROMPTS, ["x"] * 3)


@pytest.mark.parametrize(
    ("spec", "says"),
    [("judge", "write module:function, flag:REGEX or unless:REGEX"), ("flag:", "write module:function"),
     ("flag:(", "cannot be read"), ("no_such_module:judge", "no module 'no_such_module'"),
     ("math:judge", "math has no function 'judge'")],
)  # fmt: skip
def test_judges_that_are_not_there(spec: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_judge(spec)


def test_a_threshold_out_of_range() -> None:
    with pytest.raises(ConfigError, match="judge_threshold is 50"):
        load_judge("flag:x", threshold=50)


def test_a_judge_beside_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_judge.py").write_text("def long(prompts, responses):\n    return [len(r) > 3 for r in responses]\n")
    monkeypatch.chdir(tmp_path)
    assert load_judge("my_judge:long")(["p", "q"], ["yes", "certainly"]) == [False, True]


def test_percent_with_its_interval() -> None:
    found = percent([True] * 30 + [False] * 10)
    assert (found.percent, found.n) == (75, 40)
    assert found.low is not None and found.high is not None
    assert 55 < found.low < 75 < found.high < 95
    assert percent([True]).low is None
    with pytest.raises(InputError, match="no response to count"):
        percent([])


@pytest.mark.parametrize(
    ("level", "wanted"),
    [
        (90, 80),  # a point of its own
        (60, 75),  # half-way from (90, 80) to (30, 70)
        (30, 70),
        (20, 32),  # the first point at or below is the last, before it stands (40, 60): 60 - 20/25 * 35
        (95, 80),  # it starts below
        (10, None),  # it never gets there
    ],
)
def test_accuracy_at_equal_harm(level: float, wanted: float | None) -> None:
    found = accuracy_at_harm([90, 30, 40, 15], [80, 70, 60, 25], level)
    assert found == (None if wanted is None else pytest.approx(wanted))


def test_unlike_lengths() -> None:
    with pytest.raises(InputError, match="harm has 1 points and accuracy 2"):
        accuracy_at_harm([1], [1, 2], 50)


def test_the_picture_is_whole(tmp_path: Path) -> None:
    scored = [HarmPoint(80, 90), HarmPoint(70, 30, "0.1", (60, 80), (20, 40))]
    plot_harm({"one": {"scored": scored, "random": [HarmPoint(80, 90)]}}, tmp_path / "harm.png")
    assert (tmp_path / "harm.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["harm.png"]
