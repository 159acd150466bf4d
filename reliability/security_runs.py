"""Whole commands under watch: nothing is unpickled, code of a model's folder does not run unasked, pages ask nobody."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lengthwise.lab import chains
from reliability._harness import HERE, Ask, Tally, harness
from reliability._pages import Page

WATCHED = """
import sys, traceback
OURS = ("grading/worker_pool.py", "grading/worker_process.py")  # between a run and its own workers
def unpickled(what):
    frames = [frame.filename for frame in traceback.extract_stack()]
    if not any(name.endswith(OURS) for name in frames):
        print("UNPICKLED", what, frames[-4:], file=sys.stderr, flush=True)
sys.addaudithook(lambda event, args: unpickled(args) if event == "pickle.find_class" else None)
import pickle
class Unpickler(pickle.Unpickler):
    def load(self):
        unpickled("Unpickler.load")
        return super().load()
def told(name, function):
    def call(*args, **named):
        unpickled(name)
        return function(*args, **named)
    return call
pickle.load, pickle.loads = told("load", pickle.load), told("loads", pickle.loads)
pickle.Unpickler = Unpickler
import torch
torch.load = told("torch.load", torch.load)
from lengthwise.cli import main
main()
"""
CANARY = "canary"
CODE = f"""
import pathlib
pathlib.Path(__file__).with_name("{CANARY}").touch()
pathlib.Path({CANARY!r}).touch()
from transformers import Qwen2Config, Qwen2ForCausalLM
class OwnConfig(Qwen2Config):
    model_type = "own"
class OwnModel(Qwen2ForCausalLM):
    config_class = OwnConfig
"""
LAB = ("--data", "rows.jsonl", "--preset", "lab")


def write_rows(folder: Path) -> None:
    """Problems of the lab, a log and rows of a harmful kind."""
    rows = [chain.row for chain in chains.problems(60, split="train", seed=0, levels=(2, 3))]
    log = [{"problem": "1+1", "response": "A:2", "answer": "2", "num_tokens": 3}] * 4
    harmful = [{"prompt": f"{n}+2?", "response": f"{n}+2={n + 2};", "harmful": True} for n in range(1, 8)]
    for name, lines in (("rows", rows), ("log", log), ("harmful", harmful)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


RUNS: tuple[tuple[str, ...], ...] = (
    ("shorten", "lab:chains", *LAB, "--cap", "60", "--steps", "2", "--eval-limit", "8", "--out", "run"),
    ("shorten", "lab:chains", *LAB, "--cap", "60", "--steps", "3", "--eval-limit", "8", "--out", "run"),
    ("evaluate", "lab:chains", *LAB, "--cap", "60", "--limit", "8", "--out", "measured"),
    ("grade", "log.jsonl", "--preset", "lab", "--report", "grade.html", "--look", "look.html", "--record", "a.json"),
    ("compare-records", "a=a.json", "b=a.json", "--out", "records.html"),
    ("merge", "lab:terse", "--base", "lab:chains", "--method", "task-arithmetic", "--out", "merged"),
    ("extend", "lab:reader", "--scheme", "linear", "--factor", "2", "--out", "extended"),
    ("evaluate-context", "lab:reader", "--lengths", "48", "--tasks", "lines", "--limit", "4", "--out", "context"),
    ("generate", "lab:chains", "--prompt", "7+5?", "--cap", "20"),
    ("repair", "lab:chains", "--harmful", "harmful.jsonl", "--out", "repaired"),
    ("report", "run"),
)  # fmt: skip
"""Every command that reads a file, in a folder of `write_rows`; the second goes on from a checkpoint of the first."""


@harness(
    "no-pickle", "Security", "commands of which none unpickles a file (their own workers' pipe aside)", cases=len(RUNS)
)
def no_pickle(ask: Ask) -> Tally:
    """Python's own audit of ``pickle.find_class``, and functions of ``pickle`` and torch that tell of each call."""
    write_rows(ask.scratch)
    failures, done = [], 0
    for number in ask.numbers():
        words = RUNS[number]
        found = python(WATCHED, words, ask.scratch)
        done += 1
        if found.returncode != 0:
            failures.append(f"{' '.join(words[:2])}: exit code {found.returncode}: {found.stderr[-200:]}")
        failures += [f"{words[0]}: {line}" for line in found.stderr.splitlines() if line.startswith("UNPICKLED")]
    return Tally(done, tuple(failures))


def python(code: str, words: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python on a text, with arguments, in a folder."""
    return subprocess.run([sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, check=False)


# ---- code of a folder ------------------------------------------------------------------------------------------


def own_model(folder: Path) -> Path:
    """The lab's model as one that brings its own code, which leaves a file when it runs."""
    from lengthwise.lab.reasoner import shipped_reasoner

    shutil.copytree(shipped_reasoner(), folder)
    (folder / "own.py").write_text(CODE)
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": own}))
    return folder


CODE_RUNS: tuple[tuple[str, ...], ...] = (
    ("evaluate", "own", *LAB, "--cap", "60", "--limit", "4", "--out", "measured"),
    ("shorten", "own", *LAB, "--cap", "60", "--steps", "1", "--eval-limit", "4", "--out", "run"),
    ("compare", "own", "--methods", "grpo", *LAB, "--cap", "60", "--out", "compared"),
    ("generate", "own", "--prompt", "7+5?", "--cap", "20"),
    ("grade", "log.jsonl", "--preset", "lab", "--tokenizer", "own"),
    ("extend", "own", "--scheme", "linear", "--factor", "2", "--out", "extended"),
    ("evaluate-context", "own", "--lengths", "48", "--tasks", "lines", "--out", "context"),
    ("repair", "own", "--harmful", "harmful.jsonl", "--out", "repaired"),
    ("merge", "own", "--base", "lab:chains", "--method", "task-arithmetic", "--out", "merged"),
    ("export", "trl", "own", *LAB, "--cap", "60", "--out", "exported"),
)  # fmt: skip
START = "from lengthwise.cli import main; main()"


@harness(
    "remote-code",
    "Security",
    "commands on a model that brings code of its own: it runs with the flag alone",
    cases=len(CODE_RUNS) + 1,
)
def remote_code(ask: Ask) -> Tally:
    """The code leaves a file when it runs. The last case gives ``--trust-remote-code``, and there it has to."""
    write_rows(ask.scratch)
    own = own_model(ask.scratch / "own")
    canaries = (ask.scratch / CANARY, own / CANARY)
    failures, done = [], 0
    for number in ask.numbers():
        last = number == len(CODE_RUNS)
        words = (*CODE_RUNS[0], "--trust-remote-code") if last else CODE_RUNS[number]
        found = python(START, words, ask.scratch)
        done += 1
        if any(canary.exists() for canary in canaries) != last:
            what = "the code did not run" if last else "the code ran unasked"
            failures.append(f"{' '.join(words[:2])}: {what}: {found.stderr[-200:]}")
        if "Traceback" in found.stderr:
            failures.append(f"{words[0]}: traceback: {found.stderr[-300:]}")
    return Tally(done, tuple(failures))


# ---- pages -----------------------------------------------------------------------------------------------------


@harness("pages-ask-nobody", "Security", "pages of commands, and templates, that ask nobody for anything", cases=100)
def pages_ask_nobody(ask: Ask) -> Tally:
    """Read as a browser reads them; `no-pickle`'s commands write them."""
    write_rows(ask.scratch)
    for words in RUNS:
        if words[0] in ("shorten", "evaluate", "grade", "compare-records", "evaluate-context", "repair", "report"):
            python(START, words, ask.scratch)
    pages = [
        *ask.scratch.rglob("*.html"),
        *(HERE.parent / "src" / "lengthwise" / "reporting" / "templates").glob("*.j2"),
    ]
    failures = [f"{path.name}: {problem}" for path in pages[: ask.cases] for problem in Page(path.read_text()).problems]
    return Tally(len(pages[: ask.cases]), tuple(failures))
