"""`extend_folder`: a Hugging Face folder whose config carries a position scheme; its weights are copied or linked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from lengthwise.context.positions.scheme_config import NOTE, SHIPPED, Scheme, check_reach, the_rotary, trained_context
from lengthwise.errors import CheckpointError, ConfigError, InputError, LengthwiseError, UnsupportedModelError
from lengthwise.files import PARTIAL, atomic_write_json, atomic_write_text, disk_full, read_json, write_folder
from lengthwise.folder_lock import writes
from lengthwise.output_paths import check_replacement
from lengthwise.pretrained import empty_model, read_config

WRITTEN = ("config.json", "README.md")
WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")

Train = Callable[[Path, Path], Mapping[str, Any]]
"""Trains the folder of the first argument, saves weights and tokenizer into the second, and returns RoPE options that
training changed."""


@writes("out")
def extend_folder(
    source: str | Path,
    out: str | Path,
    scheme: Scheme,
    *,
    eval_factor: float | None = None,
    link: bool = False,
    overwrite: bool = False,
    train: Train | None = None,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Write a folder that is `source` with a position scheme in its config, whole or not at all.

    Without `train` no weight changes: files are copied, or with ``link`` weights are hard links to the source's (they
    share the disk space, and a change to one changes both). `train` fine-tunes under the scheme first. ``eval_factor``
    replaces the factor in the config that is written; both stand in the card. Returns what was done.

    Raises:
        InputError: no such folder; ``out`` exists, is the source or better not replaced; a link across file systems.
        ConfigError: a scheme out of range or one that changes nothing, ``link`` together with training.
        UnsupportedModelError: a model that the scheme cannot serve.
    """
    source, out = Path(source), Path(out)
    if not (source / "config.json").is_file():
        raise InputError(f"model is {str(source)!r}: no config.json in it; give a Hugging Face model folder")
    check_replacement(out, overwrite=overwrite, inputs=[source])
    if link and train is not None:
        raise ConfigError("link shares weights with the model, and fine-tuning changes them; give one of them")
    written = scheme if eval_factor is None else Scheme(scheme.name, eval_factor, scheme.options)
    check_reach(written)
    config = checked_config(source, written, trust_remote_code=trust_remote_code)
    if not any(file.suffix in WEIGHTS for file in source.iterdir()):
        raise InputError(f"model is {str(source)!r}: no weights in it; give a Hugging Face model folder")
    trained = scheme.factor if train is not None else (getattr(config, NOTE, None) or {}).get("trained_factor")
    changes = written.changes(config)
    changes[NOTE]["trained_factor"] = trained
    report = _report(source, scheme, changes, trained, trained_context(config))

    def fill(folder: Path) -> None:
        if train is None:
            _bring(source, folder, link=link)
        else:
            start = folder / f"{PARTIAL}start"
            start.mkdir()
            _bring(source, start, link=False)
            _write_config(source, start, scheme.changes(config))
            changes["rope_parameters"] |= train(start, folder)
            shutil.rmtree(start)
        _write_config(source, folder, changes)
        _write_card(source, folder, report)

    try:
        write_folder(out, fill)
    except OSError as error:
        if not disk_full(error):
            raise
        raise CheckpointError(
            f"no space left while writing {out}; free some, or give --link, and run the command again "
            "(nothing was left behind)"
        ) from error
    return report


def checked_config(source: Path, scheme: Scheme, *, trust_remote_code: bool = False) -> Any:
    """The config of a folder, after the scheme was tried on the model it describes; no weights are read.

    Raises:
        InputError: a config that transformers cannot read.
        UnsupportedModelError: the model has no rotary module that takes the scheme.
    """
    config = read_config(source, trust_remote_code=trust_remote_code)
    legacy = read_json(source / "config.json")
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


def changed_json(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The config.json with a scheme in it, in the file's own style.

    A file of transformers before 5 says ``rope_theta`` and ``rope_scaling``, which every server reads; so it does.
    """
    found = {**config, **changes}
    if "rope_parameters" in config or "rope_theta" not in config:
        found.pop("rope_scaling", None)
        return found
    rope = dict(found.pop("rope_parameters"))
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


def _write_config(source: Path, folder: Path, changes: dict[str, Any]) -> None:
    atomic_write_json(folder / "config.json", changed_json(read_json(source / "config.json"), changes))


def _report(
    source: Path, scheme: Scheme, changes: dict[str, Any], trained_factor: float | None, trained: int
) -> dict[str, Any]:
    anywhere = scheme.name in SHIPPED
    return {
        "lengthwise": metadata.version("lengthwise"),
        "model": source.resolve().name,
        "scheme": scheme.name,
        "trained_context": trained,
        "trained_factor": trained_factor,
        "factor": changes[NOTE]["factor"],
        "rope_parameters": changes["rope_parameters"],
        "max_position_embeddings": changes["max_position_embeddings"],
        "loads": "anywhere" if anywhere else "after `import lengthwise.context`",
    }


def _write_card(source: Path, folder: Path, report: dict[str, Any]) -> None:
    card = source / "README.md"
    text = card.read_text(encoding="utf-8").rstrip() if card.is_file() else "---\nlibrary_name: transformers\n---"
    factor, trained = report["factor"], report["trained_factor"]
    trained_text = "not trained under it" if trained is None else f"trained with factor {trained:g}"
    lines = [
        text, "", "## Longer context", "",
        f"Made by `lengthwise extend` {report['lengthwise']} from {report['model']}: position scheme "
        f"{report['scheme']}, factor {factor:g} ({trained_text}); trained context before it "
        f"{report['trained_context']} tokens. Loads {report['loads']}.",
    ]  # fmt: skip
    if trained is None:
        lines += ["", "How far it reads was not measured here; `lengthwise evaluate-context` measures it."]
    atomic_write_text(folder / "README.md", "\n".join(lines) + "\n")
