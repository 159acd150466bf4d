"""A step that learns nothing says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WINDOW = 5
"""Steps in a row before a condition is called out; one odd batch is no news."""
WINDOWS = {"still": 1, "no_clip": 20}
"""Conditions with a window of their own: a step without any change is news at once, one without a clip is not."""


class Watch:
    """Looks at every step's metrics and names what will keep the run from learning.

    Each condition must hold for `WINDOW` steps in a row (some: see `WINDOWS`), is reported once, and again only
    after it has gone away. `state` is JSON, for checkpoints.
    """

    def __init__(self, state: Mapping[str, int] | None = None) -> None:
        self.streaks: dict[str, int] = dict(state or {})

    @property
    def state(self) -> dict[str, int]:
        """How many steps each condition has held."""
        return dict(self.streaks)

    def look(self, metrics: Mapping[str, Any]) -> list[str]:
        """The warnings that this step's metrics call for."""
        found = []
        for name, (holds, text) in _conditions(metrics).items():
            self.streaks[name] = self.streaks.get(name, 0) + 1 if holds else 0
            if self.streaks[name] == WINDOWS.get(name, WINDOW):
                found.append(text)
        return found


def schedule_warning(options: Mapping[str, object], steps: int) -> str | None:
    """What is wrong with a cap's schedule in a run of so many steps: it does not come back to its longest cap."""
    cycle = options.get("cycle")
    if not isinstance(cycle, int) or cycle <= steps:
        return None
    return (
        f"the cap's cycle is {cycle} steps but the run has {steps}, so the cap never comes back to its longest; give a "
        f"cycle of at most {steps} steps"
    )


def _conditions(m: Mapping[str, Any]) -> dict[str, tuple[bool, str]]:
    return {
        "cut": (
            m["cut_rate"] > 0.5,
            f"most answers ({m['cut_rate']:.0%}) reach the cap of {m['cap']} tokens; raise the cap",
        ),
        "uniform": (
            m["uniform_groups"] - m.get("length_alone", 0) > 0.75,
            f"most groups ({m['uniform_groups']:.0%}) are all right or all wrong and teach nothing; "
            "change the problems' difficulty or raise group_size",
        ),
        "length_alone": (
            m["uniform_groups"] == 1 and m.get("length_alone", 0) > 0,
            "no group is mixed, so rewards differ by length alone and nothing weighs it against being right: whatever "
            "the size of the penalty (alpha, price, weight), answers only get shorter; use harder problems or raise "
            "group_size",
        ),
        "short_batch": (
            m["groups"] < m["groups_wanted"],
            f"only {m['groups']} of {m['groups_wanted']} groups were worth keeping after {m['draws']} draws; "
            "the batch is smaller than asked for",
        ),
        "constant": (
            m["reward_std"] == 0,
            f"the reward is constant ({m['reward_mean']:.3g}); nothing can be learnt from it",
        ),
        "no_clip": (
            m["updates"] > 1 and m.get("clip_high_share") == 0 and m["clip_low_share"] == 0,
            f"the clip share is exactly 0 although each batch takes {m['updates']} updates; "
            "the learning rate may be too low",
        ),
        "uniform_weights": (
            m.get("uniform_weights", 0) > 0.5,
            f"in most groups ({m.get('uniform_weights', 0):.0%}) the weights of right answers are as good as equal, so "
            "length decides nothing; lower lam",
        ),
        "still": (
            m["weights_moved"] == 0,
            "the weights did not move in this step; check the learning rate and what is trainable",
        ),
    }
