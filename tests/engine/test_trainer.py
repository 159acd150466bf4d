"""The training loop on a tiny task: it learns, repeats itself, warns, and carries its state."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import tiny
import torch

from lengthwise.config.groups.training import Training
from lengthwise.engine import Sampler, Task
from lengthwise.engine.batches import problem_at
from lengthwise.engine.checkpoint import newest_checkpoint
from lengthwise.engine.method import LossInputs, Method, Observation
from lengthwise.engine.metrics_log import METRICS, read_metrics
from lengthwise.engine.model_folders import weights_sha
from lengthwise.errors import ConfigError, LengthwiseWarning, TrainingError
from lengthwise.methods import METHODS, build_method
from lengthwise.objectives import group_normalised

pytestmark = pytest.mark.filterwarnings("ignore::lengthwise.errors.LengthwiseWarning")


def short(rollouts, state):
    """Reward 1 at no token, 0 at twelve."""
    return 1 - rollouts.num_tokens.float() / 12


def run(folder, **options):
    seen = []
    made = tiny.trainer(folder, **options)
    made.train(on_step=seen.append)
    return made, seen


def weights(net):
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def test_a_tiny_task_is_learnt(tmp_path):
    method = replace(build_method("grpo", cap=12), reward=short)
    _, seen = run(
        tmp_path, method=method, steps=15, prompts=6, group_size=8, lr=1e-2, checkpoint_every=15,
        practice=Task(tiny.task().prompts, lambda number, tokens: True),
    )  # fmt: skip
    # An untaught model ends with each token by chance 1/4, so it writes about 4 tokens; 1 is the least.
    assert seen[0]["mean_tokens"] > 2.5
    assert sum(m["mean_tokens"] for m in seen[-5:]) / 5 < 1.5
    assert seen[-1]["reward_mean"] > seen[0]["reward_mean"]


@pytest.mark.parametrize("name", ["grpo", "dler"])
def test_right_answers_become_more_frequent(tmp_path, name):
    method = build_method(name, cap=6, kl_coef=0.0)
    _, seen = run(tmp_path, method=method, steps=6, prompts=6, group_size=8, lr=5e-3, checkpoint_every=6)
    assert seen[0]["accuracy"] < 0.6
    assert seen[-1]["accuracy"] > 0.8


def test_the_same_seed_gives_the_same_metrics_and_weights(tmp_path):
    one, seen = run(tmp_path / "a")
    two, again = run(tmp_path / "b")
    assert tiny.comparable(seen) == tiny.comparable(again)
    assert all(torch.equal(a, b) for a, b in zip(weights(one.model).values(), weights(two.model).values(), strict=True))
    _, other = run(tmp_path / "c", seed=1)
    assert tiny.comparable(seen) != tiny.comparable(other)


def test_the_log_holds_what_was_told_and_no_nan(tmp_path):
    _, seen = run(tmp_path)
    assert read_metrics(tmp_path) == seen
    for line in (tmp_path / METRICS).read_text().splitlines():
        row = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} in the metrics"))
        assert all(math.isfinite(v) for v in row.values() if isinstance(v, int | float))
    assert [row["step"] for row in seen] == [1, 2, 3]
    assert all(row["sampled_tokens"] > 0 for row in seen)


def test_metrics_describe_the_batch(tmp_path):
    practice = Task(tiny.task().prompts, lambda number, tokens: True)
    _, seen = run(tmp_path, practice=practice, steps=1, method=build_method("grpo", cap=3))
    row = seen[0]
    assert row["cap"] == 3
    assert row["mean_tokens"] <= 3
    assert row["accuracy"] == pytest.approx(1 - row["cut_rate"])
    assert row["uniform_groups"] == 1
    assert row["groups"] == row["groups_wanted"] == 4
    assert row["sampled_tokens"] == round(16 * row["mean_tokens"])


def test_a_schedule_s_cap_is_rounded_half_up_and_travels_with_the_rows(tmp_path):
    method = replace(build_method("grpo", cap=6), cap=lambda step, state: 2.5 + step)
    _, seen = run(tmp_path, method=method)
    assert [row["cap"] for row in seen] == [3, 4, 5]
    with pytest.raises(ConfigError, match="cap of step 0 is 0"):
        run(tmp_path / "b", method=replace(method, cap=lambda step, state: 0.4))


def test_warm_up_raises_the_learning_rate_in_a_line(tmp_path):
    _, seen = run(tmp_path, steps=5, warmup_steps=4, lr=1e-3)
    assert [row["lr"] for row in seen] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3])


def test_a_method_s_state_is_carried_saved_and_restored(tmp_path):
    def remember(state, rollouts):
        return {"steps": state["steps"] + 1, "tokens": [*state["tokens"], int(rollouts.num_tokens.sum())]}

    seen_by_reward = []

    def reward(rollouts, state):
        seen_by_reward.append(state["steps"])
        return rollouts.correct.float()

    method = replace(
        build_method("grpo", cap=6), reward=reward, update_state=remember,
        initial_state=lambda: {"steps": 0, "tokens": []},
    )  # fmt: skip
    whole, _ = run(tmp_path / "whole", method=method, steps=4)
    run(tmp_path / "parts", method=method, steps=2)
    saved = newest_checkpoint(tmp_path / "parts" / "checkpoints").state["method"]
    assert saved["steps"] == 2
    parts, _ = run(tmp_path / "parts", method=method, steps=4)
    assert parts.run.method == whole.run.method
    assert parts.run.method["steps"] == 4
    assert seen_by_reward == [0, 1, 2, 3, 0, 1, 2, 3]


def test_a_longer_run_goes_on_where_the_shorter_ended(tmp_path):
    whole, seen = run(tmp_path / "whole", steps=5)
    run(tmp_path / "parts", steps=3, checkpoint_every=2)
    parts, rest = run(tmp_path / "parts", steps=5)
    assert [row["step"] for row in rest] == [4, 5]
    assert tiny.comparable(read_metrics(tmp_path / "parts")) == tiny.comparable(seen)
    assert all(
        torch.equal(a, b) for a, b in zip(weights(whole.model).values(), weights(parts.model).values(), strict=True)
    )


def test_a_penalty_needs_a_reference(tmp_path):
    with pytest.raises(ConfigError, match="kl_coef 0.0005 but no reference"):
        tiny.trainer(tmp_path, method=build_method("dler", cap=6))


def test_a_loss_that_is_not_finite_keeps_the_checkpoint(tmp_path):
    method = build_method("grpo", cap=6)
    calls = []

    def loss(inputs):
        calls.append(1)
        value, stats = method.loss(inputs)
        return (value * float("nan") if len(calls) > 4 else value), stats

    with pytest.raises(TrainingError, match="not finite"):
        run(tmp_path, method=replace(method, loss=loss), steps=6, checkpoint_every=1)
    kept = newest_checkpoint(tmp_path / "checkpoints")
    assert kept is not None
    assert kept.step == len(read_metrics(tmp_path)) >= 1


def test_weights_that_blow_up_end_in_a_training_error(tmp_path):
    with pytest.raises(TrainingError, match="finite|NaN"):
        run(tmp_path, steps=40, lr=1e12)


@pytest.mark.parametrize("value", [0.1, 0.7])
def test_a_constant_reward_has_exactly_no_spread(tmp_path, value):
    # The float32 mean of 48 times 0.7 is not 0.7; its rounding must not pass for a signal.
    method = replace(build_method("grpo", cap=6), reward=lambda rollouts, state: torch.full((len(rollouts),), value))
    _, seen = run(tmp_path, method=method, steps=1, prompts=12)
    assert seen[0]["reward_std"] == 0


def warned(recorded):
    return [str(w.message) for w in recorded if issubclass(w.category, LengthwiseWarning)]


@pytest.mark.filterwarnings("always::lengthwise.errors.LengthwiseWarning")
@pytest.mark.parametrize(
    ("case", "words", "step"),
    [
        ("cap", "reach the cap of 1 tokens; raise the cap", 5),
        ("constant", "the reward is constant", 5),
        ("uniform", "all right or all wrong", 5),
        ("still", "the weights did not move", 1),
        ("clip", "clip share is exactly 0", 20),
    ],
)
def test_what_keeps_a_run_from_learning_is_said_aloud(tmp_path, case, words, step):
    method, options = build_method("grpo", cap=6), {"steps": step, "checkpoint_every": 100}
    if case == "cap":
        # too low a learning rate to find out that the first token can be an end
        method, options["lr"] = build_method("grpo", cap=1), 1e-7
    if case in ("constant", "still"):
        method = replace(method, reward=lambda rollouts, state: torch.ones(len(rollouts)))
    if case == "uniform":
        options["practice"] = Task(tiny.task().prompts, lambda number, tokens: False)
    if case == "clip":
        method, options["lr"] = replace(method, reward=short), 1e-7
    with pytest.warns(LengthwiseWarning) as recorded:
        _, seen = run(tmp_path, method=method, **options)
    assert any(words in text and text.startswith(f"step {step}:") for text in warned(recorded))
    assert any(words in text for text in seen[-1]["warnings"])
    assert any(words in text for text in read_metrics(tmp_path)[-1]["warnings"])


def test_a_good_run_is_silent(tmp_path):
    _, seen = run(
        tmp_path, steps=4, prompts=8, group_size=8, method=replace(build_method("grpo", cap=12), reward=short)
    )
    assert [row["warnings"] for row in seen] == [[]] * 4


def test_token_level_advantages_train_too(tmp_path):
    method = replace(
        build_method("grpo", cap=6),
        advantage=lambda rewards, rollouts: group_normalised(rewards, rollouts.group_ids)[:, None] * rollouts.mask,
    )
    row, token = (run(tmp_path / n, method=m)[1] for n, m in (("a", build_method("grpo", cap=6)), ("b", method)))
    assert [r["loss"] for r in row] == pytest.approx([r["loss"] for r in token], abs=1e-5)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_training_under_gradient_checkpointing_gives_the_same_run(tmp_path):
    _, plain = run(tmp_path / "plain")
    net = tiny.model()
    net.gradient_checkpointing_enable({"use_reentrant": False})
    net.train()
    _, saved = run(tmp_path / "saved", net=net)
    for one, two in zip(tiny.comparable(plain), tiny.comparable(saved), strict=True):
        assert one.pop("warnings") == two.pop("warnings")
        assert one == pytest.approx(two, rel=1e-3, abs=1e-4)
    assert net.training


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"group_size": 1}, "group_size is 1.*a group of one has no advantage"),
        ({"prompts": 0}, "prompts is 0"),
        ({"updates": 0}, "updates is 0"),
        ({"updates": 5, "prompts": 4}, "updates is 5 but a batch has 4 groups"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"grad_clip": float("inf")}, "grad_clip is inf"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"truncate_importance": 0.0}, "truncate_importance is 0.0"),
        ({"seed": -1}, "seed is -1"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
    ],
)
def test_impossible_settings_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        Training(**{"steps": 1, **options})


@pytest.mark.parametrize("part", ["reward", "advantage"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_a_method_of_ones_own_says_of_a_row_is_a_number(tmp_path, part, number):
    # a NaN is not above 0, so its row would be left out of the update as one without a signal
    method = build_method("grpo", cap=6)
    own = getattr(method, part)

    def broken(first, second):
        values = own(first, second).clone()
        values[2] = number
        return values

    made = tiny.trainer(tmp_path, method=replace(method, **{part: broken}))
    before = weights_sha(made.model)
    with pytest.raises(TrainingError, match=f"the {part} of method 'grpo' is {number:g} for row 2 of the batch"):
        made.train()
    assert weights_sha(made.model) == before


def test_the_trainer_samples_as_the_sampler_does(tmp_path):
    made = tiny.trainer(tmp_path)
    assert isinstance(made.backend, Sampler)
    assert made.backend.eos_ids.tolist() == tiny.EOS


def watching(every):
    """GRPO that counts how often it was shown its watched set, and remembers whose problems they were."""

    def update(state, rollouts):
        seen = sorted(set(rollouts.problem_ids.tolist()))
        return {"looks": state["looks"] + 1, "seen": seen, "same": state["seen"] in ([], seen)}

    return replace(
        build_method("grpo", cap=5),
        initial_state=lambda: {"looks": 0, "seen": [], "same": True},
        observe=Observation(every, 3, update),
    )


def test_a_watched_set_is_the_same_problems_every_few_steps_and_costs_tokens(tmp_path):
    made, seen = run(tmp_path, method=watching(2), steps=5, checkpoint_every=2)
    assert made.run.method == {"looks": 3, "seen": made.run.method["seen"], "same": True}  # before steps 0, 2 and 4
    assert len(made.run.method["seen"]) == 3
    _, plain = run(tmp_path / "plain", method=build_method("grpo", cap=5), steps=1)
    assert seen[0]["sampled_tokens"] > plain[0]["sampled_tokens"]
    # The batch itself is drawn from the same numbers as without watching.
    assert seen[0]["mean_tokens"] == plain[0]["mean_tokens"]


def test_a_watched_set_needs_a_period_and_problems():
    with pytest.raises(ConfigError, match="observe is every 0 steps"):
        watching(0)


# batches with nothing to learn from


def barren(numbers, problems=12):
    """A task whose named problems are always answered wrong."""
    plain = tiny.task(problems)
    return Task(plain.prompts, lambda number, tokens: number not in numbers and plain.grade(number, tokens))


def skipping(folder, *, bad, problems=12, seen=None, **options):
    """DLER, one prompt a step and one draw: a step is skipped where its problem is not mixed."""
    settings = {"prompts": 1, "updates": 1, "max_draws": 1, "group_size": 8, "checkpoint_every": 50, **options}
    made = tiny.trainer(
        folder, method=build_method("dler", cap=6, kl_coef=0.0), practice=barren(bad, problems), **settings
    )
    made.train(on_step=None if seen is None else seen.append)
    return made


def test_a_batch_with_nothing_to_learn_from_is_skipped_and_counted(tmp_path):
    order = [problem_at(place, 12, 0) for place in range(12)]
    with pytest.warns(LengthwiseWarning, match=r"step 2: skipped, kept 0 of 1 prompts in 1 draws.*use easier problems"):
        made = skipping(tmp_path, bad={order[1]}, steps=3)
    first, second, third = read_metrics(tmp_path)
    assert second["skipped"] == 1 and second["updates"] == 0 and second["accuracy"] == 0
    assert "skipped" not in first and "skipped" not in third and third["updates"] == 1
    assert made.run.step == 3 and made.run.cursor == 3
    assert third["sampled_tokens"] > second["sampled_tokens"] > first["sampled_tokens"]


def test_a_skipped_step_leaves_the_weights_alone_and_tells_the_method(tmp_path):
    told = []

    def remember(state, rollouts):
        told.append(len(rollouts))
        return state

    order = [problem_at(place, 12, 0) for place in range(12)]
    method = replace(build_method("dler", cap=6, kl_coef=0.0), update_state=remember)
    made = tiny.trainer(
        tmp_path, method=method, practice=barren({order[1]}), prompts=1, updates=1, max_draws=1, group_size=8, steps=2
    )
    shas = []
    made.train(on_step=lambda metrics: shas.append(weights_sha(made.model)))
    assert shas[0] == shas[1] != weights_sha(tiny.model())
    assert told == [8, 8]


def test_ten_skipped_steps_in_a_row_end_the_run_and_the_same_call_goes_on_behind_them(tmp_path):
    order = [problem_at(place, 40, 0) for place in range(40)]
    bad, seen = set(order[2:20]), []
    with pytest.raises(TrainingError, match=r"10 steps in a row had nothing to learn from.*The same command goes on"):
        skipping(tmp_path, bad=bad, problems=40, seen=seen, steps=24)
    assert [row.get("skipped") for row in seen] == [None, None, *range(1, 11)]
    seen.clear()
    skipping(tmp_path, bad=bad, problems=40, seen=seen, steps=24)  # eight more, then it learns
    assert [row["step"] for row in seen] == list(range(13, 25))
    assert [row.get("skipped") for row in seen[:9]] == [*range(1, 9), None]
    assert [row["step"] for row in read_metrics(tmp_path)] == list(range(1, 25))


def test_skipped_steps_in_a_row_are_counted_over_a_kill(tmp_path):
    order = [problem_at(place, 40, 0) for place in range(40)]

    def die(metrics):
        if metrics["step"] == 8:
            raise KeyboardInterrupt

    settings = {"prompts": 1, "updates": 1, "max_draws": 1, "group_size": 8, "checkpoint_every": 1, "steps": 30}
    method, practice = build_method("dler", cap=6, kl_coef=0.0), barren(set(order[2:]), 40)
    with pytest.raises(KeyboardInterrupt):
        tiny.trainer(tmp_path, method=method, practice=practice, **settings).train(on_step=die)
    again = tiny.trainer(tmp_path, method=method, practice=practice, **settings)
    with pytest.raises(TrainingError, match="10 steps in a row"):
        again.train()
    assert again.run.step == 12


def test_a_run_that_only_skips_ends_with_the_reason_and_is_then_finished(tmp_path):
    with pytest.raises(TrainingError, match=r"3 steps in a row had nothing to learn from.*use easier problems"):
        skipping(tmp_path, bad=set(range(12)), steps=3)
    assert skipping(tmp_path, bad=set(range(12)), steps=3).run.step == 3


# importance weights


def test_importance_weights_that_a_loss_leaves_out_are_refused(tmp_path):
    for name in ("drpo", "disco"):
        with pytest.raises(
            ConfigError, match=f"truncate_importance is 2.0, but the loss of method '{name}' takes no adv"
        ):
            tiny.trainer(tmp_path, method=build_method(name, cap=6), truncate_importance=2.0)
        tiny.trainer(tmp_path, method=build_method(name, cap=6))
    tiny.trainer(tmp_path, method=build_method("grpo", cap=6), truncate_importance=2.0)


def test_what_methods_say_of_their_losses_is_so():
    for name in METHODS:
        method = build_method(name, cap=12, **({"short_model": "x"} if name == "ada-r1" else {}))
        if not isinstance(method, Method) or method.teacher is not None:
            continue
        rollouts = tiny.rollouts([3, 5, 2, 4], groups=[0, 0, 1, 1], correct=[True, False, True, False])
        found = []
        for scale in (1.0, 3.0):
            logp = rollouts.logp.clone().requires_grad_()
            advantages = torch.tensor([1.0, -1.0, 0.5, -0.5])[:, None] * scale * rollouts.mask
            shared = None if method.shared is None else method.shared(logp.detach(), logp.detach(), rollouts.mask)
            inputs = LossInputs(
                logp, rollouts.logp, advantages, rollouts.mask, rollouts, method.normaliser(rollouts), shared
            )
            method.loss(inputs)[0].backward()
            found.append(logp.grad)
        assert torch.equal(*found) != method.takes_advantages, name
