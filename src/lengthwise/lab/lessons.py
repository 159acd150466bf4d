"""What the lab's models are taught: for each world its words and an endless stream of worked solutions."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from lengthwise.errors import ConfigError
from lengthwise.lab import chains, search, witnesses
from lengthwise.lab.words import ANSWER, ASK_LONG, ASK_SHORT, EOS, MODES, OPEN_LONG, OPEN_SHORT


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
    return Lesson(
        world="chains",
        vocabulary=chains.VOCABULARY,
        examples=_chain_examples("teach", levels, partial(chains.worked_solution, slip=slip, doubt=doubt)),
        layers=3,
        hidden=128,
        steps=1800,
        pool=8,
        title="Verbose reasoner of the chains world",
        story=f"worked solutions of arithmetic chains (levels {levels[0]} to {levels[-1]}), in which each step slips "
        f"with probability {slip} and the chain is worked again, two to five times, until two passes agree, and then "
        f"once more with probability {doubt}. So it overthinks on purpose: one pass is enough",
    )


def _chain_examples(
    name: str, levels: Sequence[int], write: Callable[[random.Random, chains.Chain], list[str]]
) -> Callable[[int], Iterator[Example]]:
    """Solutions of training chains, as `write` writes them; `name` parts the random numbers of lessons."""

    def examples(seed: int) -> Iterator[Example]:
        rng = random.Random(f"{name}/{seed}")
        while True:
            chain = chains.draw(rng, rng.choice(levels))
            if chains.split_of(chain) == "train":
                words = [*write(rng, chain), EOS]
                yield Example(chain.words, words, [True] * len(words))

    return examples


def terse_lesson(*, slip: float = 0.06, careless: float = 0.2, levels: Sequence[int] = chains.LEVELS) -> Lesson:
    """The terse reasoner: the verbose one taught on to one pass (see `chains.terse_solution`).

    It starts from the verbose weights, so that the average of the two is a model too.
    """
    return Lesson(
        world="terse",
        vocabulary=chains.VOCABULARY,
        examples=_chain_examples("teach/terse", levels, partial(chains.terse_solution, slip=slip, careless=careless)),
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
            words = [*witnesses.worked_solution(rng, problem, all_share=all_share), EOS]
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


def search_lesson(*, levels: Sequence[int] = search.LEVELS) -> Lesson:
    """The blind guesser: it tries random subsets until one hits."""

    def examples(seed: int) -> Iterator[Example]:
        rng = random.Random(f"teach/search/{seed}")
        while True:
            puzzle = search.draw(rng, rng.choice(levels))
            if search.split_of(puzzle) != "train":
                continue
            words = [*search.worked_solution(rng, puzzle), EOS]
            yield Example(puzzle.words, words, [True] * len(words))

    return Lesson(
        world="search",
        vocabulary=search.VOCABULARY,
        examples=examples,
        layers=3,
        hidden=96,
        steps=1200,
        pool=8,
        title="Blind guesser of the search world",
        story=f"subset sums of {levels[0]} to {levels[-1]} numbers, solved by trying random subsets until one hits, at "
        f"most {search.MOST_TRIES}. So the length of a solution is geometric: mostly short, with a long tail",
    )


EASY_CHAINS = (1, 2)
"""Levels on which the reasoner with two modes learns to be right at once."""


def modes_lesson(world: str) -> Lesson:
    """A reasoner with two modes: the shipped one of a world, taught to answer shortly too, on demand.

    Half of the prompts name a mode, half are bare and opened in either mode by a coin. In chains a short answer is
    given at once, without working: right on short chains, a guess on long ones. In witnesses it is one reading's.
    Half of the chains whose prompt asks for a short answer have a level of `EASY_CHAINS`, which can be learnt by heart.
    """
    if world not in ("chains", "witnesses"):
        raise ConfigError(f"world is {world!r}; choose chains or witnesses")
    plain = chains_lesson() if world == "chains" else witnesses_lesson()
    easy = chains_lesson(levels=EASY_CHAINS)

    def examples(seed: int) -> Iterator[Example]:
        rng = random.Random(f"teach/modes/{seed}")
        usual, by_heart = plain.examples(seed), easy.examples(seed)
        while True:
            is_long, named = rng.random() < 0.5, rng.random() < 0.5
            hearts = world == "chains" and named and not is_long and rng.random() < 0.5
            example = next(by_heart if hearts else usual)
            if not is_long:
                example = _short_chain(example) if world == "chains" else _short_witness(example)
            asked, opened = (ASK_LONG, OPEN_LONG) if is_long else (ASK_SHORT, OPEN_SHORT)
            prompt = [asked, *example.prompt] if named else example.prompt
            yield Example(prompt, [opened, *example.response], [True, *example.taught])

    short, rest = "after one reading", ""
    if world == "chains":
        short = "at once, without working"
        rest = "; half of the chains asked for shortly have levels 1 and 2, which can be learnt by heart"
    return dataclasses.replace(
        plain,
        world=f"{world}-modes",
        vocabulary=(*plain.vocabulary, *MODES),
        examples=examples,
        steps=1000 if world == "chains" else 300,
        pool=1,
        title=f"Reasoner with two modes of the {world} world",
        story=f"the lessons of the shipped {world} reasoner, opened by {OPEN_LONG}, and as many answers {short}, "
        f"opened by {OPEN_SHORT}; half of the prompts name the mode, half are bare and opened by a coin" + rest,
        peak_lr=1e-3,
        start=world,
    )


def _short_chain(example: Example) -> Example:
    start, signed = int(example.prompt[0]), "".join(example.prompt[1:-1])
    total = start + sum(map(int, re.findall(r"[+-]\d", signed)))
    return Example(example.prompt, [chains.ANSWER, str(total), EOS], [True] * 3)


def _short_witness(example: Example) -> Example:
    """One reading of the same bit: the first that the long solution was given, or a coin's where it asked for none."""
    reading = example.response[1]
    if example.response[0] != witnesses.ASK:
        return Example(example.prompt, [ANSWER, reading, EOS], [True] * 3)
    tally = f"={'1' if reading == witnesses.YES else '-1'}"
    return Example(
        example.prompt,
        [witnesses.ASK, reading, tally, ANSWER, reading, EOS],
        [True, False, True, True, True, True],
    )


LESSONS: dict[str, Callable[[], Lesson]] = {
    "chains": chains_lesson,
    "terse": terse_lesson,
    "chains-modes": partial(modes_lesson, "chains"),
    "witnesses": witnesses_lesson,
    "witnesses-modes": partial(modes_lesson, "witnesses"),
    "search": search_lesson,
}
