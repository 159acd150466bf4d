"""The chains world: problems, splits, oracle lengths and worked solutions."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from lengthwise.errors import InputError
from lengthwise.lab import chains
from lengthwise.lab.chains import Chain

DIGITS = (*range(-9, 0), *range(1, 10))


def brute_force(level: int) -> set[Chain]:
    every = (Chain(start, steps) for start in range(10) for steps in itertools.product(DIGITS, repeat=level))
    return {chain for chain in every if min(itertools.accumulate(chain.steps, initial=chain.start)) >= 0}


def test_a_problem_is_what_its_words_say():
    chain = Chain(7, (5, -3))
    assert chain.words == ["7", "+", "5", "-", "3", "?"]
    # 7 + 5 - 3 = 9; one pass of 2 * 6 tokens, "A:", "9" and EOS
    assert (chain.problem, chain.answer, chain.level, chain.oracle_tokens) == ("7+5-3?", "9", 2, 15)
    assert chain.row == {"problem": "7+5-3?", "answer": "9", "level": 2, "oracle_tokens": 15}


@pytest.mark.parametrize("level", range(1, 8))
def test_the_oracle_length_is_that_of_one_pass_with_answer_and_eos(level):
    rng = random.Random(level)
    for _ in range(20):
        chain = chains.draw(rng, level)
        words, value = chains.worked_pass(rng, chain, slip=0.0)
        assert str(value) == chain.answer
        assert len([*words, chains.ANSWER, str(value), chains.EOS]) == chain.oracle_tokens == 6 * level + 3
        assert eval(chain.problem.rstrip("?")) == int(chain.answer)


# splits


def test_the_split_is_a_matter_of_the_problem_alone():
    rng = random.Random(0)
    drawn = [chains.draw(rng, 5) for _ in range(6000)]
    shares = Counter(map(chains.split_of, drawn))
    # 10 % and 5 %: three standard deviations of 6000 draws are 1.2 and 0.9 points
    assert shares["test"] / 6000 == pytest.approx(0.10, abs=0.012)
    assert shares["validation"] / 6000 == pytest.approx(0.05, abs=0.009)
    # for ever: the shipped reasoner was taught on this split
    assert [chains.split_of(chain) for chain in (Chain(7, (5, -3)), Chain(1, (1,)), Chain(0, (9,)))] == FIXED


def test_splits_share_no_problem():
    found = {s: set(chains.problems(150, split=s, seed=3, levels=(3, 4))) for s in ("train", "validation", "test")}
    for split, rows in found.items():
        assert len(rows) == 150 and all(chains.split_of(row) == split for row in rows)
    assert not found["train"] & found["test"] and not found["train"] & found["validation"]


FIXED = ["train", "train", "validation"]


# drawing


def test_levels_come_in_turn_and_no_problem_twice():
    rows = chains.problems(60, split="train", seed=1, levels=(2, 4, 6))
    assert Counter(row.level for row in rows) == {2: 20, 4: 20, 6: 20}
    assert len(set(rows)) == 60
    assert rows == chains.problems(60, split="train", seed=1, levels=(2, 4, 6))
    assert rows != chains.problems(60, split="train", seed=2, levels=(2, 4, 6))


def test_running_values_are_never_negative():
    rng = random.Random(5)
    for _ in range(500):
        chain = chains.draw(rng, 7)
        value = chain.start
        for step in chain.steps:
            value += step
            assert value >= 0 and 1 <= abs(step) <= 9
        assert value <= chains.LARGEST


def test_a_level_with_too_few_problems_gives_way_to_the_others():
    few = len(chains.all_problems([1], split="test"))
    rows = chains.problems(60, split="test", seed=0, levels=(1, 5))
    assert sum(row.level == 1 for row in rows) <= few < 30
    assert len(set(rows)) == 60


def test_repeated_problems_are_allowed_where_asked_for():
    rows = chains.problems(200, split="test", seed=0, levels=(1,), distinct=False)
    assert len(rows) == 200 > len(set(rows))


@pytest.mark.parametrize(
    ("count", "levels", "words"),
    [
        (0, (2,), "count is 0"),
        (5, (), r"levels is \[\]"),
        (5, (0,), r"levels is \[0\]"),
        (5, (10,), r"levels is \[10\]"),
        (500, (1,), r"count is 500 but levels \[1\] hold only \d+ distinct test problems"),
    ],
)
def test_impossible_requests_are_named(count, levels, words):
    with pytest.raises(InputError, match=words):
        chains.problems(count, split="test", seed=0, levels=levels)


# counting


@pytest.mark.parametrize("level", [1, 2])
def test_distinct_problems_against_brute_force(level):
    every = brute_force(level)
    assert chains.distinct_problems(level) == len(every)
    listed = [chain for split in ("train", "validation", "test") for chain in chains.all_problems([level], split=split)]
    assert len(listed) == len(every) and set(listed) == every


def test_distinct_problems_of_level_one_by_hand():
    # from each start s the digits +1 to +9 and -1 to -s: 10 * 9 + (0 + 1 + ... + 9) = 135
    assert chains.distinct_problems(1) == 135


def test_all_problems_holds_whatever_can_be_drawn():
    everything = set(chains.all_problems([1, 2], split="validation"))
    drawn = set(chains.problems(12, split="validation", seed=4, levels=(1, 2)))
    assert drawn <= everything


# worked solutions


def passes(words: list[str]) -> list[list[str]]:
    work, found = words[: words.index(chains.ANSWER)], [[]]
    for word in work:
        if word == chains.CHECK:
            found.append([])
        else:
            found[-1].append(word)
    return found


@pytest.mark.parametrize("level", [1, 4, 7])
def test_a_solution_ends_in_agreement_or_in_the_last_pass(level):
    rng = random.Random(level)
    counts = Counter()
    for _ in range(300):
        chain = chains.draw(rng, level)
        words = chains.worked_solution(rng, chain)
        results = [int(work[-2]) for work in passes(words)]
        assert all(len(work) == 6 * level for work in passes(words))
        assert words[-2:] == [chains.ANSWER, str(results[-1])]
        assert 2 <= len(results) <= chains.MAX_PASSES
        assert results[-1] in results[:-1] or len(results) == chains.MAX_PASSES
        assert set(words) <= set(chains.VOCABULARY)
        counts[len(results)] += 1
    # overthinking: many solutions work the chain more than twice
    assert sum(n for passed, n in counts.items() if passed > 2) > 90


def test_without_slips_and_doubt_a_solution_is_two_passes():
    chain = Chain(7, (5, -3))
    text = "".join(chains.worked_solution(random.Random(0), chain, slip=0.0, doubt=0.0))
    assert text == "7+5=12;12-3=9;check:7+5=12;12-3=9;A:9"


def test_no_doubt_stops_at_the_first_agreement():
    rng = random.Random(2)
    for _ in range(200):
        results = [work[-2] for work in passes(chains.worked_solution(rng, chains.draw(rng, 4), slip=0.2, doubt=0.0))]
        assert all(result not in results[:place] for place, result in enumerate(results[:-1]))


def test_slips_come_as_often_as_asked():
    rng, slips, steps = random.Random(3), 0, 0
    for _ in range(1000):
        words, _ = chains.worked_pass(rng, chains.draw(rng, 5), slip=0.06)
        for n in (words[i : i + 6] for i in range(0, len(words), 6)):
            slips += int(n[4]) != max(0, int(n[0]) + int(n[1] + n[2]))
            steps += 1
    # three standard deviations of 5000 steps are 1 point
    assert slips / steps == pytest.approx(0.06, abs=0.01)


def test_a_slip_is_carried_on_and_stays_inside_the_vocabulary():
    rng = random.Random(2)
    for _ in range(300):
        words, value = chains.worked_pass(rng, chains.draw(rng, 7), slip=1.0)
        numbers = [words[i : i + 6] for i in range(0, len(words), 6)]
        assert all(a[4] == b[0] for a, b in itertools.pairwise(numbers))
        # a slip never gives the true result of its step
        assert all(int(n[4]) != max(0, int(n[0]) + int(n[1] + n[2])) for n in numbers)
        assert 0 <= value <= chains.LARGEST


def test_a_terse_solution_is_one_pass_and_goes_wrong_only_by_a_slip_or_a_ten():
    rng, crossings, lost, slips, steps = random.Random(4), 0, 0, 0, 0
    for _ in range(800):
        chain = chains.draw(rng, 5)
        words = [*chains.terse_solution(rng, chain), chains.EOS]
        assert len(words) == chain.oracle_tokens and chains.CHECK not in words
        for n in (words[i : i + 6] for i in range(0, 30, 6)):
            true = max(0, int(n[0]) + int(n[1] + n[2]))
            off, crosses = int(n[4]) - true, int(n[0]) // 10 != true // 10
            crossings, steps = crossings + crosses, steps + 1
            lost += abs(off) == 10
            slips += off in (-2, -1, 1, 2)
            assert off in (-10, -2, -1, 0, 1, 2, 10) and (abs(off) != 10 or crosses)
        assert words[-2] == words[-5]
    # four standard deviations
    assert lost / crossings == pytest.approx(0.2, abs=4 * (0.16 / crossings) ** 0.5)
    assert slips / (steps - lost) == pytest.approx(0.06, abs=0.015)


def test_a_terse_writer_without_slips_is_right():
    rng = random.Random(5)
    for chain in chains.problems(50, split="train", seed=0):
        assert chains.terse_solution(rng, chain, slip=0.0, careless=0.0)[-1] == chain.answer
