"""Thinking marks: every kind, closed and not, once and again, in the response or given apart."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from wordlog import word_tokenizer, write_log

from grading import grade_file
from lengthwise.grading.graders import grade
from lengthwise.grading.prompt_contract import PromptContract, preset, split_response
from lengthwise.grading.thinking_marks import (
    KINDS,
    Marks,
    marks_of,
    same_thinking,
    split_thinking,
    thinking_sections,
    whole_response,
)

NO_CONTRACT = PromptContract("auto", think_marks=True)
MARKED = [pytest.param(kind, id=kind.closes) for kind in KINDS]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(word_tokenizer(tmp_path_factory.mktemp("words")))


def graded(tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []
    log = write_log(tmp_path / "log.jsonl", rows)
    return grade_file(log, **options, on_row=found.append), found


# ---- the kinds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MARKED)
def test_every_kind_of_marks_is_read_without_a_contract(kind: Marks) -> None:
    assert kind.opens is not None
    begun = f"{kind.opens}The answer is 3."
    assert grade(begun, "3").how == "thinking never closed"
    assert grade(f"Well. {begun}", "3").how == "thinking never closed"
    assert grade(f"{begun}{kind.closes}The answer is 4.", "4")
    assert grade(f"The answer is 3.{kind.closes}The answer is 4.", "4")  # the prompt had opened it
    assert not grade(f"{begun}{kind.closes}The answer is 4.", "3")
    assert grade(f"{begun}{kind.closes}The answer is 3.{kind.closes}The answer is 4.", "4")
    assert grade(f"{begun}{kind.closes}The answer is 4.{kind.opens}no", "4").how == "thinking never closed"


def test_the_anatomy_of_a_log_sees_the_same_marks(tmp_path: Path, words: str) -> None:
    texts = [
        (f"{kind.opens} two + two = 4. hm" + end, end != "")
        for kind in KINDS
        for end in (f" {kind.closes} The answer is 4", "")
    ]
    rows = [{"response": text, "answer": 4, "finished": finished} for text, finished in texts]
    summary, found = graded(tmp_path, rows, tokenizer=words)
    # 8 words with both marks, 4 of answer and the EOS; cut: all 7 words.
    counts = [(row["thinking_tokens"], row["answer_tokens"], row["unclosed"], row["correct"]) for row in found]
    assert counts == [(8, 5, False, True), (7, 0, True, False)] * len(KINDS)
    assert summary["unclosed_rate"] == 0.5


def test_marks_are_told_apart_and_know_their_partner() -> None:
    marks = [mark for kind in KINDS for mark in (kind.opens, kind.closes)]
    assert len(set(marks)) == len(marks)
    assert all(kind.first.startswith(str(kind.opens)) for kind in KINDS)
    assert [marks_of(kind.closes) for kind in KINDS] == list(KINDS)
    assert marks_of("</mine>") == Marks("<mine>", "</mine>")
    assert marks_of("[end]") == Marks(None, "[end]")


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        # Within one kind, the marks of another are text; outside of all, a closing mark ends what came before it.
        ("<think>a <reasoning>b</reasoning> c</think>d", "a b c", "d"),
        ("a <reasoning>b</reasoning> c</think>d", "a b c", "d"),
        ("<think>a</think>b<thought>c</thought>d", "ac", "bd"),
        ("Well. <think>a</think>b", "a", "Well. b"),
        ("none", "", "none"),
        ("", "", ""),
    ],
)
def test_kinds_that_stand_together(text: str, thinking: str, answer: str) -> None:
    assert split_response(NO_CONTRACT, text) == (thinking, answer, True)


def test_a_mark_of_another_kind_inside_unfinished_thinking_does_not_finish_it() -> None:
    assert split_response(NO_CONTRACT, "<think>a <reasoning>b</reasoning> 4") == ("a b 4", "", False)


def test_a_contract_reads_its_own_kind_alone() -> None:
    assert split_response(preset("math"), "a◁/think▷b") == ("a◁/think▷b", "", False)
    assert split_response(preset("math", think_marks=True), "a◁/think▷b") == ("a", "b", True)
    kimi = preset("math", think_prefix="", think_close="◁/think▷")
    assert split_response(kimi, "◁think▷a◁/think▷b") == ("a", "b", True)


# ---- sections and splits agree ------------------------------------------------------------------------------


@pytest.mark.parametrize("begins", [True, False])
def test_sections_are_what_the_split_takes_for_thinking(begins: bool) -> None:
    rng, kinds = random.Random(0), (KINDS[0], KINDS[4])
    marks = [str(mark) for kind in kinds for mark in (kind.opens, kind.closes)]
    for _ in range(3000):
        text = "".join(rng.choice([*marks, "a", " ", "\n", "b"]) for _ in range(rng.randint(0, 12)))
        thinking, answer, closed = split_thinking(text, kinds, begins=begins)
        sections, ended_outside = thinking_sections(text, kinds, begins=begins)
        inside, outside, at = "", "", 0
        for start, end in sections:
            assert at <= start <= end, text
            inside, outside, at = inside + text[start:end], outside + text[at:start], end
        for mark in marks:
            inside = inside.replace(mark, "")
        assert (ended_outside, inside) == (closed, thinking), text
        assert answer == (outside + text[at:] if closed else ""), text
        # No closing mark is left in an answer, and nothing after an opening one.
        assert not any(mark in answer for mark in marks), text


def test_a_text_without_kinds_has_no_thinking() -> None:
    assert thinking_sections("a </think> b", (), begins=False) == ([], True)


# ---- thinking given apart -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thinking", "answer", "whole"),
    [
        ("a", "b", "a</think>b"),
        ("a</think>\n", "b", "a</think>\nb"),  # the server left the mark in
        ("a", "</think>b", "a</think>b"),
        ("a", "rest</think>b", "a</think>rest</think>b"),
        ("◁think▷a", "b", "◁think▷a◁/think▷b"),
        ("a", "rest◁/think▷b", "a◁/think▷rest◁/think▷b"),
        ("a", " \n", "a"),  # cut
        ("a  b", "<think>\na b\n</think>c", "<think>\na b\n</think>c"),  # it is there twice
        ("a", "<think>b</think>c", "a</think><think>b</think>c"),
    ],
)
def test_a_response_that_was_given_in_two_is_put_together(thinking: str, answer: str, whole: str) -> None:
    assert whole_response(thinking, answer, "</think>") == whole


def test_a_word_of_the_thinking_in_the_answer_is_not_the_thinking_twice() -> None:
    assert not same_thinking("4", "The answer is 4")
    assert not same_thinking("4", "<think>so 4</think>4")
    assert same_thinking("<think>so  4", "<think>so 4</think>4")


REST = "= 4. check again"


LEAKS = [
    # 3 + the mark, 4 + the mark, and 4 words of answer with the EOS.
    ("two plus two ", f" {REST} </think> The answer is 5", 9, 14),
    # The same, all of it in the response.
    (None, f"two plus two </think> {REST} </think> The answer is 5", 9, 14),
    # Nothing was left over: 7 and the mark.
    (f"two plus two {REST} ", " The answer is 5", 8, 13),
    # The rest never closes, so what follows the first mark is answer: 3 and the mark.
    ("two plus two ", f" {REST} The answer is 5", 4, 13),
    # It was begun anew and not ended: 3, two marks, 8 words and the EOS.
    ("two plus two ", f" <think> {REST} The answer is 5", 14, 14),
]


def test_all_up_to_the_last_closing_mark_is_thinking(tmp_path: Path, words: str) -> None:
    rows = [
        {"answer": 5, "response": response, "finished": True, "reasoning": reasoning}
        for reasoning, response, _, _ in LEAKS
    ]
    _, found = graded(tmp_path, rows, tokenizer=words, reasoning_column="reasoning")
    assert [(row["thinking_tokens"], row["num_tokens"]) for row in found] == [wanted[2:] for wanted in LEAKS]
    assert [row["correct"] for row in found] == [True, True, True, True, False]
    # Without the last one nothing has to be said of whose thinking it is.
    assert graded(tmp_path, rows[:-1], tokenizer=words)[1] == found[:-1]


def test_thinking_and_answer_are_always_all_tokens(tmp_path: Path, words: str) -> None:
    rng = random.Random(1)
    texts = ["a b ", " </think> ", " <think> ", " ◁/think▷ ", "The answer is 4 ", " \n", "<eos>"]

    def text() -> str:
        return "".join(rng.choice(texts) for _ in range(rng.randint(0, 6)))

    rows = [
        {"problem_id": n, "answer": 4, "response": text(), "finished": rng.random() < 0.8}
        | ({"reasoning": f"{n} {text()}"} if rng.random() < 0.5 else {})
        | ({"num_tokens": rng.randint(0, 30)} if rng.random() < 0.3 else {})
        for n in range(400)
    ]
    summary, found = graded(tmp_path, rows, tokenizer=words, reasoning_column="reasoning")
    assert summary["left_out"]["rows"] == 0
    for row in found:
        assert row["thinking_tokens"] + row["answer_tokens"] == row["num_tokens"], rows[row["line"] - 1]
        assert row["answer_tokens"] == 0 or not row["unclosed"], rows[row["line"] - 1]
