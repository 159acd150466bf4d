"""`lengthwise evaluate`: accuracy and length of a model, or of one behind a server."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lengthwise.cli._console import complain, out, print_json
from lengthwise.cli._progress import working
from lengthwise.config.commands.evaluation import EvaluateSettings

if TYPE_CHECKING:
    from lengthwise.runs.evaluation_plan import Listener
    from lengthwise.runs.evaluation_result import Evaluation

COMPLAIN_EVERY = 10.0
"""Seconds between two complaints about a server."""


def evaluate(settings: EvaluateSettings) -> None:
    """Measure, and show the page or the object."""
    with _progress(alone=settings.intervention.short_of is None) as listener:
        from lengthwise.runs.evaluate import evaluate_model  # takes seconds, in which the bar is there

        found = evaluate_model(settings, listener=listener)
    _show(found, settings.json_)


def _show(found: Evaluation, as_json: bool) -> None:
    from lengthwise.reporting.grade_report import left_out_lines, text_page

    summary = found.to_dict()
    for line in left_out_lines(summary):
        complain(line, style="yellow")
    if as_json:
        print_json(summary)
        return
    for line in text_page(summary):
        out.print(line, markup=False, soft_wrap=True)
    for name in ("record", "report", "comparison"):
        if name in found.files:
            out.print(f"{name}: {found.files[name]}", markup=False, soft_wrap=True)


@contextmanager
def _progress(*, alone: bool) -> Iterator[Listener]:
    """A listener for `evaluate_model`; `alone`: every response that ends is one of those that are counted."""
    with working() as work:
        waited = -COMPLAIN_EVERY

        def listen(event: str, facts: Mapping[str, Any]) -> None:
            nonlocal waited
            if event == "phase":
                there = f", {facts['done']} of them there" if facts["done"] else ""
                cap = f", {facts['cap']}" if "cap" in facts else ""
                words = f": {facts['steps']} responses{cap}{there}"
                work.phase(facts["name"], facts["steps"], facts["done"], ends=alone and bool(cap), words=words)
            elif event == "drawn":
                work.at(facts["done"], f"{facts['mean_tokens']:.0f} tokens each")
            elif event == "rows":
                work.at(facts["rows"])
            elif event == "said":
                complain(facts["text"], style="dim")
            elif event == "waiting" and time.monotonic() - waited >= COMPLAIN_EVERY:
                waited = time.monotonic()
                complain(f"the server failed ({facts['reason']}); waiting {facts['seconds']:.1f} s", style="yellow")

        yield listen
