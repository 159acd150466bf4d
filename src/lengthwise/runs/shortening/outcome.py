"""From a run's records to its outcome: before, after, controls and what may be claimed of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lengthwise.runs.run_folder import RECORDS
from lengthwise.statistics.metrics import removable_share
from lengthwise.statistics.records import Record, compare

MAIN = ("before", "after", "before-greedy", "after-greedy")


def summarise(
    folder: Path, *, seed: int, oracle_tokens: float | None = None, levels_apart: list[str] | None = None
) -> dict[str, Any]:
    """Numbers of a finished run, JSON-ready.

    `removable_share` is (L_before - L_after) / (L_before - L_oracle), by sampling at temperature 1, where the
    oracle length is known. Differences are paired over problems, with intervals.
    """
    records = {path.stem: Record.load(path) for path in sorted((folder / RECORDS).glob("[!.]*.json"))}
    summaries = {name: record.summary(seed=seed) for name, record in records.items()}
    before, after = summaries["before"], summaries["after"]
    shown = {name: found.to_dict() for name, found in summaries.items()}
    greedy = compare(records["before-greedy"], records["after-greedy"], seed=seed, allow=("model",))
    outcome: dict[str, Any] = {
        "before": shown["before"],
        "after": shown["after"],
        "before_greedy": shown["before-greedy"],
        "after_greedy": shown["after-greedy"],
        "controls": {n.removeprefix("control-"): s for n, s in shown.items() if n.startswith("control-")},
        "apart": {n: s for n, s in shown.items() if n not in MAIN and not n.startswith("control-")},
        "difference": compare(records["before"], records["after"], seed=seed, allow=("model",)).to_dict(),
        "difference_greedy": greedy.to_dict(),
        "tokens_saved": 1 - after.mean_tokens / before.mean_tokens,
        "levels_apart": levels_apart or [],
    }
    if oracle_tokens is not None:
        outcome["oracle_tokens"] = oracle_tokens
        outcome["removable_share"] = removable_share(before.mean_tokens, after.mean_tokens, oracle_tokens)
    return outcome
