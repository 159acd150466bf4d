"""What an evaluation of long contexts found, in one sentence: how far the accuracy of the shortest length holds."""

from __future__ import annotations

from collections.abc import Sequence

from lengthwise.reporting import plot_data as data
from lengthwise.runs.evaluate_context.results import ArmResult, Cell, ContextResult

PERPLEXITY = "perplexity"


def size(tokens: int) -> str:
    """A length as people write it: 4k for 4096."""
    return f"{tokens // 1024}k" if tokens % 1024 == 0 else f"{tokens:,}"


def conclusion(result: ContextResult) -> str:
    """The sentence, of the first task with answers; of perplexity where that is the only one."""
    tasks = result.settings.reading.tasks
    task = next((task for task in tasks if task != PERPLEXITY), PERPLEXITY)
    return _of_perplexity(result.arms) if task == PERPLEXITY else _of_answers(result.arms, task)


def _of_answers(arms: Sequence[ArmResult], task: str) -> str:
    best = max(arm.of(task)[0].measured.estimate or 0.0 for arm in arms)
    if best == 0:
        return f"{_named(arms)} right on {task} at {size(arms[0].of(task)[0].length)} tokens, the shortest length."
    reached = [_reach(arm.of(task), best) for arm in arms]
    ends = [arm.of(task)[-1].measured.estimate or 0.0 for arm in arms]
    first = max(range(len(arms)), key=lambda place: (reached[place], ends[place]))
    cells, at = arms[first].of(task), max(reached[first] - 1, 0)
    if len(cells) == 1:
        among = f"Of {len(arms)} readers, {arms[first].name} is the best" if arms[1:] else f"{arms[0].name} is right"
        return f"{among} on {task} at {size(cells[0].length)} tokens: {said(cells[0])}."
    alike = reached.count(reached[first])
    if alike > 1:
        held = f"{alike} of {len(arms)} readers hold their accuracy on {task} up to {size(cells[at].length)} tokens"
        beyond = "" if at == len(cells) - 1 else ", none beyond"
        most = f"at {size(cells[-1].length)} "
        most += f"{arms[first].name} has the most, {said(cells[-1])}" if ends[first] else "none is right"
        return f"{held}{beyond}; {most}."
    farthest = " the farthest," if arms[1:] else ""
    among = f"Of {len(arms)} readers, {arms[first].name}" if arms[1:] else arms[first].name
    held = f"{among} holds its accuracy on {task}{farthest} up to {size(cells[at].length)} tokens: {said(cells[at])}"
    return f"{held}." if at == len(cells) - 1 else f"{held}; at {size(cells[-1].length)} it is {said(cells[-1])}."


def _named(arms: Sequence[ArmResult]) -> str:
    return f"None of {len(arms)} readers is ever" if arms[1:] else f"{arms[0].name} is never"


def _reach(cells: Sequence[Cell], best: float) -> int:
    """How many lengths, from the shortest on, have an interval that reaches the best accuracy at the shortest."""
    for place, cell in enumerate(cells):
        found = cell.measured
        if (found.estimate or 0.0 if found.high is None else found.high) < best:
            return place
    return len(cells)


def _of_perplexity(arms: Sequence[ArmResult]) -> str:
    lowest = min(arms, key=lambda arm: arm.of(PERPLEXITY)[-1].measured.estimate or 0.0)
    cells = lowest.of(PERPLEXITY)
    among = f"Of {len(arms)} readers, {lowest.name} has the lowest" if arms[1:] else f"{lowest.name} has a"
    start = "" if len(cells) == 1 else f", against {said(cells[0])} at {size(cells[0].length)}"
    return f"{among} perplexity at {size(cells[-1].length)} tokens: {said(cells[-1])}{start}."


def said(cell: Cell) -> str:
    """A number with its interval in brackets."""
    text = data.number if cell.task == PERPLEXITY else data.percent
    span = data.span(cell.measured, text)
    return text(cell.measured.estimate) + (f" ({span})" if span else "")
