"""What two folders say about their tokens, read from their files alone: no tokenizer is built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from lengthwise.files import read_json, sha256_file
from lengthwise.json_types import JsonObject
from lengthwise.safetensors_io.tensor_compatibility import Finding


class _Added(TypedDict):
    content: str
    id: int


class _Model(TypedDict, total=False):
    vocab: dict[str, int] | list[list[str]]
    merges: object


class _Stored(TypedDict, total=False):
    """What is read of a tokenizer.json."""

    model: _Model
    added_tokens: list[_Added]
    normalizer: object
    pre_tokenizer: object
    post_processor: object
    decoder: object


_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


def vocabulary(folder: Path) -> dict[str, int] | None:
    """Token to id, added tokens included; None where no file of the folder lists its tokens."""
    if (folder / "tokenizer.json").is_file():
        stored: _Stored = read_json(folder / "tokenizer.json")
        core = stored.get("model", {}).get("vocab", {})
        # a unigram model lists (token, score) pairs in the order of their ids
        listed = core if isinstance(core, dict) else {pair[0]: index for index, pair in enumerate(core)}
        return listed | {token["content"]: token["id"] for token in stored.get("added_tokens", [])}
    if (folder / "vocab.json").is_file():
        return dict(read_json(folder / "vocab.json"))
    return None


def tokenizer_findings(base: Path, other: Path) -> Iterator[Finding]:
    """Where two folders' tokenizers differ: one id for two tokens forbids a merge, the rest is worth a look."""
    ours, theirs = vocabulary(base), vocabulary(other)
    if ours is not None and theirs is not None:
        names = {index: token for token, index in ours.items()}
        clashes = [token for token, index in theirs.items() if names.get(index, token) != token]
        clashes += [token for token, index in theirs.items() if ours.get(token, index) != index]
        if clashes:
            first = clashes[0]
            yield Finding(
                "tokenizer",
                f"the tokenizers of {base} and {other} give {len(set(clashes))} tokens other ids, first {first!r}: "
                f"{ours.get(first)} and {theirs[first]}; merge models of one vocabulary",
            )
            return
        alone = sorted(ours.keys() ^ theirs.keys())
        if alone:
            text = f"{len(alone)} tokens are in the tokenizer of {base} or {other} only, first {alone[0]!r}"
            yield Finding("tokenizer", f"{text}; files_from says whose is kept", warning=True)
    first_settings, second_settings = _settings(base), _settings(other)
    unlike = sorted(key for key in first_settings if first_settings[key] != second_settings[key])
    if unlike:
        text = f"the tokenizers of {base} and {other} differ in {', '.join(unlike)}"
        yield Finding("tokenizer", f"{text}; files_from says whose is kept", warning=True)


def _settings(folder: Path) -> dict[str, object]:
    """What decides how text becomes the same tokens, and which tokens and template a chat uses."""
    found: dict[str, object] = {}
    stored: _Stored = read_json(folder / "tokenizer.json") if (folder / "tokenizer.json").is_file() else {}
    for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        found[key] = stored.get(key)
    found["merges"] = stored.get("model", {}).get("merges")
    config = folder / "tokenizer_config.json"
    settings: JsonObject = read_json(config) if config.is_file() else {}
    for key in (*_TOKENS, "chat_template"):
        found[key] = settings.get(key)
    for name in ("tokenizer.model", "chat_template.jinja"):
        found[name] = sha256_file(folder / name) if (folder / name).is_file() else None
    return found
