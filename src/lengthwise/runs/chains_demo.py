"""The demo: shorten the shipped verbose reasoner with DLER, on a CPU, in minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from lengthwise.config.commands import DemoSettings, ShortenSettings
from lengthwise.config.groups.prompts import PromptOptions
from lengthwise.config.groups.sampling import Measuring, Sampling
from lengthwise.config.groups.training import CapSchedule, Training
from lengthwise.engine.backends.protocol import World
from lengthwise.engine.method import Method
from lengthwise.engine.model_folders import Policy
from lengthwise.errors import ConfigError
from lengthwise.generation.measurement import measure
from lengthwise.generation.sampling import ROWS_AT_ONCE
from lengthwise.grading.problems import Problems, prepare
from lengthwise.grading.prompt_contract import preset, resolve
from lengthwise.lab import chains
from lengthwise.lab.reasoner import SHIPPED, shipped_reasoner
from lengthwise.pretrained import load_tokenizer
from lengthwise.runs.shortening.job import Job, Listener
from lengthwise.runs.shortening.outcome import Outcome
from lengthwise.runs.shortening.shorten import shorten
from lengthwise.statistics.records import Record
from lengthwise.threads import threads_for

CAP, EVAL_CAP = 50, 260
TRAIN_PROBLEMS, TEST_PROBLEMS = 4000, 500
DATA = SHIPPED
COMMON_LEVELS = tuple(n for n in chains.LEVELS if chains.distinct_problems(n) >= chains.FEW_PROBLEMS)
RARE_LEVELS = tuple(n for n in chains.LEVELS if n not in COMMON_LEVELS)


def demo_training(*, seed: int, steps: int) -> Training:
    """How the demo trains: 16 problems x 8 rollouts, two updates a batch."""
    return Training(steps=steps, prompts=16, group_size=8, updates=2, lr=1e-4, seed=seed)


def chain_problems(rows: Sequence[chains.Chain], folder: Path | str, *, trust_remote_code: bool = False) -> Problems:
    """Chains as problems for the shipped reasoner, under the `lab` contract."""
    tokenizer = load_tokenizer(folder, trust_remote_code=trust_remote_code)
    contract = resolve(preset("lab"), tokenizer)
    return prepare([chain.row for chain in rows], contract, tokenizer, cap=EVAL_CAP, positions=512, source=DATA)


def training_chains(seed: int) -> list[chains.Chain]:
    """The problems that are trained on."""
    return chains.problems(TRAIN_PROBLEMS, split="train", seed=seed)


def measured_chains(count: int) -> list[chains.Chain]:
    """The first test problems of the levels that can be held out, levels in turn."""
    return chains.problems(count, split="test", seed=0, levels=COMMON_LEVELS)


def held_out(count: int, model: Path | str) -> tuple[Problems, Problems]:
    """Test problems of the levels that can be held out, and, apart, all there are of the others.

    The test split is the same for every seed; seeds vary training and sampling.
    """
    common = measured_chains(count)
    rare = chains.all_problems(RARE_LEVELS, split="test")
    return chain_problems(common, model), chain_problems(rare, model)


def oracle_mean(problems: Problems) -> float:
    """Mean oracle length of chain problems: one pass each."""
    assert problems.categories is not None, "chains always name their level"
    return sum(chains.oracle_tokens(int(level)) for level in problems.categories) / len(problems)


class OnePass(Problems):
    """Chains whose responses must answer after their first pass."""

    def stops(self, owners: Sequence[int], generator: torch.Generator) -> World | None:
        """What asks for the answer behind the first pass."""
        answer = self.tokenizer.convert_tokens_to_ids(chains.ANSWER)
        assert self.categories is not None, "chains always name their level"
        ends = [6 * int(self.categories[owner]) for owner in owners]
        return lambda row, written: answer if len(written) == ends[row] else None


def first_pass(policy: Policy, problems: Problems, before: Record, log: Path) -> Record:
    """Control: the untouched model, made to answer after its first pass; all it writes is counted."""
    sampling, data = Sampling.of(before.context, sample_rows=ROWS_AT_ONCE), str(before.context["data"])
    return measure(policy, OnePass(**vars(problems)), sampling, log, name="control: first pass", data=data).record


def demo(settings: DemoSettings, *, listener: Listener | None = None) -> Outcome:
    """Run the main job on the shipped reasoner and its world; returns the outcome of `shorten`.

    `limit` held-out problems are measured before and after, beside two controls on the same problems: the base cut at
    the new mean length, and the base made to answer after its first pass.

    Raises:
        ConfigError: no folder to write to is given, or it holds something else.
    """
    if settings.out is None:
        raise ConfigError("out is not given; name the folder to write")
    with threads_for(shipped_reasoner(), wanted=settings.threads):
        return shorten_chains(
            settings.out, demo_training(seed=settings.seed, steps=settings.steps), limit=settings.limit,
            command=settings, overwrite=settings.overwrite, listener=listener,
        )  # fmt: skip


def shorten_chains(
    out: Path,
    training: Training,
    *,
    limit: int = TEST_PROBLEMS,
    cap: int = CAP,
    method: str | Method = "dler",
    options: Mapping[str, object] | None = None,
    model: Path | None = None,
    command: DemoSettings | None = None,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> Outcome:
    """The demo with another method, cap or training, as studies vary it; returns the outcome of `shorten`."""
    folder = model or shipped_reasoner()
    test, rare = held_out(limit, folder)
    name = method if isinstance(method, str) else method.name
    settings = ShortenSettings(
        model=str(model or SHIPPED), data=DATA, contract=PromptOptions(preset="lab"), method=name,
        schedule=CapSchedule(cap=cap), training=training, measuring=Measuring(eval_cap=EVAL_CAP), out=out,
        overwrite=overwrite,
    )  # fmt: skip
    return shorten(
        Job(settings, cap, EVAL_CAP, options or {}, command=command),
        chain_problems(training_chains(training.seed), folder),
        test,
        method=None if isinstance(method, str) else method,
        controls={"first-pass": first_pass},
        extra_sets={"rare-levels": rare},
        oracle_tokens=oracle_mean(test),
        levels_apart=[str(level) for level in RARE_LEVELS],
        listener=listener,
    )
