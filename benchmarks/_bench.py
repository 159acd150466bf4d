"""What the benchmarks share: facts of the machine and the code, worker processes, small statistics, raw results.

Only the standard library is imported here. A process that has just been started may report its parent's peak
memory as its own, so the parent of a memory measurement has to stay small.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def git_commit() -> dict[str, Any]:
    """The commit that is checked out and which tracked files differ from it.

    Outside a git checkout: what the variable BENCH_COMMIT says, for a machine that holds a copy of the tree; else None.
    """
    try:
        commit = _git("rev-parse", "HEAD").strip()
        changed = [line[3:] for line in _git("status", "--porcelain", "--untracked-files=no").splitlines()]
    except (OSError, subprocess.CalledProcessError):
        return {"commit": os.environ.get("BENCH_COMMIT"), "changed_files": None}
    return {"commit": commit, "changed_files": changed}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def versions(*packages: str) -> dict[str, str | None]:
    """Installed versions by package name; None for a package that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, and memory; no host name."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in _lines(cpuinfo) if line.startswith("model name")]
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": names[0] if names else platform.processor(),
        "cpu_count": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def command() -> list[str]:
    """The command line that ran; of absolute paths only the last part, which is all that another machine shares."""
    script = Path(sys.argv[0]).resolve()
    shown = str(script.relative_to(ROOT)) if script.is_relative_to(ROOT) else script.name
    return ["python", shown, *(Path(a).name if a.startswith("/") else a for a in sys.argv[1:])]


def facts(*packages: str) -> dict[str, Any]:
    """The head of every raw result: command, commit, versions, machine, time of day."""
    return {
        "command": command(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_commit(),
        "versions": versions(*packages),
        "machine": machine(),
    }


def provenance() -> dict[str, Any]:
    """The same in one flat line of fields, for results that carry it beside each number; "+" marks changed files."""
    found, state = versions("torch", "transformers"), git_commit()
    return {
        "command": " ".join(command()),
        "commit": f"{state['commit']}{'+' if state['changed_files'] else ''}",
        **found,
        "cores": os.cpu_count(),
        "processor": platform.machine(),
    }


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a raw result, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def run_worker(script: str, spec: Mapping[str, Any], *, threads: int, python: str | None = None) -> dict[str, Any]:
    """Run ``script --worker`` in a fresh process with a fixed thread count; returns what it writes as JSON.

    `python` is the interpreter, by default this one.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out = Path(folder) / "result.json"
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        environment |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        load = os.getloadavg()[0]
        done = subprocess.run(
            [python or sys.executable, script, "--worker", json.dumps({**spec, "folder": folder, "out": str(out)})],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode or not out.is_file():
            raise SystemExit(f"a worker failed with code {done.returncode}: {dict(spec)}\n{done.stderr[-4000:]}")
        return {**json.loads(out.read_text(encoding="utf-8")), "load_before": round(load, 2)}


def peak_mib() -> float:
    """Peak resident memory of this process, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def spread(values: Sequence[float]) -> str:
    """Median and range as text."""
    return f"{statistics.median(values):.3f} ({min(values):.3f}..{max(values):.3f})"


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error; the error of one value is infinite."""
    if len(values) < 2:
        return statistics.fmean(values), float("inf")
    return statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5
