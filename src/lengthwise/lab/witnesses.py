"""The witnesses world: when to stop asking, with the best stopping rule known exactly.

A fair hidden bit and a level q. A response asks for readings of the bit, each right with probability q and
independent of the others, keeps a running tally, and may stop and answer at any time:

    q.70?   ask+=1ask-=0ask+=1A:+

The world writes the readings while the response is written; asking costs three tokens (ask, reading, tally), and
stop, answer and EOS three more. Which rule is best follows by dynamic programming over (readings, tally), so every
policy has a distance to an exact frontier.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch

from lengthwise.errors import InputError
from lengthwise.lab.words import ANSWER, EOS, PAD

LEVELS = (0.6, 0.7, 0.8, 0.97)
"""How often a reading is right, by level."""
UNSEEN_LEVELS = (0.65, 0.75, 0.9)
"""Levels that the shipped asker was not taught: out of its distribution."""
MOST_READINGS = 31
TOKENS_PER_READING = 3
TOKENS_AROUND = 3
ASK, YES, NO, QUESTION = "ask", "+", "-", "?"
VOCABULARY = (
    PAD, EOS, "q.", *"0123456789", QUESTION, ASK, YES, NO, ANSWER,
    *(f"={tally}" for tally in range(-MOST_READINGS, MOST_READINGS + 1)),
)  # fmt: skip
ALL_SHARE = 0.6


@dataclass(frozen=True)
class Witness:
    """One problem: a level and the hidden bit; `number` tells problems of the same level and bit apart."""

    level: float
    bit: bool
    number: int

    @property
    def words(self) -> list[str]:
        """The prompt, token by token: ``q.``, ``7``, ``0``, ``?``. The bit is not in it."""
        return ["q.", *f"{round(100 * self.level):02d}", QUESTION]

    @property
    def problem(self) -> str:
        """The prompt text, for example ``q.70?``."""
        return "".join(self.words)

    @property
    def answer(self) -> str:
        """The hidden bit as text."""
        return YES if self.bit else NO

    @property
    def row(self) -> dict[str, object]:
        """The problem as a data row; `problem_id` is there because prompts repeat."""
        return {
            "problem": self.problem,
            "answer": self.answer,
            "level": f"{self.level:g}",
            "problem_id": f"{self.problem}{self.answer}{self.number}",
        }


def problems(count: int, *, seed: int, levels: Sequence[float] = LEVELS, balanced: bool = False) -> list[Witness]:
    """Draw `count` problems, levels in turn, each with a fair bit.

    With `balanced` every level has either bit equally often, as far as it has an even number of problems: a model that
    leans to one answer would otherwise be measured by the luck of the draw.

    Raises:
        InputError: `count` below 1, no level, or a level outside (0.5, 1) or finer than a hundredth.
    """
    if count < 1:
        raise InputError(f"count is {count}; ask for at least 1 problem")
    for level in levels:
        _check_level(level)
    if not levels:
        raise InputError("levels is empty; give at least one")
    rng = random.Random(f"witnesses/{seed}")
    drawn = [Witness(levels[i % len(levels)], rng.random() < 0.5, i) for i in range(count)]
    if not balanced:
        return drawn
    rounds = [i // len(levels) for i in range(count)]
    firsts = [drawn[i - len(levels) * (round_ % 2)].bit for i, round_ in enumerate(rounds)]
    return [replace(p, bit=first ^ (r % 2 == 1)) for p, first, r in zip(drawn, firsts, rounds, strict=True)]


def worked_solution(rng: random.Random, problem: Witness, *, all_share: float = ALL_SHARE) -> list[str]:
    """A verbose solution as words: it asks for every reading with probability `all_share`, else stops anywhere.

    Anywhere is uniform, so that early stopping is sampled now and then and can be reinforced. The answer is the
    sign of the tally, a coin where it is 0.
    """
    asked = MOST_READINGS if rng.random() < all_share else rng.randint(0, MOST_READINGS - 1)
    words, tally = [], 0
    for _ in range(asked):
        reading = problem.bit if rng.random() < problem.level else not problem.bit
        tally += 1 if reading else -1
        words += [ASK, YES if reading else NO, f"={tally}"]
    answer = rng.random() < 0.5 if tally == 0 else tally > 0
    return [*words, ANSWER, YES if answer else NO]


def readings_of(num_tokens: int) -> float:
    """Readings in a finished response of so many tokens."""
    return (num_tokens - TOKENS_AROUND) / TOKENS_PER_READING


def world(
    rows: Sequence[Witness], token_ids: dict[str, int], generator: torch.Generator
) -> Callable[[int, Sequence[int]], int | None]:
    """What writes the readings: after every ask, one reading of the row's bit; after the last tally, the stop.

    All readings are drawn at once from `generator`, so a row's readings do not depend on what other rows ask.
    """
    levels = torch.tensor([row.level for row in rows])
    draws = torch.rand(len(rows), MOST_READINGS, generator=generator, device=generator.device).cpu()
    right = (draws < levels[:, None]).tolist()
    ask, yes, no, stop = token_ids[ASK], token_ids[YES], token_ids[NO], token_ids[ANSWER]

    def write(row: int, written: Sequence[int]) -> int | None:
        asked = written.count(ask)
        if written and written[-1] == ask and asked <= MOST_READINGS:
            return yes if right[row][asked - 1] == rows[row].bit else no
        if asked > MOST_READINGS and written[-1] == ask:  # it left tallies out, and asks for a reading too many
            return stop
        tallied = len(written) > 1 and written[-2] in (yes, no) and written[-1] != stop
        return stop if asked == MOST_READINGS and tallied else None

    return write


@dataclass(frozen=True)
class Point:
    """A stopping rule by what it achieves: mean readings and accuracy."""

    readings: float
    accuracy: float


@cache
def best_rule(level: float, price: float, most: int = MOST_READINGS) -> Point:
    r"""The rule that maximises accuracy - price * readings, by dynamic programming over (readings n, tally d).

    With q the level, the bit is the tally's sign with probability :math:`p_d = q^{|d|} / (q^{|d|} + (1-q)^{|d|})`;
    ``V_n(d) = max(p_d, -price + E V_{n+1}(d +- 1))``. Equal values stop: fewer readings.
    """
    _check_level(level)
    if most < 0 or not price >= 0:
        raise InputError(f"most is {most} and price {price}; both must be at least 0")

    def sure(tally: int) -> float:
        return 1 / (1 + ((1 - level) / level) ** abs(tally))

    # Value, accuracy and readings still to come, by tally, one step later.
    later = {d: (sure(d), sure(d), 0.0) for d in range(-most, most + 1, 2)}
    for n in range(most - 1, -1, -1):
        now = {}
        for d in range(-n, n + 1, 2):
            plus = sure(d) if d >= 0 else 1 - sure(d)
            up = plus * level + (1 - plus) * (1 - level)
            value, accuracy, readings = (up * a + (1 - up) * b for a, b in zip(later[d + 1], later[d - 1], strict=True))
            ask, stop = value - price, sure(d)
            # A gain of rounding only is none.
            now[d] = (ask, accuracy, 1 + readings) if ask > stop + 1e-12 else (stop, stop, 0.0)
        later = now
    _, accuracy, readings = later[0]
    return Point(readings, accuracy)


def frontier(levels: Iterable[float] = LEVELS, *, most: int = MOST_READINGS) -> list[Point]:
    """Corners of the exact frontier over equally frequent levels: no rule, mixed or not, lies above it.

    Every corner is the best rule at one price, the same for all levels; between corners two rules are mixed.
    Found by asking for the best rule at the slope between neighbours until nothing new appears.
    """
    chosen = tuple(levels)

    def at(price: float) -> Point:
        points = [best_rule(level, price, most) for level in chosen]
        return Point(sum(p.readings for p in points) / len(points), sum(p.accuracy for p in points) / len(points))

    def between(left: Point, right: Point) -> list[Point]:
        if right.readings - left.readings < 1e-9:
            return []
        slope = (right.accuracy - left.accuracy) / (right.readings - left.readings)
        found = at(slope)
        above = found.accuracy - left.accuracy - slope * (found.readings - left.readings)
        if above < 1e-10:
            return []
        return [*between(left, found), found, *between(found, right)]

    least, all_of_it = at(1.0), at(0.0)
    corners = [least, *between(least, all_of_it)]
    return corners if all_of_it in corners else [*corners, all_of_it]


def fixed_readings(readings: int, levels: Iterable[float] = LEVELS) -> Point:
    """The rule that asks for the same number of readings whatever they say: what a fixed cap comes to at best.

    Raises:
        InputError: `readings` below 0, or a level that there is none of.
    """
    if readings < 0:
        raise InputError(f"readings is {readings}; give a number of readings, at least 0")
    shares = []
    for level in levels:
        _check_level(level)
        chances = [math.comb(readings, k) * level**k * (1 - level) ** (readings - k) for k in range(readings + 1)]
        shares.append(
            sum(c * (1.0 if 2 * k > readings else 0.5 if 2 * k == readings else 0.0) for k, c in enumerate(chances))
        )
    return Point(float(readings), sum(shares) / len(shares))


def concave(points: Iterable[Point]) -> list[Point]:
    """Corners of the least concave curve over some rules, the rules of most accuracy last: mixing rules reaches it."""
    corners: list[Point] = []
    for point in sorted(points, key=lambda p: (p.readings, -p.accuracy)):
        if corners and point.accuracy <= corners[-1].accuracy:
            continue
        while len(corners) > 1 and _slope(corners[-2], corners[-1]) <= _slope(corners[-2], point):
            corners.pop()
        corners.append(point)
    return corners


def _slope(left: Point, right: Point) -> float:
    return (right.accuracy - left.accuracy) / (right.readings - left.readings)


def best_accuracy(readings: float, corners: Sequence[Point]) -> float:
    """The frontier's accuracy at a mean number of readings; past its last corner more readings help nobody.

    Raises:
        InputError: `readings` below 0.
    """
    if not readings >= 0:
        raise InputError(f"readings is {readings}; give a mean number of readings, at least 0")
    for left, right in itertools.pairwise(corners):
        if readings <= right.readings:
            share = (readings - left.readings) / (right.readings - left.readings)
            return left.accuracy + share * (right.accuracy - left.accuracy)
    return corners[-1].accuracy


def regret(accuracy: float, readings: float, corners: Sequence[Point]) -> float:
    """How much less accurate than the frontier a policy is at its own mean readings."""
    return best_accuracy(readings, corners) - accuracy


def _check_level(level: float) -> None:
    if not 0.5 < level < 1 or abs(100 * level - round(100 * level)) > 1e-9:
        raise InputError(f"level is {level}; give a share of right readings above .5 and below 1, in hundredths")
