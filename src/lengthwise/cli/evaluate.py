"""`lengthwise evaluate`: accuracy and length of a model, or of one behind a server."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lengthwise.cli._console import complain, out, print_json
from lengthwise.cli._flags import AnsweringFlags, ContractFlags, Flag, LambdaFlags, Threads, with_groups
from lengthwise.cli._progress import working
from lengthwise.cli._targets import run_folder
from lengthwise.errors import ConfigError
from lengthwise.threads import threads_for

COMPLAIN_EVERY = 10.0
"""Seconds between two complaints about a server."""


@dataclass(frozen=True)
class SamplingFlags:
    """How responses are drawn."""

    cap: Annotated[
        int | None,
        Flag(help="Most response tokens. Default: 2048, or what the model has room for; to be named for a server."),
    ] = None
    samples: Annotated[int, Flag(help="Samples per problem.")] = 1
    temperature: Annotated[float, Flag(help="Sampling temperature; 0 is greedy.")] = 1.0
    top_p: Annotated[float, Flag(help="Nucleus of the distribution that is drawn from.")] = 1.0
    seed: Annotated[int | None, Flag(min=0, help="Seed. Default: 0; over an endpoint the server's own.")] = None
    sample_rows: Annotated[int, Flag(help="Rows in flight in our own sampler.")] = 128
    stop_repeats: Annotated[
        bool,
        Flag("--stop-repeats", help="Cut a response once its last 256 tokens repeat a piece of at most 64."),
    ] = False


@dataclass(frozen=True)
class EndpointFlags:
    """The server, if it is one."""

    endpoint: Annotated[str | None, Flag(help="URL of an OpenAI-compatible server, in place of MODEL.")] = None
    name: Annotated[str | None, Flag("--model", help="The model's name on that server.")] = None
    tokenizer: Annotated[
        str | None, Flag(help="Folder of the model's tokenizer, for --budget and --early-stop over an endpoint.")
    ] = None
    concurrency: Annotated[int, Flag(help="Requests at a time.")] = 16
    retries: Annotated[int, Flag(help="Times that a failed request is tried again.")] = 10
    timeout: Annotated[float, Flag(help="Seconds that one response may take.")] = 1800.0
    api_key_env: Annotated[
        str | None, Flag(help="Environment variable with the API key. Default: OPENAI_API_KEY where it is set.")
    ] = None

    def request(self) -> Any:
        """The server for the study; None without one."""
        if self.endpoint is None:
            if self.name is not None:
                raise ConfigError("--model names a model on a server; give its URL as --endpoint, or a folder as MODEL")
            return None
        from lengthwise.generation.endpoint import Endpoint

        return Endpoint(self.endpoint, self.name or "", self.api_key_env, self.concurrency, self.retries, self.timeout)


@dataclass(frozen=True)
class InterventionFlags:
    """Free baselines; one at a time."""

    budget: Annotated[int | None, Flag(help="End the thinking after so many tokens and ask for the answer.")] = None
    early_stop: Annotated[
        str | None, Flag(help="'agree': end the thinking once an answer stands there twice, and ask for it.")
    ] = None
    short_of: Annotated[int | None, Flag(help="Draw so many at once and take the first to finish.")] = None
    concise: Annotated[bool, Flag("--concise", help="Ask for brevity in the prompt.")] = False
    answer_tokens: Annotated[int | None, Flag(help="Most tokens after the answer was asked for. Default: 256.")] = None
    answer_prompt: Annotated[str | None, Flag(help="Text that asks for the answer. Default: the preset's.")] = None


@with_groups
def evaluate(
    data: Annotated[str, Flag(help="Problems: .jsonl, .json, .parquet, a datasets name, or lab:chains.")],
    sampling: SamplingFlags,
    server: EndpointFlags,
    intervention: InterventionFlags,
    contract: ContractFlags,
    endless: LambdaFlags,
    machine: AnsweringFlags,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Folder of a model, or lab:chains.")] = None,
    folder: Annotated[
        Path | None,
        Flag("--out", callback=run_folder, help="Folder; the same command continues it. Default: a new one."),
    ] = None,
    baseline: Annotated[Path | None, Flag(help="Record to compare with.")] = None,
    overwrite: Annotated[bool, Flag("--overwrite", help="Replace the evaluation in the folder.")] = False,
    threads: Threads = None,
    as_json: Annotated[bool, Flag("--json", help="Print one JSON object on stdout instead.")] = False,
) -> None:
    """Measure MODEL, or a model behind --endpoint. Kill it at any time; the same command continues."""
    from lengthwise.generation.free_baselines import Intervention
    from lengthwise.runs.evaluate import Evaluation, evaluate_model

    asked = Evaluation(
        data=data, out=folder or Path(tempfile.gettempdir(), f"lengthwise-evaluate-{secrets.token_hex(4)}"),
        contract=contract.request(), model=model, endpoint=server.request(), tokenizer=server.tokenizer,
        intervention=Intervention(**asdict(intervention)), baseline=baseline, endless=endless.request(),
        **asdict(sampling), **asdict(machine),
    )  # fmt: skip
    with _progress(alone=intervention.short_of is None) as listener, threads_for(wanted=threads):
        summary = evaluate_model(asked, overwrite=overwrite, listener=listener)
    _show(summary, as_json)


def _show(summary: Mapping[str, Any], as_json: bool) -> None:
    from lengthwise.reporting.grade_report import left_out_lines, text_page

    for line in left_out_lines(summary):
        complain(line, style="yellow")
    if as_json:
        print_json(summary)
        return
    for line in text_page(summary):
        out.print(line, markup=False, soft_wrap=True)
    for name in ("record", "report", "comparison"):
        if name in summary["files"]:
            out.print(f"{name}: {summary['files'][name]}", markup=False, soft_wrap=True)


@contextmanager
def _progress(*, alone: bool) -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
    """A listener for `evaluate_model`; `alone`: every response that ends is one of those that are counted."""
    with working() as work:
        waited = -COMPLAIN_EVERY

        def listen(event: str, facts: Mapping[str, Any]) -> None:
            nonlocal waited
            if event == "phase":
                there = f", {facts['done']} of them there" if facts["done"] else ""
                cap = f", {facts['cap']}" if "cap" in facts else ""
                words = f": {facts['steps']} responses{cap}{there}"
                work.phase(facts["name"], facts["steps"], facts["done"], ends=alone and bool(cap), words=words)
            elif event == "drawn":
                work.at(facts["done"], f"{facts['mean_tokens']:.0f} tokens each")
            elif event == "rows":
                work.at(facts["rows"])
            elif event == "said":
                complain(facts["text"], style="dim")
            elif event == "waiting" and time.monotonic() - waited >= COMPLAIN_EVERY:
                waited = time.monotonic()
                complain(f"the server failed ({facts['reason']}); waiting {facts['seconds']:.1f} s", style="yellow")

        yield listen
