"""Ada-R1's preference pairs: from the samples of two models to readable JSON lines.

One line is one pair: ``prompt``, ``chosen``, ``rejected`` as text, ``kind`` (group or instance), ``preferred`` style
of the problem, and for each side who wrote it (``chosen_by``), its ``chosen_sample``, ``chosen_tokens``,
``chosen_correct`` and ``chosen_finished``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lengthwise.errors import CheckpointError
from lengthwise.files import replacing
from lengthwise.grading.problems import Problems
from lengthwise.objectives import group_pairs, instance_pairs, preferred_group
from lengthwise.objectives.mode_rewards import LONG, NO_MODE, SHORT
from lengthwise.statistics.json_form import Result

if TYPE_CHECKING:
    from lengthwise.methods.papers.ada_r1 import BiLevel

STYLES = {LONG: "long", SHORT: "short", NO_MODE: "none"}
Sample = Mapping[str, Any]
"""A row of a response log with its verdict ``correct``."""


@dataclass(frozen=True, kw_only=True)
class PairCounts(Result):
    """What the pairs of all problems say.

    `preferred`: how often each style is, over all and by level. `long_is`: how often the long model is better, as good
    or worse. `pairs` of each kind, and how many were left out because their texts are equal.
    """

    problems: int
    preferred: Mapping[str, Mapping[str, int]]
    long_is: Mapping[str, int]
    pairs: Mapping[str, int]
    left_out_as_equal: int


def graded_samples(path: Path, problems: Problems, samples: int) -> dict[str, list[Sample]]:
    """The samples of every problem in the order they were drawn, graded; cut responses are never right.

    Raises:
        CheckpointError: a problem has not all its samples.
    """
    places = {name: place for place, name in enumerate(problems.ids)}
    with path.open(encoding="utf-8") as file:
        rows = list(map(json.loads, file))
    right = problems.are_right([places[row["problem_id"]] for row in rows], [row["response"] for row in rows])
    found: dict[str, list[Sample]] = defaultdict(list)
    for row, verdict in zip(rows, right, strict=True):
        found[row["problem_id"]].append({**row, "correct": row["finished"] and verdict})
    for name in problems.ids:
        found[name].sort(key=lambda row: row["sample"])
        if [row["sample"] for row in found[name]] != list(range(samples)):
            raise CheckpointError(
                f"{path} holds {len(found[name])} of {samples} samples of problem {name!r}; run the stage sample again"
            )
    return found


def problem_pairs(
    long: Sequence[Sample], short: Sequence[Sample], settings: BiLevel, *, seed: int
) -> tuple[str, list[dict[str, Any]]]:
    """The preferred style of one problem ("none", "long", "short") and its pairs of both kinds.

    Pairs of two equal texts are marked ``same``: their loss is ln 2 whatever the model does.
    """
    rows = {"long": long, "short": short}
    correct = {name: torch.tensor([row["correct"] for row in found]) for name, found in rows.items()}
    style = STYLES[preferred_group(correct["long"], correct["short"], epsilon=settings.epsilon)]
    if style == "none":
        return style, []
    other = "short" if style == "long" else "long"
    places: list[tuple[str, str, list[list[int]]]] = []
    if settings.pairs != "instance":
        drawn = group_pairs(correct[style], correct[other], seed=seed, most=settings.group_most, narrow=settings.narrow)
        places.append(("group", other, drawn.tolist()))
    if settings.pairs != "group":
        tokens = torch.tensor([row["num_tokens"] for row in rows[style]])
        drawn = instance_pairs(correct[style], tokens, most=settings.instance_most, narrow=settings.narrow)
        places.append(("instance", style, drawn.tolist()))
    return style, [
        _pair(kind, style, rows[style][chosen], loser, rows[loser][rejected])
        for kind, loser, found in places
        for chosen, rejected in found
    ]


def _pair(kind: str, style: str, chosen: Sample, loser: str, rejected: Sample) -> dict[str, Any]:
    same = (chosen["response"], chosen["finished"]) == (rejected["response"], rejected["finished"])
    pair = {"kind": kind, "preferred": style, "chosen": chosen["response"], "rejected": rejected["response"]}
    for side, who, row in (("chosen", style, chosen), ("rejected", loser, rejected)):
        pair[f"{side}_by"] = who
        pair |= {f"{side}_{name}": row[name] for name in ("sample", "correct", "finished")}
        pair[f"{side}_tokens"] = row["num_tokens"]
    return {**pair, "same": same}


def write_pairs(path: Path, problems: Problems, long: Path, short: Path, settings: BiLevel, seed: int) -> PairCounts:
    """Build the pairs of all problems, write them whole or not at all, and return what they say."""
    samples = {"long": graded_samples(long, problems, settings.samples)}
    samples["short"] = graded_samples(short, problems, settings.samples)
    preferred: dict[str, Counter[str]] = defaultdict(Counter)
    lead: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for place, name in enumerate(problems.ids):
            rows = {style: found[name] for style, found in samples.items()}
            style, pairs = problem_pairs(rows["long"], rows["short"], settings, seed=_seed_of(seed, name))
            level = problems.categories[place] if problems.categories is not None else None
            for group in ("all", *([] if level is None else [level])):
                preferred[group][style] += 1
            lead[_lead(rows["long"], rows["short"])] += 1
            head = {"problem_id": name, **({} if level is None else {"level": level}), "prompt": problems.texts[place]}
            for pair in pairs:
                same = pair.pop("same")
                kinds["same" if same else pair["kind"]] += 1
                if not same:
                    file.write(json.dumps({**head, **pair}) + "\n")
    return PairCounts(
        problems=len(problems),
        preferred=preferred,
        long_is=lead,
        pairs={kind: kinds[kind] for kind in ("group", "instance")},
        left_out_as_equal=kinds["same"],
    )


def _lead(long: Sequence[Sample], short: Sequence[Sample]) -> str:
    right = [sum(row["correct"] for row in rows) for rows in (long, short)]
    return "better" if right[0] > right[1] else "worse" if right[0] < right[1] else "equal"


def _seed_of(seed: int, name: str) -> int:
    """A seed of the problem's own, so that its pairs do not depend on which others there are."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:6], "big")


def read_pairs(path: Path) -> Iterator[dict[str, Any]]:
    """The pairs of a file, in its order."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)
