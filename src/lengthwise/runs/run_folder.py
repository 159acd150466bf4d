"""A run's folder: its resolved config, what is finished in it, and who may continue it."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from lengthwise.config.files import COMMAND, SETTINGS
from lengthwise.errors import ConfigError
from lengthwise.files import PARTIAL, atomic_write_json, clear_partials, read_json
from lengthwise.folder_lock import is_lock

CONFIG, OUTCOME, RECORDS, TEXTS, MODEL = "config.json", "outcome.json", "records", "texts", "model"
RESPONSES = "responses"
ENVIRONMENT = "environment"
OTHER = "another command, or of an older version of lengthwise"
"""What a run's config without the name of a command is of."""
PART = "job"
"""Where the config of a run that is a part of something else keeps its settings, so that no `--config` takes them."""


def environment(device: str) -> dict[str, object]:
    """Versions and machine facts that decide whether a rerun gives the same bits."""
    import transformers

    from lengthwise import __version__

    return {
        "lengthwise": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "threads": torch.get_num_threads(),
    }


def open_run(
    folder: Path,
    config: Mapping[str, object],
    *,
    overwrite: bool,
    name: str = CONFIG,
    compared: Mapping[str, object] | None = None,
) -> None:
    """Start a run in `folder`, or continue the one there if its config is the same; `name` is the config's file.

    `compared`: the part of the config by which it is told whether the run there is the same; by default all of it.

    Raises:
        ConfigError: the folder holds another run, one of another command, or files that are no run at all.
    """
    clear_partials(folder)
    for part in (RECORDS, TEXTS):
        clear_partials(folder / part)
    if check_run_folder(folder, name=name):
        there = read_json(folder / name)
        if there.get(COMMAND) != config.get(COMMAND):
            raise ConfigError(
                f"out is {str(folder)!r}, which holds a run of {there.get(COMMAND) or OTHER}; name another folder"
            )
        if not overwrite:
            wanted = config if compared is None else compared
            _check_same({key: there.get(key) for key in there if compared is None or key in wanted}, wanted, folder)
            return
        shutil.rmtree(folder)
    atomic_write_json(folder / name, dict(config))


def check_run_folder(folder: Path, *, name: str = CONFIG) -> bool:
    """Whether a run is in the folder; an empty one, or none at all, is free for one.

    Raises:
        ConfigError: the folder holds something else, for example a model.
    """
    found = read_json(folder / name) if (folder / name).is_file() else None
    if isinstance(found, Mapping) and ENVIRONMENT in found:
        return True
    if folder.is_dir() and any(not (path.name.startswith(PARTIAL) or is_lock(path)) for path in folder.iterdir()):
        raise ConfigError(f"out is {str(folder)!r}, which holds files but no run; name an empty or new folder")
    return False


def _check_same(there: Mapping[str, object], wanted: Mapping[str, object], folder: Path) -> None:
    wanted = json.loads(json.dumps(wanted))
    found = {  # a setting and what was resolved from it have one name, and are told once
        path.removeprefix(f"{SETTINGS}.").removeprefix(f"{PART}."): f"{old!r} there, {new!r} now"
        for path, old, new in _differences(there, wanted)
        if not path.startswith(ENVIRONMENT)
    }
    if found:
        differing = "; ".join(f"{path}: {values}" for path, values in found.items())
        raise ConfigError(
            f"out is {str(folder)!r}, which holds a run with another config ({differing}); "
            "give the same options to continue it, name another folder, or add --overwrite"
        )


def _differences(a: object, b: object, path: str = "") -> list[tuple[str, object, object]]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        found = []
        for key in sorted({*a, *b}):
            found += _differences(a.get(key), b.get(key), f"{path}.{key}".lstrip("."))
        return found
    return [] if a == b else [(path, a, b)]
