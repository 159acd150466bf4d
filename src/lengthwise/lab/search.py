"""The search world: subset sums found by guessing, so that nobody can foretell how long a solution gets.

A problem names distinct numbers and a target that exactly one subset reaches: ``3,8,5,12=17?``. The guesser tries
random subsets, in the order of the prompt, each number with its running sum, until one hits the target:

    8=8,12=20;3=3,5=8;5=5,12=17A:5+12

Every number, sign and word is one token. With n numbers a blind guess hits with probability 1 / (2^n - 1), so the
number of tries is geometric: many short solutions and a long tail. One try is enough for who sees the subset at once.
The level is n: a blind guesser's first try is right every third time at level 2 and once in 15 at level 4.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lengthwise.errors import InputError
from lengthwise.lab.words import ANSWER, EOS, PAD

Split = Literal["train", "validation", "test"]

LEVELS = (2, 3, 4)
UNSEEN_LEVELS = (5,)
"""More numbers than the shipped guesser was taught: out of its distribution."""
MOST_LEVEL = 6
LARGEST_ITEM = 15
MOST_TRIES = 24
QUESTION, COMMA, SUM, JOIN, MISS = "?", ",", "=", "+", ";"
VOCABULARY = (PAD, EOS, QUESTION, COMMA, SUM, JOIN, MISS, ANSWER, *(str(n) for n in range(1, MOST_LEVEL * 15 + 1)))


@dataclass(frozen=True)
class Puzzle:
    """One problem: distinct `numbers`, a `target`; its level is how many numbers there are."""

    numbers: tuple[int, ...]
    target: int

    @property
    def level(self) -> int:
        """How many numbers there are."""
        return len(self.numbers)

    @property
    def words(self) -> list[str]:
        """The prompt, token by token: ``3``, ``,``, ``8``, ``=``, ``11``, ``?``."""
        listed = [word for number in self.numbers for word in (str(number), COMMA)][:-1]
        return [*listed, SUM, str(self.target), QUESTION]

    @property
    def problem(self) -> str:
        """The prompt text, for example ``3,8,5,12=17?``."""
        return "".join(self.words)

    @property
    def subset(self) -> tuple[int, ...]:
        """The one subset that reaches the target, in the order of the prompt."""
        return _subsets(self.numbers, self.target)[0]

    @property
    def answer(self) -> str:
        """The subset as text, for example ``5+12``."""
        return JOIN.join(map(str, self.subset))

    @property
    def oracle_tokens(self) -> int:
        """Response tokens of one try that hits, the answer and EOS: 6 for each number of the subset."""
        return 6 * len(self.subset)

    @property
    def row(self) -> dict[str, object]:
        """The problem as a data row with the columns that every command reads."""
        return {
            "problem": self.problem,
            "answer": self.answer,
            "level": self.level,
            "oracle_tokens": self.oracle_tokens,
        }


def _subsets(numbers: Sequence[int], target: int) -> list[tuple[int, ...]]:
    sizes = range(1, len(numbers) + 1)
    return [part for size in sizes for part in itertools.combinations(numbers, size) if sum(part) == target]


def split_of(puzzle: Puzzle) -> Split:
    """The split a problem belongs to for ever, by a hash of its words: 10 % test, 5 % validation, else train."""
    share = int.from_bytes(hashlib.sha256(" ".join(puzzle.words).encode()).digest()[:8], "big") / 2**64
    return "test" if share < 0.10 else "validation" if share < 0.15 else "train"


def draw(rng: random.Random, level: int) -> Puzzle:
    """Draw one problem: distinct numbers from 1 to 15 in random order, and a subset's sum that no other reaches."""
    while True:
        numbers = tuple(rng.sample(range(1, LARGEST_ITEM + 1), level))
        target = sum(guess(rng, numbers))
        if len(_subsets(numbers, target)) == 1:
            return Puzzle(numbers, target)


def guess(rng: random.Random, numbers: Sequence[int]) -> tuple[int, ...]:
    """A random subset that is not empty, all alike likely, in the order given."""
    chosen = rng.randrange(1, 2 ** len(numbers))
    return tuple(number for place, number in enumerate(numbers) if chosen >> place & 1)


def problems(count: int, *, split: Split, seed: int, levels: Sequence[int] = LEVELS) -> list[Puzzle]:
    """Draw `count` distinct problems of one split, levels in turn.

    Raises:
        InputError: `count` below 1, no level, a level outside 2 to 6, or too few distinct problems.
    """
    if count < 1:
        raise InputError(f"count is {count}; ask for at least 1 problem")
    if not levels or not all(2 <= level <= MOST_LEVEL for level in levels):
        raise InputError(f"levels is {list(levels)}; give one or more levels from 2 to {MOST_LEVEL}")
    rng = random.Random(f"search/{split}/{seed}")
    found: dict[Puzzle, None] = {}
    for level in itertools.islice(itertools.cycle(levels), count):
        for _ in range(20_000):
            puzzle = draw(rng, level)
            if puzzle not in found and split_of(puzzle) == split:
                found[puzzle] = None
                break
        else:
            raise InputError(
                f"count is {count}, more than the distinct {split} problems of level {level}; ask for fewer"
            )
    return list(found)


def try_words(part: Sequence[int]) -> list[str]:
    """One try as words: each number with its running sum."""
    pairs = zip(part, itertools.accumulate(part), strict=True)
    return [word for number, total in pairs for word in (COMMA, str(number), SUM, str(total))][1:]


def worked_solution(rng: random.Random, puzzle: Puzzle, *, most: int = MOST_TRIES) -> list[str]:
    """A solution as words: blind tries until one hits; after `most` tries the last one is answered, right or not."""
    words: list[str] = []
    for left in range(most - 1, -1, -1):
        part = guess(rng, puzzle.numbers)
        words += try_words(part)
        if sum(part) == puzzle.target or not left:
            break
        words.append(MISS)
    joined = [word for number in part for word in (str(number), JOIN)][:-1]
    return [*words, ANSWER, *joined]
