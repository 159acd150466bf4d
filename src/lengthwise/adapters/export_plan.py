"""What an exported run is made of, whatever the engine: method, contract, problems and the sizes of its batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lengthwise.adapters.method_support import chosen
from lengthwise.adapters.verdicts import problems_for
from lengthwise.data import read_rows, require_columns
from lengthwise.engine.method import Method
from lengthwise.engine.rotary_switch import check_shared
from lengthwise.errors import ConfigError
from lengthwise.files import clear_partials
from lengthwise.grading.contract_choice import chosen_contract, contract_for_model
from lengthwise.grading.problems import Problems
from lengthwise.pretrained import load_tokenizer, read_config
from lengthwise.runs.shorten.request import Request

MICRO_ROWS = 8


@dataclass(frozen=True)
class Cluster:
    """Devices in all, as `nodes` of `devices` each, and the rows that one of them holds in a forward and backward."""

    devices: int = 1
    nodes: int = 1
    micro_rows: int | None = None

    def __post_init__(self) -> None:
        for name in ("devices", "nodes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least 1")
        if self.micro_rows is not None and self.micro_rows < 1:
            raise ConfigError(f"micro_rows is {self.micro_rows}; give at least 1")

    @property
    def processes(self) -> int:
        """One a device."""
        return self.devices * self.nodes


@dataclass(frozen=True)
class Plan:
    """An exported run, resolved: what is asked stands in `request`, what follows from it beside it."""

    request: Request
    cluster: Cluster
    method: Method
    options: dict[str, Any]
    cap: int
    problems: Problems
    model: Path
    micro_rows: int
    accumulate: int

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt."""
        return max(len(prompt) for prompt in self.problems.prompts)

    @property
    def own_folder(self) -> Path | None:
        """The folder in which a ``module:function`` of the request was found; None where it names none."""
        named = [self.request.method, self.request.contract.grader or ""]
        return Path.cwd() if any(":" in name and not name.endswith(".py") for name in named) else None


def plan(engine: str, request: Request, cluster: Cluster) -> Plan:
    """Check and resolve everything that an export says, before anything is written.

    Raises:
        ConfigError: a method that the engine cannot carry, a cap that is not a number, or sizes that do not divide.
        InputError: a model or data that cannot be read.
        UnsupportedModelError: rotary factors that would switch within a batch.
    """
    cap = request.cap_number()
    if cap is None:
        raise ConfigError(
            "cap is 'auto', which samples from the model on one device; give a number of tokens (--cap), for example "
            "what `lengthwise shorten --cap auto` chose"
        )
    options = request.method_options()
    method = chosen(engine, request.method, options, cap)
    model = request.folder.resolve()
    words = chosen_contract(request.contract)
    rows = require_columns(read_rows(request.data), [words.problem_column, words.answer_column], request.data)
    tokenizer = load_tokenizer(model, trust_remote_code=request.trust_remote_code)
    contract = contract_for_model(request.contract, request.folder, tokenizer)
    problems = problems_for(
        model, rows, contract, cap=cap, source=request.data, grader=request.contract.grader,
        trust_remote_code=request.trust_remote_code,
    )  # fmt: skip
    config = read_config(model, trust_remote_code=request.trust_remote_code)
    check_shared(config, max(map(len, problems.prompts)) + cap, engine)
    micro_rows, accumulate = _micro(request, cluster)
    return Plan(request, cluster, method, options, cap, problems, model, micro_rows, accumulate)


def _micro(request: Request, cluster: Cluster) -> tuple[int, int]:
    train = request.train
    rows = train.prompts * train.group_size
    shares = train.updates * cluster.processes
    if rows % shares:
        raise ConfigError(
            f"prompts {train.prompts} x group_size {train.group_size} = {rows} responses a batch are not shared out "
            f"evenly over {train.updates} updates on {cluster.processes} devices; make them a multiple of {shares}"
        )
    each = rows // shares
    micro = cluster.micro_rows or math.gcd(each, MICRO_ROWS)
    if each % micro:
        raise ConfigError(
            f"micro_rows is {micro}, but an update has {each} responses a device; give a divisor of {each}"
        )
    return micro, each // micro


def prepare_folder(folder: Path, names: tuple[str, ...], *, overwrite: bool) -> None:
    """Make the folder an export is written to.

    Raises:
        ConfigError: files of those names are there already.
    """
    there = [name for name in names if (folder / name).exists()]
    if there and not overwrite:
        raise ConfigError(f"{folder} already holds {', '.join(there)}; give another folder or --overwrite")
    folder.mkdir(parents=True, exist_ok=True)
    clear_partials(folder)
