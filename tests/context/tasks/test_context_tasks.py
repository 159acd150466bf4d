"""giraffe.md sections 4 to 7: generators are deterministic with the evidence once and only once; scorers and traps."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path

import pytest
import torch
from context_words import byte_tokenizer, sources

from lengthwise.context.tasks import (
    altered_rows,
    freeform_rows,
    lines_rows,
    lines_rows_of,
    loss_by_position,
    passkey_rows,
    perplexity,
    read_longchat,
    read_released,
    read_sources,
    score_rows,
)
from lengthwise.context.tasks.lines import DEFAULT_LINES, line_keys
from lengthwise.context.tasks.qa import CONDITIONS, PLACES, Source, new_number, whole_number
from lengthwise.context.tasks.rows import TaskRow
from lengthwise.context.tasks.scoring import number_is_right, presence_is_right
from lengthwise.errors import ConfigError, InputError

LONGCHAT = Path(__file__).parents[4] / "shared" / "data" / "longchat_lines"
TOKENIZER = byte_tokenizer()


def tokens(text: str) -> int:
    return len(text.encode())


@pytest.mark.parametrize(
    ("text", "right"),
    [("It is 17.", True), ("Line 3: 17", False), ("1,7", False), ("17th", True), ("seventeen", False), ("", False),
     ("0017", True), ("9" * 5000, False)],
    ids=["giraffe-6-row14a", "giraffe-6-row14b", "giraffe-6-row14c", "giraffe-6-row14d", "no digits", "empty", "zeros", "endless"],  # noqa: E501
)  # fmt: skip
def test_lines_take_the_first_run_of_digits(text: str, right: bool) -> None:
    assert number_is_right(text, "17") is right


@pytest.mark.parametrize(
    ("reference", "text", "right"),
    [(" Oslo ", "In Oslo.", True), (" Oslo ", "in oslo", False), ("9", "1990", True)],
    ids=["giraffe-6-row15a", "giraffe-6-row15b", "giraffe-6-row15c"],
)
def test_presence_is_a_case_sensitive_part(reference: str, text: str, right: bool) -> None:
    assert presence_is_right(text, reference) is right


def test_perplexity_is_pooled_over_tokens() -> None:
    ln2 = math.log(2)
    # giraffe-6-row16: mean of ln2, 2 ln2, 3 ln2 is 2 ln2; exp of it 4
    assert perplexity([torch.tensor([ln2, 2 * ln2, 3 * ln2])]) == pytest.approx(4)
    # pooled, not a mean of documents; one of one token has no loss
    assert perplexity([torch.tensor([ln2, 2 * ln2]), torch.tensor([3 * ln2]), torch.zeros(0)]) == pytest.approx(4)
    assert perplexity([torch.tensor([1000.0])]) == math.inf
    found = loss_by_position([torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0])], bucket=2)
    assert found == [(2, 2.0, 3), (4, 3.0, 1)]
    for nothing in ([], [torch.zeros(0)]):
        with pytest.raises(InputError):
            perplexity(nothing)
        with pytest.raises(InputError):
            loss_by_position(nothing, bucket=2)


def test_scorers_refuse_nothing_and_blanks() -> None:
    row = TaskRow("lines", "p", "17", 1)
    with pytest.raises(ValueError, match="rows is empty"):
        score_rows([], [])
    with pytest.raises(InputError, match="2 entries for 1 rows"):
        score_rows([row], ["17", "17"])
    with pytest.raises(ValueError, match="blank reference"):
        presence_is_right("anything", "  ")
    with pytest.raises(InputError, match="plain number"):
        number_is_right("17", "seventeen")
    assert score_rows([row, row], ["17", "71"]) == [True, False]


@pytest.mark.parametrize("length", [400, 1000, 5000])
def test_lines_fill_the_length_with_distinct_keys(length: int) -> None:
    rows = lines_rows(TOKENIZER, length=length, rows=20, seed=3)
    assert rows == lines_rows(TOKENIZER, length=length, rows=20, seed=3)
    assert rows != lines_rows(TOKENIZER, length=length, rows=20, seed=4)
    for row in rows:
        records = re.findall(r"^line (\S+): REGISTER_CONTENT is (\d+)$", row.prompt, re.M)
        assert 0.9 * length <= tokens(row.prompt) == row.tokens <= length
        assert len(dict(records)) == len(records) == row.labels["lines"]
        assert all(1 <= int(number) <= 50_000 for _, number in records)
        asked = re.findall(r"in line (\S+)\?", row.prompt)
        assert [dict(records)[key] for key in asked] == [row.answer]  # asked once, answered once
        assert records[round(row.place * (len(records) - 1))] == (asked[0], row.answer)
    assert len({row.place for row in rows}) > (1 if length < 1000 else 5)


def test_lines_of_a_count_and_their_limits() -> None:
    rows = lines_rows_of(TOKENIZER, lines=DEFAULT_LINES[0], rows=3)
    assert [row.prompt.count("REGISTER_CONTENT is") for row in rows] == [100] * 3
    assert {row.labels["lines"] for row in rows} == {100}
    assert len(line_keys()) == len(set(line_keys()))
    with pytest.raises(ValueError, match="distinct line keys"):
        lines_rows_of(TOKENIZER, lines=len(line_keys()) + 1, rows=1)
    with pytest.raises(InputError, match="at least"):
        lines_rows(TOKENIZER, length=100)
    for length in range(340, 460, 7):  # where one record is too few and two are too many
        assert all(row.tokens <= length for row in lines_rows(TOKENIZER, length=length, rows=3))
    with pytest.raises(ConfigError, match="rows is 0"):
        lines_rows(TOKENIZER, length=1000, rows=0)


def test_the_template_counts_and_wraps() -> None:
    def template(text: str) -> str:
        return f"USER: {text}\nASSISTANT:"

    for row in (
        lines_rows(TOKENIZER, length=900, rows=1, template=template)[0],
        passkey_rows(TOKENIZER, length=900, rows=1, template=template)[0],
        freeform_rows(sources(), TOKENIZER, length=900, rows=1, template=template).rows[0],
    ):
        assert row.prompt.startswith("USER: ") and row.prompt.endswith("ASSISTANT:")
        assert 810 <= tokens(row.prompt) == row.tokens <= 900


def test_passkey_is_refused_for_a_tokenizer_without_english_words() -> None:
    from lengthwise.lab.reasoner import shipped_reasoner
    from lengthwise.pretrained import load_tokenizer

    with pytest.raises(InputError, match="no token for a plain English sentence"):
        passkey_rows(load_tokenizer(shipped_reasoner()), length=2000, rows=1)


@pytest.mark.parametrize("first_half", [False, True])
def test_passkey_is_told_once_in_a_drawn_place(first_half: bool) -> None:
    rows = passkey_rows(TOKENIZER, length=2000, rows=40, seed=1, first_half=first_half)
    assert rows == passkey_rows(TOKENIZER, length=2000, rows=40, seed=1, first_half=first_half)
    for row in rows:
        assert 1800 <= row.tokens == tokens(row.prompt) <= 2000
        assert row.prompt.count(f"The pass key is {row.answer}. Remember it: {row.answer} is") == 1
        assert row.prompt.count("The grass is green.") == row.labels["blocks"] >= 2
        assert 0 <= row.labels["before"] < row.labels["blocks"] // (2 if first_half else 1)
        assert row.prompt.endswith("The pass key is") and 1 <= int(row.answer) <= 9_999_999
    assert len({row.labels["before"] for row in rows}) > 3
    with pytest.raises(InputError, match="at least"):
        passkey_rows(TOKENIZER, length=300)


@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("length", [1000, 3000])
def test_qa_evidence_stands_once_in_its_place(numbers: bool, length: int) -> None:
    given = sources(numbers=numbers)
    make = altered_rows if numbers else freeform_rows
    built = make(given, TOKENIZER, length=length, seed=5)
    again = make(given, TOKENIZER, length=length, seed=5)
    assert built == again and len(built.rows) == 6 * len(given) and not built.left_out
    for index, row in enumerate(built.rows):
        source = given[index // 6]
        question, place = CONDITIONS[index % 6]
        assert (row.labels["question"], row.labels["answer"]) == (question, place)
        assert row.prompt.count(row.answer) == 1
        assert row.prompt.count(source.question) == 1
        assert (row.prompt.index(source.question) < row.prompt.index(row.answer)) is (question == "start")
        low, high = PLACES[place]
        assert low <= row.place < high or row.place == high == 1
        assert 0.9 * length <= row.tokens == tokens(row.prompt) <= length and not row.short
        if numbers:
            assert row.answer != source.answer and abs(int(row.answer) - int(source.answer)) <= 10
            assert not whole_number(source.answer).search(row.prompt)


def test_too_little_text_gives_short_rows_and_no_evidence_twice() -> None:
    built = freeform_rows(sources(2), TOKENIZER, length=50_000)
    assert all(row.short and row.prompt.count(row.answer) == 1 for row in built.rows)


def test_every_sentence_with_the_answer_but_the_first_is_dropped() -> None:
    document = "Rain fell. He saw OSLO. Oslo is cold. We left Oslo. Snow fell. Wind blew. Leaves fell. Fog came."
    row = freeform_rows([Source(document, "What is cold?", " Oslo ")], TOKENIZER, length=400).rows[0]
    assert row.prompt.lower().count("oslo") == 1 and "Oslo is cold." in row.prompt and row.answer == "Oslo"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (Source("One two three four five six. More.", "q", "One two three four five six"), "more than 5 words"),
        (Source("Nothing here.", "q", "Oslo"), "in no sentence"),
        (Source("It ended. Badly for him.", "q", "ended. Badly"), "in no sentence"),
    ],
)
def test_rows_left_out_are_counted(source: Source, reason: str) -> None:
    built = freeform_rows([*sources(3), source], TOKENIZER, length=1000)
    assert len(built.rows) == 18
    [(found, count)] = built.left_out.items()
    assert reason in found and count == 1


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (Source("Born in 1800.", "Who?", "-7"), "no plain integer"),
        (Source("Born in 1800.", "Who?", "1,800"), "no plain integer"),
        (Source("It cost 1,800 crowns.", "How much?", "800"), "not in the document as a whole"),
        (Source("Born in 1800.", "Who was born in 1800?", "1800"), "question holds the number"),
        (Source("Take 3 of 1 2 4 5 6 7 8 9.", "How many?", "3"), "no new number"),
    ],
)
def test_altered_rows_left_out_are_counted(source: Source, reason: str) -> None:
    built = altered_rows([*sources(3, numbers=True), source], TOKENIZER, length=1000)
    [(found, count)] = built.left_out.items()
    assert reason in found and count == 1 and len(built.rows) == 18


@pytest.mark.parametrize("make", [freeform_rows, altered_rows])
def test_blank_answers_and_no_rows_are_refused(make) -> None:
    with pytest.raises(ValueError, match="blank reference"):
        make([Source("Text.", "q", "  ")], TOKENIZER, length=500)
    with pytest.raises(InputError, match="no row"):
        make([], TOKENIZER, length=500)
    with pytest.raises(InputError, match="longer than the length: 1"):
        make(sources(1, numbers=True), TOKENIZER, length=100)


def test_whole_numbers() -> None:
    text = "1990, 1990. 21990 1990.5 1,990 1990,3 (1990) 1990s 19901"
    # left alone: 21990, 1990.5, 1,990 (another number), 1990,3, 19901; "1990s" is beside no digit
    assert whole_number("1990").sub("X", text) == "X, X. 21990 1990.5 1,990 1990,3 (X) Xs 19901"
    assert whole_number("990").findall("1,990 0.990 990") == ["990"]


def test_new_numbers_follow_the_pages_rule() -> None:
    rng = random.Random(0)
    years = {int(new_number("1995", rng)) for _ in range(2000)}
    assert years == set(range(1985, 2006)) - {1995}
    assert {new_number("7", rng) for _ in range(500)} == set("123456") | {"8", "9"}
    assert all(len(new_number("420", rng)) == 3 and new_number("420", rng)[0] != "0" for _ in range(200))
    assert {len(new_number("2101", rng)) for _ in range(50)} == {4}
    assert max(abs(int(new_number("2101", rng)) - 2101) for _ in range(200)) > 10  # no year


def test_released_sets_and_sources_are_read(tmp_path: Path) -> None:
    rows = [
        {"conversations": [{"from": "human", "value": f"Question {n}"}, {"from": "gpt", "value": " Oslo "}]}
        for n in range(7)
    ]
    file = tmp_path / "qa.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_released(file, TOKENIZER, task="freeform-qa")
    assert [row.labels["question"] for row in found] == ["end", "start"] * 3 + ["end"]
    assert [row.labels["answer"] for row in found] == ["start"] * 2 + ["random"] * 2 + ["end"] * 2 + ["start"]
    assert found[0].answer == "Oslo" and found[0].tokens == 10
    file.write_text('{"conversations": [{"value": "only one"}]}\n')
    with pytest.raises(InputError, match="row 1"):
        read_released(file, TOKENIZER, task="freeform-qa")
    file.write_text('{"document": "In Oslo.", "question": "Where?", "answer": "Oslo"}\n')
    assert read_sources(file) == [Source("In Oslo.", "Where?", "Oslo")]
    file.write_text('{"document": "In Oslo.", "question": "Where?", "answer": " "}\n')
    with pytest.raises(InputError, match="empty answer"):
        read_sources(file)
    file.write_text('{"prompt": "p", "expected_number": "x", "random_idx": ["a", 1], "num_lines": 3}\n')
    with pytest.raises(InputError, match="no LongChat row"):
        read_longchat(file, TOKENIZER)


@pytest.mark.skipif(not LONGCHAT.is_dir(), reason="no LongChat files here")
@pytest.mark.parametrize("lines", [200, 400, 680])
def test_real_longchat_files_parse_and_score(lines: int) -> None:
    rows = read_longchat(LONGCHAT / f"{lines}_lines.jsonl", TOKENIZER)
    assert len(rows) == 50 and {row.labels["lines"] for row in rows} == {lines}
    assert all(f"line {row.labels['key']}: REGISTER_CONTENT is <{row.answer}>" in row.prompt for row in rows)
    reading = [
        re.search(rf"line {re.escape(row.labels['key'])}: REGISTER_CONTENT is <(\d+)>", row.prompt) for row in rows
    ]
    assert score_rows(rows, [f"It is {found[1]}." for found in reading if found]) == [True] * 50
    assert sum(score_rows(rows, ["The number in line 3 is 17."] * 50)) == 0
