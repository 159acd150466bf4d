"""The page of responses to look at: what is chosen, what is shaded, escaping, size."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lengthwise.logs.examples import CUT, KINDS, LOST, RIGHT, Example, Examples
from lengthwise.reporting import examples_page
from lengthwise.reporting.examples_page import PIECE, build_examples_page, fitting, parts_of

WORST = "</span></pre><script>alert('x')</script>&\x00☃"


def example(tokens: int = 9, *, kind: str = RIGHT, text: str = "so = 4. or?", right_end: int | None = 7) -> Example:
    return Example(
        problem_id=f"p{tokens}", sample="0", correct=kind == RIGHT, finished=kind != CUT, num_tokens=tokens, after=2,
        gold="4", extracted="4", lost="another answer" if kind == LOST else None, text=text, right_end=right_end,
    )  # fmt: skip


def page_of(examples: Examples, tmp_path: Path) -> str:
    from wordlog import HAND, write_log

    from grading import grade_file

    summary = grade_file(write_log(tmp_path / "log.jsonl", HAND))
    return build_examples_page(examples, summary, tmp_path / "look.html").read_text()


def test_the_longest_of_each_kind_are_kept_and_a_wrong_answer_to_its_end_is_none():
    found = Examples(most=2)
    for tokens in (5, 30, 20, 30, 1):
        for kind in KINDS:
            found.add(example(tokens, kind=kind))
    found.add(Example("w", None, False, True, 99, None, "4", "5", None, "so 5", None))
    assert [[one.num_tokens for one in found.of(kind)] for kind in KINDS] == [[30, 30]] * 3
    assert found.seen == dict.fromkeys(KINDS, 5)


def test_a_text_is_parted_where_the_first_right_answer_ends_and_long_parts_have_gaps():
    assert [(part.kind, part.text) for part in parts_of("so = 4. or?", 7)] == [("before", "so = 4."), ("after", " or?")]
    assert [part.kind for part in parts_of("so", None)] == ["before"]
    assert [part.kind for part in parts_of("so 4", 4)] == ["before"]
    parts = parts_of("a" * 5 + "b" * (3 * PIECE), 5)
    assert [part.kind for part in parts] == ["before", "after", "gap", "after"]
    assert parts[2].text == " [4,000 characters left out] "


def test_the_page_is_one_file_that_escapes_everything_and_asks_for_nothing(tmp_path: Path):
    found = Examples()
    found.add(Example(WORST, WORST, True, True, 9, 3, WORST, WORST, None, f"4{WORST}", 1))
    found.add(example(kind=LOST))
    page = page_of(found, tmp_path)
    assert page.count("<script>") == 1  # our own
    assert "alert('x')" not in page
    assert page.count('<span class="after">') == 2
    assert not re.findall(r"(?:src|href)\s*=|https?://|@import|url\(", page)
    assert "default-src 'none'" in page
    assert page.count("<article") == 2
    assert "1 of 1" in page
    assert ">none<" in page.replace("\n", "")


def test_what_does_not_fit_is_left_out_kind_by_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    found = Examples()
    for tokens in range(40):
        for kind in KINDS:
            found.add(example(tokens, kind=kind, text="☃&" * 4 * PIECE, right_end=4 * PIECE))
    assert len(page_of(found, tmp_path).encode()) < 2_000_000
    monkeypatch.setattr(examples_page, "PIECE", 10)
    shown = fitting(found, 10_000)
    assert [(one.kind, one.example.num_tokens) for one in shown] == [(RIGHT, 39), (LOST, 39), (CUT, 39), (RIGHT, 38)]
