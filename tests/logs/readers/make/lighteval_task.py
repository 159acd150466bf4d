"""A task for lighteval_details.sh: three sums, once and in two samples each, from a folder on this machine."""

from __future__ import annotations

from typing import Any

from lighteval.metrics.metrics import Metrics
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc


def prompt(line: dict[str, Any], task_name: str | None = None) -> Doc:
    gold = line["answer"].split("####")[-1].strip()
    return Doc(task_name=task_name, query=f"Question: {line['question']}\nAnswer:", choices=[gold], gold_index=0)


def task(name: str, metrics: list[Any]) -> LightevalTaskConfig:
    return LightevalTaskConfig(
        name=name,
        prompt_function=prompt,
        hf_repo="tests/logs/readers/make/problems",
        hf_subset="default",
        hf_avail_splits=["test"],
        evaluation_splits=["test"],
        few_shots_split=None,
        few_shots_select=None,
        generation_size=24,
        metrics=metrics,
        stop_sequence=["\nQuestion:"],
    )


TASKS_TABLE = [
    task("sums", [Metrics.expr_gold_metric, Metrics.exact_match]),
    task("sums_sampled", [Metrics.avg_at_n_math(sample_params={"n": 2})]),
]
