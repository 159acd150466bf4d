"""The witnesses world: its words, its readings, and the exact frontier against brute force."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from lengthwise.errors import InputError
from lengthwise.lab import witnesses
from lengthwise.lab.lessons import witnesses_lesson
from lengthwise.lab.reasoner import build_tokenizer
from lengthwise.lab.witnesses import ASK, EOS, NO, YES, Point, Witness, best_accuracy, best_rule, frontier

IDS = {word: i for i, word in enumerate(witnesses.VOCABULARY)}


def test_one_token_per_word_and_back():
    tokenizer = build_tokenizer(witnesses.VOCABULARY)
    rng = random.Random(0)
    for problem in witnesses.problems(20, seed=0):
        words = [*problem.words, *witnesses.worked_solution(rng, problem), EOS]
        ids = tokenizer("".join(words))["input_ids"]
        assert ids == [IDS[word] for word in words]


def test_prompts_name_the_level_and_hide_the_bit():
    one, other = Witness(0.7, True, 3), Witness(0.7, False, 4)
    assert one.problem == other.problem == "q.70?"
    assert (one.answer, other.answer) == ("+", "-")
    assert one.row["problem_id"] != other.row["problem_id"]


def test_a_worked_solution_keeps_the_tally_and_answers_its_sign():
    rng = random.Random(1)
    asked = []
    for _ in range(400):
        words = witnesses.worked_solution(rng, Witness(0.8, True, 0))
        readings, tallies = words[1:-2:3], words[2:-2:3]
        assert set(words[:-2:3]) <= {ASK} and len(words) == 3 * len(readings) + 2
        running = list(itertools.accumulate(1 if r == YES else -1 for r in readings))
        assert tallies == [f"={t}" for t in running]
        if running and running[-1]:
            assert words[-1] == (YES if running[-1] > 0 else NO)
        asked.append(len(readings))
    assert 0.5 < asked.count(31) / 400 < 0.7
    assert len(set(asked)) > 25


def test_readings_cost_three_tokens_each():
    words = [*["ask", "+", "=1"] * 5, "A:", "+", EOS]
    assert witnesses.readings_of(len(words)) == 5


def test_the_lesson_does_not_teach_readings():
    example = next(witnesses_lesson(all_share=1.0).examples(0))
    untaught = [w for w, taught in zip(example.response, example.taught, strict=True) if not taught]
    assert len(untaught) == 31 and set(untaught) <= {YES, NO}


def test_the_world_answers_asks_and_nothing_else():
    rows = [Witness(0.97, True, 0), Witness(0.97, False, 1)]
    write = witnesses.world(rows, IDS, torch.Generator().manual_seed(0))
    assert write(0, []) is None and write(0, [IDS["=" + "1"]]) is None
    first, second = write(0, [IDS[ASK]]), write(1, [IDS[ASK]])
    assert {first, second} <= {IDS[YES], IDS[NO]}
    # The same reading for the same question, whatever the tally said in between.
    assert write(0, [IDS[ASK]]) == first


def test_after_the_last_reading_the_world_stops_the_asking():
    write = witnesses.world([Witness(0.7, True, 0)], IDS, torch.Generator().manual_seed(0))
    asked = [IDS[ASK], IDS[YES], IDS["=1"]] * 31
    assert write(0, asked) == IDS["A:"] and write(0, asked[:-3]) is None and write(0, [*asked, IDS["A:"]]) is None
    without_tallies = [IDS[ASK], IDS[YES]] * 31
    assert write(0, without_tallies) is None and write(0, [*without_tallies, IDS[ASK]]) == IDS["A:"]


@pytest.mark.parametrize("level", witnesses.LEVELS)
def test_readings_are_right_as_often_as_the_level_says(level):
    rows = [Witness(level, i % 2 == 0, i) for i in range(400)]
    write = witnesses.world(rows, IDS, torch.Generator().manual_seed(1))
    told = [
        write(row, [IDS[ASK]] * n) == (IDS[YES] if rows[row].bit else IDS[NO]) for row in range(400) for n in (1, 9)
    ]
    # 800 draws: four standard errors
    assert abs(sum(told) / 800 - level) < 4 * (level * (1 - level) / 800) ** 0.5


def every_rule(level: float, most: int) -> list[Point]:
    """All deterministic rules over (readings, tally), by enumeration of the states in which they stop."""
    states = [(n, d) for n in range(most) for d in range(-n, n + 1, 2)]
    found = []
    for stops in itertools.product((False, True), repeat=len(states)):
        rule = dict(zip(states, stops, strict=True))
        accuracy = readings = 0.0
        for bit, right in itertools.product((1, -1), itertools.product((True, False), repeat=most)):
            chance = 0.5
            for r in right:
                chance *= level if r else 1 - level
            n = d = 0
            while n < most and not rule[n, d]:
                d += bit if right[n] else -bit
                n += 1
            readings += chance * n
            accuracy += chance * (1.0 if d * bit > 0 else 0.5 if d == 0 else 0.0)
        found.append(Point(readings, accuracy))
    return found


@pytest.mark.parametrize("level", [0.6, 0.8])
@pytest.mark.parametrize("price", [0.0, 0.01, 0.05, 0.2, 0.6])
def test_the_best_rule_is_the_best_of_all_rules(level, price):
    best = max(p.accuracy - price * p.readings for p in every_rule(level, 4))
    found = best_rule(level, price, 4)
    assert found.accuracy - price * found.readings == pytest.approx(best, abs=1e-12)


def test_one_reading_by_hand():
    # No reading: .5. One reading at q = .8: .8. Two never help over one (a tie is a coin): .64 + .32/2 = .8.
    # Three with stopping at |d| = 2: right .64 + .32 * .8 = .896 at 2 + .32 = 2.32 readings.
    assert best_rule(0.8, 1.0) == Point(0.0, 0.5)
    assert best_rule(0.8, 0.2, 1).accuracy == pytest.approx(0.8)
    three = best_rule(0.8, 0.05, 3)
    assert (three.readings, three.accuracy) == (pytest.approx(2.32), pytest.approx(0.896))


def test_the_frontier_is_concave_rising_and_complete():
    corners = frontier((0.7,), most=5)
    slopes = [(b.accuracy - a.accuracy) / (b.readings - a.readings) for a, b in itertools.pairwise(corners)]
    assert slopes == sorted(slopes, reverse=True) and slopes[-1] >= 0
    for price in (0.0, 0.003, 0.02, 0.07):
        rule = best_rule(0.7, price, 5)
        assert best_accuracy(rule.readings, corners) == pytest.approx(rule.accuracy, abs=1e-9)
    for rule in every_rule(0.7, 3):
        assert rule.accuracy <= best_accuracy(rule.readings, corners) + 1e-9


@pytest.mark.parametrize(
    ("readings", "wanted"), [(5.7, 0.925), (7.2, 0.943), (8.5, 0.953), (9.4, 0.958), (10.5, 0.962), (29.9, 0.965)]
)
def test_the_whole_frontier_by_the_figures_of_the_prototype(readings, wanted):
    assert best_accuracy(readings, frontier()) == pytest.approx(wanted, abs=1e-3)


def test_regret_is_zero_on_the_frontier_and_half_for_a_silent_coin():
    corners = frontier()
    assert witnesses.regret(corners[5].accuracy, corners[5].readings, corners) == pytest.approx(0)
    assert witnesses.regret(0.25, 0.0, corners) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: witnesses.problems(0, seed=0), "count"),
        (lambda: witnesses.problems(1, seed=0, levels=()), "levels"),
        (lambda: witnesses.problems(1, seed=0, levels=(0.5,)), "level"),
        (lambda: best_rule(0.705, 0.1), "level"),
        (lambda: best_rule(0.7, -0.1), "price"),
        (lambda: best_accuracy(-1.0, frontier((0.7,), most=2)), "readings"),
    ],
)
def test_bad_input_is_named(call, names):
    with pytest.raises(InputError, match=names):
        call()


def test_a_fixed_number_of_readings_by_hand():
    assert witnesses.fixed_readings(0, (0.8,)) == Point(0.0, 0.5)
    # one reading .8; two: .64 and a coin on .32; three: .512 + 3 * .128
    found = [witnesses.fixed_readings(n, (0.8,)).accuracy for n in (1, 2, 3)]
    assert found == pytest.approx([0.8, 0.8, 0.896])


def test_knowing_when_to_stop_beats_every_fixed_number_of_readings():
    corners = frontier()
    for n in range(1, 31):
        fixed = witnesses.fixed_readings(n)
        assert best_accuracy(fixed.readings, corners) >= fixed.accuracy - 1e-9
    assert best_accuracy(9.0, corners) - witnesses.fixed_readings(9).accuracy > 0.04


def test_the_concave_curve_touches_its_best_points_and_lies_above_the_others():
    points = [Point(0, 0.5), Point(1, 0.7), Point(2, 0.7), Point(3, 0.8), Point(4, 0.95), Point(5, 0.9)]
    hull = witnesses.concave(points)
    assert hull == [Point(0, 0.5), Point(1, 0.7), Point(4, 0.95)]
    assert all(best_accuracy(p.readings, hull) >= p.accuracy - 1e-12 for p in points)


def test_unseen_levels_are_none_of_the_taught_ones_and_have_a_frontier():
    assert not set(witnesses.UNSEEN_LEVELS) & set(witnesses.LEVELS)
    corners = frontier(witnesses.UNSEEN_LEVELS)
    assert corners[0] == Point(0.0, 0.5) and 0.9 < corners[-1].accuracy < 1


def test_balanced_problems_have_either_bit_equally_often_at_every_level():
    found = witnesses.problems(32, seed=5, balanced=True)
    for level in witnesses.LEVELS:
        assert sum(p.bit for p in found if p.level == level) == 4
    assert [p.level for p in found] == [p.level for p in witnesses.problems(32, seed=5)]
    # the order of the bits is drawn
    assert len({tuple(p.bit for p in witnesses.problems(32, seed=s, balanced=True)) for s in range(4)}) == 4
