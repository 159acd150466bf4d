"""A command of ours in a forked process, which begins where its imports are done: killed, stopped, or let go.

The process is the leader of a session, so what it leaves behind can be found. Its progress is told in seconds of
computing, which a busy machine does not change, not in seconds of the clock.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import runpy
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

HEAVY = (
    "lengthwise.cli", "lengthwise.engine", "lengthwise.runs.shortening.shorten", "lengthwise.runs.evaluate",
    "lengthwise.runs.compare.compare_methods", "lengthwise.merging.folder_merge", "lengthwise.repair.folder_repair",
    "lengthwise.context.positions.extend_folder", "lengthwise.reporting.drawing", "transformers",
    "transformers.models.qwen2.modeling_qwen2", "transformers.convert_slow_tokenizer", "tensorboardX", "httpx2",
    "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "anyio._backends._asyncio", "pydantic.plugin",
    "lengthwise.logs.log_grading", "lengthwise.reporting.grade_report", "typer._adapters", "stringprep",
)  # fmt: skip
"""What the commands import while they run."""
PATIENCE = 600.0


def warm(more: Sequence[str] = ()) -> None:
    """Import once what every forked process would import by itself."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for name in (*HEAVY, *more):
        importlib.import_module(name)


def call_lengthwise(arguments: Sequence[str]) -> None:
    """The command line."""
    from lengthwise.cli import main

    main(list(arguments))


def call_script(arguments: Sequence[str]) -> None:
    """A Python file as a program."""
    sys.argv = list(arguments)
    sys.path.insert(0, str(Path(arguments[0]).parent))
    runpy.run_path(arguments[0], run_name="__main__")


@dataclass
class Running:
    """A process that was started; `code` is its exit code, or minus the signal that ended it."""

    pid: int
    said: Path
    begin: float = field(default_factory=time.monotonic)
    code: int | None = None
    computed: float = 0.0

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """The exit code, or None if it still runs after so many seconds."""
        handle = os.pidfd_open(self.pid) if self.code is None else -1
        if handle >= 0:
            ready = select.select([handle], [], [], max(0.0, seconds))[0]
            os.close(handle)
            if ready:
                self.code = self._reap()
        return self.code

    def _reap(self) -> int:
        _, status, used = os.wait4(self.pid, 0)
        self.computed = used.ru_utime + used.ru_stime
        return os.waitstatus_to_exitcode(status)

    def at(self, seconds: float) -> bool:
        """Wait until it has computed for so many seconds; False if it has ended before."""
        meter = Meter(self.pid)
        while self.wait(0.01) is None:
            if meter.read() >= seconds:
                return True
        return False

    def send(self, which: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, which)

    def text(self) -> str:
        """What it wrote on stderr, and on stdout."""
        return self.said.read_text(encoding="utf-8", errors="replace")

    def left_behind(self, seconds: float = 10.0) -> list[int]:
        """Processes of its session that live on after it, so many seconds later."""
        deadline = time.monotonic() + seconds
        while (found := members(self.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found


def start(
    arguments: Sequence[str],
    said: Path,
    *,
    folder: Path,
    call: Callable[[Sequence[str]], None] = call_lengthwise,
    before: Callable[[], object] | None = None,
) -> Running:
    """Fork a process that runs the command in `folder`; `before` is called there first, to limit or to break things."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_the_command(arguments, said, folder, call, before)
    return Running(pid, said)


def _be_the_command(
    arguments: Sequence[str],
    said: Path,
    folder: Path,
    call: Callable[[Sequence[str]], None],
    before: Callable[[], object] | None,
) -> NoReturn:
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        target = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)
        os.chdir(folder)
        if before is not None:
            before()
        call(arguments)
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class Meter:
    """Seconds that the processes of a session have computed, those that have ended included."""

    def __init__(self, session: int) -> None:
        self.session, self.by = session, dict[int, float]()

    def read(self) -> float:
        """The seconds now."""
        for pid in members(self.session):
            self.by[pid] = max(self.by.get(pid, 0.0), spent(pid))
        return self.total()

    def total(self) -> float:
        """The seconds when they were last read."""
        return sum(self.by.values())


def spent(pid: int) -> float:
    """Seconds that a process has computed, over all its threads."""
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, IndexError):
            total += int(task.read_text().split()[0])
    return total / 1e9


def members(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            state, _, _, owner = entry.read_text().rpartition(")")[2].split()[:4]
            if int(owner) == session and state != "Z":
                found.append(int(entry.parent.name))
    return found
