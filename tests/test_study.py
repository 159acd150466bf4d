"""Estimates, options and the demo's control, against numbers worked by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.engine import TrainConfig, load_policy
from lengthwise.engine.models import read_config
from lengthwise.errors import ConfigError, InputError
from lengthwise.evaluation.evaluate import Sampling, evaluate
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.study.autocap import choose_cap
from lengthwise.study.demo import EVAL_CAP, first_pass, held_out, oracle_mean
from lengthwise.study.estimate import estimate
from lengthwise.study.request import Request


def request(tmp_path: Path, **changes: object) -> Request:
    asked = {"model": "lab:chains", "data": "d", "out": tmp_path, "train": TrainConfig(steps=1), "cap": "40"} | changes
    return Request(**asked)  # type: ignore[arg-type]


def test_estimate_by_hand() -> None:
    # 605,440 parameters: weights 4 bytes each, gradients and AdamW 12 each.
    # KV: 2 tensors * 3 layers * 2 heads * 32 wide * 4 bytes = 1,536 bytes a token; 128 rows * (16 + 50) tokens.
    found = estimate(
        read_config(shipped_reasoner()), TrainConfig(steps=1), cap=50, prompt_tokens=16, dtype="float32", lora=0,
        gradient_checkpointing=False,
    )  # fmt: skip
    assert found.parameters == 605_440
    assert found.weights == 4 * 605_440
    assert found.gradients_and_optimizer == 12 * 605_440
    assert found.kv_cache == 1_536 * 128 * 66
    assert found.seconds_per_step > 0


def test_options_take_the_types_of_the_methods_defaults(tmp_path: Path) -> None:
    asked = request(tmp_path, options=("clip_high=0.36", "dual_clip=none", "dynamic_sampling=false"))
    assert asked.method_options() == {"clip_high": 0.36, "dual_clip": None, "dynamic_sampling": False}


@pytest.mark.parametrize(("option", "says"), [("clip_high", "name=value"), ("cap=3", "--cap")])
def test_bad_options_are_refused(tmp_path: Path, option: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        request(tmp_path, options=(option,)).method_options()


def test_the_first_pass_control_costs_the_oracle_length() -> None:
    policy = load_policy(shipped_reasoner(), device="cpu")
    problems, _ = held_out(24, shipped_reasoner())
    before, _ = evaluate(policy, problems, Sampling(EVAL_CAP), name="before", data="d")
    control = first_pass(policy, problems, before)
    # One pass, A:, a number and EOS: 6 n + 3 tokens each, whatever the base would have gone on to write.
    assert control.tokens.mean() == pytest.approx(oracle_mean(problems), abs=1.0)
    assert control.tokens.mean() < 0.6 * before.tokens.mean()


def test_cap_auto_needs_right_answers_and_takes_their_quantile() -> None:
    policy = load_policy(shipped_reasoner(), device="cpu")
    problems, _ = held_out(24, shipped_reasoner())
    choice = choose_cap(policy, problems, eval_cap=EVAL_CAP, samples=2, seed=0)
    assert choice.cap == choice.quantiles["p40"]
    assert list(choice.quantiles.values()) == sorted(choice.quantiles.values())
    with pytest.raises(InputError, match="only 0 of 48 responses are right within 2 tokens"):
        choose_cap(policy, problems, eval_cap=2, samples=2, seed=0)
