"""NeMo-RL's step data, as its writer makes it: every value a list of one."""

from __future__ import annotations

from lengthwise.logs.readers import recognise

TRAIN = {
    "content": ["<|im_start|>user\n3+4?<|im_end|>\n<|im_start|>assistant\n<think>so</think>7<|im_end|>\n"],
    "rewards": [0.5], "filtered_rewards": [0.25], "input_lengths": [20], "token_ids": [[1] * 20],
    "token_loss_mask": [[0] * 12 + [1] * 8], "idx": 0,
}  # fmt: skip


def test_prompt_and_response_are_parted_at_the_assistants_head_and_tokens_are_those_of_the_mask(read, write):
    log = write([TRAIN], "train_data_step1.jsonl")
    assert str(recognise(log)) == "NeMo-RL step data"
    (row,) = read(log)
    assert row.response == "<think>so</think>7" and row.problem == "<|im_start|>user\n3+4?<|im_end|>\n"
    assert row.num_tokens == 8  # input_lengths, 20, has the prompt in it
    assert row.verdicts == {"rewards": 0.5, "filtered_rewards": 0.25}


def test_a_text_without_a_head_that_is_known_is_read_whole_with_a_note(read, write):
    (row,) = read(write([TRAIN | {"content": ["3+4? 7"]}]))
    assert (row.response, row.problem) == ("3+4? 7", None) and "one text" in row.notes[0]


def test_validation_rows_are_messages(read, write):
    talk = [{"role": "user", "content": "3+4?"}, {"role": "assistant", "content": "7<|im_end|>"}]
    (row,) = read(write([{"content": [talk], "rewards": [1.0], "idx": 0}]))
    assert (row.response, row.problem, row.verdicts, row.num_tokens) == ("7", "3+4?", {"rewards": 1.0}, None)
