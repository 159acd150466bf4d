"""What to do next, from numbers that were counted by hand."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
from wordlog import HAND, word_tokenizer, write_log

from grading import grade_file
from lengthwise.config.commands.evaluation import GradeSettings
from lengthwise.logs.graded_database import Lengths
from lengthwise.logs.log_grading import grade_log
from lengthwise.logs.log_numbers import Abandoned, AfterRight, GradeSummary, KeptAtBudget
from lengthwise.logs.next_steps import next_steps, smallest_budget
from lengthwise.statistics.bootstrap import Interval

NO_INTERVAL = Interval(None, None, None, 0.95, 2000, 0)


def steps(budget=None, *, after_tokens=None, gone=0, right=(), mean=100.0, all_tokens=1000, cap=400):
    lengths, counts = np.unique(np.array(right, dtype=np.int64), return_counts=True)
    after = AfterRight(len(right), len(right), after_tokens, None, None, None, NO_INTERVAL)
    return next_steps(
        budget, mean_tokens=mean, all_tokens=all_tokens, after=after, gone=Abandoned(9, gone, gone, 0, 0, gone / 9),
        right=Lengths(lengths, counts), cap=cap, log="'my log.jsonl'",
    )  # fmt: skip


def test_the_budget_is_the_smallest_that_keeps_nearly_all_to_three_binary_digits():
    # Twenty right answers of 1/20 each: 19 of them, 95 %, lie within 77 tokens; 77 = 1001101b, to the next 16: 80.
    lengths = [*range(59, 78), 300]
    curve = np.array([[n, 1 / 20, 1 / 20, 0.0] for n in lengths])
    assert smallest_budget(curve, cap=300) == 80
    assert smallest_budget(curve, cap=78) == 78  # never above the cap
    assert smallest_budget(curve * [1, 1, 0, 1], cap=300) is None


def test_a_budget_that_saves_is_a_command_and_one_that_does_not_is_none():
    step = steps(KeptAtBudget(80, 0.57, 0.95, 60.0, 0.1))[0]
    assert step.says == "A budget of 80 tokens keeps 95.0% of the right answers and saves 40.0% of the tokens."
    assert step.command == "lengthwise evaluate MODEL --data DATA --cap 400 --budget 80"
    for hopeless in (KeptAtBudget(400, 0.6, 1.0, 100.0, 0.0), KeptAtBudget(80, 0.6, 1.0, 99.5, 0.0)):
        assert steps(hopeless)[0].command is None
        assert steps(hopeless)[0].says.endswith("hardly worth it.")
    assert steps(None)[0].says == "No response is right, so no budget can be named."


@pytest.mark.parametrize(
    ("tokens", "gone", "says", "runs"),
    [
        (500, 0, "would save at most 50.0% of the tokens: it could pay.", "--cap 400 --early-stop agree"),
        (50, 0, "would save at most 5.0% of the tokens: it hardly pays.", None),
        (50, 3, "and rescue up to 3 that are right, then lost: it could pay.", "--early-stop agree"),
        (None, 0, "is not known", "lengthwise grade 'my log.jsonl' --tokenizer FOLDER"),
    ],
)
def test_stopping_early_pays_by_what_comes_after_the_first_right_answer(tokens, gone, says, runs):
    step = steps(after_tokens=tokens, gone=gone, right=[5])[1]
    assert says in step.says
    assert step.command is None if runs is None else runs in step.command


def test_the_cap_for_training_is_the_rule_of_cap_auto():
    # The 0.4 quantile of 10, 20, ..., 110 lies at place 4: 50.
    step = steps(right=range(10, 120, 10))[2]
    assert step.command == "lengthwise shorten MODEL --data TRAIN --cap 50"
    assert steps(right=range(9))[2].command is None


def test_a_log_has_three_steps_and_a_summary_is_read_back_from_its_json(tmp_path):
    words = str(word_tokenizer(tmp_path / "words"))
    found = grade_file(write_log(tmp_path / "log.jsonl", HAND), tokenizer=words, cap=20)
    summary = GradeSummary.read(found)
    # After the right answer 9 of 46 tokens; the right answers have 5 and 14 tokens, of 23/3 on average.
    assert [step.command for step in summary.next_steps] == [
        None,
        "lengthwise evaluate MODEL --data DATA --cap 20 --early-stop agree",
        None,
    ]
    assert "19.6% of the tokens, and rescue up to 3" in summary.next_steps[1].says
    assert {name: found[name] for name in summary.to_dict()} == summary.to_dict()


def test_a_command_names_every_log_in_words_of_its_own(tmp_path):
    two = [write_log(tmp_path / name, HAND) for name in ("my log.jsonl", "b.jsonl")]
    found = grade_log(GradeSettings.from_dict({"log": [str(path) for path in two], "workers": 1}))
    command = found.next_steps[1].command
    assert command is not None
    assert shlex.split(command) == ["lengthwise", "grade", *map(str, two), "--tokenizer", "FOLDER"]
