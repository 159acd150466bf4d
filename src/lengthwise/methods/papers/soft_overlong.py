"""DAPO's soft overlong punishment. arXiv 2503.14476."""

from __future__ import annotations

from collections.abc import Mapping

from lengthwise.config.definition import again, setting
from lengthwise.engine.method import Method
from lengthwise.errors import ConfigError
from lengthwise.methods._parts import Aggregate, GroupRelative, part_of
from lengthwise.methods.declaration import CAPS, declare
from lengthwise.methods.gating import RIGHT_ALONE, Gated, gated
from lengthwise.objectives import soft_overlong as punishment


class SoftOverlongOptions(Gated):
    """Options of the soft overlong punishment."""

    cache: int = setting(
        ge=0, help="Tokens before the cap over which the fine rises from 0 to 1.", default_text="a fifth of the cap"
    )  # fmt: skip
    clip_high: float = again(GroupRelative, "clip_high", 0.28)
    aggregate: Aggregate = again(GroupRelative, "aggregate", "token-mean")

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, object]) -> dict[str, object]:
        """The fine rises over a fifth of the cap."""
        return {**super().dependent_defaults(given), "cache": part_of(given["cap"], 5)}

    def check(self) -> None:
        """A gate that the fine can pass: it is for answers near the cap, most of which are cut."""
        super().check()
        if self.gate in RIGHT_ALONE:
            raise ConfigError(
                f"gate is {self.gate!r}, but soft-overlong fines answers that are cut, which count as wrong: that gate "
                "would take the fine away; take solved or rate, or none"
            )


@declare(
    "soft-overlong",
    SoftOverlongOptions,
    paper="DAPO: An Open-Source LLM Reinforcement Learning System at Scale, arXiv 2503.14476",
    summary="a fine that rises over the last tokens before the cap",
    knob=CAPS,
    one_cap="its penalty begins at a fixed distance before one cap, which a moving cap never reaches",
    wrong="near the cap shorter is better",
    baseline=True,
)
def soft_overlong(options: SoftOverlongOptions) -> Method:
    """Correctness less a fine that rises from 0 to 1 over the last `cache` tokens."""
    return gated(
        options,
        reward=lambda r, state: r.correct.float() + punishment(r.num_tokens, limit=options.cap, cache=options.cache),
    )
