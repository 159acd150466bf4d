"""Chat templates are a stranger's code: jinja's sandbox keeps them off files and objects, a trial off time and memory.

The first prompt through a template is rendered in a process of its own, within bounds, before any is rendered here.
That process takes further templates and ends by itself once none comes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lengthwise.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

CPU_SECONDS, WALL_SECONDS, MEMORY_MIB, LONGEST = 5, 120, 1024, 1 << 20
"""Bounds of a trial: seconds of the processor and by the clock, MiB of memory, and characters beyond the prompt's."""
IDLE_SECONDS = 3
NO_MEMORY = -1
_SERVE = """
import contextlib, json, os, resource, select, sys
sys.path[:] = json.loads(sys.argv[1])
from transformers.utils.chat_template_utils import render_jinja_template
seconds, mebibytes, idle = map(int, sys.argv[2:])
def lower(kind, limit):
    with contextlib.suppress(ValueError, OSError):  # macOS refuses some limits
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
pages = "/proc/self/statm"
held = int(open(pages).read().split()[0]) * resource.getpagesize() if os.path.exists(pages) else 0
lower(resource.RLIMIT_CORE, 0)
lower(resource.RLIMIT_AS, held + (mebibytes << 20))
print(flush=True)
while select.select([0], [], [], idle)[0] and (line := sys.stdin.readline()):
    used = resource.getrusage(resource.RUSAGE_SELF)
    lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + seconds)
    try:
        length = len(render_jinja_template(**json.loads(line))[0][0])
    except MemoryError:
        length = -1
    except Exception:
        length = 0
    print(length, flush=True)
"""
_turn = threading.Lock()
_tried: set[str] = set()


def render_chat(tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], **options: bool) -> str:
    """The prompt of a conversation by the tokenizer's chat template, which is tried out first.

    Raises:
        ConfigError: a template that cannot be rendered, or that `try_out` refuses.
    """
    try_out(tokenizer, messages, **options)
    with _told(messages):
        return str(tokenizer.apply_chat_template([*messages], tokenize=False, add_generation_prompt=True, **options))


def try_out(tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], **options: bool) -> None:
    """Refuse a template that does not end or writes without end; what else it raises comes when it is rendered.

    Raises:
        ConfigError: it took more than the bounds above, or there is none to take.
    """
    with _told(messages):
        template = tokenizer.get_chat_template()
    roles = [message["role"] for message in messages]
    known = json.dumps([template, roles, options], sort_keys=True)
    if known in _tried:
        return
    asked = {
        **{name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        **options,
        "conversations": [[*messages]],
        "chat_template": template,
        "add_generation_prompt": True,
    }
    with _turn:
        length = _length(json.dumps(asked))
    if length > LONGEST + 100 * sum(len(message["content"]) for message in messages):
        raise _refused(f"makes {length:,} characters of one question")
    _tried.add(known)


@contextlib.contextmanager
def _told(messages: Sequence[Mapping[str, str]]) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # a template raises whatever its expressions do
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        roles = " and ".join(message["role"] for message in messages)
        raise ConfigError(
            f"the tokenizer's chat template refuses a conversation of {roles} ({reason}); change the system prompt or "
            "the template, or use chat_template=False (--no-chat-template)"
        ) from error


def _refused(what: str) -> ConfigError:
    return ConfigError(
        f"the tokenizer's chat template {what}; take the template of the model's own publisher, or use "
        "chat_template=False (--no-chat-template)"
    )


def _length(asked: str) -> int:
    """Characters that a trial rendered; 0 where the template raised."""
    while True:
        process = _process()
        with contextlib.suppress(BrokenPipeError):
            assert process.stdin is not None
            process.stdin.write(asked + "\n")
            process.stdin.flush()
        answer = _line(process)
        if answer and int(answer) != NO_MEMORY:
            return int(answer)
        _stop(process)
        if answer or process.returncode not in (0, -signal.SIGXCPU, -signal.SIGKILL):
            raise _refused(f"wants more than {MEMORY_MIB} MiB of memory")
        if process.returncode != 0:
            raise _refused(f"does not end within {CPU_SECONDS} seconds")
        # it had ended by itself, since nothing came for a while


_running: list[subprocess.Popen[str]] = []


def _process() -> subprocess.Popen[str]:
    """The process that renders, started where there is none."""
    if _running and _running[0].poll() is None:
        return _running[0]
    _running.clear()
    bounds = map(str, (CPU_SECONDS, MEMORY_MIB, IDLE_SECONDS))
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, json.dumps([*map(str, sys.path)]), *bounds],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, process_group=0,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if not _line(process):
        _stop(process)
        raise _refused("cannot be tried out: no process for that starts")
    _running.append(process)
    return process


def _line(process: subprocess.Popen[str]) -> str:
    """The next line that a process writes; empty where it has ended, or is ended for writing none in time."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], WALL_SECONDS)[0]:
        process.kill()
    return process.stdout.readline()


def _stop(process: subprocess.Popen[str]) -> None:
    """End a process; one that has ended keeps its code."""
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    try:
        process.wait(timeout=1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
