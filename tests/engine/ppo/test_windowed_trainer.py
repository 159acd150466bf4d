"""T-PPO's loop: which tokens are learnt from, when, and with what; rows and numbers are those of the t-ppo page."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import tiny
import torch
import windows

from lengthwise.engine import Task
from lengthwise.engine.batches import world_generator
from lengthwise.engine.checkpoint import newest_checkpoint
from lengthwise.engine.method import Asked, Observation
from lengthwise.engine.metrics_log import read_metrics
from lengthwise.engine.ppo import window_collector, window_learner
from lengthwise.engine.ppo.critic import Critic
from lengthwise.engine.ppo.window_collector import decode_steps
from lengthwise.engine.ppo.windows import Windows
from lengthwise.errors import ConfigError, LengthwiseWarning
from lengthwise.methods.papers.t_ppo import ppo, t_ppo

pytestmark = pytest.mark.filterwarnings("ignore::lengthwise.errors.LengthwiseWarning")


def endless_model():
    """A policy that as good as never ends a response."""
    net = tiny.model()
    forward = net.forward

    def without_eos(*args, **options):
        out = forward(*args, **options)
        out.logits[..., tiny.EOS] = -30.0
        return out

    net.forward = without_eos
    return net


# ------------------------------------------------------------------------ against a slow plain implementation


def plain_logp(net, one):
    """Log-probabilities [L] of a response with gradient, one sequence, no padding."""
    ids = torch.tensor([one.prompt + one.tokens])
    logits = net(input_ids=ids, use_cache=False).logits[0, len(one.prompt) - 1 : -1]
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(one.tokens)[:, None])[:, 0]


def plain_values(critic, one):
    hidden = critic.decoder(input_ids=torch.tensor([one.prompt + one.tokens]), use_cache=False).last_hidden_state[0]
    return critic.head(hidden)[len(one.prompt) - 1 : -1, 0]


def plain_descent(net, loss, rate):
    if not torch.is_tensor(loss) or not loss.requires_grad:
        return
    net.zero_grad()
    loss.backward()
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
    with torch.no_grad():
        for p in net.parameters():
            if p.grad is not None:
                p -= rate * p.grad * min(1.0, 1.0 / (norm + 1e-6))


def plain_step(net, critic, batch, score, plan, rate):
    """The page's "one iteration" after generation, response by response and token by token."""
    credit, old_values = [], []
    for one in batch:
        end = len(one.tokens)
        fresh = plain_values(critic, one).detach().tolist()
        old_values.append(one.values + fresh[one.start :])
        effective = end if one.done else end + plan.window // 2
        lam = max(plan.lam_floor, 1 - 1 / (plan.alpha * effective))
        advantage, found = 0.0, {}
        for t in reversed(range(one.start, end)):
            reward = score(one) if one.done and t == end - 1 else 0.0
            after = fresh[t + 1] if t + 1 < end else 0.0 if one.done else fresh[t]
            advantage = reward + plan.gamma * after - fresh[t] + plan.gamma * lam * advantage
            found[t] = advantage
        credit.append(found)
    masks = [
        [t for t in range(one.start, len(one.tokens) - (0 if one.done else plan.tail_ignore)) if one.trained[t]]
        for one in batch
    ]
    used = [credit[row][t] for row, mask in enumerate(masks) for t in mask]
    mean = sum(used) / len(used)
    spread = math.sqrt(sum((a - mean) ** 2 for a in used) / (len(used) - 1) + 1e-8)
    value_loss, done = 0.0, [row for row, one in enumerate(batch) if one.done]
    for row in done:
        now, end, total = plain_values(critic, batch[row]), len(batch[row].tokens), 0.0
        for t in range(end):
            goal, old = plan.gamma ** (end - 1 - t) * score(batch[row]), old_values[row][t]
            bounded = now[t].clamp(old - plan.value_clip_low, old + plan.value_clip_high)
            total = total + torch.maximum((now[t] - goal) ** 2, (bounded - goal) ** 2)
        value_loss = value_loss + 0.5 * total / end / len(done)
    policy_loss, liked, liked_tokens = 0.0, 0.0, 0
    for row, one in enumerate(batch):
        logp = plain_logp(net, one)
        for t in masks[row]:
            whitened = max(-10.0, min(10.0, (credit[row][t] - mean) / spread))
            ratio = (logp[t] - logp[t].detach()).exp()
            policy_loss = policy_loss - whitened * ratio / len(used)
        if one.done and score(one) > 0:
            kept = [t for t in range(len(one.tokens)) if one.trained[t]]
            liked, liked_tokens = liked - logp[kept].sum(), liked_tokens + len(kept)
    policy_loss = policy_loss + plan.lm_weight * liked / max(liked_tokens, 1)
    plain_descent(critic, value_loss, rate * plan.critic_lr)
    plain_descent(net, policy_loss, rate)


def score_of(one):
    """Reward of the tiny task: right is an even first token, and right counts only when it is finished."""
    return 1.0 if one.finished and one.tokens[0] % 2 == 0 else -1.0


def odd_places(owners, dice):
    """A world that writes every third token."""
    return lambda row, tokens: 5 if len(tokens) % 3 == 1 else None


SETTINGS = {
    "ppo": ppo(cap=9, critic_warmup=0),
    "windows of 3": t_ppo(cap=9, critic_warmup=0),
    "every option": t_ppo(
        cap=8, window=3, critic_warmup=0, gamma=0.9, lam_floor=0.5, alpha=0.3, tail_ignore=1, lm_weight=0.3,
        value_clip_low=0.01, value_clip_high=0.02,
    ),
    "no likelihood": t_ppo(cap=9, window=4, critic_warmup=0, lm_weight=0.0),
}  # fmt: skip


@pytest.mark.parametrize("world", [None, odd_places], ids=["alone", "with a world"])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_is_that_of_a_slow_plain_implementation(tmp_path, name, world):
    method = SETTINGS[name]
    practice = replace(tiny.task(), world=world)
    made = windows.build(tmp_path, method=method, practice=practice, micro_batch_tokens=30, prompts=3)
    groups = [{"params": made.parameters}, {"params": made.value_parameters}]
    made.learner.optimizer = torch.optim.SGD(groups, lr=0.1)
    with torch.no_grad():
        made.critic.head.weight.normal_(std=0.3, generator=tiny.generator())
    unfinished = 0
    for step in range(3):
        net, critic = copy.deepcopy(made.model["policy"]), copy.deepcopy(made.critic)
        made.one_step()
        plain_step(net, critic, made.batches[step], score_of, method.windows, made.config.lr)
        for one, two in ((net, made.model["policy"]), (critic, made.critic)):
            moved = windows.weights(two)
            for key, want in windows.weights(one).items():
                torch.testing.assert_close(moved[key], want, atol=2e-6, rtol=1e-5, msg=lambda m, k=key: f"{k}: {m}")
        unfinished += len(made.pool.waiting)
    assert (unfinished == 0) == (name == "ppo")


def test_with_a_window_as_long_as_the_cap_t_ppo_is_ppo(tmp_path):
    one, seen = windows.run(tmp_path / "a", method=t_ppo(cap=9, window=9, critic_warmup=1))
    two, again = windows.run(tmp_path / "b", method=ppo(cap=9, critic_warmup=1))
    three, wide = windows.run(tmp_path / "c", method=t_ppo(cap=9, window=50, critic_warmup=1))
    assert tiny.comparable(seen) == tiny.comparable(again) == tiny.comparable(wide)
    assert windows.same(windows.weights(one.model), windows.weights(two.model))
    assert windows.same(windows.weights(one.model), windows.weights(three.model))
    assert all(row["done"] == 16 and row["going_on"] == 0 for row in seen)


# --------------------------------------------------------------------------------- rows of the page, in the loop


def learnt(tmp_path, monkeypatch, batch, values, *, right=True, **options):
    """What policy and critic are given for a made-up batch whose fresh values are known; no whitening."""
    method = replace(
        t_ppo(cap=12, critic_warmup=0, **options),
        advantage=lambda credit, rollouts: credit * rollouts.train_mask,
        reward=lambda rollouts, state: torch.ones(len(rollouts)),
    )
    made = windows.build(tmp_path, method=method, practice=Task([[1]] * 12, lambda number, tokens: right))
    fresh = torch.zeros(len(batch), 4)
    for row, numbers in enumerate(values):
        fresh[row, : len(numbers)] = torch.tensor(numbers)
    fresh = fresh[:, : max(len(numbers) for numbers in values)]
    monkeypatch.setattr(window_learner, "estimate", lambda *args: fresh)
    given = {}

    def note(name):
        def call(*args, **rest):
            given[name] = args
            return {}

        return call

    monkeypatch.setattr(window_learner, "update_policy", note("policy"))
    monkeypatch.setattr(window_learner, "update_critic", note("critic"))
    made.learner._learn(batch, made.run)
    return made, given


def test_t_ppo_row_done_in_round_1(tmp_path, monkeypatch):
    # W = 4, window values .2 .5, reward 1, lam .5 (6 tokens: 1 - 1/(.05 * 6) < 0, the floor):
    # delta .5 - .2 = .3 and 1 - .5 = .5;  A = .3 + .5 * .5 = .55 and .5. Value mask and target 1 on all six.
    one = windows.response(0, 4, 2, finished=True, values=[0.1, 0.2, 0.3, 0.4])
    made, given = learnt(tmp_path, monkeypatch, [one], [[0.2, 0.5]], window=4, lam_floor=0.5)
    assert [round(a, 6) for a in made.seen_by_policy[0][0][2]] == [0.55, 0.5]
    rollouts, old, returns = given["critic"][3:6]
    assert rollouts.mask.tolist() == [[True] * 6]
    assert returns.tolist() == [[1.0] * 6]
    # V_old: stored values for earlier windows, fresh ones for the current window
    torch.testing.assert_close(old, torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.2, 0.5]]))
    # the policy learns from the last two tokens alone, though all six are imitated
    rows, advantages = given["policy"][4:6]
    assert rows.train_mask.tolist() == [[False] * 4 + [True] * 2]
    torch.testing.assert_close(advantages, torch.tensor([[0.0] * 4 + [0.55, 0.5]]))


def test_t_ppo_row_unfinished_with_tail_ignore_2(tmp_path, monkeypatch):
    # V .2 .5 .1 .4, lam .5 (n_eff = 4 + 2): deltas .3 -.4 .3 0; A = .175 -.25 .3 0, of which the tail is ignored.
    one = windows.response(0, 0, 4, finished=False)
    made, given = learnt(tmp_path, monkeypatch, [one], [[0.2, 0.5, 0.1, 0.4]], window=4, lam_floor=0.5, tail_ignore=2)
    start, mask, advantages = made.seen_by_policy[0][0]
    assert (start, mask) == (0, [True, True, False, False])
    assert advantages == pytest.approx([0.175, -0.25, 0, 0])
    assert "critic" not in given
    assert given["policy"][4].train_mask.tolist() == [mask]


@pytest.mark.parametrize(
    ("lam", "values", "finished", "expected"),
    [
        (1.0, [0.2, 0.5, 0.1, 0.4], False, [0.2, -0.1, 0.3, 0.0]),
        (0.0, [0.2, 0.5, 0.1, 0.4], False, [0.3, -0.4, 0.3, 0.0]),
        (1.0, [0.2, 0.5, 0.1, 0.4], True, [0.8, 0.5, 0.9, 0.6]),
        (0.5, [0.2, 0.5, 0.1, 0.4], True, [0.25, -0.1, 0.6, 0.6]),
        (0.5, [7.0, 7.0, 7.0, 7.0], False, [0.0, 0.0, 0.0, 0.0]),
    ],
    ids=["unfinished, lam 1", "unfinished, lam 0", "done, lam 1", "done, lam .5", "unfinished, V constant"],
)
def test_t_ppo_rows_of_advantages_reach_the_policy(tmp_path, monkeypatch, lam, values, finished, expected):
    one = windows.response(0, 0, 4, finished=finished)
    made, given = learnt(tmp_path, monkeypatch, [one], [values], window=4, lam_floor=lam)
    assert made.seen_by_policy[0][0][2] == pytest.approx(expected, abs=1e-6)
    assert ("critic" in given) == finished


def test_t_ppo_defect_6_unfinished_rows_do_not_dilute_the_value_loss(tmp_path, monkeypatch):
    done, open_ = windows.response(0, 0, 2, finished=True), windows.response(1, 0, 4, finished=False)
    alone = learnt(tmp_path / "a", monkeypatch, [copy.deepcopy(done)], [[0.1, 0.2]], window=4)[1]["critic"]
    both = learnt(tmp_path / "b", monkeypatch, [open_, done], [[0.0] * 4, [0.1, 0.2]], window=4)[1]["critic"]
    assert len(alone[3]) == len(both[3]) == 1
    assert alone[4].equal(both[4]) and alone[5].equal(both[5])


def test_t_ppo_the_end_of_a_response_at_the_cap_is_scored_and_final(tmp_path, monkeypatch):
    # cap 12 reached without EOS: done, terminal value 0, so the last delta is r - V and not r
    one = windows.response(0, 8, 4, finished=False, cap=12, values=[0.0] * 8)
    made, given = learnt(tmp_path, monkeypatch, [one], [[0.0, 0.0, 0.0, 0.4]], window=4, lam_floor=0.0)
    assert one.done and not one.finished
    assert made.seen_by_policy[0][0][2][-1] == pytest.approx(0.6)
    assert given["critic"][3].mask.sum() == 12


# ---------------------------------------------------------------------------------------- over whole runs


@pytest.mark.parametrize("tail_ignore", [0, 2])
def test_t_ppo_invariant_3_every_token_is_learnt_from_once(tmp_path, tail_ignore):
    method = t_ppo(cap=10, window=4, critic_warmup=0, tail_ignore=tail_ignore)
    made, _ = windows.run(tmp_path, steps=12, method=method, checkpoint_every=99)
    final = {one.serial: one for batch in made.batches for one in batch}
    seen: dict[int, list[bool]] = {serial: [] for serial in final}
    for step in made.seen_by_policy:
        for serial, (start, mask, _) in step.items():
            assert start == len(seen[serial])
            seen[serial] += mask
    valued = {serial: n for step in made.critic_saw for serial, n in step.items()}
    assert sum(len(step) for step in made.critic_saw) == len(valued)
    for serial, one in final.items():
        assert len(seen[serial]) == len(one.tokens)
        for place, used in enumerate(seen[serial]):
            in_full_window = place // 4 < (len(one.tokens) - 1) // 4 or not one.done
            ignored = in_full_window and place % 4 >= 4 - tail_ignore
            assert used == (not ignored)
        assert valued.get(serial) == (len(one.tokens) if one.done else None)
    # nothing is lost: every response begun is done or waits, and they were begun without a gap
    waiting = {one.serial for one in made.pool.waiting}
    assert waiting == {serial for serial, one in final.items() if not one.done}
    assert sorted(final) == list(range(made.run.cursor))


def test_t_ppo_invariant_5_the_batch_is_constant_and_rounds_are_bounded(tmp_path):
    method = t_ppo(cap=10, window=4, critic_warmup=0)
    made, seen = windows.run(tmp_path, steps=8, method=method, net=endless_model(), checkpoint_every=99)
    assert all(len(batch) == 16 for batch in made.batches)
    rounds: dict[int, list[int]] = {}
    for batch in made.batches:
        for one in batch:
            rounds.setdefault(one.serial, []).append(len(one.tokens))
    # Lmax is no multiple of W: windows of 4, 4 and 2, then the cap is reached and the next sixteen begin
    assert all(lengths == [4, 8, 10][: len(lengths)] for lengths in rounds.values())
    assert [row["going_on"] for row in seen] == [0, 16, 16, 0, 16, 16, 0, 16]
    assert [row["done"] for row in seen] == [0, 0, 16, 0, 0, 16, 0, 0]
    assert [row["decode_steps"] for row in seen] == [4, 4, 2, 4, 4, 2, 4, 4]
    assert [row["cut_rate"] for row in seen if row["done"]] == [1.0, 1.0]
    assert seen[-1]["sampled_tokens"] == 16 * (4 + 4 + 2 + 4 + 4 + 2 + 4 + 4)


def test_an_end_that_fills_the_window_exactly_is_an_end(tmp_path):
    def world(owners, dice):
        return lambda row, tokens: tiny.EOS[0] if len(tokens) == 3 else 4

    made, seen = windows.run(
        tmp_path, steps=2, method=t_ppo(cap=12, window=4, critic_warmup=0), practice=replace(tiny.task(), world=world)
    )
    assert all(one.finished and len(one.tokens) == 4 for batch in made.batches for one in batch)
    assert [row["going_on"] for row in seen] == [0, 0]
    assert [row["cut_rate"] for row in seen] == [0.0, 0.0]
    # the world wrote everything: the policy has nothing to learn from, the critic has
    assert [row["updates"] for row in seen] == [0, 0]
    assert all(row["value_updates"] == 1 for row in seen)


def test_a_prefix_is_kept_to_the_token_and_each_token_knows_its_weights(tmp_path):
    made, _ = windows.run(tmp_path, steps=6, method=t_ppo(cap=9, window=3, critic_warmup=0), checkpoint_every=99)
    before: dict[int, list[int]] = {}
    continued = 0
    for step, batch in enumerate(made.batches):
        for one in batch:
            earlier = before.get(one.serial, [])
            assert one.tokens[: one.start] == earlier
            assert one.versions[one.start :] == [step] * (len(one.tokens) - one.start)
            before[one.serial], continued = one.tokens, continued + bool(earlier)
    assert continued > 20


def test_t_ppo_warm_up_is_counted_exactly(tmp_path):
    # critic_warmup 10 is the default: the first policy update is that of iteration 11
    made = windows.build(tmp_path, steps=12, method=t_ppo(cap=9), prompts=2, group_size=2, checkpoint_every=99)
    start, seen, moved = windows.weights(made.model["policy"]), [], []

    def look(row):
        seen.append(row)
        moved.append(not windows.same(start, windows.weights(made.model["policy"])))

    made.train(on_step=look)
    assert [row["updates"] for row in seen] == [0] * 10 + [1] * 2
    assert moved == [False] * 10 + [True] * 2
    assert all("value_loss" in row for row in seen if row["done"])
    assert [row["trained_tokens"] > 0 for row in seen] == [False] * 10 + [True] * 2


def test_t_ppo_a_batch_without_a_done_response_leaves_the_critic_alone(tmp_path):
    made = windows.build(tmp_path, net=endless_model(), method=t_ppo(cap=40, window=2, critic_warmup=0), steps=2)
    critic, policy = windows.weights(made.critic), windows.weights(made.model["policy"])
    # an untaught critic says 0 everywhere, and constant values give no advantage: teach it a little
    with torch.no_grad():
        made.critic.head.weight.normal_(generator=tiny.generator())
        critic = windows.weights(made.critic)
    seen = []
    made.train(on_step=seen.append)
    assert windows.same(critic, windows.weights(made.critic))
    assert not windows.same(policy, windows.weights(made.model["policy"]))
    for row in seen:
        assert row["done"] == 0 and row["warnings"] == []
        assert row["accuracy"] is None and row["mean_tokens"] is None
        assert "value_loss" not in row
        assert row["trained_tokens"] == 32
    assert read_metrics(tmp_path) == seen


def test_t_ppo_invariant_4_a_first_step_clips_nothing(tmp_path):
    _, seen = windows.run(tmp_path, steps=1, method=t_ppo(cap=9, critic_warmup=0, lm_weight=0.0))
    row = seen[0]
    assert (row["ratio_max"], row["clip_high_share"], row["clip_low_share"]) == (1.0, 0.0, 0.0)
    # L_pi = -mean(A) over the mask, and whitened advantages have mean 0
    assert row["loss"] == pytest.approx(0.0, abs=1e-6)
    assert row["trained_tokens"] == row["sampled_tokens"]


def test_t_ppo_invariant_5_neither_loss_reaches_the_other_model(tmp_path, monkeypatch):
    made = windows.build(tmp_path, method=t_ppo(cap=9, critic_warmup=0))
    grads = {}
    for name, other in (("update_critic", made.parameters), ("update_policy", made.value_parameters)):
        original = getattr(window_learner, name)

        def watched(*args, original=original, name=name, other=other, **options):
            result = original(*args, **options)
            grads[name] = [p.grad for p in other]
            return result

        monkeypatch.setattr(window_learner, name, watched)
    made.one_step()
    assert all(grad is None for found in grads.values() for grad in found)
    assert len(grads) == 2


def test_several_updates_take_the_critic_and_the_policy_apart(tmp_path):
    _, seen = windows.run(tmp_path, steps=3, updates=3, method=t_ppo(cap=9, critic_warmup=0))
    assert all(row["updates"] == 3 for row in seen)
    assert all(row["value_updates"] == min(3, row["done"]) for row in seen)
    assert any(row["ratio_max"] > 1 for row in seen)


def test_all_right_answers_are_imitated_even_where_the_advantage_is_0(tmp_path):
    # An untaught critic and the same reward everywhere: after whitening every advantage is exactly 0.
    practice = Task(tiny.task().prompts, lambda number, tokens: True)
    method = replace(ppo(cap=30, critic_warmup=0), advantage=lambda credit, rollouts: torch.zeros_like(credit))
    made = windows.build(tmp_path, method=method, practice=practice, net=tiny.model(), steps=1)
    before = windows.weights(made.model["policy"])
    made.train()
    assert not windows.same(before, windows.weights(made.model["policy"]))


def test_a_penalty_holds_the_policy_to_its_start(tmp_path):
    method = replace(t_ppo(cap=9, critic_warmup=0), kl_coef=0.1)
    with pytest.raises(ConfigError, match="kl_coef 0.1 but no reference"):
        windows.build(tmp_path, method=method)
    made = windows.build(tmp_path, method=method, reference=tiny.model())
    seen = []
    made.train(on_step=seen.append)
    assert [row["reference_kl"] > 0 for row in seen] == [False, True, True]


def test_lam_critic_below_1_takes_the_critic_s_own_values_into_the_targets(tmp_path, monkeypatch):
    # V .2 .5, reward 1, lam_critic .5: A = (.5 - .2) + .5 * (1 - .5) = .55 and .5; targets V + A = .75 and 1
    one = windows.response(0, 0, 2, finished=True)
    _, given = learnt(tmp_path, monkeypatch, [one], [[0.2, 0.5]], window=4, lam_critic=0.5)
    torch.testing.assert_close(given["critic"][5], torch.tensor([[0.75, 1.0]]))


def test_both_learn_the_tiny_task(tmp_path):
    for name, method in (("t-ppo", t_ppo(cap=6, window=2, critic_warmup=2)), ("ppo", ppo(cap=6, critic_warmup=2))):
        _, seen = windows.run(
            tmp_path / name, method=method, steps=10, prompts=6, group_size=8, lr=5e-3, updates=2, checkpoint_every=99
        )
        assert seen[0]["accuracy"] < 0.7
        assert sum(row["accuracy"] for row in seen[-3:]) / 3 > 0.8


# ------------------------------------------------------------------------------------------------ worlds


def readings(owners, generator):
    """A world that writes a reading drawn beforehand at every second place."""
    drawn = torch.randint(2, 30, (len(owners), 32), generator=generator).tolist()
    return lambda row, tokens: drawn[row][len(tokens)] if len(tokens) % 2 else None


def test_a_world_says_the_same_in_every_window(tmp_path):
    practice = replace(tiny.task(), world=readings)
    for window in (2, 3, 12):
        method = t_ppo(cap=12, window=window, critic_warmup=0)
        made, _ = windows.run(tmp_path / str(window), steps=5, method=method, practice=practice, checkpoint_every=99)
        final = {one.serial: one for batch in made.batches for one in batch}
        assert max(len(one.tokens) for one in final.values()) > 6
        for serial, one in final.items():
            own = torch.randint(2, 30, (1, 32), generator=world_generator(0, serial, 0)).tolist()[0]
            written = [place for place in range(len(one.tokens)) if place % 2]
            assert [one.tokens[place] for place in written] == [own[place] for place in written]
            assert one.trained == [place % 2 == 0 for place in range(len(one.tokens))]
        for step in made.seen_by_policy:
            for start, mask, advantages in step.values():
                assert mask == [(start + place) % 2 == 0 for place in range(len(mask))]
                assert all(a == 0 for a, used in zip(advantages, mask, strict=True) if not used)


def test_a_task_whose_world_has_nothing_to_say_about_some_rows(tmp_path):
    def world(owners, dice):
        return (lambda row, tokens: 7) if owners[0] % 2 else None

    made, _ = windows.run(tmp_path, steps=2, practice=replace(tiny.task(), world=world))
    for batch in made.batches:
        for one in batch:
            assert one.trained == [one.problem % 2 == 0] * len(one.tokens)


def test_a_world_that_has_nothing_to_say_costs_nothing(tmp_path):
    made = windows.build(tmp_path, practice=replace(tiny.task(), world=lambda owners, dice: None))
    made.one_step()
    assert made.collector._world(made.batches[0]) is None


# --------------------------------------------------------------------------- problems, groups, state, metrics


def test_responses_are_begun_problem_by_problem_in_groups(tmp_path):
    made, _ = windows.run(tmp_path, steps=4, prompts=3, group_size=4, checkpoint_every=99)
    final = {one.serial: one for batch in made.batches for one in batch}
    for serial, one in final.items():
        assert one.group == serial // 4
        assert one.problem == window_collector.problem_at(one.group, 12, 0)
        assert one.prompt == list(tiny.task().prompts[one.problem])


def test_a_method_that_asks_in_two_ways_shares_the_group_between_them(tmp_path):
    method = replace(t_ppo(cap=9, critic_warmup=0), prompts=lambda ask: [Asked([*ask(""), 3]), Asked([*ask(""), 4])])
    made, _ = windows.run(tmp_path, steps=1, method=method)
    assert [one.prompt[-1] for one in made.batches[0]] == [3, 3, 4, 4] * 4


def test_a_method_s_state_sees_done_responses_once_and_is_saved(tmp_path):
    method = replace(
        t_ppo(cap=9, critic_warmup=0),
        initial_state=lambda: {"rows": 0, "tokens": 0},
        update_state=lambda state, rollouts: {
            "rows": state["rows"] + len(rollouts), "tokens": state["tokens"] + int(rollouts.num_tokens.sum())
        },
    )  # fmt: skip
    made, seen = windows.run(tmp_path, steps=5, method=method)
    final = {one.serial: one for batch in made.batches for one in batch}
    done = [len(one.tokens) for one in final.values() if one.done]
    want = {"rows": len(done), "tokens": sum(done)}
    assert made.run.method == want
    assert newest_checkpoint(tmp_path / "checkpoints").state["method"] == want
    assert sum(row["done"] for row in seen) == len(done)


def test_metrics_are_those_of_done_responses(tmp_path):
    made, seen = windows.run(tmp_path, steps=4, checkpoint_every=99)
    for batch, row in zip(made.batches, seen, strict=True):
        done = [one for one in batch if one.done]
        assert row["done"] == len(done)
        assert row["mean_tokens"] == pytest.approx(sum(len(one.tokens) for one in done) / len(done))
        assert row["accuracy"] == pytest.approx(sum(score_of(one) > 0 for one in done) / len(done))
        assert row["cap"] == 9
        assert row["decode_steps"] == max(len(one.tokens) - one.start for one in batch) <= 3
        # nothing is said of groups, whose rows are done in different steps
        assert not {"uniform_groups", "groups", "draws"} & row.keys()
    assert made.run.sampled_tokens == sum(len(one.tokens) - one.start for batch in made.batches for one in batch)


def test_explained_variance_of_constant_targets_is_not_given(tmp_path):
    practice = Task(tiny.task().prompts, lambda number, tokens: False)
    _, seen = windows.run(tmp_path, practice=practice)
    assert all(row["explained_variance"] is None for row in seen if row["done"])


def test_a_constant_reward_is_said_aloud(tmp_path):
    practice = Task(tiny.task().prompts, lambda number, tokens: False)
    with pytest.warns(LengthwiseWarning, match="the reward is constant"):
        windows.run(tmp_path, practice=practice, steps=8, checkpoint_every=99)


def test_learning_rates_warm_up_together(tmp_path):
    made = windows.build(tmp_path, steps=3, warmup_steps=4, lr=1e-3)
    rates = []
    made.train(on_step=lambda row: rates.append([group["lr"] for group in made.learner.optimizer.param_groups]))
    want = [[1e-3 * k / 4, 2.5e-3 * k / 4] for k in (1, 2, 3)]
    assert all(got == pytest.approx(expected) for got, expected in zip(rates, want, strict=True))


@pytest.mark.parametrize(("new", "max_rows", "steps"), [([3, 1, 4], 0, 4), ([3, 1, 4], 2, 7), ([3, 1, 4], 1, 8)])
def test_decode_steps_count_the_longest_of_each_part(new, max_rows, steps):
    assert decode_steps(new, max_rows) == steps


def test_rows_in_flight_may_be_bounded(tmp_path):
    _, seen = windows.run(tmp_path, net=endless_model(), sample_rows=8, method=t_ppo(cap=9, critic_warmup=0), steps=1)
    assert seen[0]["decode_steps"] == 6


def test_a_critic_may_be_given(tmp_path):
    net = tiny.model()
    critic = Critic(net)
    with torch.no_grad():
        critic.head.bias.fill_(0.5)
    made = windows.build(tmp_path, net=net, critic=critic)
    assert made.critic is critic
    made.one_step()
    assert made.pool.waiting and all(v == pytest.approx(0.5) for v in made.pool.waiting[0].values)


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window": 0}, "window is 0; a window has at least 1 token"),
        ({"window": 4, "tail_ignore": -1}, "tail_ignore is -1 in a window of 4"),
        ({"window": 4, "tail_ignore": 4}, "tail_ignore is 4 in a window of 4"),
        ({"window": 4, "gamma": 1.1}, "gamma is 1.1; give a number from 0 to 1"),
        ({"window": 4, "lam_floor": -0.1}, "lam_floor is -0.1"),
        ({"window": 4, "lam_critic": float("nan")}, "lam_critic is nan"),
        ({"window": 4, "alpha": 0.0}, "alpha is 0.0; give a positive number"),
        ({"window": 4, "critic_lr": 0.0}, "critic_lr is 0.0"),
        ({"window": 4, "critic_warmup": -1}, "critic_warmup is -1; give 0 or more"),
        ({"window": 4, "value_clip_low": -0.5}, "value_clip_low is -0.5"),
        ({"window": 4, "lm_weight": -1.0}, "lm_weight is -1.0"),
    ],
)
def test_impossible_windows_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        Windows(**options)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("keep", lambda rollouts: rollouts.finished),
        ("coupling", "group"),
        ("observe", Observation(2, 3, lambda state, rollouts: state)),
    ],
)
def test_parts_that_need_whole_groups_do_not_mix_with_windows(part, value):
    with pytest.raises(ConfigError, match=f"has its own {part}, but windows"):
        replace(t_ppo(cap=9), **{part: value})
    assert t_ppo(cap=9).windows == Windows(window=3)


def test_a_schedule_may_move_the_cap_of_new_responses(tmp_path):
    method = replace(t_ppo(cap=9, window=3, critic_warmup=0), cap=lambda step, state: 4 + step)
    made, _ = windows.run(tmp_path, steps=3, method=method, net=endless_model(), checkpoint_every=99)
    # those begun in step 0 keep their cap of 4 and are done in step 1 at four tokens; the next are begun under 6
    assert {one.cap for one in made.batches[0]} == {one.cap for one in made.batches[1]} == {4}
    assert {len(one.tokens) for one in made.batches[1]} == {4}
    assert {one.cap for one in made.batches[2]} == {6}
    with pytest.raises(ConfigError, match="cap is 0"):
        windows.run(tmp_path / "b", method=replace(method, cap=lambda step, state: 0.2))
