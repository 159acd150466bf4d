"""What a worker process of `isolated` runs: one function on one payload after the other, within bounds."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import select
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path


def serve(descriptor: int, seconds: float, memory_mib: int) -> None:
    """What a worker process runs, until its parent closes the socket ``descriptor`` or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _lower(resource.RLIMIT_CORE, 0)
    os.dup2(2, 1)  # stdout belongs to the parent's results
    link = Connection(descriptor)
    threading.Thread(target=_exit_with_parent, args=(descriptor,), daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has gone
        try:
            function = pickle.loads(link.recv_bytes())()
        except Exception as error:
            link.send_bytes(pickle.dumps(("unready", _told(error))))
            return
        _bound_memory(memory_mib)
        link.send_bytes(pickle.dumps(("ready", None)))
        while True:
            for payload in pickle.loads(link.recv_bytes()):
                _bound_processor_time(seconds)
                link.send_bytes(pickle.dumps(_outcome(function, payload)))


def _outcome(function: Callable[[object], object], payload: bytes) -> tuple[str, object]:
    try:
        return "value", pickle.dumps(function(pickle.loads(payload)))
    except MemoryError:
        return "memory", None
    except Exception as error:
        return "raised", _told(error)


def _told(error: Exception) -> tuple[bytes | None, str]:
    trace = "".join(traceback.format_exception(error))
    try:
        told = pickle.dumps(error)
        pickle.loads(told)
    except Exception:  # an exception may hold anything, or want other arguments than it was given
        return None, trace
    return told, trace


def _bound_memory(memory_mib: int) -> None:
    pages = Path("/proc/self/statm")  # Linux only, as is a limit that holds
    held = int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 0
    _lower(resource.RLIMIT_AS, held + (memory_mib << 20))


def _bound_processor_time(seconds: float) -> None:
    # The parent watches the clock while it waits for a result. This bound holds when it does not: it is busy with
    # earlier results, or was killed. Threads add up, hence the number of processors.
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowed = used.ru_utime + used.ru_stime + 1 + seconds * (os.cpu_count() or 1)
    _lower(resource.RLIMIT_CPU, int(allowed) + 1)


def _lower(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses some limits
        resource.setrlimit(kind, (limit, hard))


def _exit_with_parent(descriptor: int) -> None:
    hang_up = select.poll()
    hang_up.register(descriptor, 0)  # nothing but the other end's close
    hang_up.poll()
    os._exit(0)
