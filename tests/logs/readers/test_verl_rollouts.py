"""verl's dumps, as verl's own writer wrote them."""

from __future__ import annotations

from lengthwise.logs.readers import recognise

WROTE = "verl-0.9.1"


def test_a_folder_of_steps_is_one_log_in_the_order_of_its_steps(files, read):
    log = files / WROTE
    assert str(recognise(log)) == "verl rollouts, 3 files"
    assert [row.category for row in read(log)] == ["step 1"] * 4 + ["step 2"] * 4 + ["step 10"] * 4


def test_what_a_row_says(files, read):
    right, wrong, thinks, _ = read(files / WROTE / "1.jsonl")
    assert (right.response, right.answer, right.problem) == (
        "6 * 2 = 12\n#### 12", "12", "user\nA pen costs 2 dollars. What do 6 pens cost?\nassistant\n",
    )  # fmt: skip
    assert wrong.problem == right.problem and thinks.problem != right.problem  # groups are told by the prompt
    assert (right.num_tokens, right.finished) == (None, None)


def test_the_score_may_be_shaped_and_acc_stands_beside_it(files, read, write):
    (right, *_) = read(files / WROTE / "10.jsonl")
    assert right.verdicts == {"score": 0.9, "reward": 0.9, "acc": 1.0} and right.notes == ()
    (row,) = read(write([{"input": "1+1?", "output": "2", "gts": None, "score": 0.7, "step": 3}]))
    assert row.verdicts == {"score": 0.7} and "may be shaped" in row.notes[0] and row.answer is None
