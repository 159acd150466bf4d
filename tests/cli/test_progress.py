"""What commands say while they work: a line every so often, with tokens, how fast they come and the time left."""

from __future__ import annotations

import io
import time

import pytest
import tiny
from rich.console import Console

from lengthwise.cli import _console, _progress
from lengthwise.cli._progress import Work, duration, progress, working
from lengthwise.engine.backends.transformers_sampler import Sampler
from lengthwise.engine.listening import Drawn, tell


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What stderr gets where it is no terminal."""
    text = io.StringIO()
    for module in (_console, _progress):
        monkeypatch.setattr(module, "err", Console(file=text, force_terminal=False))
    return text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_times_are_said_as_people_say_them():
    assert [duration(s) for s in (0.4, 45, 89, 90, 720, 5399, 5400, 12_240)] == [
        "0 s", "45 s", "89 s", "2 min", "12 min", "90 min", "1.5 h", "3.4 h",
    ]  # fmt: skip


def test_a_measurement_says_tokens_rate_and_the_most_time_that_it_may_take(said, clock):
    work = Work()
    work.phase("measuring", 6, ends=True)
    for _ in range(10):  # ten steps of 4 rows in 5 s, one row ended: 8 tokens a second
        work.drawn(Drawn(tokens=4, ended=0, left=100))
    work.drawn(Drawn(tokens=4, ended=1, left=99))
    clock[0] = 5.5
    # 44 tokens / 5.5 s = 8; 5.5 s / 11 steps * 99 = 49.5 s
    assert work.line() == "measuring: 1 of 6, 44 tokens, 8 a second, at most 50 s left"


def test_training_says_steps_and_about_how_long_they_take(said, clock):
    with progress() as listener:
        listener("phase", {"name": "training", "steps": 40})
        tell(tokens=300, ended=8, left=0)  # responses are no steps of training
        clock[0] = 30.0
        facts = {"step": 2, "mean_tokens": 41.6, "accuracy": 0.5}
        listener("step", facts)
        listener("step", facts | {"step": 20, "accuracy": None, "going_on": 3})
    # a line of its own every 20 steps: 30 s for 20 of them, and for 20 more
    wanted = "training: 20 of 40, 3 responses go on, 300 tokens, 10 a second, about 30 s left"
    assert said.getvalue().splitlines() == ["training", wanted]


def test_the_time_of_training_is_counted_by_its_steps(said, clock):
    work = Work()
    work.phase("training", 10)
    work.drawn(Drawn(tokens=300, ended=8, left=5))
    clock[0] = 20.0
    assert work.line() == "training: 0 of 10, 300 tokens, 15 a second, 20 s so far"
    clock[0] = 30.0
    work.at(2, "42 tokens each, 50% right")
    assert work.line() == "training: 2 of 10, 42 tokens each, 50% right, 300 tokens, 10 a second, about 2 min left"


def test_what_was_there_before_does_not_make_it_look_faster(said, clock):
    work = Work()
    work.phase("sampling", 100, 50, ends=True)
    work.at(60)
    clock[0] = 10.0
    assert work.line() == "sampling: 60 of 100, about 40 s left"  # 10 in 10 s, 40 to go


def test_tokens_of_other_processes_are_counted_from_the_phase_on(said, clock):
    written = [1000]
    work = Work(lambda: written[0])
    work.phase("training", 4)
    written[0], clock[0] = 1600, 60.0
    assert work.line() == "training: 0 of 4, 600 tokens, 10 a second, 60 s so far"


def test_a_line_comes_by_itself_where_nothing_else_is_said(said, monkeypatch):
    monkeypatch.setattr(_progress, "EVERY", 0.2)
    with working() as work:
        work.phase("loading", quiet=True)
        time.sleep(0.8)
    lines = said.getvalue().splitlines()
    assert 2 <= len(lines) <= 5 and all(line.startswith("loading: ") and "so far" in line for line in lines)


def test_nothing_more_is_said_once_the_work_is_over(said, monkeypatch):
    monkeypatch.setattr(_progress, "EVERY", 0.05)
    with working():
        time.sleep(0.2)
    before = said.getvalue()
    time.sleep(0.2)
    assert said.getvalue() == before


def test_a_sampler_is_heard_without_anybody_passing_it_on(said):
    with working() as work:
        work.phase("measuring", 3, ends=True)
        sampler = Sampler(tiny.model(), eos_ids=tiny.EOS, pad_id=0)
        found = sampler.generate([[5], [6], [7]], caps=8, generator=tiny.generator())
        assert work.done == 3 and f"{int(found.num_tokens.sum())} tokens" in work.line()


def test_on_a_terminal_there_is_a_bar_and_no_line(monkeypatch):
    text = io.StringIO()
    terminal = Console(file=text, force_terminal=True, width=120)
    for module in (_console, _progress):
        monkeypatch.setattr(module, "err", terminal)
    with progress() as listener:
        listener("phase", {"name": "measuring [x]", "steps": 4, "ends": True})
        tell(tokens=3, ended=1, left=9)
        time.sleep(0.3)
    assert "measuring [x]" in text.getvalue() and "\x1b[?25l" in text.getvalue()


def test_a_bar_has_room_in_80_columns(monkeypatch, clock):
    text = io.StringIO()
    for module in (_console, _progress):
        monkeypatch.setattr(module, "err", Console(file=text, force_terminal=True, width=80))
    with progress() as listener:
        listener("phase", {"name": "measuring before-rare-levels", "steps": 500, "ends": True})
        for _ in range(2):
            clock[0] += 0.3
            tell(tokens=600, ended=60, left=147)
        time.sleep(0.3)
    # 1,200 tokens in 0.6 s; 0.6 s / 2 steps * 147
    assert "120/500, 2,000 tokens/s, at most 44 s left" in text.getvalue() and "…" not in text.getvalue()


def test_a_phase_that_goes_on_begins_where_it_stands(said, clock):
    with progress() as listener:
        listener("phase", {"name": "training", "steps": 40, "done": 30})
        clock[0] = 50.0
        listener("step", {"step": 35, "mean_tokens": 41.6, "accuracy": 0.5})
        listener("step", {"step": 40, "mean_tokens": 41.6, "accuracy": 0.5})
    first, last = said.getvalue().splitlines()
    assert first == "training: 30 of 40 there"
    assert last.startswith("training: 40 of 40, 42 tokens each, 50% right")


def test_a_killed_run_tells_every_phase_where_it_goes_on(tmp_path):
    from lengthwise.config.commands import DemoSettings
    from lengthwise.runs import demo

    settings = DemoSettings(out=tmp_path / "run", steps=1, limit=2)
    phases: dict[str, tuple[int, int]] = {}

    def heard(event, facts):
        if event == "phase":
            phases[facts["name"]] = (facts["done"], facts["steps"])
            if facts["name"] == "measuring after-sampling" and not phases_before:
                raise KeyboardInterrupt

    phases_before: dict[str, tuple[int, int]] = {}
    with pytest.raises(KeyboardInterrupt):
        demo(settings, listener=heard)
    assert phases["training"] == (0, 1) and phases["measuring before-sampling"] == (0, 2)
    log = tmp_path / "run" / "responses" / "after.jsonl"
    assert not log.exists()
    before = (tmp_path / "run" / "responses" / "before.jsonl").read_text().splitlines(keepends=True)
    log.write_text("".join(before[:1]))  # as a kill in the middle of the measurement leaves it
    phases_before, phases = phases, {}
    demo(settings, listener=heard)
    assert phases["training"] == (1, 1) and phases["measuring after-sampling"] == (1, 2)
    assert "measuring before-sampling" not in phases
