"""From what a user asks on the command line to a job: rows read, contract resolved, cap chosen, input refused."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lengthwise.config.groups.prompts import PromptOptions
from lengthwise.config.groups.training import Training
from lengthwise.context_length import reach
from lengthwise.data import read_rows, require_columns
from lengthwise.engine.model_folders import DTYPES, Policy, load_policy, resolve_device
from lengthwise.errors import ConfigError, InputError
from lengthwise.folder_lock import writes
from lengthwise.grading.contract_choice import chosen_contract, contract_for_model, say_thinking
from lengthwise.grading.problems import Problems, prepare
from lengthwise.grading.prompt_contract import PromptContract
from lengthwise.lab.shipped_models import LAB, model_folder
from lengthwise.methods import build_method, options_of, read_option
from lengthwise.methods._parts import SCHEDULES
from lengthwise.methods.moving_cap import under_schedule
from lengthwise.pretrained import read_words
from lengthwise.runs.ada_r1.single_stage import run_one_stage
from lengthwise.runs.measuring import LONGEST_EVAL, cap_words, room, usual_cap
from lengthwise.runs.run_folder import check_run_folder
from lengthwise.runs.shorten.auto_cap import CapChoice, choose_cap
from lengthwise.runs.shorten.shorten import Job, Listener, shorten
from lengthwise.runs.shorten.stages import merge_back
from lengthwise.threads import on_few_threads

AUTO = "auto"
CYCLE = 640
"""Steps of a schedule's cycle unless it is given: SIRI's."""
HELD_OUT_SHARE = 0.1
PROBED_PROBLEMS, PROBED_SAMPLES = 64, 4
USUAL_DRAWS = Training().max_draws
WITHOUT_LOOP = ("seed", "micro_batch_tokens", "sample_rows", "checkpoint_every")
"""What a method without a training loop takes of a `Training`."""


@dataclass(frozen=True)
class Request:
    """The command line's words, unresolved; see `lengthwise shorten --help` for each."""

    model: str
    data: str
    out: Path
    train: Training
    eval_data: str | None = None
    method: str = "dler"
    cap: str = AUTO
    longest: int | None = None
    shortest: int | None = None
    cycle: int | None = None
    merge_back: str | None = None
    options: Sequence[str] = ()
    top_p: float = 1.0
    eval_problems: int = 200
    eval_samples: int = 1
    eval_cap: int | None = None
    stop_repeats: bool = False
    contract: PromptOptions = dataclasses.field(default_factory=PromptOptions)
    device: str = "auto"
    dtype: str = "float32"
    lora: int = 0
    gradient_checkpointing: bool = False
    trust_remote_code: bool = False
    short_model: str | None = None
    stage: str | None = None

    def __post_init__(self) -> None:
        if self.top_p != 1:
            raise ConfigError(
                f"top_p is {self.top_p}; training samples by temperature alone, or the log-probabilities that it "
                "learns from would not be those it drew with. Leave it at 1"
            )
        for name in ("eval_problems", "eval_samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least 1")
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype is {self.dtype!r}; choose one of {', '.join(DTYPES)}")
        if self.eval_cap is not None and self.eval_cap < 1:
            raise ConfigError(f"eval_cap is {self.eval_cap}; a response has at least 1 token")
        if self.lora < 0:
            raise ConfigError(f"lora is {self.lora}; give 0 (all weights) or a rank of at least 1")
        self.cap_number()
        self.merging()
        resolve_device(self.device)

    @property
    def folder(self) -> Path:
        """The model's folder."""
        return model_folder(self.model)

    @property
    def folders(self) -> list[Path]:
        """The folders of the models that it computes with."""
        return [self.folder]

    def cap_number(self) -> int | None:
        """The cap as a number, the longest one of a schedule; None for auto."""
        if self.cap in SCHEDULES:
            return self._longest()
        for name in ("longest", "shortest", "cycle"):
            if getattr(self, name) is not None:
                raise ConfigError(
                    f"{name} is {getattr(self, name)} but the cap is {self.cap!r}, which does not move; give --cap "
                    f"{', '.join(SCHEDULES)}, or leave --{name} out"
                )
        if self.cap == AUTO:
            return None
        if not self.cap.lstrip("-").isdigit():
            raise ConfigError(f"cap is {self.cap!r}; give a whole number of tokens, auto, or {', '.join(SCHEDULES)}")
        if int(self.cap) < 1:
            raise ConfigError(f"cap is {self.cap}; a response has at least 1 token")
        return int(self.cap)

    def _longest(self) -> int:
        for name in ("longest", "shortest", "cycle"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; give at least 1")
        if self.longest is None:
            raise ConfigError(
                f"cap is {self.cap!r}, a schedule, and its longest cap is not given; add --longest TOKENS (and "
                f"--shortest, default half of it, and --cycle STEPS, default {CYCLE})"
            )
        return self.longest

    def schedule(self) -> dict[str, Any] | None:
        """The schedule of the cap, as `under_schedule` takes it; None where the cap does not move."""
        if self.cap not in SCHEDULES:
            return None
        return {"shape": self.cap, "shortest": self.shortest or -(-self._longest() // 2), "cycle": self.cycle or CYCLE}

    def merging(self) -> tuple[float, float] | None:
        """`--merge-back` as density and scale."""
        if self.merge_back is None:
            return None
        try:
            density, scale = (float(part) for part in self.merge_back.split(","))
        except ValueError as error:
            raise ConfigError(f"merge_back is {self.merge_back!r}; give density,scale, for example 0.25,0.7") from error
        merge_back(density, scale)  # refuses impossible numbers
        return density, scale

    def method_options(self) -> dict[str, Any]:
        """`--option name=value` pairs, read as the types that the method's options are annotated with."""
        defaults = options_of(self.method)
        found = {}
        for pair in self.options:
            name, equals, text = pair.partition("=")
            if not equals:
                raise ConfigError(f"option is {pair!r}; write name=value")
            if name == "cap":
                raise ConfigError("option names cap; give it as --cap")
            if name in found:
                raise ConfigError(f"option names {name} twice; give it once")
            found[name] = read_option(self.method, name, text)
        if self.short_model is not None:
            if "short_model" not in defaults:
                raise ConfigError(f"short_model is for ada-r1, but method is {self.method!r}; leave it out")
            found["short_model"] = self.short_model
        cap, schedule = self.cap_number() or LONGEST_EVAL, self.schedule()
        made = build_method(self.method, cap=cap, **found)
        if schedule is not None:
            under_schedule(made, longest=cap, **schedule)
        if made.loop is None:
            self._check_no_loop()
        elif made.loop.keep is None and self.train.max_draws != USUAL_DRAWS:
            raise ConfigError(
                f"max_draws is {self.train.max_draws}, but method {self.method!r} keeps whatever it draws, so each "
                "batch is drawn once; leave it out"
            )
        return found

    def _check_no_loop(self) -> None:
        """Refuse settings of a training loop for a method that has none."""
        for name, given in self.train.changed().items():
            if name not in WITHOUT_LOOP:
                raise ConfigError(
                    f"{name} is {given}, but method {self.method!r} has no training loop that it could change; "
                    f"leave it out. `lengthwise methods` lists the method's own options"
                )


def read_problems(asked: Request, contract: PromptContract) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows to train on and rows to measure on; without `eval_data` a tenth is held out by a hash of the problem.

    Raises:
        InputError: the file, a row or a column is not what is wanted, or too few rows to hold any out.
    """
    columns = [contract.problem_column, contract.answer_column]
    rows = require_columns(read_rows(asked.data), columns, asked.data)
    if asked.eval_data is not None:
        held = require_columns(read_rows(asked.eval_data), columns, asked.eval_data)
        return rows, held[: asked.eval_problems]
    shares = [share_of(str(row[contract.problem_column])) for row in rows]
    held = [row for row, share in zip(rows, shares, strict=True) if share < HELD_OUT_SHARE]
    kept = [row for row, share in zip(rows, shares, strict=True) if share >= HELD_OUT_SHARE]
    if not held or not kept:
        raise InputError(
            f"data is {asked.data!r} with {len(rows)} rows, too few to hold a tenth out; name problems to measure "
            "on with --eval-data"
        )
    return kept, held[: asked.eval_problems]


def share_of(text: str) -> float:
    """Where a text stands in [0, 1) by its hash: the same for ever, so that a split is."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


@dataclass(frozen=True)
class Resolved:
    """A request with its rows prepared: what is trained on, what is measured on, and the caps.

    ``first``: the phase that is to be told before all others, if it was not told yet.
    """

    job: Job
    train: Problems
    held_out: Problems
    choice: CapChoice | None
    first: Mapping[str, Any] | None


def resolve_request(asked: Request, tell: Listener = lambda event, facts: None) -> Resolved:
    """Check and resolve everything before any long work; only `--cap auto` samples from the model."""
    options = asked.method_options()
    folder = asked.folder
    rows, held = read_problems(asked, chosen_contract(asked.contract))
    config, tokenizer = read_words(folder, trust_remote_code=asked.trust_remote_code)
    contract = contract_for_model(asked.contract, folder, tokenizer)
    positions = reach(config)
    own = asked.contract.grader

    def ready(these: list[dict[str, Any]], cap: int, source: str) -> Problems:
        return prepare(these, contract, tokenizer, cap=cap, positions=positions, source=source, grader=own)

    source = asked.eval_data or asked.data
    train, held_out = ready(rows, 1, asked.data), ready(held, 1, source)
    cap, choice = asked.cap_number(), None
    most = room(max(len(prompt) for prompt in (*train.prompts, *held_out.prompts)), positions)
    eval_cap = asked.eval_cap or usual_cap(most, cap)
    words = {"name": f"evaluation: {cap_words(eval_cap, asked.eval_cap, most, '--eval-cap')}"}
    if cap is None and build_method(asked.method, cap=eval_cap, **options).loop is None:
        cap = eval_cap  # without a loop nothing is learnt from a cap, and samples are to end by themselves
    if cap is None:
        probed = min(PROBED_PROBLEMS, len(train)) * PROBED_SAMPLES
        tell("phase", words)
        tell("phase", {"name": f"choosing the cap by {probed} responses", "steps": probed, "ends": True})
        choice = choose_cap(
            _policy(asked), train.part(0, PROBED_PROBLEMS), eval_cap=eval_cap, samples=PROBED_SAMPLES,
            seed=asked.train.seed,
        )  # fmt: skip
        cap = choice.cap
    job = Job(
        model=asked.model, method=asked.method, cap=cap, eval_cap=asked.eval_cap or max(eval_cap, cap),
        data=asked.data, eval_data=source, out=asked.out, train=asked.train, method_options=options,
        eval_samples=asked.eval_samples, device=asked.device, dtype=asked.dtype, lora=asked.lora,
        gradient_checkpointing=asked.gradient_checkpointing, trust_remote_code=asked.trust_remote_code,
        merge_back=asked.merging(), schedule=asked.schedule(), lab=asked.model.startswith(LAB),
        stop_repeats=asked.stop_repeats,
    )  # fmt: skip
    first = words if choice is None else None
    return Resolved(job, ready(rows, cap, asked.data), ready(held, job.eval_cap, source), choice, first)


def _policy(asked: Request) -> Policy:
    return load_policy(asked.folder, device=asked.device, dtype=asked.dtype, trust_remote_code=asked.trust_remote_code)


@on_few_threads("asked.folders")
@writes("asked.out")
def carry_out(asked: Request, *, overwrite: bool = False, listener: Listener | None = None) -> dict[str, Any]:
    """Resolve a request and shorten; the outcome gains `cap_choice` where the cap was chosen by auto."""
    check_run_folder(asked.out)  # `--cap auto` samples before the run begins
    tell = listener or (lambda event, facts: None)
    resolved = resolve_request(asked, tell)
    say_thinking(resolved.train.contract, tell)
    job, problems = resolved.job, (resolved.train, resolved.held_out)
    if resolved.first is not None:
        tell = _after(resolved.first, tell)
    if asked.stage is not None:
        return run_one_stage(job, asked.stage, *problems, overwrite=overwrite, listener=tell)
    outcome = shorten(job, *problems, overwrite=overwrite, listener=tell)
    if resolved.choice is not None:
        outcome["cap_choice"] = dataclasses.asdict(resolved.choice)
    return outcome


def _after(first: Mapping[str, Any], tell: Listener) -> Listener:
    """A listener that is told of a phase before it is told of anything else: once the run has begun."""
    phases = [first]

    def listen(event: str, facts: Mapping[str, Any]) -> None:
        while phases:
            tell("phase", phases.pop())
        tell(event, facts)

    return listen
