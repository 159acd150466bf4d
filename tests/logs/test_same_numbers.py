"""`grade` gives the same numbers whatever form and format a log has, and the traps of each format change none."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from log_forms import CONVERSIONS, FORMS, PARTS, Rows, as_batch, as_inspect, lines, made
from wordlog import write_log

from grading import InThisProcess, grade_file
from lengthwise.errors import LengthwiseError
from lengthwise.logs import log_grading

FILES = Path(__file__).parent / "readers" / "files"
WROTE = sorted(path for path in FILES.rglob("*") if path.is_file() and "results" not in path.name)
NEEDS = {".parquet": "pyarrow", ".eval": "zstandard"}
CALLED = ("log", "read_as", "format", "notes", "verdicts_by", "by_category", "next_steps")
"""What a summary says of the log's form, and what not every format has."""


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(log_grading, "IsolatedPool", InThisProcess)
    yield


def answered(seed: int) -> Rows:
    """Rows of which some are right."""
    rng = random.Random(seed)
    return [row | {"response": f"{row['response']} The answer is {int(row['answer']) + rng.randrange(2)}"}
            for row in made(seed)]  # fmt: skip


def numbers(log: Any, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """All numbers of a log's summary, and its record without what the log is called."""
    summary = grade_file(log, record=folder / "record.json")
    record = json.loads((folder / "record.json").read_text())
    record["problem_ids"] = [name.removeprefix("log/") for name in record["problem_ids"]]  # evalscope's subset
    del record["name"], record["categories"]
    return {name: value for name, value in summary.items() if name not in CALLED}, record


@pytest.mark.parametrize("change", [*FORMS, *CONVERSIONS], ids=lambda change: change.__name__)
def test_no_form_or_format_changes_a_number(tmp_path: Path, change: Callable[[Path, Rows], Path]) -> None:
    for seed in range(2):
        rows = answered(seed)
        folder = tmp_path / str(seed)
        whole = numbers(lines(folder / "whole" / "log.jsonl", rows), folder)
        assert 0 < whole[0]["accuracy"] < 1
        changed = numbers(change(folder, rows), folder)
        assert changed[1] == whole[1]
        assert changed[0] == whole[0]


@pytest.mark.parametrize(("says", "convert"), PARTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_format_that_says_less_gives_the_numbers_of_flat_rows_that_say_as_much(
    tmp_path: Path, says: tuple[str, ...], convert: Callable[[Path, Rows], Path]
) -> None:
    for seed in range(3):
        rows = [row | {"score": float(number % 3 > 0)} for number, row in enumerate(answered(seed))]
        if convert is as_batch:
            rows = [row for row in rows if row["sample"] == 0]
        folder = tmp_path / str(seed)
        whole = numbers(
            lines(folder / "whole" / "log.jsonl", [{name: row[name] for name in says} for row in rows]), folder
        )
        changed = numbers(convert(folder, rows), folder)
        for summary, record in (whole, changed):
            summary["context"]["grader"] = record["context"]["grader"] = ""  # a verdict has the log's name for it
        assert changed[1]["problem_ids"] == whole[1]["problem_ids"]
        assert changed == whole


# ---- the traps of each format --------------------------------------------------------------------------------


def test_rows_of_a_second_filter_are_no_samples() -> None:
    found = grade_file(next((FILES / "lm-eval-0.4.13").glob("samples_sums_2026*")))
    assert found["read_as"].startswith("lm-eval samples, 2 filters, 1 sample a problem; ")
    assert (found["problems"], found["responses"], found["verdicts_by"]) == (3, 3, {"ours": 3})
    found = grade_file(next((FILES / "lm-eval-0.4.13").glob("samples_sums_sampled*")))
    assert (found["problems"], found["responses"]) == (3, 9)


def test_the_usage_of_several_choices_is_their_sum_and_counts_once(tmp_path: Path) -> None:
    choice = {"message": {"content": "The answer is 7"}, "finish_reason": "stop"}
    row = {"problem_id": "p", "answer": 7, "choices": [choice, choice], "usage": {"completion_tokens": 300}}
    found = grade_file(write_log(tmp_path / "log.jsonl", [row]))
    assert (found["problems"], found["responses"], found["mean_tokens"]) == (1, 2, 5)
    assert "2 responses share counts: 300 tokens in all, by the log" in found["notes"]


def test_epochs_are_samples(tmp_path: Path) -> None:
    rows = [made(0)[0] | {"problem_id": f"p{n}", "sample": epoch} for epoch in (1, 2) for n in range(5)]
    found = grade_file(as_inspect(tmp_path, rows))
    assert (found["problems"], found["responses"]) == (5, 10)


def test_ends_of_inspect(tmp_path: Path) -> None:
    rows = [made(0)[0] | {"sample": n, "finish_reason": end} for n, end in enumerate(("model_length", "unknown"))]
    found = grade_file(as_inspect(tmp_path, rows))
    assert (found["truncation_rate"], found["finished_by"]) == (0.5, {"log": 1, "assumed": 1})


def test_a_batch_is_joined_by_custom_id_and_its_failed_requests_are_left_out(tmp_path: Path) -> None:
    batch = FILES / "vllm-0.32.0" / "batch.jsonl"
    names = [json.loads(line)["custom_id"] for line in batch.read_text().splitlines()]
    gold = write_log(tmp_path / "gold.jsonl", [{"id": name, "answer": 12} for name in names])
    found = grade_file(batch, answers=gold)
    assert found["read_as"].startswith("OpenAI Batch output")
    assert [(one["reason"], one["first"]) for one in found["left_out"]["reasons"]] == [
        ("no token count, and no tokenizer to count with", "row 2"),  # of two choices the usage is the sum
        ("a request that failed", "row 4"),
    ]


def test_a_step_is_a_category_and_a_reward_is_the_verdict_without_gold(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    found = grade_file(FILES / "trl-1.16.0" / "plain", answer_column="none")
    assert set(found["by_category"]) == {"step 1", "step 2"}
    assert found["verdicts_by"]["ours"] == 0
    assert any("the log's own verdict" in note for note in found["notes"])


def test_verl_has_its_verdict_in_acc_and_its_score_may_be_shaped(tmp_path: Path) -> None:
    found = grade_file(FILES / "verl-0.9.1")
    assert [one["verdict"] for one in found["agreement"]] == ["acc"]
    row = {"input": "3+4?", "output": "The answer is 7", "gts": "7", "score": 0.4, "step": 1}
    shaped = grade_file(write_log(tmp_path / "1.jsonl", [row]))
    assert shaped["accuracy"] == 1.0
    assert any("score is a reward, which may be shaped" in note for note in shaped["notes"])


def test_token_ids_of_lighteval_are_counted() -> None:
    pytest.importorskip("pyarrow")
    found = grade_file(FILES / "lighteval-0.13.0")
    assert found["context"]["tokenizer"] == "the log's own counts"


def test_predictions_and_reviews_of_evalscope_are_one_log() -> None:
    for log in (FILES / "evalscope-1.14.1", FILES / "evalscope-1.14.1" / "predictions"):
        found = grade_file(log)
        assert (found["problems"], found["responses"]) == (3, 6)


def test_one_row_may_be_many_samples_and_an_object_many_rows(tmp_path: Path) -> None:
    row = {"problem": "3+4?", "answer": "7", "generations": ["The answer is 7", "The answer is 8"],
           "finish_reasons": ["stop", "length"]}  # fmt: skip
    found = grade_file(write_log(tmp_path / "log.jsonl", [row]))
    assert (found["problems"], found["responses"], found["accuracy"], found["truncation_rate"]) == (1, 2, 0.5, 0.5)
    rows = {str(n): {"origin_prompt": f"{n}+1?", "prediction": "It is \\boxed{1}", "gold": "1"} for n in range(3)}
    (tmp_path / "gsm8k.json").write_text(json.dumps(rows))
    assert grade_file(tmp_path / "gsm8k.json")["responses"] == 3


def test_all_up_to_the_last_closing_mark_is_thinking_and_all_of_it_where_none_closes(tmp_path: Path) -> None:
    row = {"answer": 4, "num_tokens": 9, "finished": True}
    texts = ["so</think>The answer is 4</think>The answer is 5", "◁think▷The answer is 4"]
    found = grade_file(write_log(tmp_path / "log.jsonl", [row | {"response": text} for text in texts]))
    assert (found["accuracy"], found["unclosed_rate"]) == (0, 0.5)


# ---- wrong and damaged files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WROTE, ids=lambda path: str(path.relative_to(FILES)))
def test_a_damaged_file_gives_numbers_or_one_line_and_writes_nothing_by_halves(tmp_path: Path, path: Path) -> None:
    if path.suffix in NEEDS:
        pytest.importorskip(NEEDS[path.suffix])
    rng, out = random.Random(path.name), tmp_path / "out.jsonl"
    for attempt in range(4):
        data = bytearray(path.read_bytes())
        place = rng.randrange(len(data))
        log = tmp_path / f"{attempt}-{path.name}"
        log.write_bytes(data[:place] if attempt % 2 else data[:place] + rng.randbytes(3) + data[place:])
        try:
            found = grade_file(log, out=out)
            assert len(out.read_text().splitlines()) == found["responses"]
        except LengthwiseError as error:
            assert "\n" not in str(error) and log.name in str(error)
            assert not list(tmp_path.glob("*out.jsonl*"))
        out.unlink(missing_ok=True)


# ---- verdicts of the log alone -------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [True, False])
def test_what_needs_no_worker_gets_the_numbers_that_a_worker_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: bool
) -> None:
    rng = random.Random(0)
    marks = ["<think>", "</think>", "◁think▷", "◁/think▷", "\n", " ", "The answer is 4", "[THINK]", "½ of 12345_6ü²"]
    rows = [
        {"response": "".join(rng.choices(marks, k=rng.randrange(6))), "score": rng.random(),
         "problem_id": f"p{n // 4}", "sample": n % 4, "finish_reason": rng.choice(["stop", "length", None])}
        | ({"num_tokens": n % 50} if counts else {})
        | ({"reasoning": "so it is"} if n % 9 == 0 else {}) | ({"answer": 4} if n % 4 == 3 else {})
        for n in range(400)
    ]  # fmt: skip
    log, asked = write_log(tmp_path / "log.jsonl", rows), {"reasoning_column": "reasoning", "right_from": 0.4}
    found = grade_file(log, out=tmp_path / "out.jsonl", record=tmp_path / "record.json", **asked)
    monkeypatch.setattr(log_grading.Words, "quick", lambda self, text: False)
    monkeypatch.setattr(log_grading.Anatomist, "alone", lambda self, body: False)
    assert grade_file(log, out=tmp_path / "slow.jsonl", record=tmp_path / "slow.json", **asked) == found
    assert (tmp_path / "slow.jsonl").read_text() == (tmp_path / "out.jsonl").read_text()
    assert (tmp_path / "slow.json").read_text() == (tmp_path / "record.json").read_text()
