"""What an exported run is made of, whatever the engine: method, contract, problems and the sizes of its batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from lengthwise.adapters.method_support import chosen
from lengthwise.adapters.verdicts import problems_for
from lengthwise.config.commands import ExportSettings
from lengthwise.config.files import CONFIG, run_config
from lengthwise.config.groups.training import Cluster, ClusterBatches
from lengthwise.data import read_rows, require_columns
from lengthwise.engine.method import Method
from lengthwise.engine.rotary_switch import check_shared
from lengthwise.errors import ConfigError
from lengthwise.files import atomic_write_json, clear_partials
from lengthwise.grading.contract_choice import chosen_contract, contract_for_model
from lengthwise.grading.problems import Problems
from lengthwise.lab.shipped_models import model_folder
from lengthwise.methods import build_method
from lengthwise.pretrained import load_tokenizer, read_config
from lengthwise.runs.shortening.resolve import check_used, read_own_options

MICRO_BATCH_ROWS = 8


@dataclass(frozen=True)
class Plan:
    """An exported run, resolved: what is asked stands in `settings`, what follows from it beside it."""

    settings: ExportSettings
    method: Method
    options: dict[str, object]
    problems: Problems
    model: Path
    micro_batch_rows: int
    accumulate: int

    @property
    def out(self) -> Path:
        """The folder to write."""
        return self.settings.out

    @property
    def cap(self) -> int:
        """The response cap in training."""
        return self.settings.cap

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt."""
        return max(len(prompt) for prompt in self.problems.prompts)

    @property
    def own_folder(self) -> Path | None:
        """The folder in which a ``module:function`` of the settings was found; None where they name none."""
        named = [self.settings.method, self.settings.contract.grader or ""]
        return Path.cwd() if any(":" in name and not name.endswith(".py") for name in named) else None


def plan(settings: ExportSettings) -> Plan:
    """Check and resolve everything that an export says, before anything is written.

    Raises:
        ConfigError: a method that the engine cannot carry, or sizes that do not divide.
        InputError: a model or data that cannot be read.
        UnsupportedModelError: rotary factors that would switch within a batch.
    """
    options, trusted = read_own_options(settings.method, settings.option, settings.gate), settings.trust_remote_code
    check_used(settings.method, build_method(settings.method, cap=settings.cap, **options), settings.training)
    method = chosen(settings.engine, settings.method, options, settings.cap)
    folder = model_folder(settings.model)
    words = chosen_contract(settings.contract)
    rows = require_columns(read_rows(settings.data), [words.problem_column, words.answer_column], settings.data)
    tokenizer = load_tokenizer(folder, trust_remote_code=trusted)
    problems = problems_for(
        folder, rows, contract_for_model(settings.contract, folder, tokenizer), cap=settings.cap,
        source=settings.data, grader=settings.contract.grader, trust_remote_code=trusted,
    )  # fmt: skip
    config = read_config(folder, trust_remote_code=trusted)
    check_shared(config, max(map(len, problems.prompts)) + settings.cap, settings.engine)
    return Plan(settings, method, options, problems, folder.resolve(), *_micro(settings.training, settings.cluster))


def _micro(train: ClusterBatches, cluster: Cluster) -> tuple[int, int]:
    rows = train.prompts * train.group_size
    shares = train.updates * cluster.processes
    if rows % shares:
        raise ConfigError(
            f"prompts {train.prompts} x group_size {train.group_size} = {rows} responses a batch are not shared out "
            f"evenly over {train.updates} updates on {cluster.processes} devices; make them a multiple of {shares}"
        )
    each = rows // shares
    micro = cluster.micro_batch_rows or math.gcd(each, MICRO_BATCH_ROWS)
    if each % micro:
        raise ConfigError(
            f"micro_batch_rows is {micro}, but an update has {each} responses a device; give a divisor of {each}"
        )
    return micro, each // micro


def prepare_folder(settings: ExportSettings, names: tuple[str, ...]) -> Path:
    """Make the folder an export is written to, and return it; its config.json, for `--config`, is written first.

    Raises:
        ConfigError: files of those names are there already.
    """
    folder = settings.out
    there = [name for name in (*names, CONFIG) if (folder / name).exists()]
    if there and not settings.overwrite:
        raise ConfigError(f"{folder} already holds {', '.join(there)}; give another folder or --overwrite")
    folder.mkdir(parents=True, exist_ok=True)
    clear_partials(folder)
    atomic_write_json(folder / CONFIG, run_config(settings))
    return folder
