"""Parts mixed: moving caps under any method, methods of one's own, merging back; what does not fit is refused."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import tiny
import torch

from lengthwise.config.commands import ShortenSettings
from lengthwise.config.groups.training import MovingCap
from lengthwise.engine.method import Recipe
from lengthwise.errors import ConfigError, InputError, LengthwiseWarning
from lengthwise.methods import METHODS, build_method, options_of
from lengthwise.methods.moving_cap import under_schedule
from lengthwise.objectives import cosine_cap, stair_cap, stair_cosine_cap
from lengthwise.runs.shortening.resolve import method_options

NEEDS_ONE_CAP = [name for name, declared in METHODS.items() if declared.one_cap is not None]
SHAPES = {"cosine": cosine_cap, "stair": stair_cap, "stair-cosine": stair_cosine_cap}
REWARD = '''
def reward(rollouts, state):
    """Right answers earn 1, less a hundredth per token."""
    return rollouts.correct * (1 - 0.01 * rollouts.num_tokens)
'''
METHOD = '''
import dataclasses
from lengthwise.methods import dler

def method(*, cap, bonus=0.5):
    """DLER with twice its reward and a bonus."""
    base = dler(cap=cap)
    return dataclasses.replace(base, name="twice", options={"cap": cap, "bonus": bonus},
                               reward=lambda r, state: 2 * base.reward(r, state) + bonus)
'''


def asked(**changes: object) -> ShortenSettings:
    return ShortenSettings.from_dict({"model": "lab:chains", "data": "d", "out": "o", "cap": 40, **changes})


# ------------------------------------------------------------------------------------------------- moving caps


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["drpo", "grpo", "t-ppo", "siri"])
def test_any_method_s_cap_moves_by_the_schedule(name, shape):
    moved = under_schedule(build_method(name, cap=90), shape, longest=90, shortest=40, cycle=12)
    want = [SHAPES[shape](step, longest=90, shortest=40, cycle=12) for step in range(30)]
    assert [moved.cap(step, {}) for step in range(30)] == want
    assert {"shape": shape, "shortest": 40, "cycle": 12}.items() <= dict(moved.options).items()
    assert (moved.windows is not None) == (name == "t-ppo")


def test_the_shortest_cap_is_half_of_the_longest_unless_it_is_given():
    moved = under_schedule(build_method("grpo", cap=91), "cosine", longest=91, cycle=4)
    assert [moved.cap(step, {}) for step in (0, 2)] == [91, 46]


def test_drpo_s_constant_stays_the_longest_cap():
    # drpo.md: C is the longest cap of the run; its loss is the one of the method made with that cap.
    plain = build_method("drpo", cap=9)
    moved = under_schedule(plain, "cosine", longest=9, shortest=3, cycle=4)
    assert moved.loss is plain.loss and moved.options["cap"] == 9


@pytest.mark.parametrize("name", NEEDS_ONE_CAP)
def test_a_method_that_relies_on_one_cap_refuses_a_moving_one_and_says_why(name):
    with pytest.raises(ConfigError, match=rf"method '{name}' does not go with a moving cap: its .*give --cap a number"):
        under_schedule(build_method(name, cap=90), "cosine", longest=90, cycle=4)


@pytest.mark.parametrize("name", ["laser", "l1-exact", "l1-max"])
def test_a_target_that_the_shortest_cap_cuts_off_is_refused(name):
    with pytest.raises(ConfigError, match="target of 60 tokens, which no answer can use under a cap of 45"):
        under_schedule(build_method(name, cap=90, target=60), "cosine", longest=90, cycle=4)
    under_schedule(build_method(name, cap=90, target=45), "cosine", longest=90, cycle=4)


def test_a_recipe_without_a_loop_has_no_cap_to_move():
    with pytest.raises(ConfigError, match="no training loop"):
        under_schedule(Recipe(name="merge", paper="", summary=""), "cosine", longest=90, cycle=4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cap": "cosine"}, "longest cap is not given; add --longest"),
        ({"cap": "cosine", "longest": 0}, "longest is 0; give at least 1"),
        ({"cap": "stair", "longest": 9, "cycle": 0}, "cycle is 0; give at least 1"),
        ({"shortest": 20}, "shortest is 20 but the cap is 40, which does not move"),
        ({"cap": "auto", "longest": 20}, "longest is 20 but the cap is 'auto'"),
        ({"cap": "saw"}, "give a whole number of tokens, auto, or cosine, stair, stair-cosine"),
        ({"merge_back": "0.25"}, "merge_back is 0.25; give the share of changes that is kept, above 0"),
        ({"merge_back": "0,0.7"}, "merge_back is 0,0.7; give the share"),
        ({"merge_back": "0.25,-1"}, "a positive factor"),
    ],
)
def test_impossible_words_are_refused_at_once(changes, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        asked(**changes)


def test_a_mix_is_checked_before_any_long_work():
    with pytest.raises(ConfigError, match="does not go with a moving cap"):
        method_options(asked(method="da-dler", cap="cosine", longest=90))
    with pytest.raises(ConfigError, match="shortest is 95 but longest is 90"):
        method_options(asked(method="drpo", cap="cosine", longest=90, shortest=95))
    with pytest.raises(ConfigError, match="did you mean drpo"):
        method_options(asked(method="drop"))


def test_the_words_become_a_schedule():
    words = asked(method="drpo", cap="stair-cosine", longest=91, cycle=8).schedule
    assert (words.number, words.moving) == (91, MovingCap("stair-cosine", shortest=46, cycle=8))
    moving = asked(cap="cosine", longest=91).schedule.moving
    assert moving is not None and moving.cycle == 640
    assert asked().schedule.moving is None and asked(cap="auto").schedule.number is None
    assert asked(merge_back="0.25,0.7").merge_back == (0.25, 0.7)


def test_a_schedule_longer_than_the_run_is_said(tmp_path):
    moved = under_schedule(build_method("grpo", cap=6), "cosine", longest=6, cycle=4)
    with pytest.warns(LengthwiseWarning, match="cycle is 4 steps but the run has 3, so the cap never comes back"):
        tiny.trainer(tmp_path / "short", method=moved, steps=3).train()
    seen: list = []
    tiny.trainer(tmp_path / "long", method=moved, steps=4, lr=1e-4).train(on_step=seen.append)
    assert [row["cap"] for row in seen] == [6, 5, 3, 5]  # 6, 4.5, 3, 4.5, halves up


# ---------------------------------------------------------------------------------------------- methods of one's own


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_with_a_reward_is_grpo_with_that_reward(here):
    (here / "my_method.py").write_text(REWARD)
    made = build_method("my_method.py", cap=6, clip_high=0.3)
    assert (made.name, made.summary) == ("my_method", "Right answers earn 1, less a hundredth per token.")
    assert made.options["clip_high"] == 0.3 and options_of("my_method.py") == options_of("grpo")
    rollouts = tiny.rollouts([2, 4], correct=[True, False])
    assert made.reward(rollouts, {}).tolist() == pytest.approx([0.98, 0.0])
    plain = build_method("grpo", cap=6)
    rewards = made.reward(rollouts, {})
    assert torch.equal(made.advantage(rewards, rollouts), plain.advantage(rewards, rollouts))


def test_a_file_or_a_module_with_a_method_is_that_method(here):
    (here / "mine.py").write_text(METHOD)
    for name in ("mine.py", "mine:method"):
        made = build_method(name, cap=6, bonus=0.25)
        assert made.name == "twice" and made.keep is not None
        assert made.reward(tiny.rollouts([2, 9], cap=6), {}).tolist() == [2.25, 0.25]
        assert options_of(name)["bonus"] == 0.5
    with pytest.raises(ConfigError, match="no option 'bonsu'; did you mean bonus"):
        build_method("mine.py", cap=6, bonsu=1.0)


def test_an_own_method_is_trained_like_any_other(here):
    (here / "my_method.py").write_text(REWARD)
    seen: list = []
    method = under_schedule(build_method("my_method.py", cap=6), "stair", longest=6, shortest=3, cycle=2)
    tiny.trainer(here / "run", method=method, steps=2, lr=1e-4).train(on_step=seen.append)
    assert [row["cap"] for row in seen] == [3, 6]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.py", None, "no such file"),
        ("broken.py", "def reward(:\n", "cannot be run: SyntaxError: invalid syntax (broken.py, line 1)"),
        (
            "missing.py",
            "import nowhere_to_be_found\n",
            "No module named 'nowhere_to_be_found' (missing.py, line 1)",
        ),
        ("empty.py", "def other():\n    pass\n", "It has other"),
        ("wide.py", "def reward(a, b, c):\n    pass\n", "its reward takes 3 arguments; it gets (rollouts, state)"),
        ("gone_module:method", None, "no module 'gone_module'; install it, or run from the folder that holds it"),
    ],
)
def test_a_file_that_is_no_method_is_refused(here, name, content, says):
    if content is not None:
        (here / name).write_text(content)
    with pytest.raises(ConfigError, match=re.escape(says)):
        build_method(name, cap=6)


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ("1.0", "gave float; give a tensor with one number for each of 2 rows"),
        ("rollouts.logp", "gave (2, 4) of float32; give a tensor"),
        ("rollouts.num_tokens / 0", "not finite"),
    ],
)
def test_a_reward_that_is_no_reward_is_named_with_its_file(here, result, says):
    (here / "odd.py").write_text(f"def reward(rollouts, state):\n    return {result}\n")
    with pytest.raises(InputError, match=r"the reward of 'odd.py'.*" + re.escape(says)):
        build_method("odd.py", cap=6).reward(tiny.rollouts([2, 4]), {})


def test_a_maker_that_makes_something_else_is_refused(here):
    (here / "odd.py").write_text("def method(*, cap):\n    return cap\n")
    with pytest.raises(ConfigError, match="made a int; return a lengthwise.Method"):
        build_method("odd.py", cap=6)


# --------------------------------------------------------------------------------------------------- loud failures


def test_a_lam_so_large_that_weights_are_uniform_is_said(tmp_path):
    # drpo.md: with lam far above the spread of the length rewards all right answers weigh alike, as in DisCO.
    with pytest.raises(ConfigError, match="lam is 1000.0, so large that all lengths weigh the same"):
        build_method("drpo", cap=60, lam=1e3)
    # 90 is small enough for lengths 0 and 60, but the untaught model's, 1 to 9 or so, are too close to each other.
    seen: list = []
    with pytest.warns(LengthwiseWarning, match="the weights of right answers are as good as equal.*lower lam"):
        tiny.trainer(tmp_path, method=build_method("drpo", cap=60, lam=90.0), steps=6, lr=1e-5).train(seen.append)
    assert sum(row["uniform_weights"] > 0.5 for row in seen) >= 5


def test_a_penalty_without_mixed_groups_is_said(tmp_path):
    # grpo-lambda.md: in a group that is all right alpha is a common factor and cancels.
    method = build_method("rloo-lp", cap=9, alpha=0.3)
    practice = replace(tiny.task(), grade=lambda number, tokens: True)
    seen: list = []
    with pytest.warns(LengthwiseWarning, match="no group is mixed, so rewards differ by length alone"):
        tiny.trainer(
            tmp_path, method=replace(method, reward=lambda r, s: 1 - 0.3 * r.num_tokens / 9, gate=None),
            practice=practice, net=tiny.model(), steps=6, lr=1e-5,
        ).train(seen.append)  # fmt: skip
    assert all(row["length_alone"] > 0 for row in seen)


def test_mixed_groups_or_equal_rewards_are_no_length_alone(tmp_path):
    seen: list = []
    tiny.trainer(tmp_path, method=build_method("grpo", cap=6), steps=2, lr=1e-5).train(seen.append)
    assert [row["length_alone"] for row in seen] == [0, 0]


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"ada-r1"}))
def test_every_method_with_a_loop_goes_under_a_schedule_or_says_why_not(name):
    options = {"short_opener": "x"} if name == "adaptive" else {}
    method = build_method(name, cap=90, **options)
    if name in NEEDS_ONE_CAP:
        return
    assert math.isclose(under_schedule(method, "cosine", longest=90, shortest=45, cycle=4).cap(2, {}), 45)
