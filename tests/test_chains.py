"""The chains world: problems, splits, oracle lengths and worked solutions."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from lengthwise.errors import InputError
from lengthwise.lab import chains
from lengthwise.lab.chains import Chain, all_problems, distinct_problems, draw, oracle_tokens, problems, split_of

DIGITS = (*range(-9, 0), *range(1, 10))


def brute_force(level: int) -> list[Chain]:
    found = []
    for start in range(10):
        for steps in itertools.product(DIGITS, repeat=level):
            values = list(itertools.accumulate(steps, initial=start))
            if min(values) >= 0:
                found.append(Chain(start, steps))
    return found


def parse(solution: str) -> tuple[list[list[tuple[int, str, int, int]]], int]:
    """Passes as lists of (value, sign, digit, result), and the answer."""
    body, answer = solution.split(" A: ")
    passes = []
    for text in body.split(" check: "):
        steps = [step.split() for step in text.removesuffix(" ;").split(" ; ")]
        assert all(len(step) == 5 and step[3] == "=" for step in steps), text
        passes.append([(int(s[0]), s[1], int(s[2]), int(s[4])) for s in steps])
    return passes, int(answer)


def test_the_example_of_the_docs():
    chain = Chain(7, (5, -3))
    assert chain.problem == "7 + 5 - 3 ?"
    assert chain.answer == "9"
    assert chain.level == 2
    # "7 + 5 = 12 ; 12 - 3 = 9 ; A: 9 <eos>": 6 + 6 + 3
    assert chain.oracle_tokens == 15 == oracle_tokens(2)
    assert chain.row == {"problem": "7 + 5 - 3 ?", "answer": "9", "level": 2, "oracle_tokens": 15}


@pytest.mark.parametrize("level", chains.LEVELS)
def test_oracle_tokens_count_one_clean_pass(level):
    rng = random.Random(level)
    chain = draw(rng, level)
    text, value = chains.worked_pass(rng, chain, 0.0)
    assert str(value) == chain.answer
    assert len(f"{text} A: {value} <eos>".split()) == chain.oracle_tokens


@pytest.mark.parametrize("level", [1, 2])
def test_distinct_problems_against_brute_force(level):
    every = brute_force(level)
    assert distinct_problems(level) == len(every) == len({chain.problem for chain in every})
    parts = [all_problems([level], split=split) for split in ("train", "validation", "test")]
    assert sum(len(part) for part in parts) == len(every)
    assert set(itertools.chain(*parts)) == set(every)


def test_distinct_problems_at_level_1_by_hand():
    # From start s every digit may be added (9 ways) and the digits 1 to s taken away (s ways): 10 * 9 + 45.
    assert distinct_problems(1) == 135


@pytest.mark.parametrize("level", [1, 4, 7, 9])
def test_drawn_chains_never_fall_below_0(level):
    rng = random.Random(0)
    for _ in range(300):
        chain = draw(rng, level)
        assert chain.level == level
        assert min(itertools.accumulate(chain.steps, initial=chain.start)) >= 0
        assert 0 <= int(chain.answer) <= chains.LARGEST
        assert all(word in chains.VOCABULARY for word in chain.problem.split())


def test_the_split_is_a_property_of_the_text_with_its_shares():
    rng = random.Random(0)
    texts = {draw(rng, 5).problem for _ in range(6000)}
    count = Counter(split_of(text) for text in texts)
    assert count["test"] / len(texts) == pytest.approx(0.10, abs=0.015)
    assert count["validation"] / len(texts) == pytest.approx(0.05, abs=0.012)
    # for ever: these were drawn when the world was made
    assert [split_of(text) for text in ("7 + 5 - 3 ?", "1 + 1 ?", "0 + 9 ?", "3 - 2 ?")] == FIXED


FIXED = ["train", "train", "train", "train"]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_problems_are_distinct_and_of_their_split(split):
    found = problems(300, split=split, seed=4)
    assert len({chain.problem for chain in found}) == 300
    assert {split_of(chain.problem) for chain in found} == {split}
    assert {chain.level for chain in found} <= set(chains.LEVELS)
    assert found == problems(300, split=split, seed=4)
    assert found != problems(300, split=split, seed=5)


def test_levels_come_in_turn():
    assert [chain.level for chain in problems(9, split="train", seed=0, levels=(3, 5, 6))] == [3, 5, 6] * 3


def test_a_small_level_gives_all_it_has_and_the_others_fill_up():
    few = len(all_problems([1], split="test"))
    found = problems(60, split="test", seed=0, levels=(1, 4))
    count = Counter(chain.level for chain in found)
    assert count == {1: few, 4: 60 - few}


def test_too_many_problems_are_refused_with_the_number_there_are():
    few = len(all_problems([1], split="test"))
    with pytest.raises(InputError, match=f"only {few} distinct test problems"):
        problems(few + 1, split="test", seed=0, levels=(1,))
    assert len(problems(few + 30, split="test", seed=0, levels=(1,), distinct=False)) == few + 30


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "count is 0"),
        ({"levels": ()}, "levels is"),
        ({"levels": (0,)}, "levels is"),
        ({"levels": (10,)}, "levels is"),
    ],
)
def test_impossible_requests_are_named(options, words):
    with pytest.raises(InputError, match=words):
        problems(**{"count": 3, "split": "train", "seed": 0, **options})


@pytest.mark.parametrize("slip", [0.0, 0.06, 0.5])
def test_worked_solutions_end_in_agreement_or_after_five_passes(slip):
    rng = random.Random(1)
    lengths = Counter()
    for _ in range(500):
        chain = draw(rng, rng.choice(chains.LEVELS))
        passes, answer = parse(chains.worked_solution(rng, chain, slip=slip))
        results = [steps[-1][3] for steps in passes]
        assert answer == results[-1]
        assert 2 <= len(passes) <= chains.MAX_PASSES
        assert len(passes) == chains.MAX_PASSES or results[-1] in results[:-1]
        for steps in passes:
            assert [(sign, digit) for _, sign, digit, _ in steps] == [
                ("+" if s > 0 else "-", abs(s)) for s in chain.steps
            ]
            # every step starts where the one before ended: slips are carried on
            assert [s[0] for s in steps] == [chain.start, *(s[3] for s in steps[:-1])]
        if slip == 0:
            assert str(answer) == chain.answer
        lengths[len(passes)] += 1
    assert len(lengths) > 2


def test_no_doubt_stops_at_the_first_agreement():
    rng = random.Random(2)
    for _ in range(200):
        passes, _ = parse(chains.worked_solution(rng, draw(rng, 4), slip=0.2, doubt=0.0))
        results = [steps[-1][3] for steps in passes]
        assert all(result not in results[:place] for place, result in enumerate(results[:-1]))


def test_slips_come_as_often_as_asked():
    rng, slips, steps = random.Random(3), 0, 0
    for _ in range(1500):
        passes, _ = parse(chains.worked_solution(rng, draw(rng, 5), slip=0.06))
        for value, sign, digit, result in itertools.chain(*passes):
            slips += result != max(0, value + (digit if sign == "+" else -digit))
            steps += 1
    assert slips / steps == pytest.approx(0.06, abs=0.006)


@pytest.mark.parametrize("level", chains.LEVELS)
def test_solutions_stay_inside_the_vocabulary(level):
    rng = random.Random(level)
    for _ in range(400):
        words = chains.worked_solution(rng, draw(rng, level)).split()
        assert set(words) <= set(chains.VOCABULARY)
