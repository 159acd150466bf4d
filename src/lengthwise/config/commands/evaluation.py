"""Settings of the commands that measure and show: evaluate, grade, compare-records, report, methods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from lengthwise.config.command import Command, Need
from lengthwise.config.definition import again, group, setting
from lengthwise.config.groups.common import LAB, Common
from lengthwise.config.groups.model import EndpointOptions, LambdaWindow, Runtime, Writing
from lengthwise.config.groups.prompts import LogAnswers, PromptOptions
from lengthwise.config.groups.sampling import EXITS, Intervention, Sampling
from lengthwise.errors import ConfigError

PAGE = ".html"
WRITTEN = ("out", "record", "report", "look", "disagreements")
"""Settings of `grade` that name a file to write."""
SERVER_NEEDS = (
    Need(
        ("tokenizer", "concurrency", "retries", "timeout", "api_key_env", "extra_body"),
        lambda given: given["endpoint"] is not None,
        "without --endpoint",
    ),
    Need(("device", "dtype", "threads"), lambda given: given["endpoint"] is None, "on a server, with --endpoint"),
)
"""What only a server has, and what only a model that is loaded here."""


def draws(given: Mapping[str, object]) -> bool:
    """Whether tokens are drawn, and not the likeliest one taken."""
    return bool(given["temperature"] != 0)


def _unlike_samples(given: Mapping[str, object]) -> bool:
    """Whether samples of a problem may differ, or there is one of each."""
    return draws(given) or given["endpoint"] is not None or (given["samples"] == 1 and given["short_of"] is None)


def check_page(out: Path | None, beside: str = "") -> None:
    """Refuse a page that is to be written to another kind of file.

    Raises:
        ConfigError: it does not end in .html.
    """
    if out is not None and out.suffix != PAGE:
        raise ConfigError(f"out is {str(out)!r}; name a file that ends in {PAGE}{beside}")


class EvaluateSettings(Command):
    """Measure MODEL, or the one of that name behind --endpoint. Kill it at any time; the same command continues."""

    command = "evaluate"
    examples = (
        "lengthwise evaluate Qwen3-1.7B --data test.jsonl --cap 8192 --out runs/base",
        "lengthwise evaluate Qwen3-32B --endpoint http://localhost:8000 --data test.jsonl --cap 8192 --budget 2000",
    )

    needs = (
        *SERVER_NEEDS,
        Need(("native_budget",), lambda given: given["endpoint"] is not None, "without --endpoint"),
        Need(("server_kind",), lambda given: given["native_budget"] is not None, "without --native-budget"),
        Need(("backend", "vllm_memory"), lambda given: given["endpoint"] is None, "on a server, with --endpoint"),
        Need(("sample_rows",), lambda given: given["endpoint"] is None, "on a server, with --endpoint"),
        Need(("overwrite",), lambda given: given["out"] is not None, "without --out: the folder is a new one"),
        Need(("top_p",), draws, "at --temperature 0, which takes the likeliest token"),
        Need(
            ("samples", "short_of"), _unlike_samples, "at --temperature 0, where all samples of a problem are the same"
        ),
    )

    model: str = again(
        Common, "model", help="Folder of a model, its name on a hub, lab:chains, or a model's name behind --endpoint."
    )
    data: str = again(Common, "data", help="Problems: .jsonl, .json, .parquet, a datasets name, or lab:chains.")
    runtime: Runtime = group(Runtime)
    writing: Writing = group(Writing)
    server: EndpointOptions = group(EndpointOptions)
    endless: LambdaWindow = group(LambdaWindow)
    contract: PromptOptions = group(PromptOptions)
    limit: int | None = again(Common, "limit")
    sampling: Sampling = group(Sampling)
    intervention: Intervention = group(Intervention)
    baseline: Path | None = setting(
        None, help="Record to compare with.", panel="Evaluation", metavar="file", transient=True
    )
    out: Path | None = again(
        Common, "out", None, help="Folder; the same command continues it.", default_text="a new one"
    )
    overwrite: bool = again(Common, "overwrite", help="Replace the evaluation in the folder.")
    json_: bool = again(Common, "json_")

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, object]) -> dict[str, object]:
        """A server's seed is its own unless one is given; the lab's problems are asked as the lab asks."""
        lab: dict[str, object] = {"preset": "lab"} if str(given.get("data", "")).startswith(LAB) else {}
        return lab if given.get("endpoint") is None else {**lab, "seed": None}

    def check(self) -> None:
        """What only a server has, and what only a model that is loaded here."""
        super().check()
        early_stop = self.intervention.early_stop
        if self.intervention.no_think and self.contract.think == "no":
            raise ConfigError("no_think beside --think no changes nothing: the thinking is off; leave one of them out")
        if early_stop in EXITS and self.endless.lambda_:
            raise ConfigError(
                f"early_stop {early_stop} reads a response anew while it is written, and this model is under Lambda "
                "attention; give --early-stop agree"
            )
        if self.server.endpoint is None:
            return
        if self.sampling.cap is None:
            raise ConfigError("cap is not given; over an endpoint name the most response tokens (--cap N)")
        if self.endless.lambda_:
            raise ConfigError("--lambda changes a model that is loaded here, not one behind a server; give MODEL")
        if self.sampling.stop_repeats:
            raise ConfigError("stop_repeats looks at tokens as they are drawn here, not behind a server; leave it out")
        if early_stop in EXITS:
            raise ConfigError(
                f"early_stop {early_stop} looks into the model while it writes, not behind a server; "
                "give MODEL, or --early-stop agree"
            )


class GradeSettings(Command):
    """Grade responses that already exist and say where their tokens go. No GPU, no model."""

    command = "grade"
    examples = (
        "lengthwise grade samples_gsm8k.jsonl",
        "lengthwise grade runs/ --preset math --tokenizer Qwen3-1.7B --report where.html --record base.json",
    )

    needs = (Need(("t_max", "hard"), lambda given: given["metrics"] == "all", "without --metrics all"),)

    log: tuple[str, ...] = setting(
        help="Responses, of any tool: a file, a folder, a pattern, several of them, or - for standard input.",
        positional=True, metavar="LOG...", panel="Data and prompt",
    )  # fmt: skip
    format: str | None = setting(
        None, help="The log's format, as docs/logs-we-read.md lists them.", default_text="found out", metavar="name",
        panel="Data and prompt",
    )  # fmt: skip
    answers: Path | None = setting(
        None, help="Right answers from a second file, joined by the problem's name or text.", metavar="file",
        panel="Data and prompt",
    )  # fmt: skip
    contract: LogAnswers = group(LogAnswers)
    tokenizer: str | None = again(
        EndpointOptions, "tokenizer", panel="Data and prompt",
        help="Folder of the model's tokenizer: to count tokens, and to tell where they go.",
    )  # fmt: skip
    trust_remote_code: bool = again(Runtime, "trust_remote_code", panel="Data and prompt")
    cap: int | None = again(
        Sampling, "cap", None, help="Most tokens a response could have.", default_text="the longest one",
        refusal="give the most tokens a response could have, at least 1",
    )  # fmt: skip
    price: float | None = setting(
        None, ge=0, help="Price of a million output tokens.", panel="Evaluation",
        refusal="give the price of a million output tokens, at least 0",
    )  # fmt: skip
    metrics: Literal["usual", "all"] = setting(
        "usual", help="all: scores of outside benchmarks as well (OptimalThinkingBench, OckScore, first-right ratio).",
        panel="Evaluation",
    )  # fmt: skip
    t_max: int = setting(
        1000, ge=1, help="--metrics all: the limit of OptimalThinkingBench's area.", panel="Evaluation"
    )
    hard: tuple[str, ...] = setting(
        (), help="--metrics all: a category of OptimalThinkingBench's hard half; the others are simple.",
        panel="Evaluation", metavar="name",
    )  # fmt: skip
    strict: bool = setting(False, help="The first row that cannot be used is an error.", panel="Evaluation")
    workers: int = setting(2, ge=1, help="Worker processes.", panel="Evaluation", transient=True)
    seconds: float = setting(
        5.0, gt=0, help="Time limit of one grading; over it a response is wrong, and counted.", panel="Evaluation"
    )
    right_from: float = setting(
        1.0, help="The log's own verdict is right from this value on.", panel="Evaluation"
    )  # fmt: skip
    seed: int = again(Common, "seed", help="Seed of the bootstrap.", panel="Evaluation")
    out: Path | None = again(Common, "out", None, help="JSONL file for the verdict on every row.", metavar="file",
                             default_text="none", writes="file")  # fmt: skip
    disagreements: Path | None = setting(
        None, help="JSONL file for the responses on which the log's own verdict and ours differ.", panel="Output",
        metavar="file", transient=True, writes="file",
    )  # fmt: skip
    record: Path | None = setting(
        None, help="Record for `lengthwise compare-records`.", panel="Output", metavar="file", transient=True,
        writes="file",
    )  # fmt: skip
    report: Path | None = setting(
        None, help="HTML report to write.", panel="Output", metavar="file", transient=True, writes="file"
    )
    look: Path | None = setting(
        None, help="HTML page of responses to look at, searchable.", panel="Output", metavar="file", transient=True,
        writes="file",
    )  # fmt: skip
    json_: bool = again(Common, "json_")

    def check(self) -> None:
        """Files to write, each another one, and none of them the log."""
        super().check()
        if not all(name.strip() for name in self.log):
            raise ConfigError("log is ''; name a file, a folder, a pattern, or - for standard input")
        if self.answers is not None and str(self.answers) in ("all", "any") and not self.answers.exists():
            raise ConfigError(
                f"answers is {str(self.answers)!r}; it is now a file of right answers, and what a list as the right "
                f"answer holds is --several {self.answers}"
            )
        if self.answers is not None and self.answers.is_dir():
            raise ConfigError(f"answers is {str(self.answers)!r}, a folder; name the file with the right answers")
        places: dict[Path, str] = {Path(name).absolute(): "the log" for name in self.log}
        if self.answers is not None:
            places[self.answers.absolute()] = "--answers"
        for name in WRITTEN:
            file = getattr(self, name)
            if file is not None and (other := places.setdefault(file.absolute(), f"--{name}")) != f"--{name}":
                raise ConfigError(f"--{name} and {other} are the same file ({file}); name two")


class CompareRecordsSettings(Command):
    """Compare records of the same problems: table, intervals, what is noise, and a plot."""

    command = "compare-records"
    examples = (
        "lengthwise compare-records base.json dler.json",
        "lengthwise compare-records base=a1.json,a2.json dler=b1.json,b2.json --recut --out compared.html",
    )

    records: tuple[str, ...] = setting(
        help="FILE, NAME=FILE or NAME=FILE,FILE, FILE a record or graded rows; the first is the reference.",
        positional=True, metavar="RECORD...",
        panel="Data and prompt",
    )  # fmt: skip
    recut: bool = setting(False, help="Cut all answers at the smallest cap first.", panel="Evaluation")
    allow: tuple[str, ...] = setting(
        (), help="A sampling field that may differ: temperature, top_p or samples.", panel="Evaluation", metavar="name"
    )
    score_weights: tuple[float, ...] = setting(
        (1.0, 3.0, 5.0), commas=True, help="Weights of the accuracy-efficiency score.", panel="Evaluation",
        wanted="three numbers, as in 1,3,5",
    )  # fmt: skip
    seed: int = again(Common, "seed", help="Seed of the bootstrap.", panel="Evaluation")
    out: Path | None = again(
        Common, "out", None, help="HTML file to write, with a PNG beside it.", metavar="file", default_text="none",
        writes="page",
    )  # fmt: skip
    json_: bool = again(Common, "json_")

    def check(self) -> None:
        """Three weights, and a page that is one."""
        super().check()
        if len(self.score_weights) != 3:
            raise ConfigError(f"score_weights is {list(self.score_weights)}; give three numbers, as in 1,3,5")
        check_page(self.out, ", the PNG is written beside it")


class ReportSettings(Command):
    """Write the HTML report of one run, or one page over several."""

    command = "report"
    examples = ("lengthwise report runs/dler", "lengthwise report runs/dler runs/grpo --out both.html")

    runs: tuple[Path, ...] = setting(
        help="One or more run folders.", positional=True, metavar="RUN...", panel="Data and prompt"
    )
    out: Path | None = again(
        Common, "out", None, help="HTML file to write.", metavar="file", default_text="run_report.html of the run",
        writes="page",
    )  # fmt: skip
    json_: bool = again(Common, "json_")

    def check(self) -> None:
        """A page that is one."""
        super().check()
        check_page(self.out)


class MethodsSettings(Command):
    """List the methods: name, what it does, paper, options with their defaults; all of one where it is named."""

    command = "methods"
    examples = ("lengthwise methods", "lengthwise methods dler")

    name: str | None = setting(None, help="A method, of which all is shown.", positional=True, metavar="NAME",
                               default_text="all")  # fmt: skip
    json_: bool = again(Common, "json_")
