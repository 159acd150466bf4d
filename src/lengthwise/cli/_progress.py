"""What a command is at: a bar on a terminal that leaves nothing behind, elsewhere a line at least every 20 seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from lengthwise.cli._console import complain, err

if TYPE_CHECKING:
    from lengthwise.engine.listening import Drawn

EVERY = 20.0
"""Seconds between lines where stderr is no terminal."""
REDRAWN = 0.2
"""Seconds between two updates of a bar by tokens."""
SAID_EVERY = 20
"""Steps of training between lines where stderr is no terminal."""


class Work:
    """What a command is at: the phase, how much of it is done, and the tokens that are written in it.

    `show` is called after every change. `written`, where the tokens are written by other processes, counts them.
    """

    def __init__(self, written: Callable[[], int] | None = None) -> None:
        self._written = written
        self.show: Callable[[Work], None] = lambda work: None
        self.said_at = time.monotonic()
        self._begin("loading", None, 0, ends=False)

    def phase(
        self,
        name: str,
        steps: int | None = None,
        done: int = 0,
        *,
        ends: bool = False,
        words: str = "",
        quiet: bool = False,
    ) -> None:
        """Begin a phase; where lines are shown, say so at once unless `quiet`, with `words` behind it.

        `ends`: its steps are responses that end.
        """
        self._begin(name, steps, done, ends=ends)
        self.show(self)
        if not quiet:
            self.say(f"{name}{words}")

    def _begin(self, name: str, steps: int | None, done: int, *, ends: bool) -> None:
        self.name, self.steps, self.done, self.facts, self._ends = name, steps, done, "", ends
        self._began, self._from = time.monotonic(), done
        self._at, self._ended, self._decoded, self._left = False, 0, 0, 0
        self._tokens, self._shown = 0, 0.0
        self._before = self._written() if self._written is not None else 0

    def at(self, done: int, facts: str = "") -> None:
        """So many steps of the phase are done."""
        self._at, self.done, self.facts = True, done, facts
        self.show(self)

    def drawn(self, step: Drawn) -> None:
        """Hear of one step of a sampler."""
        self._tokens, self._ended, self._left = self._tokens + step.tokens, self._ended + step.ended, step.left
        self._decoded += 1
        if self._ends and not self._at and self.steps is not None:
            self.done = min(self.steps, self._from + self._ended)
        now = time.monotonic()
        if now - self._shown >= REDRAWN:
            self._shown = now
            self.show(self)

    def say(self, text: str, *, style: str = "") -> None:
        """A line on stderr where it is no terminal."""
        self.said_at = time.monotonic()
        if not err.is_terminal:
            complain(text, style=style)

    def line(self) -> str:
        """All of it as one line."""
        count = "" if self.steps is None else f"{self.done:,} of {self.steps:,}"
        tokens, rate, left = self._pace()
        pace = f"{tokens:,} tokens, {rate:,.0f} a second" if tokens else ""
        return f"{self.name}: {', '.join(part for part in (count, self.facts, pace, left) if part)}"

    def brief(self) -> str:
        """What of it has room beside a bar of 80 columns."""
        count = "" if self.steps is None else f"{self.done:,}/{self.steps:,}"
        tokens, rate, left = self._pace()
        facts = self.facts or (f"{rate:,.0f} tokens/s" if tokens else "")
        return ", ".join(part for part in (count, facts, left) if part)

    def _pace(self) -> tuple[int, float, str]:
        """Tokens, how fast they come, and how long it may take."""
        spent = time.monotonic() - self._began
        tokens = self._tokens if self._written is None else self._written() - self._before
        return tokens, tokens / max(spent, 1e-9), self._time(spent)

    def _time(self, spent: float) -> str:
        """The time that is left, by steps that were counted or tokens that may still come; else what was spent."""
        left = (self.steps or 0) - self.done
        if self._at and left > 0 and self.done > self._from:
            return f"about {duration(spent / (self.done - self._from) * left)} left"
        bounded = self.steps is None or (self._ends and left > 0)
        if bounded and self._left and not self._at:
            return f"at most {duration(spent / self._decoded * self._left)} left"
        return f"{duration(spent)} so far"


def duration(seconds: float) -> str:
    """A time as people say it: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


@contextmanager
def working(written: Callable[[], int] | None = None) -> Iterator[Work]:
    """A command's work, shown while it lasts: by a bar on a terminal, else by lines that also come by themselves."""
    work = Work(written)
    with _bar(work) if err.is_terminal else _lines(work):
        from transformers.utils import logging  # takes seconds, in which there is a bar already

        from lengthwise.engine.listening import told_to

        logging.disable_progress_bar()
        with told_to(work.drawn):
            yield work


@contextmanager
def _bar(work: Work) -> Iterator[None]:
    columns = (
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=6),
        TextColumn("{task.fields[facts]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(work.name, total=None, facts="")

        def show(work: Work) -> None:
            bar.update(task, description=work.name, total=work.steps, completed=work.done, facts=work.brief())

        work.show = show
        yield


@contextmanager
def _lines(work: Work) -> Iterator[None]:
    over = threading.Event()

    def beat() -> None:
        while not over.wait(min(1.0, EVERY / 4)):
            if time.monotonic() - work.said_at >= EVERY:
                work.say(work.line())

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def progress() -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
    """A listener for `runs.shorten`."""
    with working() as work:

        def listen(event: str, facts: Mapping[str, Any]) -> None:
            if event == "phase":
                steps, done = facts.get("steps"), facts.get("done", 0)
                there = f": {done:,} of {steps:,} there" if done else ""
                work.phase(facts["name"], steps, done, ends=facts.get("ends", False), words=there)
                return
            if event == "said":
                complain(facts["text"], style="dim")
                return
            work.at(facts["step"], _step_facts(facts))
            if facts["step"] % SAID_EVERY == 0:
                work.say(work.line())

        yield listen


def _step_facts(facts: Mapping[str, Any]) -> str:
    if facts["accuracy"] is None:  # a step of windows in which no response was done
        return f"{facts['going_on']} responses go on"
    return f"{facts['mean_tokens']:.0f} tokens each, {facts['accuracy']:.0%} right"
