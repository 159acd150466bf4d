"""`lengthwise shorten`: train a model to think in fewer tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lengthwise.cli._console import out, outcome_lines, outcome_table, print_json
from lengthwise.cli._progress import progress
from lengthwise.config.commands import ShortenSettings

if TYPE_CHECKING:
    from lengthwise.runs.shortening.outcome import Outcome


def shorten(settings: ShortenSettings) -> None:
    """Shorten, or show what would be done, and show what came of it."""
    if settings.dry_run:
        _dry_run(settings)
        return
    with progress() as listener:
        from lengthwise.runs.shortening.resolve import shorten_by
        from lengthwise.runs.shortening.stages import OneStage

        outcome = shorten_by(settings, listener=listener)
    if settings.json_:
        print_json(outcome.to_dict())
    elif isinstance(outcome, OneStage):
        _print(f"{name}: {value}" for name, value in outcome.to_dict().items())
    else:
        _show(outcome)


def _dry_run(settings: ShortenSettings) -> None:
    from lengthwise.runs.shortening.dry_run import dry_run, dry_run_lines

    shown = dry_run(settings)
    if settings.json_:
        print_json(shown.to_dict())
    else:
        _print(dry_run_lines(shown))


def _show(outcome: Outcome) -> None:
    if outcome.cap_choice is not None:
        quantiles = ", ".join(f"{name} {value}" for name, value in outcome.cap_choice.quantiles.items())
        _print([f"cap {outcome.cap_choice.cap} chosen from right answers' lengths: {quantiles}"])
    out.print(outcome_table(outcome))
    _print(outcome_lines(outcome))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        out.print(line, soft_wrap=True)
