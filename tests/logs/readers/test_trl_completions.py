"""TRL's completions, as GRPO wrote them: of plain prompts and of messages."""

from __future__ import annotations

import pytest

from lengthwise.data import Defect
from lengthwise.logs.readers import recognise

WROTE = "trl-1.16.0"
pytest.importorskip("pyarrow")


def test_a_folder_of_steps_is_one_log(files, read):
    log = files / WROTE / "plain"
    assert str(recognise(log)) == "TRL completions, 2 files"
    rows = read(log)
    assert [row.category for row in rows] == ["step 1"] * 4 + ["step 2"] * 4
    assert {row.problem for row in rows} == {"What is 12 - 5?", "What do 6 pens of 2 dollars cost?"}


def test_messages_and_plain_texts_give_the_same_rows(files, read):
    assert read(files / WROTE / "messages") == read(files / WROTE / "plain")


def test_rewards_are_verdicts_and_gold_is_there_where_a_reward_logged_it(files, read):
    row = read(files / WROTE / "plain")[0]
    assert row.verdicts.keys() == {"right_reward", "short_reward"}  # the advantage is none
    assert row.answer in ("7", "12")


def test_without_gold_the_rewards_are_all_there_is(read, write):
    (row,) = read(write([{"step": 1, "prompt": "1+1?", "completion": "2", "right": 1.0, "advantage": 0.5}]))
    assert (row.answer, row.verdicts, row.num_tokens, row.finished) == (None, {"right": 1.0}, None, None)


def test_the_last_message_of_the_assistant_is_the_response(write):
    def row(*completion):
        return {
            "step": 1,
            "prompt": [{"role": "user", "content": "1+1?"}],
            "completion": list(completion),
            "advantage": 0,
        }

    first = {"role": "assistant", "content": "let me look", "tool_calls": []}
    last = {"role": "assistant", "content": "2", "reasoning_content": "one more"}
    log = recognise(write([row(first, {"role": "tool", "content": "2"}, last), row({"role": "tool", "content": "x"})]))
    (_, good), (_, bad) = log.rows()
    assert (good.response, good.reasoning, good.problem) == ("2", "one more", "1+1?")
    assert isinstance(bad, Defect) and bad.reason == "no message of the assistant in completion"
