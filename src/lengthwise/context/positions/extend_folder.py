"""`extend_folder`: a Hugging Face folder whose config carries a position scheme; its weights are copied or linked."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.config.commands import ExtendSettings
from lengthwise.config.files import BESIDE_A_MODEL, run_config
from lengthwise.context.positions.finetuning import Lesson, finetune, import_trainer
from lengthwise.context.positions.scheme_config import (
    NOTE,
    SHIPPED,
    ConfigChanges,
    Scheme,
    asked_scheme,
    check_reach,
    the_rotary,
    trained_context,
)
from lengthwise.data import read_rows, require_columns
from lengthwise.errors import CheckpointError, ConfigError, InputError, LengthwiseError, UnsupportedModelError
from lengthwise.files import PARTIAL, atomic_write_json, atomic_write_text, disk_full, read_json_object, write_folder
from lengthwise.folder_lock import writes
from lengthwise.json_types import JsonObject
from lengthwise.output_paths import check_replacement
from lengthwise.pretrained import empty_model, read_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

WRITTEN = ("config.json", "README.md", BESIDE_A_MODEL)
WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")

Train = Callable[[Path, Path], Mapping[str, float]]
"""Trains the folder of the first argument, saves weights and tokenizer into the second, and returns RoPE options that
training changed."""


@dataclass(frozen=True)
class Extension:
    """What was written: the scheme, its factors in training and in the config, and who can load it."""

    lengthwise: str
    model: str
    scheme: str
    trained_context: int
    trained_factor: float | None
    factor: float
    rope_parameters: Mapping[str, object]
    max_position_embeddings: int
    loads: str

    def to_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return asdict(self)


@writes("settings.out")
def extend_folder(
    settings: ExtendSettings, *, locate: Callable[[str], Path] = Path, train: Train | None = None
) -> Extension:
    """Write a folder that is the model with a position scheme in its config, whole or not at all.

    Without data no weight changes: files are copied, or with ``link`` weights are hard links to the model's (they
    share the disk space, and a change to one changes both). With data TRL fine-tunes under the scheme first, or `train`
    in its place. ``eval_factor`` replaces the factor in the config that is written; both stand in the card.
    ``locate`` says where a model that is named lies.

    Raises:
        InputError: no such folder; ``out`` exists, is the source or better not replaced; a link across file systems.
        ConfigError: a scheme out of range or one that changes nothing, ``link`` together with training.
        UnsupportedModelError: a model that the scheme cannot serve.
        MissingExtraError: training without TRL.
    """
    source, scheme = locate(settings.model), asked_scheme(settings)
    if not (source / "config.json").is_file():
        raise InputError(f"model is {str(source)!r}: no config.json in it; give a Hugging Face model folder")
    check_replacement(settings.out, overwrite=settings.overwrite, inputs=[source])
    if settings.link and (train is not None or settings.data is not None):
        raise ConfigError("link shares weights with the model, and fine-tuning changes them; give one of them")
    eval_factor = settings.position.eval_factor
    written = scheme if eval_factor is None else Scheme(scheme.name, eval_factor, scheme.options)
    check_reach(written)
    config = checked_config(source, written, trust_remote_code=settings.trust_remote_code)
    if not any(file.suffix in WEIGHTS for file in source.iterdir()):
        raise InputError(f"model is {str(source)!r}: no weights in it; give a Hugging Face model folder")
    training = train or _training(settings, source, scheme)
    trained = scheme.factor if training is not None else (getattr(config, NOTE, None) or {}).get("trained_factor")
    changes = written.changes(config)
    changes[NOTE]["trained_factor"] = trained
    made: list[Extension] = []

    def fill(folder: Path) -> None:
        if training is None:
            _bring(source, folder, link=settings.link)
        else:
            start = folder / f"{PARTIAL}start"
            start.mkdir()
            _bring(source, start, link=False)
            _write_config(source, start, scheme.changes(config))
            changes["rope_parameters"] |= training(start, folder)
            shutil.rmtree(start)
        made.append(_report(source, scheme, changes, trained, trained_context(config)))
        _write_config(source, folder, changes)
        _write_card(source, folder, made[0])
        atomic_write_json(folder / BESIDE_A_MODEL, run_config(settings))

    try:
        write_folder(settings.out, fill)
    except OSError as error:
        if not disk_full(error):
            raise
        raise CheckpointError(
            f"no space left while writing {settings.out}; free some, or give --link, and run the command again "
            "(nothing was left behind)"
        ) from error
    return made[0]


def _training(settings: ExtendSettings, source: Path, scheme: Scheme) -> Train | None:
    """What trains, looked at before the model is copied and loaded; None without data."""
    if settings.data is None:
        return None
    how = settings.training
    config = checked_config(source, scheme, trust_remote_code=settings.trust_remote_code)
    length = how.chunk if how.chunk is not None else int(trained_context(config) * scheme.factor) // 2 * 2
    scheduled = scheme.name == "xpos" and "xpos_scale_base" not in dict(scheme.options)
    require_columns(read_rows(settings.data), [how.text_column], settings.data)
    import_trainer()
    lesson = Lesson(settings.data, length, how, scheduled, settings.trust_remote_code)
    return functools.partial(finetune, asked=lesson)


def checked_config(source: Path, scheme: Scheme, *, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The config of a folder, after the scheme was tried on the model it describes; no weights are read.

    Raises:
        InputError: a config that transformers cannot read.
        UnsupportedModelError: the model has no rotary module that takes the scheme.
    """
    config = read_config(source, trust_remote_code=trust_remote_code)
    legacy = read_json_object(source / "config.json")
    try:
        changes = scheme.changes(config)
        tried = type(config).from_dict(changed_json(legacy, changes))
        tried.name_or_path = str(source)  # where code of its own lies, if it has any
        the_rotary(empty_model(tried, trust_remote_code=trust_remote_code))
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, ArithmeticError) as error:
        if isinstance(error, LengthwiseError):
            raise
        kind = getattr(config, "model_type", "unknown")
        raise UnsupportedModelError(f"model_type {kind!r} cannot take scheme {scheme.name!r}: {error}") from error
    return config


def changed_json(config: JsonObject, changes: ConfigChanges) -> dict[str, object]:
    """The config.json with a scheme in it, in the file's own style.

    A file of transformers before 5 says ``rope_theta`` and ``rope_scaling``, which every server reads; so it does.
    """
    found: dict[str, object] = {**config, **changes}
    if "rope_parameters" in config or "rope_theta" not in config:
        found.pop("rope_scaling", None)
        return found
    rope = dict(changes["rope_parameters"])
    del found["rope_parameters"]
    found["rope_theta"] = rope.pop("rope_theta")
    rope.pop("partial_rotary_factor", None)
    # Programs before transformers 4.43 read "type".
    found["rope_scaling"] = None if rope["rope_type"] == "default" else {"type": rope["rope_type"], **rope}
    return found


def _bring(source: Path, folder: Path, *, link: bool) -> None:
    for file in sorted(source.iterdir()):
        if not file.is_file() or file.name in WRITTEN or file.name.startswith(PARTIAL):
            continue
        if not (link and file.suffix in WEIGHTS):
            shutil.copyfile(file, folder / file.name)
            continue
        try:
            os.link(file.resolve(), folder / file.name)
        except OSError as error:
            raise InputError(
                f"link: {file.name} cannot be linked into {str(folder.parent)!r} ({error.strerror}); leave --link "
                "away, or write to the model's own file system"
            ) from error


def _write_config(source: Path, folder: Path, changes: ConfigChanges) -> None:
    atomic_write_json(folder / "config.json", changed_json(read_json_object(source / "config.json"), changes))


def _report(
    source: Path, scheme: Scheme, changes: ConfigChanges, trained_factor: float | None, trained: int
) -> Extension:
    anywhere = scheme.name in SHIPPED
    return Extension(
        lengthwise=metadata.version("lengthwise"),
        model=source.resolve().name,
        scheme=scheme.name,
        trained_context=trained,
        trained_factor=trained_factor,
        factor=changes[NOTE]["factor"],
        rope_parameters=changes["rope_parameters"],
        max_position_embeddings=changes["max_position_embeddings"],
        loads="anywhere" if anywhere else "after `import lengthwise.context`",
    )


def _write_card(source: Path, folder: Path, report: Extension) -> None:
    card = source / "README.md"
    text = card.read_text(encoding="utf-8").rstrip() if card.is_file() else "---\nlibrary_name: transformers\n---"
    factor, trained = report.factor, report.trained_factor
    trained_text = "not trained under it" if trained is None else f"trained with factor {trained:g}"
    lines = [
        text, "", "## Longer context", "",
        f"Made by `lengthwise extend` {report.lengthwise} from {report.model}: position scheme "
        f"{report.scheme}, factor {factor:g} ({trained_text}); trained context before it "
        f"{report.trained_context} tokens. Loads {report.loads}.",
    ]  # fmt: skip
    if trained is None:
        lines += ["", "How far it reads was not measured here; `lengthwise evaluate-context` measures it."]
    atomic_write_text(folder / "README.md", "\n".join(lines) + "\n")
