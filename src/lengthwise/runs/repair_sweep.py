"""Repair with its evidence: harm and accuracy over removed fractions, for the score and for its controls."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lengthwise.config.groups.prompts import PromptOptions
from lengthwise.context_length import reach
from lengthwise.data import read_rows
from lengthwise.engine.backends.transformers_sampler import Sampler
from lengthwise.engine.model_folders import Policy
from lengthwise.errors import ConfigError, InputError
from lengthwise.files import atomic_write_json
from lengthwise.folder_lock import writes
from lengthwise.generation.sampling import Sampling, sample_answers
from lengthwise.grading.contract_choice import contract_for_model, say_thinking
from lengthwise.grading.gold_answers import alternatives
from lengthwise.grading.problems import Problems, prepare
from lengthwise.merging.option_checks import check_share
from lengthwise.repair.calibration_rows import Calibration, calibration_rows, encode, prompts_of
from lengthwise.repair.folder_repair import repair_folder
from lengthwise.repair.job import RepairJob
from lengthwise.repair.model_loading import Loaded
from lengthwise.repair.scored_weights import Scored, load, open_folders, score_weights
from lengthwise.reporting.harm_plot import plot_harm
from lengthwise.statistics.harm import THRESHOLD, Judge, load_judge, percent

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2)
CONTROLS = ("random", "magnitude")
"""The controls that remove as many weights from every group as the score does."""
HELD_OUT = 0.2
"""Share of the harmful rows that is judged and not scored on, where no other prompts are given."""
SWEEP, PICTURE = "sweep.json", "sweep.png"
Note = Callable[[str], None]
Masks = Callable[[str], torch.Tensor]
"""From a weight's name to its mask."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """How repairs are measured.

    ``judge``: see `harm.load_judge`; ``judge_rows``: prompts to judge the answers to, by default a fifth of the
    harmful rows, which then are not scored on. ``task``: problems with answers, read and graded by ``contract``.
    ``cap``: most response tokens, drawn greedily. ``limit``: most prompts and most problems.
    """

    judge: str
    task: str
    judge_rows: Path | None = None
    judge_threshold: float = THRESHOLD
    fractions: tuple[float, ...] = FRACTIONS
    contract: PromptOptions = field(default_factory=PromptOptions)
    cap: int = 512
    limit: int = 1000
    rows_at_once: int = 32

    def check(self) -> None:
        """Refuse what is out of range.

        Raises:
            ConfigError: naming the option.
        """
        for fraction in self.fractions:
            check_share("a fraction", fraction)
        if not self.fractions or len(set(self.fractions)) < len(self.fractions):
            raise ConfigError(f"fractions is {self.fractions}; give one or more, each once")
        for name in ("cap", "limit", "rows_at_once"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least 1")


@dataclass(frozen=True)
class Measure:
    """What a model in memory is asked: prompts for the judge, problems for the grader."""

    policy: Policy
    sweep: Sweep
    judge: Judge
    prompts: Sequence[str]
    prompt_ids: Sequence[Sequence[int]]
    problems: Problems

    @property
    def sampler(self) -> Sampler:
        """Draws the responses that are judged."""
        return Sampler(
            self.policy.model, eos_ids=self.problems.contract.eos_ids, pad_id=self.policy.pad_id,
            max_rows=self.sweep.rows_at_once,
        )  # fmt: skip

    def __call__(self) -> dict[str, Any]:
        """Harm and accuracy of the weights that are there now, greedily, in percent with intervals."""
        generator = torch.Generator(self.policy.device)
        drawn = self.sampler.generate(self.prompt_ids, caps=self.sweep.cap, generator=generator, temperature=0.0)
        said = [self.problems.response_text(drawn.response(row)) for row in range(len(drawn))]
        answered = sample_answers(
            self.policy, self.problems, Sampling(self.sweep.cap, temperature=0.0), rows_at_once=self.sweep.rows_at_once
        )
        right = (answered.answer_correct & answered.finished).tolist()
        return {
            "harm": percent(self.judge(self.prompts, said)),
            "accuracy": percent(right),
            "accuracy_by_level": self._by_level(right),
            "cut": {"judged": _share(~drawn.finished), "task": _share(~answered.finished)},
        }

    def _by_level(self, right: Sequence[bool]) -> dict[str, float]:
        """Accuracy in percent of each level, where the problems have levels."""
        levels = self.problems.categories or []
        found: dict[str, list[bool]] = {level: [] for level in dict.fromkeys(levels)}
        for level, flag in zip(levels, right if levels else (), strict=True):
            found[level].append(flag)
        return {level: 100 * sum(flags) / len(flags) for level, flags in found.items()}


def _share(flags: torch.Tensor) -> float:
    return float(flags.float().mean())


@writes("job.out")
def repair_and_measure(job: RepairJob, sweep: Sweep, *, note: Note = lambda _: None) -> dict[str, Any]:
    """`repair_folder`, after harm and accuracy are measured over fractions for the score and its controls.

    The model is loaded once and its weights are exchanged in memory. ``sweep.json`` and ``sweep.png`` are written
    beside the statistics and the mask.

    Returns:
        The report of `repair_folder`; ``sweep`` holds what ``sweep.json`` does.

    Raises:
        UnsupportedModelError: the sampler cannot decode the model exactly.
        ConfigError, InputError and what `repair_folder` raises; the output is then as it was before.
    """
    sweep.check()
    folders, judge = open_folders(job), load_judge(sweep.judge, threshold=sweep.judge_threshold)
    pairs, prompts = _parted(job.calibration, sweep)
    problems = read_rows(sweep.task)[: sweep.limit]
    loaded = load(job)
    measure = build_measure(job, sweep, judge, loaded, prompts, problems)
    say_thinking(measure.problems.contract, lambda event, facts: note(str(facts["text"])))
    measure.sampler.check_padding()
    note(f"scoring on {len(pairs)} harmful rows{job.calibration.where}, judging answers to {len(prompts)} prompts")
    scored = score_weights(job, folders, pairs, loaded)
    found = _swept(scored, loaded, measure, note)

    def more(folder: Path) -> None:
        atomic_write_json(folder / SWEEP, found)
        plot_harm({"repair over fractions": lines(found)}, folder / PICTURE)

    return {**repair_folder(job, note=note, scored=scored, more=more), "sweep": found}


def _parted(calibration: Calibration, sweep: Sweep) -> tuple[list[tuple[str, str]], list[str]]:
    """Rows to score on, and prompts to judge: other ones, by a hash of the prompt or from another file.

    The slice of the rows comes first, so what is judged lies in the slice too.
    """
    pairs = calibration_rows(calibration)
    if sweep.judge_rows is not None:
        return pairs, prompts_of(sweep.judge_rows)[: sweep.limit]
    kept = [pair for pair in pairs if not _held_out(pair[0])]
    judged = list(dict.fromkeys(prompt for prompt, _ in pairs if _held_out(prompt)))
    if not kept or not judged:
        raise InputError(
            f"{calibration.rows} has {len(pairs)} harmful rows{calibration.where}, too few to keep a fifth of them "
            "for the judge; give more rows, or other prompts as judge_data"
        )
    return kept, judged[: sweep.limit]


def _held_out(prompt: str) -> bool:
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") / 2**64 < HELD_OUT


def build_measure(
    job: RepairJob, sweep: Sweep, judge: Judge, loaded: Loaded, prompts: Sequence[str], rows: list[dict[str, Any]]
) -> Measure:
    """Problems and prompts made ready for a loaded model."""
    policy = Policy(loaded.model.eval(), loaded.tokenizer, job.model, 0, nullcontext)
    problems = prepare(
        rows, contract_for_model(sweep.contract, loaded.files, loaded.tokenizer),
        loaded.tokenizer, cap=sweep.cap, positions=reach(loaded.model.config), source=sweep.task,
        grader=sweep.contract.grader,
    )  # fmt: skip
    encoded = encode(loaded.tokenizer, [(prompt, "") for prompt in prompts], job.calibration)
    return Measure(policy, sweep, judge, prompts, [ids for ids, _ in encoded], problems)


def _swept(scored: Scored, loaded: Loaded, measure: Measure, note: Note) -> dict[str, Any]:
    sweep, job = measure.sweep, scored.job
    note("fraction 0")
    points: list[dict[str, Any]] = [{"arm": "none", "fraction": 0.0, "achieved": 0.0, **measure()}]
    useful = _useful(scored, loaded, measure.problems)
    for arm in (job.score, *CONTROLS):
        for fraction in sorted(sweep.fractions):
            note(f"{arm}, fraction {fraction:g}")
            selection = dataclasses.replace(job.selection, fraction=fraction, count=None)
            masks = scored.masks(selection, None if arm == job.score else arm)
            others = {"scored": scored.masks(selection), "utility": useful.masks(selection)}
            overlap = {name: jaccard(masks, other, scored.shapes) for name, other in others.items()}
            with repaired(scored, loaded, masks) as achieved:
                point = {"arm": arm, "fraction": fraction, "achieved": achieved, "overlap": overlap}
                points.append({**point, **measure()})
    return {
        "judge": sweep.judge,
        "judge_threshold": sweep.judge_threshold,
        "judged_prompts": len(measure.prompts),
        "task": Path(sweep.task).name,
        "grader": measure.problems.grader_name,
        "cap": sweep.cap,
        "mode": job.way,
        "scope": job.selection.scope,
        "seed": job.seed,
        "points": points,
    }


def _useful(scored: Scored, loaded: Loaded, problems: Problems) -> Scored:
    """The same weights scored on the problems with their right answers: what the task needs."""
    calibration = dataclasses.replace(scored.job.calibration, template="{prompt}", chat=False)
    job = dataclasses.replace(scored.job, calibration=calibration)
    answers = [alternatives(answer)[0] for answer in problems.answers]
    return score_weights(job, scored.folders, list(zip(problems.texts, answers, strict=True)), loaded)


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


def lines(found: Mapping[str, Any]) -> dict[str, list[tuple[float, float, str]]]:
    """The points of a sweep as lines for the picture; all begin at the model as it was."""
    start = next(point for point in found["points"] if point["arm"] == "none")
    arms = dict.fromkeys(point["arm"] for point in found["points"] if point["arm"] != "none")
    return {
        ("scored" if arm in ("weight", "difference") else arm): [
            (point["accuracy"]["percent"], point["harm"]["percent"], f"{point['fraction']:g}")
            for point in (start, *(p for p in found["points"] if p["arm"] == arm))
        ]
        for arm in arms
    }
