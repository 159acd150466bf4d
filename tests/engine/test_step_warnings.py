"""A step that learns nothing says so: each condition, when it is called out, and its memory."""

from __future__ import annotations

import re

import pytest

from lengthwise.engine.step_warnings import WINDOW, WINDOWS, Watch

GOOD = {
    "cut_rate": 0.1, "cap": 8, "uniform_groups": 0.2, "groups": 4, "groups_wanted": 4, "draws": 1, "reward_std": 0.3,
    "reward_mean": 0.5, "updates": 2, "clip_high_share": 0.01, "clip_low_share": 0.0, "weights_moved": 1.0,
}  # fmt: skip
BAD = [
    ({"cut_rate": 0.51}, "reach the cap of 8 tokens", WINDOW),
    ({"uniform_groups": 0.8}, "all right or all wrong", WINDOW),
    ({"groups": 3, "draws": 8}, "only 3 of 4 groups", WINDOW),
    ({"reward_std": 0.0}, r"the reward is constant \(0.5\)", WINDOW),
    ({"clip_high_share": 0.0}, "clip share is exactly 0 although each batch takes 2 updates", WINDOWS["no_clip"]),
    ({"weights_moved": 0.0}, "the weights did not move", WINDOWS["still"]),
]


def test_a_good_step_is_silent():
    watch = Watch()
    assert [watch.look(GOOD) for _ in range(3 * WINDOW)] == [[]] * (3 * WINDOW)


@pytest.mark.parametrize(("change", "words", "patience"), BAD, ids=[next(iter(bad[0])) for bad in BAD])
def test_a_bad_condition_is_called_out_once_when_it_has_lasted(change, words, patience):
    watch = Watch()
    told = [watch.look({**GOOD, **change}) for _ in range(30)]
    assert [len(texts) for texts in told] == [int(k == patience - 1) for k in range(30)]
    assert re.search(words, told[patience - 1][0])


@pytest.mark.parametrize(("change", "words", "patience"), BAD, ids=[next(iter(bad[0])) for bad in BAD])
def test_it_is_called_out_again_after_it_had_gone(change, words, patience):
    watch = Watch()
    bad = {**GOOD, **change}
    first = [watch.look(bad) for _ in range(patience)][-1]
    watch.look(GOOD)
    again = [watch.look(bad) for _ in range(patience)]
    assert first
    assert [len(texts) for texts in again] == [0] * (patience - 1) + [1]


def test_one_update_per_batch_cannot_clip_and_is_not_blamed():
    watch = Watch()
    quiet = {**GOOD, "updates": 1, "clip_high_share": 0.0}
    assert not any(watch.look(quiet) for _ in range(30))


@pytest.mark.parametrize("change", [{"cut_rate": 0.5}, {"uniform_groups": 0.75}])
def test_the_thresholds_themselves_are_fine(change):
    watch = Watch()
    assert not any(watch.look({**GOOD, **change}) for _ in range(30))


def test_the_memory_goes_through_a_checkpoint():
    bad = {**GOOD, "reward_std": 0.0}
    watch = Watch()
    for _ in range(WINDOW - 1):
        assert watch.look(bad) == []
    restored = Watch(watch.state)
    assert len(restored.look(bad)) == 1
    assert restored.look(bad) == []
