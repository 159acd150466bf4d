"""The lab's worlds as the study sees them: what is trained on, what is measured, and how far it is from what can be.

A world names its base, its training problems and its test sets. `measure` samples many answers to each test problem
and keeps what the study's pages are made of; nothing in it depends on a method.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from lengthwise.config.groups.sampling import Sampling
from lengthwise.engine.batches import Task, TaskWorld
from lengthwise.engine.log_probabilities import Scorer
from lengthwise.engine.model_folders import Policy
from lengthwise.engine.rollouts import Rollouts
from lengthwise.generation.sampling import sample_answers
from lengthwise.grading.problems import Problems, prepare
from lengthwise.grading.prompt_contract import preset, resolve
from lengthwise.lab import chains, witnesses
from lengthwise.lab.reasoner import POSITIONS, shipped_reasoner
from lengthwise.lab.words import ANSWER, ASK_LONG, ASK_SHORT, OPEN_LONG
from lengthwise.pretrained import load_tokenizer
from lengthwise.statistics.metrics import majority_at_k, mean_pass_at_k

KS = (1, 2, 4, 8, 16, 32, 64)
MODES = "-modes"
SCORED_ROWS = 256


@dataclass(frozen=True)
class TestSet:
    """Problems with `samples` answers each; `world` writes what is not the model's to write."""

    problems: Problems
    samples: int
    cap: int
    world: TaskWorld | None = None


@dataclass(frozen=True)
class World:
    """A world of the study.

    `task(seed)` is trained on, responses of at most `longest` tokens; `sets` are measured; `decisions` name the words
    in which the model decides to go on or to stop; `distance(found)` says of a measured set how far it is from what
    is known to be possible.
    """

    name: str
    base: str
    longest: int
    task: Callable[[int], Task]
    sets: Mapping[str, TestSet]
    decisions: Mapping[str, str]
    distance: Callable[[Mapping[str, Any]], dict[str, Any]]


def ready(rows: Sequence[Any], base: str, cap: int) -> Problems:
    """Problems of a world under the `lab` contract."""
    tokenizer = load_tokenizer(shipped_reasoner(base))
    contract = resolve(preset("lab"), tokenizer)
    source = f"lab:{base}"
    return prepare([row.row for row in rows], contract, tokenizer, cap=cap, positions=POSITIONS, source=source)


def _asked(base: str, test: TestSet) -> dict[str, TestSet]:
    """The test problems with a mode asked for, fewer answers each; nothing for a base without modes."""
    if not base.endswith(MODES):
        return {}
    problems = test.problems
    found = {}
    for name, words in (("long", ASK_LONG), ("short", ASK_SHORT)):
        prompts = [problems.instructed(place, words) for place in range(len(problems))]
        found[name] = dataclasses.replace(test, problems=dataclasses.replace(problems, prompts=prompts), samples=16)
    return found


# ------------------------------------------------------------------------------------------------ witnesses

WITNESS_CAP = witnesses.TOKENS_PER_READING * witnesses.MOST_READINGS + witnesses.TOKENS_AROUND


def _witness_world(rows: Sequence[witnesses.Witness], problems: Problems) -> TaskWorld:
    ids = problems.tokenizer.get_vocab()

    def world(owners: Sequence[int], generator: torch.Generator) -> Any:
        return witnesses.world([rows[owner] for owner in owners], ids, generator)

    return world


def _witness_cap(base: str) -> int:
    """Tokens of the longest response; with two modes the opener is one more."""
    return WITNESS_CAP + base.endswith(MODES)


def _witness_set(count: int, levels: Sequence[float], base: str, samples: int) -> TestSet:
    rows = witnesses.problems(count, seed=10_001, levels=levels, balanced=True)
    problems = ready(rows, base, _witness_cap(base))
    return TestSet(problems, samples, _witness_cap(base), _witness_world(rows, problems))


def _witness_distance(found: Mapping[str, Any], *, opener: int) -> dict[str, Any]:
    """Readings, regret to the exact frontier, and the best fixed number of readings at the same mean."""
    levels = sorted(float(level) for level in found["levels"])
    corners = witnesses.frontier(levels)
    readings = witnesses.readings_of(found["tokens"] - opener)
    fixed = [witnesses.fixed_readings(n, levels) for n in range(witnesses.MOST_READINGS + 1)]
    own = {}
    for level in levels:
        part = found["levels"][f"{level:g}"]
        asked = witnesses.readings_of(part["tokens"] - opener)
        own[f"{level:g}"] = {
            "readings": asked,
            "regret": witnesses.regret(part["accuracy"], max(0.0, asked), witnesses.frontier((level,))),
        }
    return {
        "readings": readings,
        "regret": witnesses.regret(found["accuracy"], max(0.0, readings), corners),
        "best_fixed": witnesses.best_accuracy(max(0.0, readings), witnesses.concave(fixed)),
        "levels": own,
    }


def witness_world(*, base: str = "witnesses", problems: int = 32, samples: int = 64) -> World:
    """The witnesses world: four levels of q, and three that no model was taught or trained on.

    The base with two modes is measured bare, and asked for either mode.
    """
    test = _witness_set(problems, witnesses.LEVELS, base, samples)
    sets = {"test": test, "unseen": _witness_set(48, witnesses.UNSEEN_LEVELS, base, 16), **_asked(base, test)}

    def task(seed: int) -> Task:
        rows = witnesses.problems(2000, seed=seed)
        made = ready(rows, base, _witness_cap(base))
        return dataclasses.replace(made.task(), world=_witness_world(rows, made))

    return World(
        name="witnesses",
        base=base,
        longest=_witness_cap(base),
        task=task,
        sets=sets,
        decisions={"stop": ANSWER, "again": witnesses.ASK},
        distance=partial(_witness_distance, opener=int(base.endswith(MODES))),
    )


# ------------------------------------------------------------------------------------------------ chains

CHAIN_TRAIN, CHAIN_TEST, CHAIN_UNSEEN = (1, 2, 3, 4, 5), (2, 3, 4, 5), (6, 7, 8, 9)
CHAIN_CAP = 190
CHAIN_LONG_CAP = 330


def _chain_distance(found: Mapping[str, Any]) -> dict[str, Any]:
    levels = [int(level) for level in found["levels"]]
    return {"oracle_tokens": sum(chains.oracle_tokens(level) for level in levels) / len(levels)}


def chain_world(*, base: str = "chains", problems: int = 16, samples: int = 64) -> World:
    """The chains world: levels 1 to 5 are trained on, 6 to 9 are not (8 and 9 were not taught either)."""

    def task(seed: int) -> Task:
        return ready(chains.problems(3000, split="train", seed=seed, levels=CHAIN_TRAIN), base, CHAIN_CAP).task()

    def held_out(count: int, levels: Sequence[int], of: int, cap: int) -> TestSet:
        return TestSet(ready(chains.problems(count, split="test", seed=0, levels=levels), base, cap), of, cap)

    # With two modes the easiest level matters most; it has few problems, so elsewhere it is left out.
    test = held_out(problems, (1, 2, 4, 5) if base.endswith(MODES) else CHAIN_TEST, samples, CHAIN_CAP)
    sets = {"test": test, "unseen": held_out(96, CHAIN_UNSEEN, 1, CHAIN_LONG_CAP), **_asked(base, test)}
    return World(
        name="chains",
        base=base,
        longest=CHAIN_CAP,
        task=task,
        sets=sets,
        decisions={"stop": ANSWER, "again": chains.CHECK},
        distance=_chain_distance,
    )


WORLDS: dict[str, Callable[..., World]] = {
    "witnesses": witness_world,
    "chains": chain_world,
    "witnesses-modes": partial(witness_world, base=f"witnesses{MODES}"),
    "chains-modes": partial(chain_world, base=f"chains{MODES}"),
}


# ------------------------------------------------------------------------------------------------ measuring


def measure(policy: Policy, world: World, *, seed: int) -> dict[str, Any]:
    """All of a world's sets at temperature 1."""
    return {name: _measure_set(policy, world, part, seed) for name, part in world.sets.items()}


def _measure_set(policy: Policy, world: World, part: TestSet, seed: int) -> dict[str, Any]:
    sampling = Sampling(cap=part.cap, samples=part.samples, seed=seed, sample_rows=2048)
    drawn = sample_answers(policy, part.problems, sampling, world=part.world)
    rollouts = _on(drawn, "cpu")
    assert part.problems.categories is not None, "problems of the lab name their level"
    row_levels = [part.problems.categories[owner] for owner in rollouts.problem_ids.tolist()]
    opener = part.problems.tokenizer.get_vocab().get(OPEN_LONG)
    found = _summary(rollouts, opener)
    found["levels"] = {
        level: _summary(rollouts.select(torch.tensor([own == level for own in row_levels])), opener)
        for level in sorted(set(row_levels), key=float)
    }
    found["error"] = _problem_error(rollouts, part.samples)
    found["distance"] = world.distance(found)
    if part.samples > 1:
        found["votes"] = _votes(rollouts, part)
        found["entropy"] = _entropies(policy, rollouts, part, world.decisions)
    return found


def _on(rollouts: Rollouts, device: Any) -> Rollouts:
    """The same rollouts on another device."""
    moved = {f.name: getattr(rollouts, f.name) for f in dataclasses.fields(rollouts)}
    return Rollouts(**{name: v.to(device) if isinstance(v, torch.Tensor) else v for name, v in moved.items()})


def _summary(rollouts: Rollouts, opener: int | None) -> dict[str, Any]:
    lengths = rollouts.num_tokens.float()
    opened = {} if opener is None else {"opens_long": float((rollouts.completion_ids[:, 0] == opener).float().mean())}
    return opened | {
        "responses": len(rollouts),
        "accuracy": float(rollouts.correct.float().mean()),
        "tokens": float(lengths.mean()),
        "tokens_p95": float(lengths.quantile(0.95)),
        "cut": float((~rollouts.finished).float().mean()),
    }


def _problem_error(rollouts: Rollouts, samples: int) -> float:
    """Standard error of the accuracy, over problems."""
    shares = rollouts.correct.float().view(-1, samples).mean(1)
    return float(shares.std() / len(shares) ** 0.5) if len(shares) > 1 else float("nan")


def _votes(rollouts: Rollouts, part: TestSet) -> list[dict[str, float]]:
    """pass@k and majority@k with what k answers cost: tokens in all, and tokens of the longest (latency)."""
    correct = rollouts.correct.view(-1, part.samples).numpy()
    lengths = rollouts.num_tokens.view(-1, part.samples).double().sort(1).values
    keys = [_answer(part.problems, rollouts, row) for row in range(len(rollouts))]
    rows = [keys[i : i + part.samples] for i in range(0, len(keys), part.samples)]
    rng = np.random.default_rng(0)
    return [
        {
            "k": k,
            "pass": mean_pass_at_k(correct, k),
            "majority": majority_at_k(rows, correct, k, rng=rng),
            "tokens": k * float(lengths.mean()),
            "latency": float((lengths @ _weights_of_the_largest(part.samples, k)).mean()),
        }
        for k in KS
        if k <= part.samples
    ]


def _weights_of_the_largest(n: int, k: int) -> torch.Tensor:
    """Chance that the i-th smallest of n is the largest of k drawn without replacement."""
    log = [torch.lgamma(torch.tensor(float(i + 1), dtype=torch.float64)) for i in range(n + 1)]

    def choose(m: int, r: int) -> float:
        return 0.0 if r > m else float((log[m] - log[r] - log[m - r]).exp())

    return torch.tensor([choose(i, k - 1) / choose(n, k) for i in range(n)], dtype=torch.float64)


def _answer(problems: Problems, rollouts: Rollouts, row: int) -> str | None:
    if not bool(rollouts.finished[row]):
        return None
    _, found, answer = problems.response_text(rollouts.response(row)).rpartition(ANSWER)
    return answer.strip() if found else None


@torch.no_grad()
def _entropies(policy: Policy, rollouts: Rollouts, part: TestSet, decisions: Mapping[str, str]) -> dict[str, Any]:
    """Mean entropy in nats over the model's own tokens, and where it wrote a word of decision."""
    every = max(1, len(rollouts) // SCORED_ROWS)
    some = rollouts.select(torch.arange(0, len(rollouts), every))
    entropy = Scorer(policy.model)(_on(some, policy.device))[1].cpu()
    found: dict[str, Any] = {"all": float(entropy[some.train_mask].mean())}
    for name, word in decisions.items():
        token = part.problems.tokenizer.convert_tokens_to_ids(word)
        there = some.train_mask & (some.completion_ids == token)
        found[name] = float(entropy[there].mean()) if bool(there.any()) else None
    return found
