"""All that a method says of itself, as one value for the command line, the docs and whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lengthwise.methods import build_method, maker_of
from lengthwise.methods.declaration import Knob, Option

ANY_CAP = 4_000
"""The parts of a method want a number, and what is said of them does not depend on it."""


@dataclass(frozen=True)
class Description:
    """A method as its users see it; where something is not taken the text says why, and None is yes.

    ``stages``: what runs before and after its training. ``engines``: how each engine but our own carries it out.
    ``gate``: its gate unless another is asked for; None where its reward has no length term. ``wrong_by_length``: which
    of two wrong answers its formula pays more, without a gate; None where it pays none of them by length.
    """

    name: str
    summary: str
    paper: str
    options: Mapping[str, Option]
    knob: Knob | None
    trains: bool
    stages: tuple[str, ...]
    no_moving_cap: str | None
    no_importance_weights: str | None
    gate: str | None
    wrong_by_length: str | None
    engines: Mapping[str, str]

    @property
    def pays_wrong(self) -> bool:
        """Whether, unless asked otherwise, it pays wrong answers by length."""
        return self.wrong_by_length is not None and self.gate in (None, "none")

    def to_dict(self) -> dict[str, object]:
        """Ready for JSON."""
        knob = self.knob
        return {
            "name": self.name,
            "summary": self.summary,
            "paper": self.paper,
            "options": {name: option.to_dict() for name, option in self.options.items()},
            "knob": knob and {"option": knob.option, "values": list(knob.values), "fixed": dict(knob.fixed)},
            "trains": self.trains,
            "stages": list(self.stages),
            "moving_cap": self.no_moving_cap is None,
            "no_moving_cap": self.no_moving_cap,
            "importance_weights": self.no_importance_weights is None,
            "no_importance_weights": self.no_importance_weights,
            "gate": self.gate,
            "wrong_by_length": self.wrong_by_length,
            "pays_wrong_by_length": self.pays_wrong,
            "engines": dict(self.engines),
        }


def describe(name: str, engines: Mapping[str, str] | None = None) -> Description:
    """What the method of a name, a file or a function says of itself.

    Raises:
        ConfigError: no such method; the nearest names are given.
    """
    maker, made = maker_of(name), build_method(name, cap=ANY_CAP)
    gate = maker.options.get("gate") if made.loop is not None and made.loop.gate is not None else None
    no_loop = "it has no training loop" if made.loop is None else None
    own_loss = made.loop is not None and not made.loop.takes_advantages
    return Description(
        name=made.name,
        summary=made.summary,
        paper=made.paper,
        options={option: said for option, said in maker.options.items() if option != "cap"},
        knob=maker.knob,
        trains=made.loop is not None,
        stages=tuple(stage.name for stage in (*made.prepare, *made.finish)),
        no_moving_cap=no_loop or made.one_cap,
        no_importance_weights=no_loop or ("its loss takes no advantages, which they multiply" if own_loss else None),
        gate=None if gate is None else str(gate.default),
        wrong_by_length=maker.wrong,
        engines=engines or {},
    )
