"""The lab's models under their names: ``lab:chains`` and the like, wherever the package is installed."""

from __future__ import annotations

from pathlib import Path

from lengthwise.errors import ConfigError
from lengthwise.hub_models import hub_folder
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.output_paths import real
from lengthwise.pretrained import check_folder

LAB = "lab:"
ASKERS = ("witnesses", "witnesses-modes")
"""Models whose world writes into their responses."""


def shipped_models() -> list[str]:
    """Names of all models that the package ships, as ``lab:NAME``."""
    return sorted(LAB + path.parent.name for path in shipped_reasoner("").glob("*/config.json"))


def is_shipped(folder: Path) -> bool:
    """Whether a folder is one of the lab's own."""
    return real(folder).parent == real(shipped_reasoner(""))


def model_folder(model: str, *, in_its_world: bool = False) -> Path:
    """The folder of a model in Hugging Face format, a shipped one under its name, one of a hub under its name there.

    `in_its_world`: the caller lets the world write the readings that an asker waits for.

    Raises:
        InputError: no such folder, or no model in it.
        ConfigError: no such model in the lab, or one that answers nothing here.
    """
    if not model.startswith(LAB):
        return check_folder(hub_folder(model))
    name, known = model.removeprefix(LAB), shipped_models()
    if model not in known:
        raise ConfigError(f"model is {model!r}; the lab ships {', '.join(known)}")
    if name in ASKERS and not in_its_world:
        raise ConfigError(
            f"model is {model!r}: it waits for readings that its world writes into the response, and only `lengthwise "
            f"compare {LAB}{ASKERS[0]}` has that world; choose another model here"
        )
    return shipped_reasoner(name)
