"""The chains world: arithmetic whose shortest sound answer, and so every removable token, is known.

A problem is a start value and `level` operations, each plus or minus a digit, with running values that are
never negative: ``7+5-3?``. A *pass* works the chain once, step by step; the verbose reasoner repeats passes
until two agree:

    7+5=12;12-3=9;check:7+5=12;12-3=9;A:9

Every number, sign and word (``check:``, ``A:``) is one token. A single pass with its answer and EOS takes
``6 * level + 3`` tokens, the *oracle length*.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lengthwise.errors import InputError
from lengthwise.lab.words import ANSWER as ANSWER
from lengthwise.lab.words import EOS as EOS
from lengthwise.lab.words import PAD as PAD

Split = Literal["train", "validation", "test"]

LEVELS = tuple(range(1, 8))
MAX_PASSES = 5
LARGEST = 99
ASK, CHECK = "?", "check:"
VOCABULARY = (PAD, EOS, ASK, "+", "-", "=", ";", CHECK, ANSWER, *(str(n) for n in range(LARGEST + 1)))
# Below this many distinct problems a level cannot be held out: nearly all of it is seen in training.
FEW_PROBLEMS = 1000


@dataclass(frozen=True)
class Chain:
    """One problem: `start`, then signed digits `steps`; its level is the number of operations."""

    start: int
    steps: tuple[int, ...]

    @property
    def level(self) -> int:
        """Number of operations."""
        return len(self.steps)

    @property
    def words(self) -> list[str]:
        """The prompt, token by token: ``7``, ``+``, ``5``, ``-``, ``3``, ``?``."""
        return [str(self.start), *(word for s in self.steps for word in (_sign(s), str(abs(s)))), ASK]

    @property
    def problem(self) -> str:
        """The prompt text, for example ``7+5-3?``."""
        return "".join(self.words)

    @property
    def answer(self) -> str:
        """The exact result as text."""
        return str(self.start + sum(self.steps))

    @property
    def oracle_tokens(self) -> int:
        """Tokens of one pass, the answer and EOS: ``6 * level + 3``."""
        return oracle_tokens(self.level)

    @property
    def row(self) -> dict[str, object]:
        """The problem as a data row with the columns that every command reads."""
        return {
            "problem": self.problem,
            "answer": self.answer,
            "level": self.level,
            "oracle_tokens": self.oracle_tokens,
        }


def _sign(step: int) -> str:
    return "+" if step > 0 else "-"


def oracle_tokens(level: int) -> int:
    """Response tokens, EOS included, of the shortest sound answer to a problem of this level."""
    return 6 * level + 3


def split_of(chain: Chain) -> Split:
    """The split a problem belongs to for ever, by a hash of its words: 10 % test, 5 % validation, else train."""
    share = int.from_bytes(hashlib.sha256(" ".join(chain.words).encode()).digest()[:8], "big") / 2**64
    return "test" if share < 0.10 else "validation" if share < 0.15 else "train"


def draw(rng: random.Random, level: int) -> Chain:
    """Draw one problem: start 0 to 9, each step uniform over the digits and signs that stay at or above 0."""
    start = value = rng.randint(0, 9)
    steps = []
    for _ in range(level):
        step = rng.choice([d for d in (*range(-9, 0), *range(1, 10)) if value + d >= 0])
        value += step
        steps.append(step)
    return Chain(start, tuple(steps))


def problems(
    count: int, *, split: Split, seed: int, levels: Sequence[int] = LEVELS, distinct: bool = True
) -> list[Chain]:
    """Draw `count` problems of one split, levels in turn; with `distinct` no problem comes twice.

    A level whose split holds too few distinct problems gives all it has and the other levels fill up.

    Raises:
        InputError: `count` below 1, no level, or a level outside 1 to 9.
    """
    if count < 1:
        raise InputError(f"count is {count}; ask for at least 1 problem")
    if not levels or not all(1 <= level <= 9 for level in levels):
        raise InputError(f"levels is {list(levels)}; give one or more levels from 1 to 9")
    rng = random.Random(f"chains/{split}/{seed}")
    found: list[Chain] = []
    seen: set[Chain] = set()
    open_levels = list(levels)
    while len(found) < count and open_levels:
        for level in list(open_levels):
            chain = _draw_unseen(rng, level, split, seen if distinct else set())
            if chain is None:
                open_levels.remove(level)
                continue
            seen.add(chain)
            found.append(chain)
    if len(found) < count:
        raise InputError(
            f"count is {count} but levels {list(levels)} hold only {len(found)} distinct {split} problems; "
            "ask for fewer or add longer levels"
        )
    return found[:count]


def all_problems(levels: Sequence[int], *, split: Split) -> list[Chain]:
    """Every distinct problem of some short levels that falls into a split, in a fixed order."""
    found = []
    for level in levels:
        for start in range(10):
            for steps in itertools.product((*range(-9, 0), *range(1, 10)), repeat=level):
                values = itertools.accumulate(steps, initial=start)
                chain = Chain(start, steps)
                if min(values) >= 0 and split_of(chain) == split:
                    found.append(chain)
    return found


def _draw_unseen(rng: random.Random, level: int, split: Split, seen: set[Chain]) -> Chain | None:
    for _ in range(2000):
        chain = draw(rng, level)
        if chain not in seen and split_of(chain) == split:
            return chain
    return None


def distinct_problems(level: int) -> int:
    """Number of distinct problems of a level, counted exactly over reachable running values."""
    ways = dict.fromkeys(range(10), 1)
    for _ in range(level):
        nxt: dict[int, int] = {}
        for value, count in ways.items():
            for digit in (*range(-9, 0), *range(1, 10)):
                if value + digit >= 0:
                    nxt[value + digit] = nxt.get(value + digit, 0) + count
        ways = nxt
    return sum(ways.values())


def worked_pass(rng: random.Random, chain: Chain, slip: float) -> tuple[list[str], int]:
    """One pass over the chain as words, and its result; a step slips with probability `slip`, which is carried on."""
    value, words = chain.start, []
    for step in chain.steps:
        result = max(0, value + step)
        if rng.random() < slip:
            result += rng.choice([o for o in (-10, -2, -1, 1, 2, 10) if 0 <= result + o <= LARGEST])
        words += [str(value), _sign(step), str(abs(step)), "=", str(result), ";"]
        value = result
    return words, value


def worked_solution(rng: random.Random, chain: Chain, *, slip: float = 0.06, doubt: float = 0.35) -> list[str]:
    """A verbose solution as words: passes are repeated, two to five times, until the last agrees with one before.

    Even then the writer doubts with probability `doubt` and works the chain once more: that is the overthinking
    that a shortened model is to lose.
    """
    words: list[str] = []
    results: list[int] = []
    while len(results) < MAX_PASSES:
        if results:
            words.append(CHECK)
        working, value = worked_pass(rng, chain, slip)
        words += working
        agreed = value in results
        results.append(value)
        if agreed and rng.random() >= doubt:
            break
    return [*words, ANSWER, str(results[-1])]


def terse_solution(rng: random.Random, chain: Chain, *, slip: float = 0.06, careless: float = 0.2) -> list[str]:
    """A terse solution as words: one pass, no check; a step that crosses a ten goes wrong by ten now and then.

    Beside ordinary slips the writer forgets a carry or a borrow with probability `careless`, and carries on with what
    it has. So chains of few crossings are right at once, and long ones would have been worth a second pass.
    """
    value, words = chain.start, []
    for step in chain.steps:
        result = max(0, value + step)
        crosses = value // 10 != result // 10
        if crosses and rng.random() < careless:
            result += -10 if step > 0 else 10
        elif rng.random() < slip:
            result += rng.choice([o for o in (-2, -1, 1, 2) if 0 <= result + o <= LARGEST])
        words += [str(value), _sign(step), str(abs(step)), "=", str(result), ";"]
        value = result
    return [*words, ANSWER, str(value)]
