"""Markup in everything that a page shows: reports escape it all, and ask nobody for anything."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import cast

from lengthwise.json_types import JsonObject, JsonValue
from lengthwise.statistics.records import Record
from reliability._batches import INSIDE, OUT, Case, command, run
from reliability._harness import Ask, Tally, harness
from reliability._mutations import places
from reliability._pages import HOSTILE, MARK, Page


@harness("bad-pages", "Bad input", "markup in responses, names and settings of reports", cases=600)
def bad_pages(ask: Ask) -> Tally:
    """Pages of ``grade``, ``compare-records`` and ``report``, read by a parser as a browser reads them."""
    return run("bad_input_pages", ask)


def make(rng: random.Random, place: Path) -> Case:
    """A page of one of the kinds."""
    return rng.choice([_grade, _grade, _records, _run])(rng, place)


def hostile(value: JsonValue, rng: random.Random, share: float = 0.6) -> JsonValue:
    """A value with markup in its texts."""
    value = cast("JsonValue", json.loads(json.dumps(value)))
    for path in [path for path in places(value) if path]:
        holder = value
        for key in path[:-1]:
            holder = holder[key]  # type: ignore[index]
        if isinstance(holder[path[-1]], str) and rng.random() < share:  # type: ignore[index]
            holder[path[-1]] = _text(rng)  # type: ignore[index]
    return value


def _text(rng: random.Random) -> str:
    pieces = rng.sample(HOSTILE, rng.choice([1, 1, 2, 4]))
    return rng.choice([" ", "\n", ""]).join(pieces)


def _checked(place: Path) -> str | None:
    """What is wrong with the pages that were written."""
    for path in sorted((place / OUT).rglob("*.html")):
        text = path.read_text()
        if problems := Page(text).problems:
            return f"{path.name}: {problems[0]}"
    return None


def _grade(rng: random.Random, place: Path) -> Case:
    rows = [
        hostile({"problem": "3+4?", "response": "<think>so</think> \\boxed{7}", "answer": "7", "category": "c"}, rng)
        for _ in range(4)
    ]
    sound = {
        "problem_id": "a",
        "problem": "3+4?",
        "response": "\\boxed{7}",
        "answer": "7",
        "score": 0.0,
        "category": MARK,
    }
    lines = "".join(json.dumps(row) + "\n" for row in [sound, *rows])
    log = place / INSIDE / f"<{MARK}>&.jsonl"
    log.write_text(lines)
    words = ("--report", f"{OUT}/report.html", "--look", f"{OUT}/look.html", "--verdict-column", "score")
    name = f"{INSIDE}/{log.name}"
    return Case("grade's pages", command("grade", name, *words, "--workers", "1"), lambda: _checked(place))


def _record(rng: random.Random) -> Record:
    context: JsonObject = {"model": _text(rng), "data": "d", "temperature": 1.0, "top_p": 1.0, "samples": 1,
    "grader": "g/1",
                           "tokenizer": "t", "template": "a", "cap": 9}  # fmt: skip
    problems = ["a", f"<{MARK}>"]
    return Record(_text(rng), context, problems, [f"<{MARK}>", "c"], [[True], [False]], [[True], [True]], [[3], [5]])


def _records(rng: random.Random, place: Path) -> Case:
    for name in ("a", "b"):
        _record(rng).save(place / INSIDE / f"{name}.json")
    words = (f"<{MARK}>={INSIDE}/a.json", f"{rng.choice(HOSTILE).replace('=', '')}={INSIDE}/b.json".replace("\x00", ""))
    return Case(
        "the page of compare-records",
        command("compare-records", *words, "--out", f"{OUT}/page.html"),
        lambda: _checked(place),
    )


def _run(rng: random.Random, place: Path) -> Case:
    folder = place / OUT / f"<{MARK}>"
    (folder / "records").mkdir(parents=True)
    for name in ("before", "after"):
        _record(rng).save(folder / "records" / f"{name}.json")
    config: JsonObject = {"command": "shorten", "settings": {"seed": 0}, "method": {"name": "dler", "version": "1"},
                          "model": "m", "environment": {"torch": "2"}, "lab": True}  # fmt: skip
    answer: JsonObject = {"text": "A:7", "num_tokens": 3, "correct": True, "finished": True}
    samples: JsonValue = [{"problem": "q", "answer": "7", "level": "l", "before": answer, "after": answer}]
    metrics = {"step": 1, "reward": 0.5, "mean_tokens": 3.0, "warnings": ["w"]}
    for file, value in (("config.json", config), ("samples.json", samples)):
        (folder / file).write_text(json.dumps(hostile(value, rng, 0.3)))
    (folder / "metrics.jsonl").write_text(json.dumps(hostile(cast("JsonObject", metrics), rng)) + "\n")
    return Case("a run's report", command("report", f"{OUT}/{folder.name}"), lambda: _checked(place))
