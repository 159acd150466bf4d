"""What a training process of `test_resume` runs, and where it may kill itself.

It trains the tiny task in a folder and writes the final weights beside it. At a named spot the process gets
SIGKILL when it comes there for the n-th time, so nothing is flushed, closed or cleaned up.
"""

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path
from typing import Any

import tiny
import torch
from safetensors.torch import save_file

from lengthwise import files
from lengthwise.engine import checkpoint, metrics_log
from lengthwise.methods import build_method

SPOTS = {
    "in the weights file": (checkpoint, "save_file", "torn"),
    "after a checkpoint's file": (checkpoint, "save_file", "after"),
    "before the JSON of a checkpoint": (checkpoint, "atomic_write_json", "before"),
    "after the JSON of a checkpoint": (checkpoint, "atomic_write_json", "after"),
    "before a rename": (Path, "replace", "before"),
    "after a rename": (Path, "replace", "after"),
    "before a sync": (files, "sync", "before"),
    "before a line of metrics": (metrics_log.RunLog, "write", "before"),
    "in a line of metrics": (metrics_log.RunLog, "write", "torn"),
    "after a line of metrics": (metrics_log.RunLog, "write", "after"),
    "in the removal of an old checkpoint": (checkpoint.shutil, "rmtree", "torn"),
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def half_done(owner, name, args) -> None:
    """What a process that dies in the middle of this call leaves behind."""
    if name == "save_file":
        Path(args[1]).write_bytes(b"\x00" * 1000)
    elif name == "write":
        with args[0].path.open("a") as file:
            file.write('{"step": 2, "accu')
    else:
        (Path(args[0]) / checkpoint.WEIGHTS).unlink(missing_ok=True)


def kill_at(spot: str, number: int) -> None:
    owner, name, when = SPOTS[spot]
    original, calls = getattr(owner, name), []

    def doomed(*args, **kwargs):
        calls.append(name)
        if len(calls) == number and when != "after":
            if when == "torn":
                half_done(owner, name, args)
            die()
        result = original(*args, **kwargs)
        if len(calls) == number:
            die()
        return result

    setattr(owner, name, doomed)


def run(folder: Path, spot: str = "", number: int = 0, ready: Any = None) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if spot:
        kill_at(spot, number)
    net = tiny.model()
    trainer = tiny.trainer(
        folder, net=net, method=build_method("dler", cap=6, kl_coef=0.0), steps=6, checkpoint_every=2, warmup_steps=3
    )
    if ready is not None:
        ready.set()
    trainer.train()
    weights = {name: parameter.detach() for name, parameter in net.named_parameters()}
    save_file(weights, folder.parent / "final.safetensors")
