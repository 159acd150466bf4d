"""Texts that try to get out of the grader, and graders of the user's own that do not keep to their bounds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from lengthwise.errors import LengthwiseError
from lengthwise.grading.prompt_contract import preset
from lengthwise.grading.worker_pool import SafeGrader
from reliability._harness import Ask, Tally, harness

CANARY = "canary"
SECONDS, SLACK = 3.0, 60.0
TEXTS = (
    "__import__('os').system('touch canary')", "().__class__.__base__.__subclasses__()", "open('canary', 'w')",
    "exec('import os; os.system(\"touch canary\")')", "eval(compile('open(\"canary\",\"w\")','','eval'))",
    "lambda: open('canary','w')",
    r"\input{/etc/passwd}", r"\write18{touch canary}", r"\immediate\write18{touch canary}", r"\openout1=canary",
    r"\include{canary}",
    r"\def\x{\x}\x", r"\csname end\endcsname", "Symbol('x').__class__", "sympify('open(\"canary\",\"w\")')",
    "S('canary')", "N(1, 10**9)",
    "x.__class__.__init__.__globals__", "[x for x in ().__class__.__bases__[0].__subclasses__()]", "`touch canary`",
    "$(touch canary)",
    "; touch canary", "| touch canary", "%(canary)s", "{0.__class__}", "${{7*7}}", "{{ 7*7 }}", "file:///etc/passwd",
    "http://127.0.0.1:9/", "//127.0.0.1/x", r"\href{http://127.0.0.1:9}{x}", "9^{9^{9^{9}}}", "(10^9)!",
    r"\sum_{k=1}^{10^{12}} k",
    r"\prod_{k=1}^{10^9} k", r"\binom{10^9}{5 \cdot 10^8}", r"\int_0^1 x^{x^x} dx", "x^{999999}=1",
    r"\sin(10^{10^{10}})",
    r"\sqrt[10^{9}]{2}", r"2^{0.1^{99}}", "x^5+x+1=0 \\text{ and } " * 40, "1" + "0" * 200_000, "(" * 100_000,
    "0." + "3" * 200_000,
)  # fmt: skip
"""Files, processes, network, imports, tricks of sympy's eval, time, memory; as the answer, and as the reference."""
OWN = """
import os, sys, time, signal, threading, resource, subprocess
def hang(r, a):
    while True: pass
def sleep(r, a): time.sleep(3600)
def deaf(r, a):
    for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(s, signal.SIG_IGN)
    while True: pass
def eat(r, a): return len("x" * (1 << 34))
def hoard(r, a):
    kept = []
    while True: kept.append(bytearray(1 << 24))
def leave(r, a): os._exit(0)
def quit(r, a): sys.exit(0)
def crash(r, a): os.kill(os.getpid(), signal.SIGSEGV)
def stop(r, a): os.kill(os.getpid(), signal.SIGSTOP); time.sleep(3600)
def close(r, a): os.closerange(3, 256); time.sleep(3600)
def flood(r, a): os.write(1, b"x" * (1 << 20)); return True
def child(r, a): subprocess.Popen(["sleep", "3600"]); time.sleep(3600)
def thread(r, a): threading.Thread(target=time.sleep, args=(3600,)).start(); time.sleep(3600)
def deep(r, a): return deep(r, a)
def unlimited(r, a):
    resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while True: pass
def stray(r, a): raise KeyboardInterrupt
"""


@harness(
    "escapes", "Security", "attempts to get out of the grader: texts, and graders that keep to no bounds", cases=106
)
def escapes(ask: Ask) -> Tally:
    """No file is written, no process is left, and each ends within the limit of time."""
    failures = list(of_texts(ask.scratch, ask.cases))
    failures += of_graders(ask.scratch, max(0, ask.cases - 2 * len(TEXTS)))
    return Tally(min(ask.cases, 2 * len(TEXTS) + OWN.count("def ")), tuple(failures))


def of_texts(scratch: Path, most: int) -> Iterator[str]:
    """Each text as an answer, then as the reference."""
    grader = SafeGrader(preset("math", think_close=None, think_prefix=""), seconds=SECONDS)
    pairs = [(f"so \\boxed{{{text}}}", "7") for text in TEXTS] + [("so \\boxed{7}", text) for text in TEXTS]
    try:
        for response, answer in pairs[:most]:
            yield from _tried(grader, response, answer, scratch)
    finally:
        grader.close()


def of_graders(scratch: Path, most: int) -> Iterator[str]:
    """Each function of a module of the user's own."""
    import contextlib
    import os

    (scratch / "escaping.py").write_text(OWN)
    before = Path.cwd()
    os.chdir(scratch)
    try:
        names = [line.split("(")[0].removeprefix("def ") for line in OWN.splitlines() if line.startswith("def ")]
        for name in names[:most]:
            grader = SafeGrader(preset("math"), grader=f"escaping:{name}", seconds=SECONDS)
            with contextlib.closing(grader):
                yield from _tried(grader, "so 7", name, scratch)
    finally:
        os.chdir(before)


def _tried(grader: SafeGrader, response: str, answer: str, scratch: Path) -> Iterator[str]:
    what, begin = f"{response[:60]!r} against {answer[:60]!r}", time.monotonic()
    try:
        grader(response, answer)
    except LengthwiseError:
        pass
    except Exception as error:
        yield f"{what}: {type(error).__name__} came out of the worker: {error!s:.100}"
    if (took := time.monotonic() - begin) > 2 * SECONDS + SLACK:
        yield f"{what}: took {took:.0f} s"
    for folder in (scratch, Path.cwd()):
        if (folder / CANARY).exists():
            yield f"{what}: wrote a file"
            (folder / CANARY).unlink()
    left = [one for one in psutil.Process().children(recursive=True) if "sleep" in one.name()]
    if left:
        yield f"{what}: left {len(left)} processes"
