"""What is kept of DLER by one engine or the other, and the comparison that needs every problem's answer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lengthwise.statistics.metrics import removable_share
from lengthwise.statistics.records import Record, compare
from studies.summary import Numbers, pick


def condense(raw: Numbers) -> Numbers:
    """Accuracy, mean tokens, and the share of the removable tokens removed is computed of them."""
    if "record_summary" in raw:
        return {"arm": "base", "seed": 0, **raw["record_summary"], **pick(raw, "oracle_tokens")}
    return {**pick(raw, "arm", "seed", "steps"), **means(record_of(raw))}


def record_of(raw: Numbers) -> Record:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        path.write_text(json.dumps(raw["record"]), encoding="utf-8")
        return Record.load(path)


def means(record: Record) -> Numbers:
    summary = record.summary(seed=0)
    return pick(summary.to_dict(), "mean_tokens", "accuracy")


def across(raw: Mapping[str, Numbers]) -> Numbers:
    """TRL against our engine, paired over problems and seeds: tokens as a ratio, accuracy as a difference."""
    sides = {
        arm: [record_of(result) for result in raw.values() if result.get("arm") == arm] for arm in ("engine", "trl")
    }
    found = compare(sides["engine"], sides["trl"], seed=0, allow=("model",))
    kept = ("estimate", "low", "high")
    return {name: pick(vars(getattr(found, name)), *kept) for name in ("tokens_ratio", "accuracy_difference")}


def share_removed(base: Numbers, run: Numbers) -> float:
    return removable_share(base["mean_tokens"], run["mean_tokens"], base["oracle_tokens"])
