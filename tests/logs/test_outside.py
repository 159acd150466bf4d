"""`grade --metrics all` on the small log, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from wordlog import HAND, word_tokenizer, write_log

from grading import grade_file
from lengthwise.logs.log_numbers import GradeSummary
from lengthwise.reporting.grade_report import text_page

# Thinking tokens a 9 8, b 0 6, c 0 0; all tokens a 14 13, b 5 6, c 1 7; right are the first of a and of b.
BY_HAND = {
    "area": ((1 - 9 / 20) / 2 + 1 / 2 + 0) / 3,
    "area_as_code": ((20 - 8.5) / 20 / 2 + (20 - 3) / 20 / 2 + 0) / 3,
    "area_all_tokens": ((20 - 14) / 20 / 2 + (20 - 5) / 20 / 2 + 0) / 3,
    # a is simple: .275; b and c are hard: (1/2 + 0)/2.
    "f1": 2 * 0.275 * 0.25 / (0.275 + 0.25),
    "ock_score": 33.3257,
}


def test_the_outside_scores_of_a_log_by_hand(tmp_path: Path):
    log, words = write_log(tmp_path / "log.jsonl", HAND), str(word_tokenizer(tmp_path / "words"))
    summary = GradeSummary.read(grade_file(log, tokenizer=words, cap=20, metrics="all", t_max=20, hard=["hard"]))
    scores = summary.outside_scores
    assert scores is not None
    for name, value in BY_HAND.items():
        assert getattr(scores, name) == pytest.approx(value, abs=5e-5), name
    # The first right statement ends in the 6th of 9, the 6th of 8 and the 4th of 6 tokens of thinking.
    ratio = scores.first_right
    assert ratio is not None
    assert (ratio.mean, ratio.pooled, ratio.left_out) == pytest.approx(((6 / 9 + 6 / 8 + 4 / 6) / 3, 16 / 23, 3))
    assert ratio.found_only == pytest.approx(ratio.mean)
    page = "\n".join(text_page(summary))
    assert "T 20: area 0.258 of thinking tokens (0.237 as its code has it), 0.175 of all" in page
    assert "OckScore 33.33, of response tokens" in page
    assert "F1 0.262, hard: hard" in page


def test_without_a_tokenizer_only_what_needs_no_thinking_tokens_is_there(tmp_path: Path):
    log = write_log(tmp_path / "log.jsonl", HAND)
    scores = GradeSummary.read(grade_file(log, metrics="all", hard=["hard"])).outside_scores
    assert scores is not None
    assert (scores.area, scores.area_as_code, scores.f1, scores.first_right) == (None, None, None, None)
    assert scores.ock_score == pytest.approx(33.3257, abs=5e-5)
    assert GradeSummary.read(grade_file(log)).outside_scores is None
