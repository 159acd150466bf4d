"""Where methods are compared: a model, problems to practise, to choose settings on and to report on, free baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import torch

from lengthwise.context_length import reach
from lengthwise.data import read_rows, require_columns
from lengthwise.engine.backends.protocol import World
from lengthwise.engine.model_folders import Policy
from lengthwise.errors import ConfigError, InputError
from lengthwise.grading.contract_choice import chosen_contract, contract_for_model
from lengthwise.grading.problems import Problems, prepare
from lengthwise.grading.prompt_contract import preset, resolve
from lengthwise.lab import chains, search, witnesses
from lengthwise.lab.shipped_models import LAB, model_folder
from lengthwise.lab.words import ANSWER
from lengthwise.pretrained import load_tokenizer, read_config, read_words
from lengthwise.runs.chains_demo import COMMON_LEVELS, EVAL_CAP, TRAIN_PROBLEMS, chain_problems, first_pass, oracle_mean
from lengthwise.runs.compare.comparison import Comparison
from lengthwise.runs.compare.free_baselines import AGREES, Baseline, baselines_for, measure_again, temperatures_for
from lengthwise.runs.measuring import room, usual_cap
from lengthwise.runs.shortening.resolve import HELD_OUT_SHARE, share_of
from lengthwise.statistics.records import Record

T = TypeVar("T")


@dataclass(frozen=True)
class Arena:
    """What every run shares but for the seed.

    ``train`` makes the problems to practise from a seed; settings are chosen on ``validation``, all that is reported is
    measured on ``test``. ``baselines`` need no training. ``oracle_tokens``: mean length of the shortest sound answers
    to ``test``; ``frontier``: (tokens, accuracy) that nothing can surpass, where either is known.
    """

    folder: Path
    train: Callable[[int], Problems]
    validation: Problems
    test: Problems
    eval_cap: int
    source: str
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    oracle_tokens: float | None = None
    frontier: Sequence[tuple[float, float]] | None = None
    lab: bool = False


def open_arena(asked: Comparison) -> Arena:
    """Read model and problems, or the world of the lab that is named.

    Raises:
        ConfigError: no such world.
        InputError: a file, a row or a column is not what is wanted, or too few rows to hold any out.
    """
    arena = _open(asked)
    return arena if asked.splits.baselines else replace(arena, baselines={})


def _open(asked: Comparison) -> Arena:
    if not asked.source.startswith(LAB):
        return _of_files(asked)
    world = asked.source.removeprefix(LAB)
    if world not in WORLDS:
        raise ConfigError(
            f"{asked.source!r} is no world of the lab; choose {' or '.join(LAB + name for name in WORLDS)}, or name "
            "problems of your own with --data"
        )
    if asked.splits.test_data is not None:
        raise ConfigError(f"test_data is given, but {asked.source} has its own test problems; leave one of them out")
    folder = model_folder(asked.model, in_its_world=True)
    words, opened = WORLDS[world]
    known = load_tokenizer(folder, trust_remote_code=asked.runtime.trust_remote_code).get_vocab()
    if unknown := [word for word in words if word not in known]:
        raise ConfigError(
            f"model is {asked.model!r}, which does not know the words of {asked.source} ({', '.join(unknown[:3])}, "
            "...); leave --data out, and a lab model is compared in its own world"
        )
    arena = opened(asked, folder)
    longest = max(len(prompt) for part in (arena.validation, arena.test) for prompt in part.prompts)
    most = room(longest, reach(read_config(folder, trust_remote_code=asked.runtime.trust_remote_code)))
    if arena.eval_cap > most:
        raise ConfigError(
            f"eval_cap is {arena.eval_cap}, but behind a problem of {asked.source} the model has room for {most} "
            "tokens; lower it, or leave it out"
        )
    return arena


def _held_out(asked: Comparison, split: Literal["validation", "test"], draw: Callable[..., Sequence[T]]) -> Sequence[T]:
    """The problems of a world that settings are chosen on or that are reported on: the same for every seed."""
    limits = asked.splits
    count = limits.validation_limit if split == "validation" else limits.test_limit
    try:
        return draw(count, split=split, seed=0)
    except InputError as error:  # a world does not know which flag its count came from
        raise InputError(f"{split}_limit is {count}: {error}") from error


def _of_files(asked: Comparison) -> Arena:
    folder = model_folder(asked.model)
    if asked.model.startswith(LAB) and asked.contract.preset != "lab":
        raise ConfigError(
            f"preset is {asked.contract.preset!r}, but {asked.model} answers as the lab asks; give --preset lab"
        )
    words = chosen_contract(asked.contract)
    columns = [words.problem_column, words.answer_column]
    rows = require_columns(read_rows(asked.source), columns, asked.source)
    parts = _parts(rows, words.problem_column, asked)
    source = asked.splits.test_data or asked.source
    if asked.splits.test_data is not None:
        parts["test"] = require_columns(read_rows(asked.splits.test_data), columns, asked.splits.test_data)[
            : asked.splits.test_limit
        ]
    config, tokenizer = read_words(folder, trust_remote_code=asked.runtime.trust_remote_code)
    contract = contract_for_model(asked.contract, folder, tokenizer)
    positions = reach(config)

    sources, grader = {name: source if name == "test" else asked.source for name in parts}, asked.contract.grader
    found = {
        name: prepare(part, contract, tokenizer, cap=1, positions=positions, source=sources[name], grader=grader)
        for name, part in parts.items()
    }
    most = room(max(len(prompt) for one in found.values() for prompt in one.prompts), positions)
    cap = asked.splits.eval_cap or usual_cap(most, asked.longest_cap)
    for name, problems in found.items():
        problems.check_room(cap, positions, sources[name])
    return Arena(
        folder, lambda seed: found["train"], found["validation"], found["test"], cap, source,
        baselines=baselines_for(found["test"]),
    )  # fmt: skip


def _parts(
    rows: Sequence[Mapping[str, object]], column: str, asked: Comparison
) -> dict[str, Sequence[Mapping[str, object]]]:
    """Rows by use: a tenth to choose settings on, and without test data another to report on."""
    tenths = 1 if asked.splits.test_data is not None else 2
    parts: dict[str, list[Mapping[str, object]]] = {name: [] for name in ("validation", "test", "train")}
    for row in rows:
        place = int(share_of(str(row[column])) / HELD_OUT_SHARE)
        parts["train" if place >= tenths else ("validation", "test")[place]].append(row)
    if tenths == 1:
        del parts["test"]
    if not all(parts.values()):
        raise InputError(
            f"data is {asked.source!r} with {len(rows)} rows, too few to hold a tenth out for the choice of settings"
            + (" and another for the report; name other problems with --test-data" if tenths == 2 else "")
        )
    limits = {"validation": asked.splits.validation_limit, "test": asked.splits.test_limit}
    return {name: part[: limits.get(name)] for name, part in parts.items()}


def _chains(asked: Comparison, folder: Path) -> Arena:
    ready = partial(chain_problems, folder=folder, trust_remote_code=asked.runtime.trust_remote_code)
    draw = partial(chains.problems, levels=COMMON_LEVELS)
    test = ready(_held_out(asked, "test", draw))
    return Arena(
        folder,
        lambda seed: ready(chains.problems(TRAIN_PROBLEMS, split="train", seed=seed)),
        ready(_held_out(asked, "validation", draw)),
        test,
        asked.splits.eval_cap or EVAL_CAP,
        asked.source,
        baselines={"first pass": first_pass, **baselines_for(test)},
        oracle_tokens=oracle_mean(test),
        lab=True,
    )


class WitnessProblems(Problems):
    """Problems whose readings come from the world while the response is written."""

    def stops(self, owners: Sequence[int], generator: torch.Generator) -> World | None:
        """What writes the readings of each row's bit."""
        assert self.categories is not None, "witnesses always name their level"
        rows = [witnesses.Witness(float(self.categories[o]), self.answers[o] == witnesses.YES, o) for o in owners]
        return witnesses.world(rows, self.tokenizer.get_vocab(), generator)


def witness_problems(
    rows: Sequence[witnesses.Witness], folder: Path, *, trust_remote_code: bool = False
) -> WitnessProblems:
    """Witnesses as problems for the shipped asker, under the `lab` contract."""
    tokenizer = load_tokenizer(folder, trust_remote_code=trust_remote_code)
    contract = resolve(preset("lab"), tokenizer)
    found = prepare(
        [row.row for row in rows], contract, tokenizer, cap=WITNESS_CAP, positions=512, source=f"{LAB}witnesses"
    )
    return WitnessProblems(**vars(found))


WITNESS_CAP = witnesses.TOKENS_AROUND + witnesses.TOKENS_PER_READING * witnesses.MOST_READINGS
FIXED = (3, 7, 15)
"""Readings in `witnesses` and tries in `search` after which the untouched model is made to answer."""
_SEEDS = {"validation": 1_000_001, "test": 1_000_002}


@dataclass(frozen=True)
class FewReadings(WitnessProblems):
    """Witnesses of which a response gets `most` readings, and must then answer."""

    most: int

    def stops(self, owners: Sequence[int], generator: torch.Generator) -> World | None:
        """What writes the readings, and asks for the answer behind the last."""
        stop = self.tokenizer.convert_tokens_to_ids(ANSWER)
        due, inner = witnesses.TOKENS_PER_READING * self.most, super().stops(owners, generator)
        assert inner is not None, "witnesses have readings"
        return lambda row, written: stop if len(written) == due else inner(row, written)


def readings(most: int, policy: Policy, problems: Problems, before: Record, log: Path) -> Record:
    """Free baseline: the untouched model, made to answer after so many readings at the latest."""
    few = FewReadings(**vars(problems), most=most)
    return measure_again(policy, few, before, log, name=f"at most {most} readings")


def _witnesses(asked: Comparison, folder: Path) -> Arena:
    ready = partial(witness_problems, folder=folder, trust_remote_code=asked.runtime.trust_remote_code)
    test = ready(witnesses.problems(asked.splits.test_limit, seed=_SEEDS["test"]))
    corners = witnesses.frontier()
    return Arena(
        folder,
        lambda seed: ready(witnesses.problems(TRAIN_PROBLEMS, seed=seed)),
        ready(witnesses.problems(asked.splits.validation_limit, seed=_SEEDS["validation"])),
        test,
        asked.splits.eval_cap or WITNESS_CAP,
        asked.source,
        baselines={**temperatures_for(), **{f"at most {n} readings": partial(readings, n) for n in FIXED}},
        frontier=[(witnesses.TOKENS_AROUND + witnesses.TOKENS_PER_READING * p.readings, p.accuracy) for p in corners],
        lab=True,
    )


SEARCH_LEVELS = (3, 4)
"""Level 2 has a few hundred problems in all, too few to hold any out."""
SEARCH_CAP = 4 * search.MOST_TRIES * max(search.LEVELS) + 2 * max(search.LEVELS)
"""The longest worked solution: every try takes all numbers, 4 words each, and the answer 2 each."""


def search_problems(rows: Sequence[search.Puzzle], folder: Path, *, trust_remote_code: bool = False) -> Problems:
    """Subset sums as problems for the shipped guesser, under the `lab` contract."""
    tokenizer = load_tokenizer(folder, trust_remote_code=trust_remote_code)
    contract = resolve(preset("lab"), tokenizer)
    return prepare([row.row for row in rows], contract, tokenizer, cap=SEARCH_CAP, positions=512, source=f"{LAB}search")


@dataclass(frozen=True)
class FewTries(Problems):
    """Subset sums of which a response may miss `most` times, and must then answer."""

    most: int

    def stops(self, owners: Sequence[int], generator: torch.Generator) -> World | None:
        """What asks for the answer behind the last miss."""
        answer, miss = self.tokenizer.convert_tokens_to_ids([ANSWER, search.MISS])
        return lambda row, written: answer if written[-1:] == [miss] and written.count(miss) == self.most else None


def tries(most: int, policy: Policy, problems: Problems, before: Record, log: Path) -> Record:
    """Free baseline: the untouched model, made to answer once so many tries have missed."""
    return measure_again(policy, FewTries(**vars(problems), most=most), before, log, name=f"at most {most} tries")


def _search(asked: Comparison, folder: Path) -> Arena:
    ready = partial(search_problems, folder=folder, trust_remote_code=asked.runtime.trust_remote_code)
    draw = partial(search.problems, levels=SEARCH_LEVELS)
    puzzles = _held_out(asked, "test", draw)
    test = ready(puzzles)
    free = {name: one for name, one in baselines_for(test).items() if name != AGREES}  # no answer stands there twice
    return Arena(
        folder,
        lambda seed: ready(draw(TRAIN_PROBLEMS, split="train", seed=seed)),
        ready(_held_out(asked, "validation", draw)),
        test,
        asked.splits.eval_cap or SEARCH_CAP,
        asked.source,
        baselines={**free, **{f"at most {n} tries": partial(tries, n) for n in FIXED}},
        oracle_tokens=sum(puzzle.oracle_tokens for puzzle in puzzles) / len(puzzles),
        lab=True,
    )


WORLDS: dict[str, tuple[Sequence[str], Callable[[Comparison, Path], Arena]]] = {
    "chains": (chains.VOCABULARY, _chains),
    "witnesses": (witnesses.VOCABULARY, _witnesses),
    "search": (search.VOCABULARY, _search),
}
"""The lab's worlds by name: their words, and what ``lab:NAME`` opens."""
