"""Pieces of work side by side, each in a one-thread process of its own that ends with this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lengthwise.errors import ConfigError, TrainingError
from lengthwise.runs.compare.folder import LOGS

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SAID_LAST = 2000


@dataclass(frozen=True)
class Piece:
    """One piece: what it is called, and the words after the worker's folder."""

    name: str
    words: tuple[str, ...]


def usable_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_pieces(
    folder: Path, pieces: Sequence[Piece], *, jobs: int, done: Callable[[Piece], None], tick: Callable[[], None]
) -> None:
    """Run all pieces, at most `jobs` at once; `done` hears of each that ended, `tick` is called while waiting.

    A piece that fails lets those at work finish, then its complaint is raised.

    Raises:
        ConfigError: a piece was asked for something that it refused.
        TrainingError: a piece crashed or was killed.
    """
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    waiting, running = list(pieces), dict[Piece, subprocess.Popen[bytes]]()
    failed: list[tuple[Piece, int]] = []
    try:
        while running or (waiting and not failed):
            while waiting and len(running) < jobs and not failed:
                piece = waiting.pop(0)
                running[piece] = _start(folder, piece)
            for piece in [piece for piece, process in running.items() if process.poll() is not None]:
                ended = running.pop(piece)
                code = ended.returncode
                if ended.stdin is not None:
                    ended.stdin.close()
                if code:
                    failed.append((piece, code))
                else:
                    done(piece)
            if running:
                tick()
                time.sleep(0.05)
    finally:
        for process in running.values():
            process.kill()
        for process in running.values():
            process.wait()
    if failed:
        _complain(folder, *failed[0])


def _log(folder: Path, piece: Piece) -> Path:
    return folder / LOGS / f"{piece.name.replace(' ', '-').replace('/', '_')}.log"


def _start(folder: Path, piece: Piece) -> subprocess.Popen[bytes]:
    environment = os.environ | dict.fromkeys(THREADS, "1") | {"TOKENIZERS_PARALLELISM": "false"}
    # Our end of its stdin closes when we die, whatever kills us: the piece then leaves too.
    with _log(folder, piece).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "lengthwise.runs.compare.worker", str(folder), *piece.words],
            stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment,
        )  # fmt: skip


def _complain(folder: Path, piece: Piece, code: int) -> None:
    log = _log(folder, piece)
    said = log.read_text(encoding="utf-8", errors="replace")[-SAID_LAST:].strip().splitlines()
    last = said[-1].removeprefix("error: ") if said else ""
    if code == 2:
        raise ConfigError(f"{piece.name}: {last}")
    how = f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}: {last}"
    raise TrainingError(f"{piece.name} {how}; see {log}. The same command continues where it stopped")
