"""Work in other processes that may hang, die or eat memory: nothing here does.

A worker is a fresh Python process (never a fork: threads and accelerators of the parent stay out of it) on one
end of a socket. It takes small batches and sends each result as it has it, so the parent, which watches the
clock, always knows which payload is being worked on. What runs too long is killed with its process; a new one
takes over the rest of the batch.

Workers do not import the script that started them, so a script needs no ``if __name__ == "__main__"``; in
return, what is sent to a worker must be importable from a module (not be defined in the script itself). They
see the parent's ``sys.path`` and working folder, write what they print to stderr, and end with their parent.
Linux and macOS only.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from lengthwise.errors import ConfigError, InputError
from lengthwise.grading.graders import STOPPED, Grader, Verdict, grade, load_grader, ready_for
from lengthwise.grading.prompt_contract import PromptContract

T = TypeVar("T")
R = TypeVar("R")

_LOOK_AHEAD = 1024  # results that may wait for an earlier one
_BATCH_SECONDS, _LARGEST_BATCH, _BATCH_BYTES = 0.05, 32, 1 << 20
_START_SECONDS, _MESSAGE_SECONDS = 120.0, 30
_ATTEMPTS = 2  # a worker that was killed from outside is not its payload's fault


@dataclass(frozen=True)
class Stopped:
    """In place of a result: the payload ran over its bounds. ``reason``: "time", "memory" or "died"."""

    reason: str


@dataclass(frozen=True, slots=True)
class Known(Generic[R]):
    """A payload that no worker is needed for, with its result; it keeps its turn among the others."""

    result: R


class IsolatedPool(Generic[T, R]):
    """A pool of worker processes for work that is not trusted to end; use it in a ``with`` statement.

    ``make``: a picklable function without arguments, run once in each worker, that returns the function to apply;
    ``functools.partial`` of a module's function is one. What it takes to get ready (imports, a first call) is not
    counted as any payload's time. ``workers``: processes, started as payloads come in. ``seconds``: the longest
    that one payload may take, by the wall clock. ``memory_mib``: MiB of address space that a worker may take on
    top of what it holds when it is ready, where the platform has such a limit.

    Raises `ConfigError` for impossible bounds, and from `map` when workers cannot start.
    """

    def __init__(
        self, make: Callable[[], Callable[[T], R]], *, workers: int = 2, seconds: float = 5.0, memory_mib: int = 2048
    ) -> None:
        if workers < 1 or not 0 < seconds < math.inf or memory_mib < 1:
            raise ConfigError(
                f"workers is {workers}, seconds {seconds} and memory_mib {memory_mib}; "
                "all of them must be positive and finite"
            )
        try:
            packed = pickle.dumps(make)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"make is {make!r}, which cannot be sent to a process ({error}); pass a function of a module"
            ) from error
        self._start = functools.partial(_Worker, packed, seconds, memory_mib)
        self._workers: list[_Worker | None] = [None] * workers
        self._mapping = False
        self._failed_starts = 0

    def __enter__(self) -> IsolatedPool[T, R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers, whatever they are doing. A later `map` starts new ones."""
        self._end_workers(lambda _: True)

    def map(self, payloads: Iterable[T | Known[R]]) -> Iterator[R | Stopped]:
        """Results in the order of the payloads, as they come.

        At most about a thousand results wait for an earlier one, so an endless iterable streams. A payload over
        its bounds gives `Stopped`. One whose worker dies is tried once more, then gives ``Stopped("died")``. An
        exception that the function raises is raised here in its turn, and ends the iteration. One `map` at a
        time; from any thread.
        """
        if self._mapping:
            raise InputError("this pool is in the middle of another map; finish it, or use a second pool")
        self._mapping = True
        run = _Run(payloads)
        try:
            while True:
                while run.due in run.outcomes:
                    yield run.take()
                self._assign(run)
                if run.is_empty():
                    return
                if run.due not in run.outcomes:
                    self._collect(run)
        finally:
            self._mapping = False
            self._end_workers(lambda worker: bool(worker.batch))

    def _assign(self, run: _Run) -> None:
        for place, worker in enumerate(self._workers):
            if worker is None and run.has_work():
                self._workers[place] = self._start()
            elif worker is not None and worker.ready and not worker.batch and run.has_work():
                worker.send(run.batch(worker.batch_size()))

    def _collect(self, run: _Run) -> None:
        working = [worker for worker in self._workers if worker is not None and (worker.batch or not worker.ready)]
        soonest = min(worker.deadline for worker in working)
        with_news = set(wait([worker.link for worker in working], max(0.0, soonest - time.monotonic())))
        for worker in working:
            if worker.link in with_news:
                self._hear(worker, run)
            elif time.monotonic() >= worker.deadline:
                self._replace(worker, run, Stopped("time"))

    def _hear(self, worker: _Worker, run: _Run) -> None:
        kind, content = worker.receive()
        if kind == "ready":
            self._failed_starts = 0
        elif kind == "unready":
            self._end_workers(lambda one: one is worker)
            raise content
        elif kind == "lost":
            self._replace(worker, run, content)
        elif kind == "memory":
            self._replace(worker, run, Stopped("memory"))
        else:
            run.settle(worker.done(), (kind, content))

    def _replace(self, worker: _Worker, run: _Run, stopped: Stopped) -> None:
        self._workers[self._workers.index(worker)] = None
        worker.end()
        if not worker.ready:
            self._failed_starts += 1
            if stopped.reason == "time" or self._failed_starts > len(self._workers) + 2:
                raise ConfigError(
                    f"worker processes end while they start ({stopped.reason}); "
                    "call the function in this process to see why (for a grader of your own: import its module)"
                )
            return
        if worker.batch:
            first = worker.batch[0]
            first.attempts += 1
            if stopped.reason != "died" or first.attempts >= _ATTEMPTS:
                run.settle(worker.done(), ("value", stopped))
        run.give_back(worker.batch)

    def _end_workers(self, which: Callable[[_Worker], bool]) -> None:
        for place, worker in enumerate(self._workers):
            if worker is not None and which(worker):
                self._workers[place] = None
                worker.end()


class SafeGrader:
    """A grader in worker processes of its own: ``(response, answer) -> Verdict``, and nothing hangs or dies.

    ``contract``: as for `graders.grade`. ``grader``: ``module:function`` of your own instead (`load_grader`).
    ``seconds``: the longest that one response may take. A stopped response is wrong, its ``how`` is `STOPPED`, and
    ``timeouts`` counts them. ``workers`` share the responses of `grade_all`; they start with the first response, and
    calls from several threads take turns.
    The format ``lab`` without a pattern or a grader of your own compares text, and is graded in this process.
    """

    def __init__(
        self, contract: PromptContract, *, grader: str | None = None, seconds: float = 5.0, workers: int = 1
    ) -> None:
        self.timeouts = 0
        self._contract = contract
        self._in_process = contract.answer_format == "lab" and grader is None and contract.answer_pattern is None
        self._turn = threading.Lock()
        self._pool: IsolatedPool[tuple[str, object], Verdict] = IsolatedPool(
            functools.partial(make_grader, contract, grader), workers=workers, seconds=seconds
        )

    def __call__(self, response: str, answer: object) -> Verdict:
        """Grade one response; errors of the grader are raised as they are."""
        return self.grade_all([(response, answer)])[0]

    def grade_all(self, pairs: Sequence[tuple[str, object]]) -> list[Verdict]:
        """Grade many pairs of response and answer, side by side; errors of the grader are raised as they are."""
        if self._in_process:
            return [grade(response, answer, contract=self._contract) for response, answer in pairs]
        with self._turn:
            found = list(self._pool.map(pairs))
            self.timeouts += sum(isinstance(verdict, Stopped) for verdict in found)
        return [stopped_verdict() if isinstance(verdict, Stopped) else verdict for verdict in found]

    def close(self) -> None:
        """End the worker; a later call starts another."""
        with self._turn:
            self._pool.close()


def make_grader(contract: PromptContract, grader: str | None = None) -> Callable[[tuple[str, object]], Verdict]:
    """The function of an `IsolatedPool` that grades ``(response, answer)``: ``partial(make_grader, contract)``.

    ``grader``: ``module:function`` of your own, in place of the contract's format. All that grading imports is
    imported here.
    """
    if grader is not None:
        return functools.partial(_apply_grader, load_grader(grader))
    ready_for(contract.answer_format)
    return functools.partial(_apply_grader, functools.partial(grade, contract=contract))


def _apply_grader(grader: Grader, pair: tuple[str, Any]) -> Verdict:
    return grader(*pair)


def stopped_verdict() -> Verdict:
    """The verdict on a response whose grading was `Stopped`: wrong."""
    return Verdict(False, None, STOPPED)


# ---- the parent's side -------------------------------------------------------------------------------------


@dataclass
class _Task:
    index: int
    payload: bytes
    attempts: int = 0


class _Run:
    """One `map`: the payloads still to do, and the outcomes still to hand out."""

    def __init__(self, payloads: Iterable[Any]) -> None:
        self._source = enumerate(payloads)
        self._waiting: deque[_Task] = deque()
        self._out = 0  # with workers
        self.due = 0
        self.outcomes: dict[int, tuple[str, Any]] = {}

    def has_work(self) -> bool:
        """Whether there is a payload to give out now; reads the next ones if need be."""
        while not self._waiting and len(self.outcomes) + self._out < _LOOK_AHEAD:
            index, payload = next(self._source, (-1, None))
            if index < 0:
                break
            if isinstance(payload, Known):
                self.outcomes[index] = ("value", payload.result)
            else:
                self._waiting.append(_Task(index, pickle.dumps(payload)))
        return bool(self._waiting)

    def batch(self, most: int) -> list[_Task]:
        """The next payloads for one worker, few enough to be small together."""
        tasks: list[_Task] = []
        while len(tasks) < most and sum(len(task.payload) for task in tasks) < _BATCH_BYTES and self.has_work():
            tasks.append(self._waiting.popleft())
            self._out += 1
        return tasks

    def give_back(self, tasks: Iterable[_Task]) -> None:
        """Take back what a worker did not get to, to be done first."""
        for task in sorted(tasks, key=lambda task: -task.index):
            self._waiting.appendleft(task)
            self._out -= 1

    def settle(self, task: _Task, outcome: tuple[str, Any]) -> None:
        """A payload is done with, one way or another."""
        self._out -= 1
        self.outcomes[task.index] = outcome

    def is_empty(self) -> bool:
        """Whether everything has been handed out."""
        return not (self._out or self.outcomes or self.has_work())

    def take(self) -> Any:
        """The outcome that is due: returned, or raised if it is an error."""
        kind, content = self.outcomes.pop(self.due)
        self.due += 1
        if kind == "raised":
            raise content
        return content


_SERVE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from lengthwise.grading.worker_process import serve
serve(*json.loads(sys.argv[2]))
"""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class _Worker:
    """A process, the batch it works on (first entry first) and when that has taken too long."""

    def __init__(self, make: bytes, seconds: float, memory_mib: int) -> None:
        ours, theirs = socket.socketpair()
        # A worker that stops reading or sending in mid-message must not hold up its parent.
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _MESSAGE_SECONDS, 0))
        with theirs:
            arguments = [json.dumps([*map(str, sys.path)]), json.dumps([theirs.fileno(), seconds, memory_mib])]
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | _ONE_THREAD,
                start_new_session=True,  # Ctrl-C is the parent's affair, and end() reaches children of a worker
            )
        self.link = Connection(ours.detach())
        self._seconds = seconds
        self._each = _BATCH_SECONDS  # seconds per payload, a running mean
        self._since = time.monotonic()
        self.deadline = self._since + _START_SECONDS
        self.ready = False
        self.batch: deque[_Task] = deque()
        self.end = weakref.finalize(self, _end, self._process, self.link)
        with contextlib.suppress(OSError):  # dead already: receive() will say so
            self.link.send_bytes(make)

    def batch_size(self) -> int:
        """So many payloads that a batch takes about a twentieth of a second."""
        return max(1, min(_LARGEST_BATCH, int(_BATCH_SECONDS / self._each)))

    def send(self, tasks: list[_Task]) -> None:
        """Hand over a batch; whether it arrived shows in `receive`."""
        self.batch.extend(tasks)
        with contextlib.suppress(OSError):
            self.link.send_bytes(pickle.dumps([task.payload for task in tasks]))
        self._begin()

    def _begin(self) -> None:
        self._since = time.monotonic()
        self.deadline = self._since + self._seconds

    def done(self) -> _Task:
        """The first payload of the batch is done; the clock of the next one starts."""
        self._each += 0.2 * (time.monotonic() - self._since - self._each)
        self._begin()
        return self.batch.popleft()

    def receive(self) -> tuple[str, Any]:
        """What the worker says; ``("lost", Stopped)`` if it is dead or no longer makes sense."""
        try:
            kind, content = pickle.loads(self.link.recv_bytes())
        except (EOFError, OSError):
            code = self._wait_a_moment()
            return "lost", Stopped("time" if code == -signal.SIGXCPU else "died")
        self.ready = self.ready or kind == "ready"
        if kind in ("raised", "unready"):
            return kind, _revived(*content)
        return kind, pickle.loads(content) if kind == "value" else content

    def _wait_a_moment(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=1.0)
        return None


def _end(process: subprocess.Popen[bytes], link: Connection) -> None:
    link.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or a group of zombies (macOS)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _revived(error: bytes | None, trace: str) -> Exception:
    # An exception class of the user's may not be importable here, or not survive pickling; its text always does.
    with contextlib.suppress(Exception):
        revived = pickle.loads(error) if error is not None else None
        if isinstance(revived, Exception):
            revived.add_note(f"in a worker process:\n{trace}")
            return revived
    return InputError(f"a worker process raised what cannot be raised here:\n{trace}")
