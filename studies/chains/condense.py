"""What is kept of a run of the chains study."""

from __future__ import annotations

from studies.summary import Numbers, pick

MEASURED = ("before", "after", "before_greedy", "after_greedy")
SCALARS = ("tokens_saved", "removable_share", "sampled_tokens", "train_seconds", "oracle_tokens", "collapsed")


def condense(raw: Numbers) -> Numbers:
    """Accuracies and tokens of each measurement, the paired differences, and why a run ended early."""
    outcome = raw["outcome"]
    found = pick(raw, "arm", "seed") | pick(outcome, *SCALARS)
    found |= {name: pick(outcome[name], "accuracy", "mean_tokens") for name in MEASURED if name in outcome}
    for name in ("difference", "difference_greedy"):
        if name in outcome:
            found[name] = pick(outcome[name]["accuracy_difference"], "estimate", "low", "high")
    for name in ("controls", "temperatures"):
        if name in outcome:
            kept = ("accuracy", "mean_tokens", "truncation_rate")
            found[name] = {key: pick(part, *kept) for key, part in outcome[name].items()}
    if "last_step" in outcome:
        found["last_step"] = pick(outcome["last_step"], "step", "accuracy", "mean_tokens")
    return found
