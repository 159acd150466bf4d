"""Answers made from a grammar: what is equal by construction is right, what is changed is wrong, nothing raises."""

from __future__ import annotations

import random

import pytest
from made_answers import FAMILIES, broken, made

from lengthwise.grading.equality import answers_agree


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_what_is_equal_is_equal_and_what_is_changed_is_not(family) -> None:
    rng = random.Random(family.__name__)
    for _ in range(25):
        gold, equal, unequal = family(rng)
        assert answers_agree(equal, gold, "math") == (True, None), (equal, gold)
        assert answers_agree(gold, equal, "math") == (True, None), (gold, equal)
        assert answers_agree(unequal, gold, "math") == (False, None), (unequal, gold)


def test_broken_answers_raise_nothing_and_a_lost_sign_is_noticed() -> None:
    rng = random.Random(0)
    accepted = [
        (changed, gold)
        for _, (gold, *_) in made(20)
        if (changed := broken(gold, rng)) != gold and answers_agree(changed, gold, "math") != (False, None)
    ]
    assert len(accepted) < 0.12 * 20 * len(FAMILIES), accepted  # a space, a brace or an upright unit lost is let pass
    assert all(answers_agree(changed, gold, "math")[1] is None for changed, gold in accepted)
