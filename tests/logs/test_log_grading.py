"""Grading a log: every number of a small one by hand, defects, the time limit, and what is written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from wordlog import EOS, HAND, row, word_tokenizer, write_log

from grading import InThisProcess, grade_file
from lengthwise.errors import ConfigError, InputError
from lengthwise.grading import equality
from lengthwise.grading.prompt_contract import PromptContract, preset
from lengthwise.logs import log_grading
from lengthwise.logs.rows import NO_ANSWER, NO_COUNT
from lengthwise.statistics.records import Record


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(word_tokenizer(tmp_path_factory.mktemp("words")))


@pytest.fixture(scope="module")
def hand(words: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]], Path]:
    folder = tmp_path_factory.mktemp("hand")
    log = write_log(folder / "hand.jsonl", HAND)
    rows: list[dict[str, Any]] = []
    summary = grade_file(
        log, tokenizer=words, cap=20, price=200_000.0, out=folder / "graded.jsonl", record=folder / "record.json",
        on_row=rows.append,
    )  # fmt: skip
    return summary, rows, folder


def graded(tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []
    summary = grade_file(write_log(tmp_path / "log.jsonl", rows), **options, on_row=found.append)
    return summary, found


# Right are a0 (14 tokens) and b0 (5); 46 tokens in all.
BY_HAND = {
    "problems": 3,
    "responses": 6,
    "timeouts": 0,
    "accuracy": (1 / 2 + 1 / 2 + 0) / 3,
    "mean_tokens": (13.5 + 5.5 + 4) / 3,
    "truncation_rate": (0 + 1 / 2 + 1 / 2) / 3,
    "unclosed_rate": (0 + 1 / 2 + 0) / 3,
    "empty_rate": (0 + 0 + 1 / 2) / 3,
    "token_efficiency": 1000 * 2 / 46,
    # Sorted: 1 5 6 7 13 14; the 95 % quantile lies at place 4.75, the 99 % one at 4.95.
    "tokens.total": {"responses": 6, "mean": 23 / 3, "median": 6.5, "p95": 13.75, "p99": 13.95},
    # a 9 8, b 0 6 (all of it), c 0 0; sorted 0 0 0 6 8 9.
    "tokens.thinking": {"responses": 6, "mean": (8.5 + 3 + 0) / 3, "median": 3.0, "p95": 8.75, "p99": 8.95},
    # a 5 5, b 5 0, c 1 7; sorted 0 1 5 5 5 7.
    "tokens.answer": {"responses": 6, "mean": (5 + 2.5 + 4) / 3, "median": 5.0, "p95": 6.5, "p99": 6.9},
    "tokens.right": {"responses": 2, "mean": 9.5, "median": 9.5, "p95": 13.55, "p99": 13.91},
    "tokens.wrong": {"responses": 4, "mean": 27 / 4, "median": 6.5, "p95": 12.1, "p99": 12.82},
    # After the right answer: 14 - 6 in a0, 5 - 4 (the EOS) in b0, of 14 + 5 tokens.
    "after_right.located": 2,
    "after_right.tokens": 9,
    "after_right.mean": 4.5,
    "after_right.share": 9 / 19,
    # a0: thinking 6 + 3, answer 0 + 5. b0: answer 4 + 1.
    "after_right.parts": {"thinking_before": 3.0, "thinking_after": 1.5, "answer_before": 2.0, "answer_after": 3.0},
    "abandoned": {"stated": 5, "abandoned": 3, "other_answer": 1, "cut": 1, "unclosed": 1, "rate": 3 / 5},
    # Any right: a, b.
    "pass_at_k": {"1": 1 / 3, "2": 2 / 3},
    # a: 4 and 5 tie, half; b: 7 and no answer, won; c: no answer and a cut one, lost.
    "majority_at_k": {"1": 1 / 3, "2": 1 / 2},
    "by_category.easy.accuracy": 1 / 2,
    "by_category.easy.mean_tokens": 13.5,
    "by_category.easy.after_right_share": 8 / 14,
    "by_category.hard.accuracy": 1 / 4,
    "by_category.hard.mean_tokens": 4.75,
    "by_category.hard.problems": 2,
    # Within 8 tokens: of the right ones b0 alone; a is cut to 8 8, b 5 6, c 1 7.
    "curve.3": {"budget": 8, "accuracy": 1 / 6, "kept": 1 / 2, "mean_tokens": 17.5 / 3, "truncation_rate": 2 / 3},
    "curve.5": {"budget": 20, "accuracy": 1 / 3, "kept": 1.0, "mean_tokens": 23 / 3, "truncation_rate": 1 / 3},
    # 0.2 a token.
    "money": {"price_per_million": 200_000, "total": 9.2, "after_right": 1.8, "per_right": 4.6},
    "problems_by": {"problem_id": 6},
    "finished_by": {"log": 6},
    "left_out": {"rows": 0, "reasons": []},
}  # fmt: skip


@pytest.mark.parametrize("key", BY_HAND)
def test_every_number_of_a_small_log_by_hand(hand: tuple[dict[str, Any], list[dict[str, Any]], Path], key: str) -> None:
    value: Any = hand[0]
    for part in key.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    wanted = BY_HAND[key]
    if isinstance(wanted, dict) and key != "left_out":
        assert value == {name: pytest.approx(number) for name, number in wanted.items()}
    else:
        assert value == pytest.approx(wanted) if isinstance(wanted, float) else value == wanted


def test_the_rows_say_what_was_found_and_are_written_as_they_are_given(
    hand: tuple[dict[str, Any], list[dict[str, Any]], Path],
) -> None:
    _, rows, folder = hand
    assert [json.loads(line) for line in (folder / "graded.jsonl").read_text().splitlines()] == rows
    assert rows[1] == {
        "line": 2, "problem_id": "a", "sample": 1, "category": "easy", "correct": False, "answer_correct": False,
        "finished": True, "num_tokens": 13, "how": "phrase", "extracted": "5", "thinking_tokens": 8,
        "answer_tokens": 5, "tokens_to_right": 6, "tokens_after_right": 7, "right_stated": True,
        "abandoned": "another answer", "empty": False, "unclosed": False, "stopped": False,
        "comparison_error": None,
    }  # fmt: skip
    assert [r["abandoned"] for r in rows] == [None, "another answer", None, "thinking never closed", None, "cut"]
    assert [r["correct"] for r in rows] == [True, False, True, False, False, False]
    assert rows[5]["answer_correct"] is True
    assert rows[4]["how"] == "empty response"


def test_the_record_gives_the_same_numbers(hand: tuple[dict[str, Any], list[dict[str, Any]], Path]) -> None:
    summary, _, folder = hand
    record = Record.load(folder / "record.json")
    assert record.problem_ids == ["a", "b", "c"]
    assert record.categories == ["easy", "hard", "hard"]
    again = record.summary().to_dict()
    for name in ("accuracy", "mean_tokens", "truncation_rate", "problems", "responses", "cap", "token_efficiency"):
        assert again[name] == pytest.approx(summary[name]), name
    assert again["tokens_correct"] == pytest.approx(summary["tokens"]["right"]["mean"])


def test_without_a_tokenizer_the_split_is_unknown_and_a_note_says_so(tmp_path: Path) -> None:
    summary, rows = graded(tmp_path, HAND)
    assert summary["tokens"]["thinking"] is None
    assert summary["after_right"]["share"] is None
    assert rows[0]["thinking_tokens"] is None
    assert summary["abandoned"]["abandoned"] == 3  # needs no tokens
    assert summary["cap"] == 14
    assert any("--tokenizer" in note for note in summary["notes"])
    json.dumps(summary, allow_nan=False)


def test_without_counts_and_tokenizer_pieces_of_text_are_counted_and_said(tmp_path: Path) -> None:
    texts = ["The answer is 4", "It is 12345, or so: 4"]
    rows = [{"response": text, "answer": 4, "finished": True} for text in texts]
    summary, found = graded(tmp_path, rows)
    # Words, marks and up to three digits, and the EOS: The answer is 4; It is 123 45 , or so : 4
    assert [row["num_tokens"] for row in found] == [5, 10]
    assert summary["read_as"] == "flat rows, the response in response; token counts are estimated from the text"
    assert summary["context"]["tokenizer"] == "estimated from the text"
    assert any("may be off by a third; --tokenizer FOLDER" in note for note in summary["notes"])
    with pytest.raises(ConfigError, match="cap is 8, and .* has no token counts that it could be compared with"):
        graded(tmp_path, rows, cap=8)


def test_a_row_without_a_count_among_rows_that_have_one_is_left_out(tmp_path: Path) -> None:
    plain = {"response": "The answer is 4", "answer": 4}
    summary, _ = graded(tmp_path, [plain, plain | {"num_tokens": 5}])
    assert summary["responses"] == 1
    assert summary["left_out"]["reasons"][0]["reason"] == "no token count, and no tokenizer to count with"


def test_tokens_are_counted_with_the_eos(tmp_path: Path, words: str) -> None:
    base = {"response": "The answer is 4", "answer": 4}
    wanted: list[tuple[dict[str, Any], int, bool]] = [
        ({}, 5, True),  # four words and the EOS that the text does not show
        ({"response": f"The answer is 4 {EOS}"}, 5, True),
        ({"finished": False}, 4, False),
        ({"finish_reason": "length"}, 4, False),
        ({"finish_reason": "stop"}, 5, True),
        ({"finish_reason": "MAX_TOKENS"}, 4, False),
        ({"finish_reason": None}, 5, True),
        ({"finish_reason": "", "finished": float("nan")}, 5, True),
        ({"finished": 1, "finish_reason": "stop"}, 5, True),
        ({"finish_reason": "enough"}, 5, True),  # nobody knows it: an unknown end
        ({"stop_reason": "max_tokens"}, 4, False),
        ({"stop_reason": 151645}, 5, True),  # a token's id, as vLLM has it: tells nothing
        ({"num_tokens": 9}, 9, True),  # a count that stands there counts
    ]
    _, rows = graded(tmp_path, [base | change for change, _, _ in wanted], tokenizer=words)
    assert [(r["num_tokens"], r["finished"]) for r in rows] == [(n, finished) for _, n, finished in wanted]


@pytest.mark.parametrize(("cap", "num_tokens", "finished"), [(6, 5, True), (5, 5, True), (4, 4, False), (3, 3, False)])
def test_the_cap_tells_who_was_cut(tmp_path: Path, words: str, cap: int, num_tokens: int, finished: bool) -> None:
    # four words: below a cap of 5 there was room for an EOS, at 4 there was none
    summary, rows = graded(tmp_path, [{"response": "The answer is 4", "answer": 4}], tokenizer=words, cap=cap)
    assert (rows[0]["num_tokens"], rows[0]["finished"]) == (num_tokens, finished)
    assert summary["finished_by"] == {"cap": 1}


def test_the_cap_and_given_counts(tmp_path: Path) -> None:
    rows = [{"response": "The answer is 4", "answer": 4, "num_tokens": n} for n in (7, 8)]
    assert [r["finished"] for r in graded(tmp_path, rows, cap=8)[1]] == [True, False]


def test_what_nothing_tells_is_taken_for_finished_and_said(tmp_path: Path) -> None:
    summary, _ = graded(tmp_path, [{"response": "The answer is 4", "answer": 4, "num_tokens": 5}])
    assert summary["finished_by"] == {"assumed": 1}
    assert any("1 responses are taken for finished" in note for note in summary["notes"])
    assert any("each counts as a problem of its own" in note for note in summary["notes"])


def test_thinking_given_apart_is_thinking(tmp_path: Path, words: str) -> None:
    inline = row("a", 0, 4, "two = 4. well </think> The answer is 5", 10)
    apart = row("a", 1, 4, " The answer is 5", 10) | {"reasoning": "two = 4. well "}
    cut = row("a", 2, 4, "", 5, finished=False) | {"reasoning": "two = 4. well so", "response": None}
    _, rows = graded(tmp_path, [inline, apart, cut], tokenizer=words)
    same = ("correct", "num_tokens", "how", "extracted", "thinking_tokens", "tokens_to_right", "abandoned")
    assert [rows[0][name] for name in same] == [rows[1][name] for name in same]
    assert rows[0]["thinking_tokens"] == 5
    assert (rows[2]["unclosed"], rows[2]["empty"], rows[2]["thinking_tokens"]) == (True, False, 5)


@pytest.mark.parametrize(
    ("options", "how"),
    [
        ({}, "phrase"),
        ({"contract": preset("gsm8k")}, "thinking never closed"),
        ({"contract": preset("gsm8k", think_prefix="", think_close=None)}, "phrase"),
        ({"contract": PromptContract("auto", answer_pattern="is (.)", think_marks=True)}, "answer pattern"),
    ],
)
def test_the_contract_tells_how_a_response_is_read(tmp_path: Path, options: dict[str, Any], how: str) -> None:
    summary, rows = graded(tmp_path, [row("a", 0, 4, "The answer is 4", 5)], **options)
    assert rows[0]["how"] == how
    assert any("--think no" in note for note in summary["notes"]) == (how == "thinking never closed")


def test_a_tokenizer_that_is_not_the_models_is_mentioned(tmp_path: Path, words: str) -> None:
    summary, _ = graded(tmp_path, [row("a", 0, 4, "The answer is 4", 50)], tokenizer=words)
    # 4 words and an EOS against 50: 90 % fewer
    assert any("counts 90.0% fewer tokens than the log" in note for note in summary["notes"])


def test_own_columns_and_a_grader_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_logs.py").write_text("def same(response, answer):\n    return response == answer\n")
    monkeypatch.chdir(tmp_path)
    rows = [{"out": text, "gold": "x y", "ask": "q", "kind": 3, "num_tokens": 2} for text in ("x y", "x")]
    names = {"response_column": "out", "answer_column": "gold", "problem_column": "ask", "category_column": "kind"}
    summary, _ = graded(tmp_path, rows, grader="mine_logs:same", **names)
    assert (summary["accuracy"], summary["problems"]) == (0.5, 1)
    assert list(summary["by_category"]) == ["3"]
    assert summary["majority_at_k"] is None  # no answer was read, so none can vote
    assert summary["context"]["grader"] == "mine_logs:same"


def test_a_problem_is_its_id_or_its_text_or_the_row(tmp_path: Path) -> None:
    plain = {"response": "The answer is 4", "answer": 4, "num_tokens": 5}
    named = [{"problem_id": 7}, {"problem_id": "7"}, {"problem_id": 7.0}, {"problem": "2+2?"}, {"problem": "2+2?"}]
    rows = [plain | name for name in (*named, {"question": "2+2?"}, {}, {})]
    summary, found = graded(tmp_path, rows)
    assert summary["problems"] == 4
    assert [r["problem_id"] for r in found[:3]] == ["7"] * 3
    assert summary["problems_by"] == {"problem_id": 3, "problem": 3, "row": 2}


def test_samples_of_one_problem_may_stand_in_different_categories(tmp_path: Path) -> None:
    rows = [GOOD | {"sample": sample, "category": name} for sample, name in enumerate(["easy", "hard", "hard"])]
    summary, found = graded(tmp_path, rows)
    assert {name: row["responses"] for name, row in summary["by_category"].items()} == {"easy": 1, "hard": 2}
    assert [row["category"] for row in found] == ["easy", "hard", "hard"]


# ---- defects -------------------------------------------------------------------------------------------------

GOOD = {"problem_id": "p", "response": "The answer is 4", "answer": 4, "num_tokens": 5}
BAD_LINES: list[tuple[bytes, str]] = [
    (b'{"response": ', "not JSON"),
    (b"[1, 2]", "not an object"),
    (b'"text"', "not an object"),
    (b"null", "not an object"),
    (b"[" * 100_000, "not JSON"),
    (b'{"num_tokens": ' + b"9" * 5000 + b"}", "not JSON"),
    (b"\x00\x00\x00", "not JSON"),
    (b'{"response": "\xff\xfe"}', "not UTF-8 text"),
    *(
        (json.dumps({**GOOD, **change}).encode(), reason)
        for change, reason in [
            ({"response": None}, "no response"),
            ({"response": 4}, "no response"),
            ({"response": ["so", "4"]}, "no response"),
            ({"reasoning": {"text": "so"}}, "reasoning is not text"),
            ({"answer": None}, NO_ANSWER),
            ({"answer": float("nan")}, NO_ANSWER),
            ({"answer": float("inf")}, "an answer that cannot be read"),
            ({"answer": True}, "an answer that cannot be read"),
            ({"answer": ""}, NO_ANSWER),
            ({"answer": []}, NO_ANSWER),
            ({"answer": {"value": 4}}, "an answer that cannot be read"),
            ({"num_tokens": None}, NO_COUNT),
            ({"num_tokens": float("nan")}, NO_COUNT),
            ({"num_tokens": -1}, "num_tokens is no count of tokens (a whole number, at least 0)"),
            ({"num_tokens": 5.5}, "num_tokens is no count of tokens (a whole number, at least 0)"),
            ({"num_tokens": "five"}, "num_tokens is no count of tokens (a whole number, at least 0)"),
            ({"num_tokens": True}, "num_tokens is no count of tokens (a whole number, at least 0)"),
            ({"num_tokens": 10**30}, "num_tokens is no count of tokens (a whole number, at least 0)"),
            ({"num_tokens": 101}, "num_tokens above the cap"),
            ({"problem_id": ["p"]}, "problem_id is neither text nor a whole number"),
            ({"problem_id": True}, "problem_id is neither text nor a whole number"),
            ({"sample": 1.5}, "sample is neither text nor a whole number"),
            ({"answer": 5}, "another answer than an earlier row of the same problem has"),
            ({"sample": 0}, "a sample of a problem given twice"),
        ]
    ),
]
FIRST = json.dumps({**GOOD, "sample": 0}).encode()


@pytest.fixture(scope="module")
def defective(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bad") / "bad.jsonl"
    lines = [FIRST, *(line for line, _ in BAD_LINES), b"  ", FIRST.replace(b"0}", b"1}"), b'{"response": "The ans']
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    return path


def test_defects_are_left_out_and_counted_with_their_first_line(defective: Path) -> None:
    rows: list[dict[str, Any]] = []
    summary = grade_file(defective, cap=100, on_row=rows.append)
    assert [(r["line"], r["correct"]) for r in rows] == [(1, True), (len(BAD_LINES) + 3, True)]
    wanted: dict[str, tuple[int, int]] = {}
    for line, reason in [
        *enumerate((reason for _, reason in BAD_LINES), 2),
        (len(BAD_LINES) + 4, "unfinished last line"),
    ]:
        rows_before, first = wanted.get(reason, (0, line))
        wanted[reason] = (rows_before + 1, first)
    found = {entry["reason"]: (entry["rows"], entry["first_line"]) for entry in summary["left_out"]["reasons"]}
    assert found == wanted
    assert summary["left_out"]["rows"] == len(BAD_LINES) + 1
    assert (summary["responses"], summary["problems"]) == (2, 1)


@pytest.mark.parametrize(("line", "reason"), BAD_LINES[::5], ids=lambda value: str(value)[:50])
def test_strict_makes_each_of_them_an_error(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"\n".join([FIRST, line, b"not JSON either"]) + b"\n")
    with pytest.raises(InputError) as raised:
        grade_file(path, cap=100, strict=True, out=tmp_path / "graded.jsonl")
    assert f"row 2: {reason}" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == [path]  # nothing half-written


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n \n", "is empty"),
        ("a.jsonl", b"{}\n{}\n", r"a log of no known format \(JSON lines\): its first row has no columns"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16"), "not UTF-8"),
        ("a.jsonl.gz", b"no gzip", "no row that can be read"),
        ("a.txt", b"{}", "a log of no known format"),
    ],
)
def test_a_file_of_nothing_is_an_error(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        grade_file(tmp_path / name, out=tmp_path / "graded.jsonl")
    assert not (tmp_path / "graded.jsonl").exists()


def test_absent_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        grade_file(tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match="is a folder without a log in it"):
        grade_file(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        grade_file(tmp_path / ("x" * 300))


def test_outputs_never_replace_the_log_or_a_folder(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", HAND)
    with pytest.raises(ConfigError, match="--out and the log are the same file"):
        grade_file(log, out=tmp_path / "." / "log.jsonl")
    with pytest.raises(ConfigError, match="a folder"):
        grade_file(log, record=tmp_path)
    assert log.read_text().count("\n") == len(HAND)


@pytest.mark.parametrize(
    "change", [{"cap": 0}, {"price": -1.0}, {"price": float("nan")}, {"workers": 0}, {"seconds": 0}]
)
def test_impossible_options(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        graded(tmp_path, HAND, **change)


def test_strange_texts_are_graded_all_the_same(tmp_path: Path, words: str) -> None:
    texts = [
        "half a pair \ud83d The answer is 4",
        "nul \x00 The answer is 4",
        "\u2028The answer is 4\u2029",
        "𝟜 The answer is 4",
    ]
    rows = [{"response": text, "answer": 4, "problem_id": f"{i}\ud83d"} for i, text in enumerate(texts)]
    summary, found = graded(tmp_path, rows, tokenizer=words)
    assert summary["accuracy"] == 1.0
    assert found[0]["problem_id"] == "0\ufffd"
    assert found[0]["num_tokens"] == 9  # half a pair � The answer is 4, and the EOS


def test_a_long_line_and_compression(tmp_path: Path) -> None:
    long = {**GOOD, "response": "word " * 2_000_000 + "The answer is 4"}
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(json.dumps(r) for r in (GOOD, long, GOOD)).encode()))
    summary = grade_file(path, seconds=60)
    assert (summary["responses"], summary["left_out"]["rows"]) == (3, 0)
    cut = tmp_path / "cut.jsonl.gz"
    whole = gzip.compress("".join(json.dumps({**GOOD, "problem_id": i * i}) + "\n" for i in range(2000)).encode())
    cut.write_bytes(whole[: len(whole) // 2])
    summary = grade_file(cut)
    assert [entry["reason"] for entry in summary["left_out"]["reasons"]] == ["damaged JSON lines"]
    assert 0 < summary["responses"] < 2000


def test_a_hostile_row_is_stopped_wrong_and_counted(tmp_path: Path, words: str) -> None:
    # A pattern that backtracks for ever on the second response.
    contract = PromptContract("auto", answer_pattern=r"((?:a|aa)+)$")
    hostile = {"problem_id": "h", "response": "a" * 60 + "b", "answer": "a"}
    rows = [
        {"problem_id": "p", "response": "a", "answer": "a"},
        hostile,
        {"problem_id": "p", "response": "a", "answer": "a"},
    ]
    summary, found = graded(tmp_path, rows, contract=contract, tokenizer=words, seconds=0.5)
    assert summary["timeouts"] == 1
    assert [r["correct"] for r in found] == [True, False, True]
    assert (found[1]["how"], found[1]["stopped"], found[1]["num_tokens"]) == ("stopped by the time limit", True, 2)
    assert summary["stopped_by"] == {"time": 1}
    assert any("1 grading ended early (1 by the limit of 0.5 s)" in note for note in summary["notes"])


def test_what_a_comparison_raises_is_wrong_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(given: str, wanted: str) -> bool:
        if "^2" in given or "^3" in given:
            raise ZeroDivisionError if "y" in given else TypeError
        return True

    monkeypatch.setattr(equality, "same_meaning", fails)
    monkeypatch.setattr(log_grading, "IsolatedPool", InThisProcess)
    given = ("The answer is x", "The answer is x^2", "The answer is y^2", "The answer is x^3")
    summary, found = graded(tmp_path, [GOOD | {"response": text, "answer": "x"} for text in given])
    assert [r["comparison_error"] for r in found] == [None, "TypeError", "ZeroDivisionError", "TypeError"]
    assert [r["correct"] for r in found] == [True, False, False, False]
    assert summary["comparison_errors"] == {"TypeError": 2, "ZeroDivisionError": 1}
    said = "comparing raised an exception in 3 rows (TypeError 2, ZeroDivisionError 1); those responses count as wrong"
    assert said in summary["notes"]


def test_one_problem_has_no_interval_and_one_response_is_enough(tmp_path: Path) -> None:
    summary, _ = graded(tmp_path, HAND[:1])
    assert summary["accuracy"] == 1.0
    assert summary["accuracy_interval"]["low"] is None
    wrong, _ = graded(tmp_path, HAND[1:2])
    assert wrong["tokens"]["right"] is None
    assert wrong["curve"][0]["kept"] is None


def test_the_listener_hears_of_progress(tmp_path: Path) -> None:
    heard: list[Any] = []
    log = write_log(tmp_path / "log.jsonl", [GOOD] * 250)
    grade_file(log, preset="lab", listener=lambda *facts: heard.append(facts))
    assert [facts["rows"] for _, facts in heard] == [100, 200]
    assert {"rows", "right", "tokens", "left_out"} <= heard[0][1].keys()
