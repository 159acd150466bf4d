"""The model card of a folder that was made by arithmetic on weights, and the settings that go with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from lengthwise.files import atomic_write_json, atomic_write_text, read_json_object
from lengthwise.pretrained import copy_tokenizer

KEPT = (
    "config.json", "adapter_config.json", "generation_config.json", "preprocessor_config.json",
    "processor_config.json", "LICENSE*", "NOTICE*",
)  # fmt: skip
"""What a folder needs beside its weights and tokenizer."""


def copy_settings(source: Path, target: Path, changes: Mapping[str, object]) -> None:
    """Copy settings, tokenizer and licence, and change what the new weights need changed in the config."""
    for file in sorted({file for pattern in KEPT for file in source.glob(pattern) if file.is_file()}):
        shutil.copyfile(file, target / file.name)
    copy_tokenizer(source, target)
    if changes:
        atomic_write_json(target / "config.json", {**read_json_object(target / "config.json"), **changes})


def write_card(
    target: Path,
    *,
    title: str,
    tag: str,
    what: Sequence[str],
    models: Sequence[str],
    options: Mapping[str, object],
    notes: Sequence[str],
) -> None:
    """Write README.md: front matter, what was done to which models, with which options, and what to know."""
    lines = ["---", "library_name: transformers", "tags:", "- lengthwise", f"- {tag}", "---", "", f"# {title}", ""]
    lines += [*what, "", "| part | model |", "|---|---|", *models, "", "| option | value |", "|---|---|"]
    lines += [f"| {name} | `{json.dumps(value)}` |" for name, value in options.items()]
    if notes:
        lines += ["", *(f"- {note}" for note in notes)]
    atomic_write_text(target / "README.md", "\n".join(lines) + "\n")
