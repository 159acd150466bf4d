"""What the lab's models are taught: for each world its words and an endless stream of worked solutions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lengthwise.lab import chains, witnesses


class Example(NamedTuple):
    """A worked solution as words; `taught` marks the response's words that the model is to write itself."""

    prompt: Sequence[str]
    response: Sequence[str]
    taught: Sequence[bool]


@dataclass(frozen=True)
class Lesson:
    """How a reasoner of one world is made: the size of its model, its steps, and `examples(seed)`.

    Batches are dealt from pools of so many batches sorted by length: 1 mixes all lengths, which a lesson about when
    to stop needs (a batch of short solutions would weigh its stops too much). `title` and `story` stand in its model
    card. With `start`, the name of a shipped reasoner, its weights are taught further, at `peak_lr`.
    """

    world: str
    vocabulary: Sequence[str]
    examples: Callable[[int], Iterator[Example]]
    layers: int
    hidden: int
    steps: int
    pool: int
    title: str
    story: str
    peak_lr: float = 2e-3
    start: str | None = None


def chains_lesson(*, slip: float = 0.06, doubt: float = 0.35, levels: Sequence[int] = chains.LEVELS) -> Lesson:
    """The verbose reasoner: solutions that slip and are worked again (see `chains.worked_solution`)."""

    def examples(seed: int) -> Iterator[Example]:
        rng = random.Random(f"teach/{seed}")
        while True:
            chain = chains.draw(rng, rng.choice(levels))
            if chains.split_of(chain) != "train":
                continue
            words = [*chains.worked_solution(rng, chain, slip=slip, doubt=doubt), chains.EOS]
            yield Example(chain.words, words, [True] * len(words))

    return Lesson(
        world="chains",
        vocabulary=chains.VOCABULARY,
        examples=examples,
        layers=3,
        hidden=128,
        steps=1800,
        pool=8,
        title="Verbose reasoner of the chains world",
        story=f"worked solutions of arithmetic chains (levels {levels[0]} to {levels[-1]}), in which each step slips "
        f"with probability {slip} and the chain is worked again, two to five times, until two passes agree, and then "
        f"once more with probability {doubt}. So it overthinks on purpose: one pass is enough",
    )


def terse_lesson(*, slip: float = 0.06, careless: float = 0.2, levels: Sequence[int] = chains.LEVELS) -> Lesson:
    """The terse reasoner: the verbose one taught on to one pass (see `chains.terse_solution`).

    It starts from the verbose weights, so that the average of the two is a model too.
    """

    def examples(seed: int) -> Iterator[Example]:
        rng = random.Random(f"teach/terse/{seed}")
        while True:
            chain = chains.draw(rng, rng.choice(levels))
            if chains.split_of(chain) != "train":
                continue
            words = [*chains.terse_solution(rng, chain, slip=slip, careless=careless), chains.EOS]
            yield Example(chain.words, words, [True] * len(words))

    return Lesson(
        world="terse",
        vocabulary=chains.VOCABULARY,
        examples=examples,
        layers=3,
        hidden=128,
        steps=400,
        pool=8,
        title="Terse reasoner of the chains world",
        story=f"arithmetic chains (levels {levels[0]} to {levels[-1]}) worked once and answered at once; each step "
        f"slips with probability {slip}, and one that crosses a ten loses it with probability {careless}. It is the "
        "verbose reasoner taught on, so that the two can be merged",
        peak_lr=5e-4,
        start="chains",
    )


def witnesses_lesson(*, all_share: float = witnesses.ALL_SHARE, levels: Sequence[float] = witnesses.LEVELS) -> Lesson:
    """The careful asker: it asks for every reading most of the time, else stops anywhere.

    The readings are the world's words and not taught: nobody can foretell them.
    """

    def examples(seed: int) -> Iterator[Example]:
        rng = random.Random(f"teach/{seed}")
        while True:
            problem = witnesses.Witness(rng.choice(levels), rng.random() < 0.5, 0)
            words = [*witnesses.worked_solution(rng, problem, all_share=all_share), witnesses.EOS]
            yield Example(problem.words, words, [w != witnesses.ASK for w in ["", *words[:-1]]])

    return Lesson(
        world="witnesses",
        vocabulary=witnesses.VOCABULARY,
        examples=examples,
        layers=2,
        hidden=96,
        steps=600,
        pool=1,
        title="Careful asker of the witnesses world",
        story="solutions that ask for noisy readings of a hidden bit, keep a tally and answer its sign: all "
        f"{witnesses.MOST_READINGS} readings with probability {all_share}, else any smaller number, uniformly. So it "
        "asks for too many on purpose, and now and then for few, which reinforcement can build on",
    )


LESSONS: dict[str, Callable[[], Lesson]] = {
    "chains": chains_lesson,
    "terse": terse_lesson,
    "witnesses": witnesses_lesson,
}
