"""Commands that would run, and for each of their words what makes it wrong: the tables behind `test_cli_sweep`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from flags import EVERYTHING, Taken

from lengthwise.lab import chains
from lengthwise.statistics.records import Record


def _each(words: Iterable[str], value: list[str]) -> dict[str, list[str]]:
    return {word: list(value) for word in words}


ENDPOINT = ["m", "--endpoint", "http://127.0.0.1:9/v1"]
BASES: dict[str, list[str]] = {
    "grade": ["log.jsonl"],
    "evaluate": ["lab:chains", "--data", "rows.jsonl", "--preset", "lab", "--cap", "40", "--out", "new"],
    "demo": ["--out", "new"],
    "shorten": ["lab:chains", "--data", "rows.jsonl", "--preset", "lab", "--cap", "40", "--out", "new"],
    "compare": ["lab:chains", "--methods", "grpo", "--data", "rows.jsonl", "--preset", "lab", "--out", "new"],
    "methods": ["dler"],
    "generate": ["lab:chains", "--prompt", "7+5?"],
    "extend": ["lab:reader", "--scheme", "linear", "--factor", "2", "--out", "new"],
    "evaluate-context": ["lab:reader", "--lengths", "48", "--tasks", "lines", "--out", "new"],
    "merge": ["lab:terse", "--base", "lab:chains", "--method", "task-arithmetic", "--out", "new"],
    "repair": ["lab:chains", "--harmful", "harmful.jsonl", "--out", "new"],
    "export": ["trl", "lab:chains", "--data", "rows.jsonl", "--preset", "lab", "--cap", "40", "--out", "new"],
    "report": ["run"],
    "compare-records": ["a=record.json", "b=other.json"],
    "doctor": [],
}
"""The words of each command without which it does nothing; the paths are those of `write_inputs`."""
SERVED = {
    "evaluate": [*ENDPOINT, "--data", "rows.jsonl", "--cap", "40", "--out", "new"],
    "evaluate-context": [
        *ENDPOINT, "--tokenizer", "lab:chains", "--lengths", "48", "--tasks", "lines", "--out", "new",
    ],
}  # fmt: skip
SERVER = ("--model", "--endpoint", "--tokenizer", "--concurrency", "--retries", "--timeout", "--api-key-env",
          "--extra-body", "--native-budget", "--server-kind")  # fmt: skip
SWEEP = ["--judge", "flag:x", "--data", "rows.jsonl", "--preset", "lab", "--cap", "40"]
MODES = ["--method", "ada-r1", "--short-model", "lab:terse"]
BESIDE: dict[str, list[str]] = {
    **_each(("evaluate --n-global", "evaluate --window", "evaluate --lambda-rule"), ["--lambda"]),
    **_each(("generate --n-global", "generate --window", "generate --lambda-rule"), ["--lambda"]),
    **_each(("evaluate --answer-tokens", "evaluate --answer-prompt"), ["--budget", "9"]),
    "evaluate --server-kind": ["--native-budget", "9"],
    "evaluate --exit-threshold": ["--early-stop", "deer"],
    "evaluate --exit-warm-up": ["--early-stop", "eat"],
    **_each(("generate --top-p", "generate --seed"), ["--temperature", "1"]),
    **_each(("shorten --longest", "shorten --shortest", "shorten --cycle"),
                    ["--cap", "cosine", "--longest", "40"]),
    **_each(("shorten --short-model", "shorten --stage"), MODES),
    "shorten --eval-cap": ["--cap", "auto"],
    "extend --power": ["--scheme", "power"],
    "extend --truncate-length": ["--scheme", "truncated"],
    "extend --xpos-scale-base": ["--scheme", "xpos"],
    "evaluate-context --data": ["--tasks", "freeform-qa"],
    "evaluate-context --text": ["--tasks", "perplexity"],
    "merge --t": ["--method", "slerp"],
    "merge --density": ["--method", "ties"],
    "merge --scope": ["--method", "update-selective"],
    "merge --rescale": ["--method", "dare", "--density", "0.5", "--seed", "0"],
    "merge --seed": ["--method", "dare", "--density", "0.5"],
    "repair --seed": ["--control", "random"],
    **{f"repair {word}": SWEEP for word in (
        "--judge", "--data", "--judge-data", "--judge-threshold", "--fractions", "--cap", "--limit", "--sample-rows",
        "--preset", "--prompt-template", "--answer-pattern", "--several", "--think", "--grader", "--problem-column",
        "--answer-column")},
    **{str(one): ["--data", "text.jsonl"] for one in EVERYTHING if one.command == "extend" and one.word in (
        "--text-column", "--chunk", "--lr", "--epochs", "--batch-rows", "--micro-batch-rows", "--warmup-steps",
        "--lora", "--dtype", "--seed", "--steps")},
    **_each(("grade --t-max", "grade --hard"), ["--metrics", "all"]),
    "export --tensor-parallel": ["--engine-is-verl"],
}  # fmt: skip
"""What a word needs beside it to have an effect; a flag that the base names too takes its place there."""

LONG = "x" * 300
FILES = ["missing.jsonl", "taken", "empty.jsonl", "noise.jsonl", "noise.json", "list.json", "deep.json",
         "rows.jsonl/x.jsonl", "loop", LONG, "run", ""]  # fmt: skip
FOLDERS = ["missing", "taken", "empty", "rows.jsonl", "rows.jsonl/x", "loop", LONG, "run", "lab:nope", ""]
OUT_FILES = ["taken", "rows.jsonl/x.html", "loop/x.html", f"{LONG}.html", f"{LONG}/x.html", "/proc/none/x.html",
             "/dev/null/x.html", ""]  # fmt: skip
OUT_FOLDERS = ["rows.jsonl", "rows.jsonl/x", "loop", "loop/x", "dangling", LONG, f"{LONG}/x", "/proc/none",
               "/dev/null", "/dev/null/x"]  # fmt: skip
WORDS, NUMBERS, TEXT = ["no-such-word", ""], ["", "a", "nan", "1,,2", "1e400", ","], [""]
WRONG: dict[type | str, list[str]] = {
    int: ["0", "-1", "1.5", "x", "1" + "0" * 30],
    float: ["0", "-1", "nan", "inf", "1e300", "x"],
    **_each(("--data", "--eval-data", "--test-data", "--judge-data", "LOG...", "--answers", "--harmful"), FILES),
    **_each(("--prompt-file", "--text", "--lines", "--baseline", "RECORD...", "--mask"), FILES),
    **_each(("MODEL", "MODEL...", "--base", "--reference", "--short-model"), FOLDERS),
    **_each(("--files-from", "--tokenizer"), FOLDERS),
    "methods NAME": ["drlo", "no/such.py", "module:", ""],
    "RUN...": [folder for folder in FOLDERS if folder != "run"],
    **_each(("grade --out", "--record", "--report", "--look", "--disagreements"), [*OUT_FILES, "/dev/null"]),
    **_each(("report --out", "compare-records --out"), [*OUT_FILES, "/dev/null", "x.png", "folder.html"]),
    "--out": OUT_FOLDERS,
    **{f"{command} --out": [*OUT_FOLDERS, "taken", ""] for command in (
        "shorten", "demo", "evaluate", "evaluate-context", "compare", "merge", "repair", "extend")},
    **_each((
        "--preset", "--method", "--methods", "--device", "--dtype", "--scheme", "--lambda-rule", "--rounding",
        "--scope", "--score", "--control", "--controls", "--mode", "--choose", "--cap", "--stage", "--early-stop",
        "--server-kind", "--head", "--out-dtype", "--rescale", "--sharding", "--tasks", "--tokens", "--several",
        "--format", "--allow", "--metrics", "--gate", "--backend", "ENGINE"),
        WORDS),
    **_each(("--lengths", "--weights", "--score-weights", "--fractions", "--rows", "--merge-back"), NUMBERS),
    "--answer-pattern": ["(", "x", "(a)(b)"],
    **_each(("--grader", "--judge"), ["nope", "no_such:thing", "os:nope", "os:sep", "./missing.py", ""]),
    **_each(("--option", "--sweep"), ["x", "=", "x=", "=1", "nope=1", "grpo:x", "grpo:=1", ""]),
    "--think": ["no-such-word"],
    "--extra-body": ["{", "[1]", '{"n": 2}', ""],
    "--config": [*FILES, "taken"],
    "--endpoint": ["nope", "ftp://x", ""],
    **_each(("--prompt-template", "--harmful-template", "--response-column", "--text-column"), TEXT),
    **_each(("--finished-column", "--problem-id-column", "--sample-column", "--reasoning-tokens-column"), TEXT),
    **_each(("--problem-column", "--answer-column", "--tokens-column", "--verdict-column"), ["nope", ""]),
    "--api-key-env": TEXT,
    **_each(("--include", "--exclude", "--target"), ["no-such-tensor", ""]),
    **_each(("--prompt", "--system-prompt", "--answer-prompt", "--category-column", "--reasoning-column"), []),
    "--hard": [],
}  # fmt: skip
"""By type, word, or command and word; the last that fits counts. An empty list: any text is right."""
RIGHT: dict[str, list[str]] = {
    **_each(("--seed", "--warmup-steps", "--lora", "--sample-rows", "--margin", "--steps", "--weight-decay"), ["0"]),
    **_each(("evaluate --sample-rows", "demo --steps", "shorten --steps", "compare --steps", "export --steps"), []),
    "--native-budget": ["0"],
    **_each(("--temperature", "--retries", "--price", "generate --cap", "--t", "--judge-threshold"), ["0"]),
    **_each(("shorten --temperature", "compare --temperature", "export --temperature"), []),
    "grade --right-from": ["0", "-1"],
    "merge --scale": ["0", "-1"],  # a step of no length, or backwards
    **_each(("extend --power", "merge --density"), ["0"]),  # the end of a range, at which the scheme or change is gone
    "--controls": [""],
    "--n-global": ["0"],
    "evaluate-context --text": ["deep.json"],
    "grade --problem-column": ["nope"],
}  # fmt: skip
"""Of the wrong ones, those that some flags take after all; the last that fits counts."""


def cases() -> Iterator[tuple[Taken, list[str]]]:
    """Every word of every command with all that is wrong for it."""
    for one in EVERYTHING:
        if one.kind is not bool:
            kind = one.kind if one.kind in (int, float) else one.word
            right = RIGHT.get(str(one), RIGHT.get(one.word, []))
            yield one, [value for value in WRONG.get(str(one), WRONG.get(kind, ["?"])) if value not in right]


def words(one: Taken, value: str) -> list[str]:
    """A command line that is sound but for this value."""
    base = list(SERVED[one.command] if one.command in SERVED and one.word in SERVER else BASES[one.command])
    beside = BESIDE.get(str(one), [])
    if beside == ["--engine-is-verl"]:
        base, beside = ["verl", *base[1:]], []
    for flag, given in zip(beside[::2], [*beside[1::2], ""], strict=False):
        _put(base, flag, given)
    if one.argument:
        base[ARGUMENTS[one.command].index(one)] = value
    else:
        _put(base, one.word, value)
    return [one.command, *base]


ARGUMENTS = {command: [one for one in EVERYTHING if one.command == command and one.argument] for command in BASES}


def _put(base: list[str], flag: str, value: str) -> None:
    if flag in base:
        base[base.index(flag) + 1] = value
    else:
        base += [flag, value] if flag != "--lambda" else [flag]


def write_inputs(place: Path) -> None:
    """Everything that the commands of `BASES` read, and everything that is wrong to read."""
    rows = [chain.row for chain in chains.problems(60, split="train", seed=0, levels=(2, 3))]
    log = [{"problem": "1+1", "response": "A:2", "answer": "2", "num_tokens": 3}] * 4
    harmful = [{"prompt": f"{n}+2?", "response": f"{n}+2={n + 2};", "harmful": True} for n in range(1, 8)]
    texts = [{"text": "7+5? 7+5=12; " * 20}]
    for name, lines in (("rows", rows), ("log", log), ("harmful", harmful), ("text", texts)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    context = {"model": "m", "data": "d", "temperature": 1.0, "top_p": 1.0, "samples": 1, "grader": "g/1",
               "tokenizer": "t", "template": "a", "cap": 9}  # fmt: skip
    for name in ("record", "other"):
        record = Record(name, context, ["a", "b"], None, [[True], [False]], [[True], [True]], [[3], [5]])
        record.save(place / f"{name}.json")
    for name in ("run", "taken", "empty", "folder.html"):
        (place / name).mkdir()
    (place / "run" / "config.json").write_text('{"method": {"name": "dler"}, "environment": {}}')
    (place / "taken" / "config.json").write_text('{"model_type": "qwen2"}')
    (place / "taken" / "note.txt").write_text("mine")
    (place / "empty.jsonl").write_text("")
    for name in ("noise.jsonl", "noise.json"):
        (place / name).write_bytes(bytes(range(256)))
    (place / "list.json").write_text("[1, 2]")
    (place / "deep.json").write_text("[" * 100_000)
    (place / "loop").symlink_to("loop")
    (place / "dangling").symlink_to("nowhere")
