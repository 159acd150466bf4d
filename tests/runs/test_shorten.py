"""Estimates, options and the demo's control, against numbers worked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lengthwise.config.commands import ShortenSettings
from lengthwise.config.groups.sampling import Sampling
from lengthwise.config.groups.training import Training
from lengthwise.engine import load_policy
from lengthwise.errors import ConfigError, InputError
from lengthwise.generation.sampling import evaluate
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import build_method
from lengthwise.pretrained import read_config
from lengthwise.runs.chains_demo import EVAL_CAP, TRAIN_PROBLEMS, first_pass, held_out, oracle_mean
from lengthwise.runs.resource_estimate import Estimate, device_name, estimate
from lengthwise.runs.shortening.auto_cap import choose_cap
from lengthwise.runs.shortening.resolve import method_options, resolve


def asked(tmp_path: Path, **changes: object) -> ShortenSettings:
    return ShortenSettings.from_dict({"model": "lab:chains", "data": "d", "out": tmp_path, "cap": 40} | changes)


def test_estimate_by_hand() -> None:
    # 605,440 parameters: weights 4 bytes each, gradients and AdamW 12 each.
    # KV: 2 tensors * 3 layers * 2 heads * 32 wide * 4 bytes = 1,536 bytes a token; 128 rows * (16 + 50) tokens.
    found = estimate(
        read_config(shipped_reasoner()), Training(steps=1), cap=50, prompt_tokens=16, dtype="float32", lora=0,
        gradient_checkpointing=False,
    )  # fmt: skip
    assert found.parameters == 605_440
    assert found.weights == 4 * 605_440
    assert found.gradients_and_optimizer == 12 * 605_440
    assert found.kv_cache == 1_536 * 128 * 66
    assert found.seconds_per_step > 0


def of_method(name: str, *, train: Training | None = None, **changes: Any) -> Estimate:
    given = {"cap": 60, "prompt_tokens": 20, "dtype": "float32", "lora": 0, "gradient_checkpointing": False} | changes
    train = train or Training(steps=1, prompts=1, group_size=2, updates=1)
    return estimate(read_config(shipped_reasoner()), train, method=build_method(name, cap=60), **given)


def test_in_half_precision_linear_weights_are_held_once_more_for_sampling() -> None:
    assert of_method("grpo").sampling_weights == 0
    found = of_method("grpo", dtype="bfloat16")  # its head is its embedding, which sampling multiplies by too
    assert found.sampling_weights == 2 * 605_440


def test_a_kl_penalty_holds_the_starting_weights_once_more_but_not_under_an_adapter() -> None:
    assert of_method("grpo").reference_model == 0
    found = of_method("dler")  # kl_coef 5e-4
    assert found.reference_model == 4 * 605_440
    assert found.total - of_method("grpo").total == 4 * 605_440
    assert of_method("dler", lora=4).reference_model == 0  # the policy's own, its adapter switched off


def test_a_critic_is_a_decoder_that_learns() -> None:
    # The head of this model is the embedding itself, so its decoder has all of the 605,440 parameters.
    found = of_method("t-ppo")
    assert found.critic == (4 + 12) * 605_440
    assert found.total - of_method("grpo").total == 16 * 605_440
    assert of_method("dler").critic == 0
    # With LoRA the decoder is frozen, 4 bytes each, and its adapter learns as the policy's does.
    adapted = of_method("ppo", lora=4)
    assert adapted.critic == 4 * 605_440 + adapted.gradients_and_optimizer


def test_time_counts_every_forward_and_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    # At 1e6 operations a second and no bound by memory; 2 rows of 20 prompt and 60 response tokens, N = 605,440.
    monkeypatch.setattr("lengthwise.runs.resource_estimate.machine_speed", lambda *_: (1e6, 1e30))
    n = 605_440 / 1e6
    decode = 2 * n * 2 * 60
    assert of_method("grpo").seconds_per_step == pytest.approx(decode + 6 * n * 2 * 80)
    twice = Training(steps=1, prompts=2, group_size=2, updates=2)  # old log-probabilities too; twice the rows
    assert of_method("grpo", train=twice).seconds_per_step == pytest.approx(2 * decode + 8 * n * 4 * 80)
    assert of_method("dler").seconds_per_step == pytest.approx(decode + 8 * n * 2 * 80)  # the reference's forward
    assert of_method("drpo").seconds_per_step == pytest.approx(decode + 8 * n * 2 * 80)  # its trust region's forward
    # T-PPO: a third of 60 is written, read behind a prompt of 20 and (20 + 60) / 2 tokens on average; the critic's
    # forward, forward again and backward are 8 N.
    found = of_method("t-ppo")
    assert found.tokens_per_step == 2 * 20
    assert found.seconds_per_step == pytest.approx(2 * n * 2 * 20 + 14 * n * 2 * 60)


def test_thinking_that_is_cut_is_written_once_and_answered_after_every_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    # 2 rollouts think for 60 - 8 tokens and are answered 4 times at each of 4 budgets, with at most 8 tokens.
    monkeypatch.setattr("lengthwise.runs.resource_estimate.machine_speed", lambda *_: (1e6, 1e30))
    found, n = of_method("brpo"), 605_440 / 1e6
    tokens = 2 * 52 + 32 * 8
    assert found.tokens_per_step == tokens
    assert found.seconds_per_step == pytest.approx(2 * n * tokens + 6 * n * 32 * 80)
    assert found.kv_cache == 16 * of_method("grpo").kv_cache


def test_gradients_take_the_place_of_activations_except_between_micro_batches() -> None:
    # A token leaves 8 * 128 + 5 * 384 values in each of 3 layers, of 4 bytes; gradients are 4 bytes a parameter.
    each = 4 * 3 * (8 * 128 + 5 * 384)
    long = Training(steps=1, prompts=4, group_size=8, updates=2)  # an update has 2 * 8 rows of 80 tokens
    assert of_method("grpo", train=long).activations == 1_280 * each - 4 * 605_440
    parts = Training(steps=1, prompts=4, group_size=8, updates=2, micro_batch_tokens=640)
    assert of_method("grpo", train=parts).activations == 640 * each
    assert of_method("grpo").activations >= 0


def test_speed_is_measured_on_the_device_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr(
        "lengthwise.runs.resource_estimate.machine_speed", lambda *given: measured.append(given) or (1.0, 1.0)
    )
    of_method("grpo", device=torch.device("meta"), dtype="bfloat16")
    assert measured == [(torch.device("meta"), "bfloat16")]
    assert device_name(torch.device("cpu")) == "this CPU" and device_name(torch.device("mps")) == "mps"


def test_options_take_the_types_of_the_methods_defaults(tmp_path: Path) -> None:
    settings = asked(tmp_path, option=("clip_high=0.36", "dual_clip=none", "dynamic_sampling=false"))
    assert method_options(settings) == {"clip_high": 0.36, "dual_clip": None, "dynamic_sampling": False}


@pytest.mark.parametrize(("option", "says"), [("clip_high", "name=value"), ("cap=3", "--cap")])
def test_bad_options_are_refused(tmp_path: Path, option: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        method_options(asked(tmp_path, option=(option,)))


def test_the_labs_problems_are_those_of_the_demo_with_its_contract_and_rate(tmp_path: Path) -> None:
    settings = asked(tmp_path, data="lab:chains", eval_limit=12)
    assert (settings.contract.preset, settings.training.lr) == ("lab", 1e-4)
    found = resolve(settings)
    assert len(found.train) == TRAIN_PROBLEMS
    assert found.held_out.ids == held_out(12, shipped_reasoner())[0].ids
    with pytest.raises(InputError, match=r"lab:search.*chains.jsonl"):
        resolve(asked(tmp_path, data="lab:search"))


def test_the_first_pass_control_costs_the_oracle_length(tmp_path: Path) -> None:
    policy = load_policy(shipped_reasoner(), device="cpu")
    problems, _ = held_out(24, shipped_reasoner())
    before, _ = evaluate(policy, problems, Sampling(cap=EVAL_CAP), name="before", data="d")
    control = first_pass(policy, problems, before, tmp_path / "log.jsonl")
    # One pass, A:, a number and EOS: 6 n + 3 tokens each, whatever the base would have gone on to write.
    assert control.tokens.mean() == pytest.approx(oracle_mean(problems), abs=1.0)
    assert control.tokens.mean() < 0.6 * before.tokens.mean()


def test_cap_auto_needs_right_answers_and_takes_their_quantile() -> None:
    policy = load_policy(shipped_reasoner(), device="cpu")
    problems, _ = held_out(24, shipped_reasoner())
    choice = choose_cap(policy, problems, eval_cap=EVAL_CAP, samples=2, seed=0)
    assert choice.cap == choice.quantiles["p40"]
    assert list(choice.quantiles.values()) == sorted(choice.quantiles.values())
    with pytest.raises(InputError, match="needs 10 right responses, but of the 48 drawn 0 are right within 2 tokens"):
        choose_cap(policy, problems, eval_cap=2, samples=2, seed=0)
    # All that were drawn may be right, and still be too few.
    with pytest.raises(InputError, match=r"of the 4 drawn \d are right within 260 tokens; give a number, more prob"):
        choose_cap(policy, problems.part(0, 2), eval_cap=EVAL_CAP, samples=2, seed=0)
