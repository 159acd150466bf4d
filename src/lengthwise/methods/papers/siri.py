"""SIRI: the response cap goes down and up in cycles; no length term. arXiv 2509.25176; its code was not available."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from lengthwise.config.definition import again, setting
from lengthwise.engine.method import Method
from lengthwise.methods._parts import GroupRelative, cap_schedule, group_relative, part_of
from lengthwise.methods.declaration import CAPS, Knob, declare


class SiriOptions(GroupRelative):
    """Options of SIRI."""

    shape: Literal["cosine", "stair", "stair-cosine"] = setting("cosine", help="How the cap falls and rises.")
    shortest: int = setting(ge=1, help="Shortest cap.", default_text="half the cap")
    cycle: int = setting(640, ge=1, help="Steps from the longest cap to the shortest and back.")
    clip_high: float = again(GroupRelative, "clip_high", 0.28)

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, object]) -> dict[str, object]:
        """The shortest cap is half the longest."""
        return {"shortest": part_of(given["cap"], 2)}


@declare(
    "siri",
    SiriOptions,
    paper="SIRI: Scaling Iterative Reinforcement Learning with Interleaved Compression, arXiv 2509.25176",
    summary="correctness alone under a cap that falls and rises in cycles",
    knob=Knob("shortest", CAPS.values, {"cycle": "0.5*steps"}),
)
def siri(options: SiriOptions) -> Method:
    """GRPO under a moving cap, from `cap` to `shortest` and back every `cycle` steps.

    `shape`: cosine, stair *(order of its halves inferred)* or stair-cosine.
    """
    schedule = cap_schedule(options.shape, longest=options.cap, shortest=options.shortest, cycle=options.cycle)
    plain = group_relative(options, reward=lambda rollouts, state: rollouts.correct.float())
    return dataclasses.replace(plain, cap=schedule)
