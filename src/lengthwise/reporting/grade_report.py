"""What `log_grading.grade_log` found, for people: a page of text, and an HTML report. Both need the summary alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from lengthwise.files import atomic_write_text
from lengthwise.logs.log_numbers import GradeSummary, Money, NextStep, TokenNumbers
from lengthwise.logs.ungraded_lengths import LengthSummary
from lengthwise.reporting import plot_data as data
from lengthwise.reporting.figures import histogram, series
from lengthwise.reporting.pages import render
from lengthwise.reporting.plot_values import Curve

KEEP = 0.95
"""Share of the right answers that a budget must keep to be named."""
TOKEN_ROWS = {
    "total": "all responses",
    "thinking": "thinking",
    "answer": "answer",
    "right": "right responses",
    "wrong": "wrong responses",
}
PARTS = {
    "thinking_before": ("thinking, up to the right answer", "c-after"),
    "thinking_after": ("thinking, after it", "c-run1"),
    "answer_before": ("answer, up to the right answer", "c-run3"),
    "answer_after": ("answer, after it", "c-run4"),
}
DIRECT_PARTS = {
    "answer_before": ("up to the right answer", "c-after"),
    "answer_after": ("after it", "c-run1"),
}
WHOLE = {"thinking": "c-control", "answer": "c-run3"}
MOST_LINES = 12  # categories on the page of text

Summary = GradeSummary | Mapping[str, object]
"""A summary, or the JSON object that it was written as."""


def headline(found: Summary, *, spans: bool = False) -> list[str]:
    """The two sentences that say the most, of a page with `spans` with their 95 % intervals."""
    summary = _read(found)
    problems, responses = summary.problems, summary.responses
    asked = f"{problems:,} problems" if problems > 1 else "1 problem"
    if responses > problems:
        asked += f" ({responses:,} responses)"
    tokens, accuracy = data.number(summary.mean_tokens), data.percent(summary.accuracy)
    if spans and (span := data.span(summary.accuracy_interval, data.percent)):
        accuracy = f"{accuracy} ({span})"
    if spans and (span := data.span(summary.mean_tokens_interval, data.number)):
        tokens = f"{tokens} ({span})"
    return [f"{accuracy} right on {asked}, {tokens} tokens a response.", *_second(summary)]


def _second(summary: GradeSummary) -> list[str]:
    share = data.percent(summary.after_right.share)
    if summary.after_right.share is not None:
        return [f"{share} of the tokens of right responses come after the right answer first appeared."]
    # Budgets rise: the smallest that keeps nearly all, or else the largest below the cap.
    smaller = [(row.budget, row.kept) for row in summary.curve if row.budget < summary.cap and row.kept is not None]
    enough = [(budget, kept) for budget, kept in smaller if kept >= KEEP] or smaller[-1:]
    words = "A budget of {:,} tokens would keep {} of the right answers."
    return [words.format(budget, data.percent(kept)) for budget, kept in enough[:1]]


def text_page(found: Summary) -> list[str]:
    """The page that a terminal shows, headline and next steps first; it fits 80 columns but for steps and notes."""
    summary = _read(found)
    lines = [*headline(summary), *_intervals(summary), "", *step_lines(summary.next_steps), ""]
    lines += [*token_table(_token_rows(summary)), ""]
    lines += [_shares(summary), *_after_lines(summary)]
    if summary.money is not None:
        lines.append(money_line(summary.money))
    lines += _outside_lines(summary)
    lines += _small_tables(summary)
    lines += _category_lines(summary)
    return [*lines, *(f"note: {note}" for note in summary.notes)]


def left_out_lines(found: Summary | LengthSummary) -> list[str]:
    """What was left out of the log, one line per reason."""
    left_out = found.left_out if isinstance(found, LengthSummary) else _read(found).left_out
    return [
        f"left out: {entry.rows:,} rows, {entry.reason} (first in {entry.first or f'line {entry.first_line}'})"
        for entry in left_out.reasons
    ]


def _read(found: Summary) -> GradeSummary:
    return found if isinstance(found, GradeSummary) else GradeSummary.read(found)


def step_lines(steps: Sequence[NextStep]) -> list[str]:
    """Three steps, each a line; its command under it, and what was assumed."""
    lines = ["what to do next:"]
    for number, step in enumerate(steps, 1):
        lines.append(f"{number}. {step.says} (Assumed: {step.assumes}.)")
        lines += [] if step.command is None else [f"   {step.command}"]
    return lines


def build_report(found: Summary, target: str | Path) -> Path:
    """Write the report: one HTML file without external requests, light and dark, for wide and narrow screens."""
    summary, target = _read(found), Path(target)
    page = render(
        "grade.html.j2",
        summary=summary,
        headline=" ".join(headline(summary, spans=True)),
        facts=_facts(summary),
        tokens=_token_rows(summary),
        curve=_curve(summary),
        lengths=_lengths(summary),
        where=_where(summary),
        longest=max((row.mean_tokens for row in summary.by_category.values()), default=1.0),
        lines=[*_intervals(summary), _shares(summary), *_after_lines(summary), *_outside_lines(summary)],
        at_k=_at_k(summary),
        left_out=left_out_lines(summary),
        context=_measured(summary),
        data=data,
    )
    atomic_write_text(target, page)
    return target


def _intervals(summary: GradeSummary) -> list[str]:
    accuracy = data.span(summary.accuracy_interval, data.percent)
    tokens = data.span(summary.mean_tokens_interval, data.number)
    return [f"95% intervals: accuracy {accuracy}; tokens {tokens}."] if accuracy else []


def _token_rows(summary: GradeSummary) -> list[tuple[str, TokenNumbers]]:
    rows = {name: summary.tokens[name] for name in TOKEN_ROWS if name not in WHOLE or _thinks(summary)}
    return [(TOKEN_ROWS[name], row) for name, row in rows.items() if row is not None]


def token_table(rows: Sequence[tuple[str, TokenNumbers]]) -> list[str]:
    """Means and quantiles, a line for each label."""
    lines = [f"{'tokens':<18}{'mean':>10}{'median':>10}{'p95':>10}{'p99':>10}{'responses':>12}"]
    for label, row in rows:
        numbers = "".join(f" {data.number(value):>9}" for value in (row.mean, row.median, row.p95, row.p99))
        lines.append(f"{label:<18}{numbers}{row.responses:>12,}")
    return lines


def _shares(summary: GradeSummary) -> str:
    cut, unclosed, empty = map(data.percent, (summary.truncation_rate, summary.unclosed_rate, summary.empty_rate))
    return f"cut {cut}; thinking never closed {unclosed}; empty {empty}"


def _after_lines(summary: GradeSummary) -> list[str]:
    after, gone = summary.after_right, summary.abandoned
    lines = []
    if after.share is not None:
        lines.append(
            f"after the right answer: {data.number(after.mean)} tokens a right response "
            f"(found in {after.located:,} of {after.right:,})"
        )
    if gone.stated:
        lines.append(
            f"the right answer stands in {gone.stated:,} responses; {gone.abandoned:,} of them "
            f"({data.percent(gone.rate)}) end wrong"
        )
    if gone.abandoned:
        kinds = f"{gone.other_answer:,} with another answer, {gone.cut:,} cut, {gone.unclosed:,} unclosed"
        lines.append(f"these end wrong: {kinds}")
    return lines


def _at_k(summary: GradeSummary) -> list[tuple[str, Mapping[str, float]]]:
    """Pass@k and majority@k, where there are several samples of every problem."""
    named = (("pass@k", summary.pass_at_k), ("majority@k", summary.majority_at_k))
    return [(label, found) for label, found in named if found is not None and len(found) > 1]


def _columns(title: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    """A table with one column per head, after an empty line."""
    lines = [(title, heads), *rows.items()]
    return ["", *(f"{label:<17}{''.join(f' {cell:>8}' for cell in cells)}" for label, cells in lines)]


def _small_tables(summary: GradeSummary) -> list[str]:
    lines, at_k = [], _at_k(summary)
    if at_k:
        rows = {label: [data.percent(value) for value in found.values()] for label, found in at_k}
        lines += _columns("with k samples", list(at_k[0][1]), rows)
    budgets = [row for row in summary.curve if row.kept is not None]
    if budgets:
        rows = {"right kept": [data.percent(row.kept) for row in budgets]}
        lines += _columns("with a budget of", [f"{row.budget:,}" for row in budgets], rows)
    return lines


def money_line(money: Money) -> str:
    """What the tokens cost."""
    line = f"money: {_price(money.total)} in all"
    if money.after_right is not None:
        line += f", {_price(money.after_right)} of it after the right answer"
    return line + (f"; {_price(money.per_right)} a right response" if money.per_right is not None else "")


def _outside_lines(summary: GradeSummary) -> list[str]:
    """The scores of outside benchmarks, where they were asked for."""
    scores = summary.outside_scores
    if scores is None:
        return []
    area, as_code = data.number(scores.area, 3), data.number(scores.area_as_code, 3)
    lines = [
        f"OptimalThinkingBench, T {scores.t_max:,}: area {area} of thinking tokens ({as_code} as its code has it), "
        f"{scores.area_all_tokens:.3f} of all",
        f"OckScore {scores.ock_score:.2f}, of response tokens (its tables count the prompt as well)",
    ]
    if scores.f1 is not None:
        lines.append(f"OptimalThinkingBench F1 {scores.f1:.3f}, hard: {', '.join(scores.hard)}")
    if scores.first_right is not None:
        ratio = scores.first_right
        lines.append(
            f"first-right ratio {data.number(ratio.mean, 3)} (pooled {data.number(ratio.pooled, 3)}, where it is found "
            f"{data.number(ratio.found_only, 3)}; {ratio.left_out:,} without thinking left out)"
        )
    return lines


def _price(value: float) -> str:
    return f"{value:,.2f}" if value >= 1 else f"{value:.2g}"


def _category_lines(summary: GradeSummary) -> list[str]:
    rows = summary.by_category
    if not rows:
        return []
    lines = ["", f"{'category':<32}{'accuracy':>10}{'tokens':>10}{'cut':>9}{'problems':>10}"]
    for name, row in list(rows.items())[:MOST_LINES]:
        numbers = f"{data.percent(row.accuracy):>10}{data.number(row.mean_tokens):>10}"
        lines.append(f"{name[:31]:<32}{numbers}{data.percent(row.truncation_rate):>9}{row.problems:>10,}")
    if len(rows) > MOST_LINES:
        lines.append(f"... {len(rows) - MOST_LINES} more in --json and --report")
    return lines


def _facts(summary: GradeSummary) -> list[tuple[str, str, str]]:
    """The key numbers as (name, value, note)."""
    after, gone, money = summary.after_right, summary.abandoned, summary.money
    facts = [
        ("accuracy", data.percent(summary.accuracy), data.span(summary.accuracy_interval, data.percent)),
        ("mean tokens", data.number(summary.mean_tokens), data.span(summary.mean_tokens_interval, data.number)),
    ]
    if after.share is not None:
        facts.append(("after right answer", data.percent(after.share), f"{data.number(after.mean)} tokens each"))
    if gone.rate is not None:
        facts.append(("right, then lost", data.percent(gone.rate), f"{gone.abandoned:,} of {gone.stated:,}"))
    facts.append(("cut", data.percent(summary.truncation_rate), f"cap {summary.cap:,}"))
    if money is not None:
        note = "" if money.per_right is None else f"{_price(money.per_right)} a right response"
        facts.append(("cost", _price(money.total), note))
    return facts


def _curve(summary: GradeSummary) -> Markup:
    points, whole = summary.curve_points, summary.accuracy
    budgets = points.budget
    curves = [
        Curve(budgets, [whole] * len(budgets), "no budget", "c-before dashed"),
        Curve(budgets, points.accuracy, "cut at the budget", "c-after"),
    ]
    return series("Accuracy at a budget", curves, percent=True, top=1.0, x_label="budget, tokens", wide=True)


def _lengths(summary: GradeSummary) -> Markup:
    found = summary.histogram
    kinds = (("right", "c-after", found.right), ("wrong", "c-wrong", found.wrong))
    shares = [
        (f"{name} responses", kind, [count / summary.responses for count in counts], row.mean)
        for name, kind, counts in kinds
        if (row := summary.tokens[name]) is not None and row.mean is not None
    ]
    return histogram([float(edge) for edge in found.edges], shares, title="Tokens of right and wrong responses")


def _where(summary: GradeSummary) -> list[tuple[str, list[tuple[str, str, float, float]]]]:
    """Bars of tokens: (label, parts), a part being (label, CSS class, mean tokens, share)."""
    parts, thinks = summary.after_right.parts, _thinks(summary)
    bars: list[tuple[str, list[tuple[str, str, float]]]] = []
    if parts is not None:
        labels = PARTS if thinks else DIRECT_PARTS
        named = [(label, kind, getattr(parts, name)) for name, (label, kind) in labels.items()]
        bars.append((f"a right response ({summary.after_right.located:,})", named))
    if thinks:
        means = {name: row.mean for name in WHOLE if (row := summary.tokens[name]) is not None}
        bars.append(("any response", [(name, WHOLE[name], mean) for name, mean in means.items() if mean is not None]))
    return [
        (label, [(name, kind, mean, mean / whole) for name, kind, mean in named if mean > 0])
        for label, named in bars
        if (whole := sum(mean for _, _, mean in named)) > 0
    ]


def _thinks(summary: GradeSummary) -> bool:
    """Whether any token is known to stand in a thinking section."""
    thinking = summary.tokens["thinking"]
    return thinking is not None and (thinking.mean or 0) > 0


def _measured(summary: GradeSummary) -> list[tuple[str, str]]:
    """What the numbers were read under."""
    context = summary.context
    contract = context["contract"] if isinstance(context["contract"], dict) else {}
    read = {name: contract.get(name) for name in ("answer_format", "answer_pattern", "answers", "think_close")}
    counted = {"problems_by": summary.problems_by, "finished_by": summary.finished_by}
    told = {name: ", ".join(f"{kind} {rows:,}" for kind, rows in kinds.items()) for name, kinds in counted.items()}
    shown = {name: context[name] for name in ("cap", "cap_from", "grader", "tokenizer")} | read | told
    return data.settings({name.replace("_", " "): value for name, value in shown.items() if value is not None})
