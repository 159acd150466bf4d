"""A measurement: the numbers of drawing and grading at once, and the same where it was killed in its middle."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.config.groups.sampling import Intervention, Sampling
from lengthwise.engine import load_policy
from lengthwise.errors import CheckpointError, InputError
from lengthwise.generation.measurement import measure
from lengthwise.generation.response_log import ResponseLog, read_log
from lengthwise.generation.sampling import complete_all, evaluate
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.runs.chains_demo import chain_problems, measured_chains
from lengthwise.statistics.graded_problems import Graded, GradedProblem, record_of


def test_a_measurement_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    policy, problems = load_policy(shipped_reasoner()), chain_problems(measured_chains(6), shipped_reasoner())
    sampling = Sampling(cap=120, samples=2, seed=3, sample_rows=12)
    whole, rollouts = evaluate(policy, problems, sampling, name="m", data="d")
    found = measure(policy, problems, sampling, tmp_path / "logs" / "whole.jsonl", name="m", data="d")
    assert found.record == whole
    assert [one.num_tokens for one in found.responses] == rollouts.num_tokens.tolist()
    assert found.answer_correct == rollouts.answer_correct.tolist()

    parts, killed = sampling.replace(sample_rows=4), tmp_path / "killed.jsonl"
    wanted = measure(policy, problems, parts, tmp_path / "parts.jsonl", name="m", data="d")
    with ResponseLog(killed) as log, pytest.raises(KeyboardInterrupt):
        complete_all(policy, problems, parts, log, intervention=Intervention(), tell=_stop)
    with pytest.raises(CheckpointError, match="has no sample 0 of problem"):
        read_log(killed, problems, 2)
    assert measure(policy, problems, parts, killed, name="m", data="d").record == wanted.record
    assert killed.read_bytes() == (tmp_path / "parts.jsonl").read_bytes()


def _stop(found: object) -> None:
    raise KeyboardInterrupt


def test_a_record_is_made_of_graded_problems() -> None:
    right, cut = Graded(True, True, 5), Graded(True, False, 9)
    record = record_of("r", {"cap": 9}, [GradedProblem("a", "x", [right, cut]), GradedProblem("b", "y", [cut])])
    assert (record.problem_ids, record.categories) == (["a", "b"], ["x", "y"])
    assert (record.answer_correct, record.finished) == ([[True, True], [True]], [[True, False], [False]])
    assert record.num_tokens == [[5, 9], [9]]
    assert record_of("r", {"cap": 9}, [GradedProblem("a", None, [right])]).categories is None
    with pytest.raises(InputError):
        record_of("r", {"cap": 9}, [])
