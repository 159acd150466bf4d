"""Every page that the package makes, of small results that are made up: nothing is sampled, nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from run_folders import make_record, make_run
from wordlog import word_tokenizer, write_log

ARMS = {"dler": ("cap", (32, 48, 64)), "drpo": ("lam", (0.1, 0.2, 0.5)), "grpo-lambda": ("alpha", (0.05, 0.1, 0.2))}
HOSTILE = '<script>window.ran=1</script><img src=x onerror=window.ran=1>&"'
UNBROKEN = "a_name_without_a_single_place_to_break_" * 3
"""As file names and ids of problems are, and wider than a telephone."""


def build_pages(folder: Path) -> dict[str, Path]:
    """The pages by name, in a folder."""
    runs = [make_run(folder / name) for name in ("dler-chains", "dler-chains-again")]
    return {
        "shorten": _shorten(runs[:1], folder / "shorten.html"),
        "several runs": _shorten(runs, folder / "several.html"),
        **_grade(folder),
        "compare": _compare(folder),
        "compare-records": _compare_records(folder),
        "evaluate-context": _context(folder),
    }


def _shorten(runs: list[Path], target: Path) -> Path:
    from lengthwise.reporting.run_report import build_report

    return build_report(runs, target)


def _grade(folder: Path) -> dict[str, Path]:
    from lengthwise.config.commands import GradeSettings
    from lengthwise.logs.examples import Examples
    from lengthwise.logs.log_grading import grade_log
    from lengthwise.logs.log_numbers import GradeSummary
    from lengthwise.reporting.examples_page import build_examples_page
    from lengthwise.reporting.grade_report import build_report

    log = write_log(folder / "answers-of-a-reasoner.jsonl", map(_response, range(96)))
    words = str(word_tokenizer(folder / "words"))
    settings = GradeSettings.from_dict({"log": str(log), "tokenizer": words, "cap": 60, "price": 2.0, "workers": 1})
    examples = Examples()
    summary = grade_log(settings, examples=examples)
    assert isinstance(summary, GradeSummary)
    return {
        "grade": build_report(summary, folder / "grade.html"),
        "look": build_examples_page(examples, summary, folder / "look.html"),
    }


def _response(number: int) -> dict[str, Any]:
    dice = np.random.default_rng(number)
    problem, again = number // 4, int(dice.integers(0, 12))
    right = bool(dice.random() < 0.7)
    cut = again > 10
    said = f"<think> {HOSTILE} so = {problem}. {'wait check = ' * again}"
    said += "" if cut else f"</think> The answer is {problem if right else problem + 1}"
    category = ("algebra", "counting", HOSTILE, UNBROKEN)[problem % 4]
    return {
        "problem_id": f"{UNBROKEN}{problem}", "sample": number % 4, "answer": str(problem), "response": said,
        "num_tokens": len(said.split()) + (not cut), "finished": not cut, "category": category,
    }  # fmt: skip


def _compare(folder: Path) -> Path:
    from lengthwise.config.commands import CompareSettings
    from lengthwise.runs.compare.arms import Arm
    from lengthwise.runs.compare.comparison import Comparison
    from lengthwise.runs.compare.folder import base_folder, baseline_file, run_folder
    from lengthwise.runs.compare.page import build_page
    from lengthwise.runs.compare.plan_values import Plan
    from lengthwise.runs.compare.result import result_of

    arms = [Arm(name, name, knob, values) for name, (knob, values) in ARMS.items()]
    given = {"model": "lab:chains", "methods": "dler", "out": folder / "compare", "seeds": 2, "controls": ["random"]}
    asked = Comparison(CompareSettings.from_dict(given), arms)
    for seed in asked.seed_numbers:
        for name in ("before", "before-test"):
            record = make_record(name, accuracy=0.78, passes=2.5, seed=seed)
            record.save(base_folder(asked.out, seed) / "records" / f"{name}.json")
        free = make_record("stopped", accuracy=0.8, passes=1.3, seed=seed)
        free.save(baseline_file(asked.out, seed, "first pass"))
        for place, arm in enumerate(asked.all_arms):
            for setting in range(len(arm.values)):
                run = run_folder(asked.out, arm, setting, seed)
                for name in ("after", "after-test"):
                    record = make_record(
                        f"{name}{place}", accuracy=0.9 - 0.05 * place, passes=1 + 0.5 * setting, seed=seed
                    )
                    record.save(run / "records" / f"{name}.json")
                (run / "outcome.json").write_text(json.dumps({"sampled_tokens": 1.4e6, "train_seconds": 83.0}))
    settings = {arm.name: [{arm.knob: value} for value in arm.values] for arm in asked.all_arms}
    plan = Plan(cap=48, mean_tokens=70.0, accuracy=0.78, token_budget=1_400_000, settings=settings)
    arena: Any = SimpleNamespace(
        baselines=["first pass"], lab=True, source="lab:chains", oracle_tokens=27.0, frontier=None
    )
    return build_page(result_of(asked, arena, plan), folder / "compare.html")


def _compare_records(folder: Path) -> Path:
    from lengthwise.runs.compare_records import Named, compare_records
    from lengthwise.runs.records_page import build_page

    base = make_record("before", accuracy=0.78, passes=2.5)
    sides = [
        Named("base", (base,)),
        Named("shorter", tuple(make_record(f"after{n}", accuracy=0.92, passes=1.0, seed=n) for n in (0, 1))),
        Named(UNBROKEN, (make_record("other", accuracy=0.8, passes=1.9),)),
    ]
    return build_page(compare_records(sides), folder / "records.html")


def _context(folder: Path) -> Path:
    from lengthwise.config.commands import EvaluateContextSettings
    from lengthwise.runs.evaluate_context.page import build_page
    from lengthwise.runs.evaluate_context.results import ArmFacts, ArmResult, ContextResult

    asked = {"models": ["lab:reader"], "lengths": [256, 512, 1024, 2048], "tasks": ["lines", "perplexity"]}
    settings = EvaluateContextSettings.from_dict({**asked, "text": "essays.txt"})
    arms = [
        ArmResult(f"lab:reader, {scheme}", ArmFacts(scheme, factor, None, 512, "float32"), _cells(asked, holds))
        for scheme, factor, holds in (("as-is", None, 512), ("linear:4", 4.0, 2048), ("truncated:4", 4.0, 1024))
    ]
    build_page(ContextResult(settings, arms), folder / "context.html")
    return folder / "context.html"


def _cells(asked: dict[str, Any], holds: int) -> list[Any]:
    from lengthwise.runs.evaluate_context.results import AnswerCell, PerplexityCell, Place
    from lengthwise.statistics.bootstrap import Interval

    def interval(value: float, half: float, most: float) -> Interval:
        return Interval(value, max(0.0, value - half), min(most, value + half), level=0.95, draws=2000, dropped=0)

    cells: list[Any] = []
    for length in asked["lengths"]:
        share = 0.95 if length <= holds else 0.1
        places = tuple(Place(n / 5, 4, interval(share, 0.2, 1.0)) for n in range(5))
        cells.append(AnswerCell(
            task="lines", length=length, rows=20, tokens=float(length - 9), accuracy=interval(share, 0.1, 1.0),
            places=places, short=0, left_out={},
        ))  # fmt: skip
    for length in asked["lengths"]:
        value = 9.0 if length <= holds else 60.0
        by_position = [(length * (n + 1) // 8, 2.1 + n / 10, 512) for n in range(8)]
        cells.append(
            PerplexityCell(length=length, rows=20, perplexity=interval(value, 0.8, 1e9), by_position=by_position)
        )
    return cells
