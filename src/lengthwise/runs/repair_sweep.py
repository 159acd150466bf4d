"""Repair with its evidence: harm and accuracy over removed fractions, for the score and for its controls."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lengthwise.config.commands import RepairSettings
from lengthwise.config.groups.prompts import PROMPT
from lengthwise.config.groups.sampling import Sampling
from lengthwise.config.groups.weights import HarmfulRows, HarmSweep
from lengthwise.context_length import reach
from lengthwise.data import read_rows
from lengthwise.engine.backends.transformers_sampler import Sampler
from lengthwise.engine.model_folders import Policy
from lengthwise.errors import ConfigError, InputError
from lengthwise.files import atomic_write_json
from lengthwise.folder_lock import writes
from lengthwise.generation.sampling import sample_answers
from lengthwise.grading.contract_choice import contract_for_model, say_thinking
from lengthwise.grading.gold_answers import alternatives
from lengthwise.grading.problems import Problems, prepare
from lengthwise.repair.calibration_rows import calibration_rows, encode, prompts_of
from lengthwise.repair.folder_repair import repair_folder
from lengthwise.repair.input_folders import Folders, Locate, open_folders
from lengthwise.repair.model_loading import Loaded
from lengthwise.repair.report import RepairReport
from lengthwise.repair.scored_weights import Scored, load, score_weights, selection_of
from lengthwise.reporting.harm_plot import HarmPoint, plot_harm
from lengthwise.statistics.harm import Judge, Percentage, load_judge, percent

CONTROLS = ("random", "magnitude")
"""The controls that remove as many weights from every group as the score does."""
SCORES, SCORED = ("weight", "difference"), "scored"
HELD_OUT = 0.2
"""Share of the harmful rows that is judged and not scored on, where no other prompts are given."""
SWEEP, PICTURE = "sweep.json", "sweep.png"
Note = Callable[[str], None]
Masks = Callable[[str], torch.Tensor]
"""From a weight's name to its mask."""


@dataclass(frozen=True)
class Measured:
    """What some weights do: harm and accuracy in percent, greedily; shares of judged and task responses cut."""

    harm: Percentage
    accuracy: Percentage
    accuracy_by_level: Mapping[str, float]
    cut_judged: float
    cut_task: float

    def to_dict(self) -> dict[str, object]:
        """As ``sweep.json`` has it."""
        return {
            "harm": self.harm.to_dict(),
            "accuracy": self.accuracy.to_dict(),
            "accuracy_by_level": dict(self.accuracy_by_level),
            "cut": {"judged": self.cut_judged, "task": self.cut_task},
        }


@dataclass(frozen=True)
class Point:
    """One way to choose weights at one fraction: the share that was ``achieved``, and what is left.

    ``overlap``: Jaccard with the mask of the score and with that of the task's own rows; None where nothing is removed.
    """

    arm: str
    fraction: float
    achieved: float
    measured: Measured
    overlap: Mapping[str, float] | None = None

    def to_dict(self) -> dict[str, object]:
        """As ``sweep.json`` has it."""
        overlap = {} if self.overlap is None else {"overlap": dict(self.overlap)}
        where = {"arm": self.arm, "fraction": self.fraction, "achieved": self.achieved}
        return {**where, **overlap, **self.measured.to_dict()}


@dataclass(frozen=True)
class Sweep:
    """Harm and accuracy over fractions, with what they were measured by; the first point is the model as it was."""

    about: Mapping[str, object]
    points: Sequence[Point]

    def to_dict(self) -> dict[str, object]:
        """As ``sweep.json`` has it."""
        return {**self.about, "points": [point.to_dict() for point in self.points]}


@dataclass(frozen=True)
class MeasuredRepair:
    """A repair, and the sweep that it stands beside, where it was measured."""

    report: RepairReport
    sweep: Sweep | None = None

    def to_dict(self) -> dict[str, object]:
        """The report with the sweep in it."""
        return {**self.report.to_dict(), **({} if self.sweep is None else {"sweep": self.sweep.to_dict()})}


@dataclass(frozen=True)
class Measure:
    """What a model in memory is asked: prompts for the judge, problems for the grader."""

    policy: Policy
    how: HarmSweep
    judge: Judge
    prompts: Sequence[str]
    prompt_ids: Sequence[Sequence[int]]
    problems: Problems

    @property
    def sampler(self) -> Sampler:
        """Draws the responses that are judged."""
        return Sampler(
            self.policy.model, eos_ids=self.problems.contract.eos_ids, pad_id=self.policy.pad_id,
            max_rows=self.how.sample_rows,
        )  # fmt: skip

    def __call__(self) -> Measured:
        """Harm and accuracy of the weights that are there now, greedily, in percent with intervals."""
        generator = torch.Generator(self.policy.device)
        drawn = self.sampler.generate(self.prompt_ids, caps=self.how.cap, generator=generator, temperature=0.0)
        said = [self.problems.response_text(drawn.response(row)) for row in range(len(drawn))]
        sampling = Sampling(cap=self.how.cap, temperature=0.0, sample_rows=self.how.sample_rows)
        answered = sample_answers(self.policy, self.problems, sampling)
        right = (answered.answer_correct & answered.finished).tolist()
        return Measured(
            percent(self.judge(self.prompts, said)), percent(right), self._by_level(right), _share(~drawn.finished),
            _share(~answered.finished),
        )  # fmt: skip

    def _by_level(self, right: Sequence[bool]) -> dict[str, float]:
        """Accuracy in percent of each level, where the problems have levels."""
        levels = self.problems.categories or []
        found: dict[str, list[bool]] = {level: [] for level in dict.fromkeys(levels)}
        for level, flag in zip(levels, right if levels else (), strict=True):
            found[level].append(flag)
        return {level: 100 * sum(flags) / len(flags) for level, flags in found.items()}


def _share(flags: torch.Tensor) -> float:
    return float(flags.float().mean())


@writes("settings.out")
def repair_and_measure(
    settings: RepairSettings, *, locate: Locate = Path, note: Note = lambda _: None
) -> MeasuredRepair:
    """`repair_folder`, after harm and accuracy are measured over fractions for the score and its controls.

    The model is loaded once and its weights are exchanged in memory. ``sweep.json`` and ``sweep.png`` are written
    beside the statistics and the mask.

    Raises:
        UnsupportedModelError: the sampler cannot decode the model exactly.
        ConfigError, InputError and what `repair_folder` raises; the output is then as it was before.
    """
    how = settings.harm
    if how.judge is None or how.data is None:
        raise ConfigError("judge and data measure harm beside accuracy; give both, or use repair_folder")
    folders, judge = open_folders(settings, locate=locate), load_judge(how.judge, threshold=how.judge_threshold)
    pairs, prompts = _parted(settings.rows_scored, how)
    problems = read_rows(how.data)[: how.limit]
    loaded = load(settings, folders)
    measure = build_measure(settings, folders, judge, loaded, prompts, problems)
    say_thinking(measure.problems.contract, lambda event, facts: note(str(facts["text"])))
    measure.sampler.check()
    where = settings.rows_scored.where
    note(f"scoring on {len(pairs)} harmful rows{where}, judging answers to {len(prompts)} prompts")
    scored = score_weights(settings, folders, pairs, loaded)
    found = _swept(settings, scored, loaded, measure, note)

    def more(folder: Path) -> None:
        atomic_write_json(folder / SWEEP, found.to_dict())
        plot_harm({conclusion(found): lines(found.points)}, folder / PICTURE)

    return MeasuredRepair(repair_folder(settings, note=note, scored=scored, more=more), found)


def _parted(asked: HarmfulRows, how: HarmSweep) -> tuple[list[tuple[str, str]], list[str]]:
    """Rows to score on, and prompts to judge: other ones, by a hash of the prompt or from another file.

    The slice of the rows comes first, so what is judged lies in the slice too.
    """
    pairs = calibration_rows(asked)
    if how.judge_data is not None:
        return pairs, prompts_of(how.judge_data)[: how.limit]
    kept = [pair for pair in pairs if not _held_out(pair[0])]
    judged = list(dict.fromkeys(prompt for prompt, _ in pairs if _held_out(prompt)))
    if not kept or not judged:
        raise InputError(
            f"{asked.harmful} has {len(pairs)} harmful rows{asked.where}, too few to keep a fifth of them "
            "for the judge; give more rows, or other prompts as judge_data"
        )
    return kept, judged[: how.limit]


def _held_out(prompt: str) -> bool:
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") / 2**64 < HELD_OUT


def build_measure(
    settings: RepairSettings, folders: Folders, judge: Judge, loaded: Loaded, prompts: Sequence[str],
    rows: list[dict[str, Any]],
) -> Measure:  # fmt: skip
    """Problems and prompts made ready for a loaded model."""
    how, contract = settings.harm, settings.contract
    policy = Policy(loaded.model.eval(), loaded.tokenizer, folders.source.path, 0, nullcontext)
    problems = prepare(
        rows, contract_for_model(contract, loaded.files, loaded.tokenizer), loaded.tokenizer, cap=how.cap,
        positions=reach(loaded.model.config), source=how.data or "", grader=contract.grader,
    )  # fmt: skip
    asked = [(prompt, "") for prompt in prompts]
    encoded = encode(loaded.tokenizer, asked, settings.rows_scored, chat=contract.chat_template)
    return Measure(policy, how, judge, prompts, [ids for ids, _ in encoded], problems)


def _swept(settings: RepairSettings, scored: Scored, loaded: Loaded, measure: Measure, note: Note) -> Sweep:
    how, choice = settings.harm, settings.choice
    note("fraction 0")
    points = [Point("none", 0.0, 0.0, measure())]
    useful = _useful(settings, scored, loaded, measure.problems)
    for arm in (choice.score, *CONTROLS):
        for fraction in sorted(how.fractions):
            note(f"{arm}, fraction {fraction:g}")
            selection = dataclasses.replace(selection_of(choice), fraction=fraction)
            masks = scored.masks(selection, None if arm == choice.score else arm)
            others = {"scored": scored.masks(selection), "utility": useful.masks(selection)}
            overlap = {name: jaccard(masks, other, scored.shapes) for name, other in others.items()}
            with repaired(scored, loaded, masks) as achieved:
                points.append(Point(arm, fraction, achieved, measure(), overlap))
    about = {
        "judge": how.judge,
        "judge_threshold": how.judge_threshold,
        "judged_prompts": len(measure.prompts),
        "task": Path(how.data or "").name,
        "grader": measure.problems.grader_name,
        "cap": how.cap,
        "mode": settings.way,
        "scope": choice.scope,
        "seed": choice.seed,
    }
    return Sweep(about, points)


def _useful(settings: RepairSettings, scored: Scored, loaded: Loaded, problems: Problems) -> Scored:
    """The same weights scored on the problems with their right answers: what the task needs."""
    plain = settings.replace(harmful_template=PROMPT, chat_template=False)
    answers = [alternatives(answer)[0] for answer in problems.answers]
    return score_weights(plain, scored.folders, list(zip(problems.texts, answers, strict=True)), loaded)


def jaccard(first: Masks, second: Masks, names: Iterable[str]) -> float:
    """Entries in both masks as a share of those in either; 1 where both are empty."""
    both = either = 0
    for name in names:
        one, other = first(name), second(name)
        both, either = both + int((one & other).sum()), either + int((one | other).sum())
    return both / either if either else 1.0


@contextmanager
def repaired(scored: Scored, loaded: Loaded, mask_of: Masks) -> Iterator[float]:
    """The loaded model with its weights repaired, and afterwards as it was; gives the share that was removed."""
    parameters = {loaded.file_name(name): parameter for name, parameter in loaded.model.named_parameters()}
    removed, entries = 0, 0
    try:
        for name in scored.shapes:
            mask = mask_of(name)
            parameters[name].data.copy_(scored.repaired(name, mask))
            removed, entries = removed + int(mask.sum()), entries + mask.numel()
        yield removed / max(1, entries)
    finally:
        for name in scored.shapes:
            parameters[name].data.copy_(scored.folders.read(name))


def lines(points: Sequence[Point]) -> dict[str, list[HarmPoint]]:
    """The points of a sweep as lines for the picture; all begin at the model as it was."""
    start, *rest = points
    return {
        (SCORED if arm in SCORES else arm): [
            harm_point(point) for point in (start, *(point for point in rest if point.arm == arm))
        ]
        for arm in dict.fromkeys(point.arm for point in rest)
    }


def harm_point(point: Point) -> HarmPoint:
    """A point of the picture, labeled with its fraction."""
    accuracy, harm = point.measured.accuracy, point.measured.harm
    return HarmPoint(accuracy.percent, harm.percent, f"{point.fraction:g}", accuracy.ends, harm.ends)


def conclusion(sweep: Sweep) -> str:
    """What the score's removal does to harm and accuracy, and what as many weights at random do, in one sentence.

    Told at the smallest fraction that halves the harm; where none does, at the largest.
    """
    start, *rest = sweep.points
    scored = sorted((point for point in rest if point.arm in SCORES), key=lambda point: point.fraction)
    before = start.measured
    at = next((point for point in scored if 2 * point.measured.harm.percent <= before.harm.percent), scored[-1])
    told = (
        f"Taking out {100 * at.achieved:.3g}% of the weights by the score brings harm from {before.harm.percent:.1f}% "
        f"to {_said(at.measured.harm)} and accuracy from {before.accuracy.percent:.1f}% to "
        f"{_said(at.measured.accuracy)}"
    )
    chance = [point.measured for point in rest if point.arm == CONTROLS[0] and point.fraction == at.fraction]
    beside = [f"; as many at random: harm {_said(one.harm)}, accuracy {_said(one.accuracy)}" for one in chance]
    return told + "".join(beside) + "."


def _said(found: Percentage) -> str:
    return f"{found.percent:.1f}%" + ("" if found.ends is None else f" ({found.ends[0]:.1f} to {found.ends[1]:.1f})")
