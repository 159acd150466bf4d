"""What `evaluate_context` found: cells of tasks and lengths, for every model under every scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from lengthwise.config.commands import EvaluateContextSettings
from lengthwise.statistics.bootstrap import Interval


@dataclass(frozen=True)
class Place:
    """Rows whose evidence stands in one part of the text, from a share of it on; None where no row does."""

    start: float
    rows: int
    accuracy: Interval | None

    def to_dict(self) -> dict[str, object]:
        """As ``context.json`` has it."""
        accuracy = None if self.accuracy is None else self.accuracy.to_dict()
        return {"from": self.start, "rows": self.rows, "accuracy": accuracy}


@dataclass(frozen=True, kw_only=True)
class AnswerCell:
    """Answers to one task at one length.

    ``tokens``: of a mean prompt. ``short``: rows that are short of text; ``left_out``: source rows by reason.
    """

    task: str
    length: int
    rows: int
    tokens: float
    accuracy: Interval
    places: tuple[Place, ...]
    short: int
    left_out: Mapping[str, int]

    @property
    def measured(self) -> Interval:
        """What the task measures: the share of right answers."""
        return self.accuracy

    def to_dict(self) -> dict[str, object]:
        """As ``context.json`` has it."""
        return {
            "task": self.task,
            "length": self.length,
            "rows": self.rows,
            "tokens": self.tokens,
            "accuracy": self.accuracy.to_dict(),
            "places": [place.to_dict() for place in self.places],
            "short": self.short,
            "left_out": dict(self.left_out),
        }


@dataclass(frozen=True, kw_only=True)
class PerplexityCell:
    """Perplexity of documents of one length, and ``by_position`` (up to token, mean loss, tokens)."""

    length: int
    rows: int
    perplexity: Interval
    by_position: Sequence[tuple[int, float, int]]
    task: str = "perplexity"
    short: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def measured(self) -> Interval:
        """What the task measures."""
        return self.perplexity

    def to_dict(self) -> dict[str, object]:
        """As ``context.json`` has it."""
        return {
            "task": self.task,
            "length": self.length,
            "rows": self.rows,
            "tokens": self.length,
            "perplexity": self.perplexity.to_dict(),
            "by_position": [{"to": to, "loss": loss, "tokens": tokens} for to, loss, tokens in self.by_position],
            "short": self.short,
            "left_out": dict(self.left_out),
        }


Cell = AnswerCell | PerplexityCell


@dataclass(frozen=True)
class ArmFacts:
    """The scheme of a model, its factors, its trained context in tokens, and the numbers it was computed in."""

    scheme: str
    factor: float | None = None
    trained_factor: float | None = None
    trained_context: int | None = None
    computed_in: str | None = None


@dataclass(frozen=True)
class ArmResult:
    """A model under a scheme, measured."""

    name: str
    facts: ArmFacts
    cells: Sequence[Cell]

    def of(self, task: str) -> list[Cell]:
        """The cells of one task."""
        return [cell for cell in self.cells if cell.task == task]

    def to_dict(self) -> dict[str, object]:
        """As ``context.json`` has it."""
        return {"name": self.name, **asdict(self.facts), "cells": [cell.to_dict() for cell in self.cells]}


@dataclass(frozen=True)
class ContextResult:
    """Every arm that was measured, and what it was measured with."""

    settings: EvaluateContextSettings
    arms: Sequence[ArmResult]

    def to_dict(self) -> dict[str, object]:
        """As ``context.json`` has it; files are told without their folders."""
        asked = self.settings.reading
        files = {"data": asked.data, "lines": asked.lines, "text": asked.text}
        return {
            "lengthwise": metadata.version("lengthwise"),
            "tasks": list(asked.tasks),
            "lengths": list(asked.lengths),
            "rows": self.settings.limit,
            "seed": self.settings.seed,
            "chat_template": self.settings.chat_template,
            "files": {name: Path(path).name for name, path in files.items() if path is not None},
            "arms": [arm.to_dict() for arm in self.arms],
        }
