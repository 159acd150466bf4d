"""Settings that commands hold themselves: what they work on, where they write, and how they answer."""

from __future__ import annotations

from pathlib import Path

from lengthwise.config.definition import setting
from lengthwise.config.settings import Settings

LAB = "lab:"
"""How the names of the lab's models and problems begin."""


class Common(Settings):
    """Settings of many commands, each defined here once and taken by `again`; no command takes the group whole."""

    model: str = setting(
        help="Folder of a causal language model, its name on a hub, or a shipped one such as lab:chains.",
        panel="Model", positional=True, metavar="MODEL",
    )  # fmt: skip
    models: tuple[str, ...] = setting(
        help="Folders of models.", panel="Model", positional=True, metavar="MODEL...", wanted="folders, as a list"
    )
    data: str = setting(
        help="Problems: .jsonl, .json, .parquet or a datasets name.", panel="Data and prompt", metavar="file"
    )
    method: str = setting(help="A method by name.", panel="Method", metavar="name")
    limit: int | None = setting(
        None, ge=1, help="At most this many problems.", panel="Evaluation", default_text="all"
    )  # fmt: skip
    seed: int | None = setting(0, ge=0, help="Seed of every random number.", panel="Method")
    out: Path = setting(help="Folder to write.", panel="Output", metavar="folder", transient=True, writes="folder")
    overwrite: bool = setting(False, help="Replace what the folder holds.", panel="Output", transient=True)
    dry_run: bool = setting(
        False, help="Show what would be done, and do nothing.", panel="Output", transient=True
    )  # fmt: skip
    json_: bool = setting(
        False, help="Print one JSON object on stdout instead.", panel="Output", transient=True
    )  # fmt: skip
