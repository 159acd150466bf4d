"""How a command ends: every error that a user can cause is one line on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

import typer

from lengthwise.cli._console import complain
from lengthwise.errors import CheckpointError, EndpointError, LengthwiseError, TrainingError
from lengthwise.files import PARTIAL, disk_full

BAD, FAILED, STOPPED = 2, 1, 130
"""Exit codes: input that must change, work that failed, Ctrl-C."""
TRAINING_STACK = ("torch", "transformers", "safetensors", "ml_dtypes", "httpx2", "tensorboardX")
"""What `lengthwise` brings and `lengthwise-grade` does not."""
AGAIN = "give the same command again: what keeps a folder continues, the rest starts anew"
UsageProblem: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""What the parser raises; typer brings a copy of click of its own, and names the root of it nowhere."""
WAYS_OUT = {
    errno.ENOENT: "check the path",
    errno.EACCES: "choose a place that may be read and written, or change its rights",
    errno.EPERM: "choose a place that may be read and written, or change its rights",
    errno.EROFS: "choose a place that may be written",
    errno.EEXIST: "name another place",
    errno.ENOTDIR: "a part of the path is a file where a folder is wanted",
    errno.EISDIR: "name a file in it",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "its symbolic links lead in a circle",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}


def ending(work: Callable[[], None]) -> int:
    """Do the work; the exit code, after the line on stderr that explains it where it is not 0."""
    try:
        work()
        sys.stdout.flush()  # what cannot be written has to be noticed here, not while Python leaves
    except typer.Exit as left:
        return left.exit_code
    except KeyboardInterrupt:
        complain(f"stopped; {AGAIN}", style="yellow", failure=True)
        return STOPPED
    except BrokenPipeError as error:
        return _broken_pipe(error)
    except UsageProblem as error:
        if text := error.format_message():  # empty where the help was shown
            complain(f"error: {text.rstrip('.')}{_where_help_is(error)}", style="bold red", failure=True)
        return BAD
    except (LengthwiseError, OSError, UnicodeError, sqlite3.OperationalError, ModuleNotFoundError) as error:
        text, code = said_of(error)
        complain(f"error: {text}", style="bold red", failure=True)
        return code
    except (MemoryError, RuntimeError) as error:
        complain(f"error: {_of_machine(error)}; {AGAIN}", style="bold red", failure=True)
        return FAILED
    return 0


def said_of(error: Exception) -> tuple[str, int]:
    """One line on what is wrong, and the exit code; an error that no user can cause is raised again."""
    if isinstance(error, LengthwiseError):
        return str(error), FAILED if isinstance(error, (TrainingError, CheckpointError, EndpointError)) else BAD
    if isinstance(error, ModuleNotFoundError) and error.name in TRAINING_STACK:
        return f"this needs {error.name}, which lengthwise-grade leaves out; pip install lengthwise", BAD
    if disk_full(error):
        return f"no space left while writing {_name_in(error) or 'the output'}; free some and {AGAIN}", FAILED
    if isinstance(error, OSError):
        return _of_system(error), BAD
    if isinstance(error, UnicodeDecodeError):
        return f"text is not UTF-8 ({error.reason} at byte {error.start}); convert the file to UTF-8", BAD
    if isinstance(error, UnicodeEncodeError):
        shown = error.object[error.start : error.end]
        return f"{shown!r} cannot be written as {error.encoding}; set PYTHONUTF8=1", BAD
    raise error


def _of_machine(error: MemoryError | RuntimeError) -> str:
    """What gave out under the run, memory or a device; another error is raised again."""
    torch, text = sys.modules.get("torch"), str(error).strip().partition("\n")[0]
    kinds = [getattr(torch, name, None) for name in ("OutOfMemoryError", "AcceleratorError")]
    out_of_memory, lost = (kind is not None and isinstance(error, kind) for kind in kinds)
    if isinstance(error, MemoryError) or out_of_memory or "DefaultCPUAllocator" in text:
        return f"out of memory{f' ({text})' if text else ''}; take fewer rows at once, or a smaller model"
    if lost or text.startswith("CUDA error"):
        return f"the device failed ({text}); see whether it is still there"
    raise error


def _where_help_is(error: Any) -> str:
    return "" if error.ctx is None else f" (see {error.ctx.command_path} --help)"


def _name_in(error: BaseException) -> str:
    """The file that an error names, by the name that it was to have in the end."""
    names = [getattr(error, name, None) for name in ("filename2", "filename")]
    found = next((os.fsdecode(name) for name in names if isinstance(name, (str, bytes, os.PathLike))), "")
    return re.sub(re.escape(PARTIAL) + r"\d+-(old-)?", "", found)


def _of_system(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    way_out = WAYS_OUT.get(error.errno or 0, "check it and try again")
    return f"{_name_in(error) or type(error).__name__}: {reason}; {way_out}"


def _broken_pipe(error: BrokenPipeError) -> int:
    """Leave quietly where the reader of our output has gone, as after ``| head``; no other pipe breaks in silence."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Nothing that is still buffered may be written on leaving.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    complain(f"error: {said_of(error)[0]}", style="bold red", failure=True)
    return BAD
