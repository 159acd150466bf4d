"""What is kept of a run: what the lab's study keeps of its own, and what it cost."""

from __future__ import annotations

from studies.lab.condense import measurement
from studies.summary import Numbers, pick


def condense(raw: Numbers) -> Numbers:
    """A run's measurements, its number of steps and of sampled tokens."""
    outcome = raw["outcome"]
    steps = outcome["steps"]
    return {
        **pick(raw["run"], "suite", "world", "method", "setting", "seed"),
        "measured": {
            name: measurement(part, (), by_level=name == "test") for name, part in outcome["measured"].items()
        },
        "ended": outcome["ended"],
        "steps": len(steps),
        "sampled_tokens": steps[-1]["sampled_tokens"] if steps else 0,
    }
