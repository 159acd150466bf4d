"""What a terminal shows of a log in which nothing could be graded."""

from __future__ import annotations

from lengthwise.logs.ungraded_lengths import LengthSummary
from lengthwise.reporting import plot_data as data
from lengthwise.reporting.grade_report import money_line, step_lines, token_table

LABELS = {
    "total": "all responses", "thinking": "thinking", "answer": "answer", "finished": "finished responses",
    "cut": "cut responses",
}  # fmt: skip


def lengths_page(summary: LengthSummary) -> list[str]:
    """The page, that nothing was graded first."""
    asked = f"{summary.problems:,} problems" if summary.problems > 1 else "1 problem"
    seen = f"{summary.responses:,} responses" if summary.responses > 1 else "1 response"
    span = data.span(summary.mean_tokens_interval, data.number)
    rows = [(label, row) for name, label in LABELS.items() if (row := summary.tokens[name]) is not None]
    total = sum(summary.ended_by.values())
    ends = ", ".join(f"{name} {rows:,} ({data.percent(rows / total)})" for name, rows in summary.ended_by.items())
    rates = (summary.truncation_rate, summary.unclosed_rate, summary.empty_rate)
    cut, unclosed, empty = map(data.percent, rates)
    return [
        f"{summary.read_as}: nothing was graded, for it has neither right answers nor verdicts; {summary.how_to_grade}",
        f"{data.number(summary.mean_tokens)} tokens a response, {seen} on {asked}, {cut} cut.",
        *([f"95% interval: tokens {span}."] if span else []),
        "",
        *step_lines(summary.next_steps),
        "",
        *token_table(rows),
        "",
        f"cut {cut}; thinking never closed {unclosed}; empty {empty}",
        f"ended by the log: {ends}",
        *([] if summary.money is None else [money_line(summary.money)]),
        *(f"note: {note}" for note in summary.notes),
    ]
