"""Ada-R1's pairs (spec page ada-r1): from samples to readable lines, and every row, invariant and edge case of it.

The rules on verdicts alone are in test_objectives_preferences; here whole problems, files and settings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lengthwise.config.groups.model import TrainingRuntime
from lengthwise.config.groups.training import AdaptationHere, Training
from lengthwise.errors import CheckpointError, ConfigError, InputError
from lengthwise.grading.problems import Problems
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.merging import linear_merge
from lengthwise.methods.bi_level.dpo import micro_batch, pair_tokens, train_on_pairs
from lengthwise.methods.bi_level.pairs import graded_samples, problem_pairs, read_pairs, write_pairs
from lengthwise.methods.bi_level.stages import short_folder
from lengthwise.methods.papers.ada_r1 import BiLevel, ada_r1
from lengthwise.runs.chains_demo import chain_problems

HERE = (TrainingRuntime(), AdaptationHere())


def settings(**changes: Any) -> BiLevel:
    return ada_r1(cap=40, short_model="lab:terse", **{"samples": 4, **changes}).settings


def samples(*rows: tuple[int, int], by: str = "x") -> list[dict[str, Any]]:
    """Samples as (correct, length), each with a text of its own."""
    return [
        {"response": f"{by}{place}", "sample": place, "correct": bool(right), "finished": True, "num_tokens": length}
        for place, (right, length) in enumerate(rows)
    ]


def four(right: int, length: int, by: str) -> list[dict[str, Any]]:
    return samples(*((place < right, length) for place in range(4)), by=by)


def sides(pairs: list[dict[str, Any]], kind: str) -> list[tuple[int, int]]:
    return [(pair["chosen_sample"], pair["rejected_sample"]) for pair in pairs if pair["kind"] == kind]


# --- hand-checkable numbers ---------------------------------------------------------------------------------------


def test_ada_r1_row1_merge() -> None:
    """.8 [1, -2] + .2 [.5, 1] = [.9, -1.4]."""
    long, short = {"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([0.5, 1.0])}
    assert linear_merge([long, short], weights=[0.8, 0.2])["w"].tolist() == pytest.approx([0.9, -1.4])


@pytest.mark.parametrize(
    ("right_long", "right_short", "changes", "style"),
    [
        pytest.param(2, 2, {}, "short", id="ada-r1-row2-tie"),
        pytest.param(3, 2, {}, "long", id="ada-r1-row3"),
        pytest.param(3, 2, {"epsilon": 0.25}, "short", id="ada-r1-row5-equality"),
        pytest.param(0, 0, {}, "none", id="ada-r1-pipeline-none"),
    ],
)
def test_the_style_of_a_problem(right_long: int, right_short: int, changes: dict[str, Any], style: str) -> None:
    found, pairs = problem_pairs(
        four(right_long, 90, "l"), four(right_short, 20, "s"), settings(**changes), seed=0
    )  # fmt: skip
    assert found == style
    assert {pair["preferred"] for pair in pairs} == ({style} if style != "none" else set())


def test_ada_r1_row4_twelve_samples() -> None:
    """7/12 against 6/12: the lead of 1/12 is above 1/24."""
    long, short = (samples(*((place < n, 9) for place in range(12))) for n in (7, 6))
    assert problem_pairs(long, short, settings(samples=12), seed=0)[0] == "long"


def test_ada_r1_row6_instance_pairs_of_the_short_style() -> None:
    """Short preferred: y_w the third (50 tokens), y_l the fourth (200) and the first (90)."""
    short = samples((0, 90), (1, 70), (1, 50), (0, 200))
    style, pairs = problem_pairs(four(0, 300, "l"), short, settings(), seed=0)
    assert style == "short"
    assert sides(pairs, "instance") == [(2, 3), (2, 0)]


def test_ada_r1_row7_the_chosen_one_is_not_replaced_among_the_rejected() -> None:
    long = samples((1, 500), (0, 100), (0, 80), (0, 60))
    style, pairs = problem_pairs(long, four(0, 5, "s"), settings(), seed=0)
    assert style == "long"
    assert sides(pairs, "instance") == [(0, 1)]


def test_ada_r1_row8_four_of_sixteen_group_pairs() -> None:
    _, pairs = problem_pairs(four(4, 90, "l"), four(1, 20, "s"), settings(), seed=0)
    assert len(set(sides(pairs, "group"))) == 4
    _, every = problem_pairs(four(4, 90, "l"), four(1, 20, "s"), settings(group_most=99), seed=0)
    assert sorted(sides(every, "group")) == [(w, x) for w in range(4) for x in range(4)]


# --- edge cases and invariants ------------------------------------------------------------------------------------


def test_ada_r1_edge_one_sample_gives_one_group_pair_at_most() -> None:
    one = settings(samples=1)
    _, pairs = problem_pairs(samples((1, 9), by="l"), samples((0, 3), by="s"), one, seed=0)
    assert [pair["kind"] for pair in pairs] == ["group"]
    assert problem_pairs(samples((0, 9)), samples((0, 3)), one, seed=0) == ("none", [])


def test_ada_r1_edge_unlike_numbers_of_samples_need_an_epsilon() -> None:
    with pytest.raises(InputError, match="pass epsilon"):
        problem_pairs(samples((1, 9)), four(1, 3, "s"), settings(), seed=0)
    assert problem_pairs(samples((1, 9)), four(1, 3, "s"), settings(epsilon=0.5), seed=0)[0] == "long"


def test_ada_r1_edge_without_a_right_response_only_group_pairs() -> None:
    """epsilon 1/K and above: short is preferred though only a long response is right."""
    style, pairs = problem_pairs(four(1, 90, "l"), four(0, 20, "s"), settings(epsilon=0.25), seed=0)
    assert style == "short"
    assert {pair["kind"] for pair in pairs} == {"group"}


def test_ada_r1_invariant3_pairs_cross_groups_or_stay_inside_one() -> None:
    _, pairs = problem_pairs(four(4, 90, "l"), four(1, 20, "s"), settings(), seed=3)
    for pair in pairs:
        assert pair["chosen_by"] == pair["preferred"] == "long"
        assert (pair["rejected_by"] == "short") == (pair["kind"] == "group")
    assert pairs == problem_pairs(four(4, 90, "l"), four(1, 20, "s"), settings(), seed=3)[1]
    assert pairs != problem_pairs(four(4, 90, "l"), four(1, 20, "s"), settings(), seed=4)[1]


def test_each_level_of_pairs_alone() -> None:
    long, short = samples((1, 90), (1, 80), (0, 70), (1, 60), by="l"), four(1, 20, "s")
    found = {
        level: problem_pairs(long, short, settings(pairs=level), seed=1)[1] for level in ("both", "group", "instance")
    }
    assert {pair["kind"] for pair in found["group"]} == {"group"}
    assert {pair["kind"] for pair in found["instance"]} == {"instance"}
    assert found["both"] == found["group"] + found["instance"]


def test_narrow_is_the_authors_rule() -> None:
    """Chosen: right ones; rejected: wrong ones; instance: the longest of the right ones."""
    long, short = samples((0, 99), (1, 80), (1, 50), (1, 60), by="l"), four(1, 20, "s")
    _, pairs = problem_pairs(long, short, settings(narrow=True, group_most=99), seed=0)
    assert all(pair["chosen_correct"] for pair in pairs)
    assert not any(pair["rejected_correct"] for pair in pairs if pair["kind"] == "group")
    assert sides(pairs, "instance") == [(2, 1), (2, 3)]


def test_pairs_of_two_equal_texts_are_marked() -> None:
    short = samples((1, 5), (1, 5), (1, 5), (1, 5))
    for row in short:
        row["response"] = "A:1"
    _, pairs = problem_pairs(four(4, 90, "l"), short, settings(), seed=0)
    assert [pair["same"] for pair in pairs if pair["kind"] == "instance"] == [True]
    assert not any(pair["same"] for pair in pairs if pair["kind"] == "group")


# --- the files ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def problems() -> Problems:
    rows = [chains.Chain(1, (2,)), chains.Chain(3, (4, -2))]
    return chain_problems(rows, shipped_reasoner())


def log(path: Path, problems: Problems, *responses: list[tuple[str, bool]]) -> Path:
    """A response log: for every problem its (text, finished)."""
    rows = [
        {"problem_id": name, "sample": place, "response": text, "num_tokens": 3, "finished": finished}
        for name, found in zip(problems.ids, responses, strict=True)
        for place, (text, finished) in enumerate(found)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    return path


def test_cut_samples_are_never_right(tmp_path: Path, problems: Problems) -> None:
    path = log(tmp_path / "l.jsonl", problems, [("A:3", True), ("A:3", False)], [("A:5", True), ("A:6", True)])
    found = graded_samples(path, problems, 2)
    assert [[row["correct"] for row in found[name]] for name in problems.ids] == [[True, False], [True, False]]


def test_missing_samples_are_named(tmp_path: Path, problems: Problems) -> None:
    path = log(tmp_path / "l.jsonl", problems, [("A:3", True)], [("A:5", True), ("A:6", True)])
    with pytest.raises(CheckpointError, match="holds 1 of 2 samples of problem"):
        graded_samples(path, problems, 2)


def test_pairs_are_readable_lines_with_a_summary(tmp_path: Path, problems: Problems) -> None:
    long = log(tmp_path / "long.jsonl", problems, [("1+2=3;A:3", True)] * 2, [("3+4=7;7-2=5;A:5", True)] * 2)
    short = log(tmp_path / "short.jsonl", problems, [("A:3", True)] * 2, [("A:9", True), ("A:8", False)])
    facts = write_pairs(tmp_path / "pairs.jsonl", problems, long, short, settings(samples=2), seed=0)
    rows = list(read_pairs(tmp_path / "pairs.jsonl"))
    # Problem 1: a tie, so short: 4 group pairs, its instance pair has two equal texts. Problem 2: long, the same.
    assert facts.preferred == {
        "all": {"short": 1, "long": 1}, "1": {"short": 1}, "2": {"long": 1},
    }  # fmt: skip
    assert facts.long_is == {"equal": 1, "better": 1}
    assert facts.pairs == {"group": 8, "instance": 0}
    assert facts.left_out_as_equal == 2
    assert len(rows) == 8
    first = rows[0]
    assert (first["prompt"], first["chosen"], first["rejected"]) == ("1+2?", "A:3", "1+2=3;A:3")
    assert (first["chosen_by"], first["rejected_by"], first["level"]) == ("short", "long", "1")
    assert {row["problem_id"] for row in rows} == set(problems.ids)


def test_a_cut_response_is_not_taught_to_end(problems: Problems) -> None:
    pair = {
        "problem_id": problems.ids[0], "chosen": "1+2=3;A:3", "chosen_finished": True, "chosen_tokens": 9,
        "rejected": "1+2=", "rejected_finished": False, "rejected_tokens": 4,
    }  # fmt: skip
    rows, changed = pair_tokens([pair], problems)
    eos = problems.contract.eos_ids[0]
    assert rows[0]["prompt_ids"] == problems.prompts[0]
    assert rows[0]["chosen_ids"][-1] == eos
    assert len(rows[0]["chosen_ids"]) == 9
    assert eos not in rows[0]["rejected_ids"]
    assert changed == 0
    assert pair_tokens([{**pair, "rejected_tokens": 5}], problems)[1] == 1


# --- settings and refusals ----------------------------------------------------------------------------------------


def test_micro_batches_divide_the_batch() -> None:
    rows = [{"prompt_ids": [1] * 10, "chosen_ids": [1] * 20, "rejected_ids": [1] * 90}]
    # 2 x 100 padded tokens a pair: 1,000 hold five, and four is the largest divisor of 32 below
    assert micro_batch(rows, batch=32, max_length=4096, tokens=1000) == 4
    assert micro_batch(rows, batch=32, max_length=50, tokens=1000) == 8
    assert micro_batch(rows, batch=32, max_length=4096, tokens=1) == 1


def test_an_empty_list_of_pairs_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pair to train on"):
        train_on_pairs(shipped_reasoner(), tmp_path / "out", tmp_path, [], settings(), Training(steps=1), *HERE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"alpha": 1.5}, "alpha is 1.5; give a number from 0 to 1"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"samples": 0}, "samples is 0"),
        ({"epsilon": -0.1}, "epsilon is -0.1"),
        ({"beta": 0.0}, "beta is 0.0"),
        ({"pairs": "all"}, "pairs is 'all'; choose one of both, group, instance"),
        ({"schedule": "linear"}, "schedule is 'linear'"),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settings(**changes)


def test_the_papers_defaults() -> None:
    """ada-r1 page, table of defaults."""
    found = ada_r1(cap=16_384).options
    wanted = {
        "alpha": 0.8, "epsilon": None, "samples": 12, "group_most": 4, "instance_most": 2, "beta": 0.1, "lr": 5e-7,
        "batch": 32, "max_length": 4096, "epochs": 2, "schedule": "constant", "warmup": 0.1, "grad_clip": 50.0,
        "temperature": 0.6, "top_p": 0.95, "narrow": False, "pairs": "both", "cap": 16_384,
    }  # fmt: skip
    assert found == {**wanted, "short_model": ""}


def test_a_short_model_must_be_named_and_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a short model beside MODEL"):
        short_folder(ada_r1(cap=40).settings)
    with pytest.raises(InputError, match="no such folder"):
        short_folder(ada_r1(cap=40, short_model=str(tmp_path / "none")).settings)
    with pytest.raises(ConfigError, match="cannot be merged with the long one"):
        ada_r1(cap=40, short_model="lab:witnesses").staged(shipped_reasoner(), *HERE, trains=lambda stage: False)
