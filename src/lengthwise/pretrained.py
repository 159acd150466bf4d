"""Hugging Face folders: the one place that asks transformers for a config, a tokenizer or a model.

Code that lies in a folder (``auto_map``) is run only where ``trust_remote_code`` is given, for all three alike.
"""

from __future__ import annotations

import importlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.errors import InputError, LengthwiseError
from lengthwise.files import read_json
from lengthwise.json_types import JsonObject

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer

TOKENIZER_FILES = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.tiktoken",
    "spiece.model", "sentencepiece*.model", "tekken.json", "chat_template*", "additional_chat_templates/*", "*.py",
)  # fmt: skip
"""Patterns of the files that make a folder's tokenizer."""
OWN_ROPE_TYPE = "lengthwise.context"
"""The RoPE type of our position schemes. It names the module to import, which makes the type known to transformers."""
FLOATING = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Floating formats of safetensors, as torch names them."""


def check_folder(folder: str | Path) -> Path:
    """The path of a Hugging Face folder that is there and has a config.json and safetensors.

    Raises:
        InputError: no such folder, or one of them is not in it.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"model is {str(folder)!r}: no such folder; give a local Hugging Face folder")
    if not (path / "config.json").is_file():
        raise InputError(f"model is {str(folder)!r}: no config.json in it; give a Hugging Face model folder")
    if not (path / "model.safetensors").is_file() and not (path / "model.safetensors.index.json").is_file():
        raise InputError(
            f"model is {str(folder)!r}: no model.safetensors in it; pickled weights are not read. Convert them with "
            "transformers: model.save_pretrained(folder)"
        )
    return path


def read_config(folder: str | Path, *, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The model's config; no weights are read.

    Raises:
        InputError: a config that transformers cannot read, or one with code of its own that is not trusted.
    """
    from transformers import AutoConfig

    with _told(f"model is {str(folder)!r}: its config cannot be read", trust_remote_code):
        _know_schemes(folder)
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)


def read_generation_config(folder: str | Path) -> GenerationConfig | None:
    """The folder's generation settings; None where it has none."""
    from transformers import GenerationConfig

    if not (Path(folder) / "generation_config.json").is_file():
        return None
    with _told(f"model is {str(folder)!r}: its generation_config.json cannot be read", False):
        return GenerationConfig.from_pretrained(folder)


def load_tokenizer(folder: str | Path, *, name: str = "model", trust_remote_code: bool = False) -> Tokenizer:
    """The tokenizer of a folder; `name` is what errors call the folder.

    Raises:
        InputError: no such folder, a tokenizer that transformers cannot load, or one without words.
    """
    from transformers import AutoTokenizer

    if not Path(folder).is_dir():
        raise InputError(f"{name} is {str(folder)!r}: no such folder; give a local Hugging Face folder")
    with _told(f"{name} is {str(folder)!r}: its tokenizer cannot be loaded", trust_remote_code):
        _know_schemes(folder)  # transformers reads the config too
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    # Where a folder has no vocabulary, transformers makes up a tokenizer that turns every text into nothing.
    if set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
        raise InputError(
            f"{name} is {str(folder)!r}: its tokenizer has no words; copy the model's tokenizer files there"
        )
    return tokenizer


def load_model(folder: str | Path, *, dtype: torch.dtype | str, trust_remote_code: bool = False) -> PreTrainedModel:
    """The causal language model of a folder, on the CPU with weights in `dtype`; safetensors only.

    Raises:
        InputError: weights that transformers cannot load, or a model with code of its own that is not trusted.
    """
    from transformers import AutoModelForCausalLM

    with _told(f"model is {str(folder)!r}: transformers cannot load it", trust_remote_code):
        _know_schemes(folder)
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=trust_remote_code, use_safetensors=True
        )


def empty_model(config: PreTrainedConfig, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """The model that a config describes, without weights (on the meta device).

    Raises:
        InputError: transformers cannot make it, or it has code of its own that is not trusted.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with _told("model: transformers cannot make it of its config", trust_remote_code), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def stored_config(folder: Path) -> JsonObject:
    """A folder's config.json as it stands there.

    Raises:
        InputError: it is no JSON object.
    """
    found = read_json(folder / "config.json")
    if not isinstance(found, dict):
        raise InputError(f"model is {str(folder)!r}: its config.json is no JSON object; restore it")
    return found


def folder_dtype(folder: Path) -> str:
    """What a folder's numbers are, as torch names it: by its config, else by most of its weights."""
    stored = stored_config(folder)
    for part in (stored, stored.get("text_config")):
        if not isinstance(part, dict):
            continue
        named = part.get("dtype") or part.get("torch_dtype")
        if isinstance(named, str) and named != "auto":
            return named.removeprefix("torch.")
    sizes: Counter[str] = Counter()
    for file in sorted(folder.glob("model*.safetensors")):
        for code, size in _formats(file):
            sizes[code] += size
    floating = [(size, code) for code, size in sizes.items() if code in FLOATING]
    return FLOATING[max(floating)[1]] if floating else "float32"


def _formats(file: Path) -> list[tuple[str, int]]:
    """Format and numbers of every tensor of a safetensors file."""
    from safetensors import safe_open

    with _told(f"{file} cannot be read", False), safe_open(file, "pt") as opened:
        parts = [opened.get_slice(name) for name in opened.keys()]  # noqa: SIM118
        return [(part.get_dtype(), math.prod(part.get_shape())) for part in parts]


def read_words(folder: str | Path, *, trust_remote_code: bool = False) -> tuple[PreTrainedConfig, Tokenizer]:
    """Config and tokenizer of a model's folder, which must belong together; no weights are read.

    Raises:
        InputError: one of them cannot be read, or the tokenizer has ids that the model has no embedding for.
    """
    config = read_config(folder, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(folder, trust_remote_code=trust_remote_code)
    rows = getattr(config.get_text_config(), "vocab_size", None)
    if rows is not None:
        _beyond(tokenizer, rows, str(folder))
    return config, tokenizer


def check_vocabulary(model: PreTrainedModel, tokenizer: Tokenizer, name: str) -> None:
    """Refuse a tokenizer with ids that the model has no embedding for, before a forward pass ends on one.

    Some models leave special tokens without an embedding because they never occur (Gemma 3's image token): such a
    tokenizer is taken, and the model refuses the id if it comes.

    Raises:
        InputError: a token of ordinary text, or one that begins, ends or pads texts, is beyond the embedding.
    """
    embedding = model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    beyond = _beyond(tokenizer, rows, name)
    if not beyond:
        return

    def refuse(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        largest = int(args[0].max()) if args and args[0].numel() else 0
        if largest >= rows:
            raise _no_embedding(name, rows, f"a text here needs its id {largest} ({beyond.get(largest)!r})")

    embedding.register_forward_pre_hook(refuse)


def _beyond(tokenizer: Tokenizer, rows: int, name: str) -> dict[int, str]:
    """Special tokens beyond an embedding of so many rows, by id; any other one is refused."""
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows}
    used = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    bad = sorted(number for number in beyond if number in used or number not in special)
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise _no_embedding(name, rows, f"it has id {bad[0]} ({beyond[bad[0]]!r}){more} beyond them")
    return beyond


def _no_embedding(name: str, rows: int, what: str) -> InputError:
    return InputError(
        f"model is {name!r}: its embedding has {rows} rows, too few for its tokenizer: {what}. Copy the tokenizer "
        "files that belong to the model there, or resize the embedding"
    )


@contextmanager
def _told(what: str, trust_remote_code: bool) -> Iterator[None]:
    """What transformers raises, as one line; where code of the folder runs, whatever that raises."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    usual = (
        OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError, ArithmeticError,
        SafetensorError, StrictDataclassError,
    )  # fmt: skip
    expected: tuple[type[Exception], ...] = (Exception,) if trust_remote_code else usual
    try:
        yield
    except LengthwiseError:
        raise
    except expected as error:
        text = str(error).strip()
        if not trust_remote_code and "trust_remote_code" in text:
            raise InputError(
                f"{what}: it needs Python code that lies beside it, and such code is not run unasked; read it, then "
                "give --trust-remote-code (trust_remote_code=True)"
            ) from error
        lines = [line.strip() for line in text.splitlines()] or [type(error).__name__]
        reason = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
        raise InputError(f"{what} ({reason})") from error


def _know_schemes(folder: str | Path) -> None:
    """Import our position schemes where a folder's config names their RoPE type; a broken config is refused later."""
    file = Path(folder) / "config.json"
    if file.is_file() and f'"{OWN_ROPE_TYPE}"' in file.read_text(encoding="utf-8", errors="replace"):
        importlib.import_module(OWN_ROPE_TYPE)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the files that make the tokenizer of a folder, byte for byte."""
    for file in sorted({file for pattern in TOKENIZER_FILES for file in source.glob(pattern) if file.is_file()}):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def save_tokenizer(tokenizer: Tokenizer, source: Path, target: Path, *, trust_remote_code: bool = False) -> None:
    """Put a tokenizer that came from the folder `source` into `target`.

    The files of `source` are copied byte for byte, so that readers see the tokenizer that the model was trained with;
    only where the object was changed since (tokens, special tokens, chat template) is it written anew.
    """
    if _traits(tokenizer) == _traits(load_tokenizer(source, trust_remote_code=trust_remote_code)):
        copy_tokenizer(source, target)
    else:
        tokenizer.save_pretrained(target)


def _traits(tokenizer: Tokenizer) -> tuple[object, ...]:
    """What makes a tokenizer another one; how it pads and how long it lets a text be are no part of it."""
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    core = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {}
    core = {name: part for name, part in core.items() if name not in ("padding", "truncation")}
    return tokenizer.get_vocab(), special, getattr(tokenizer, "chat_template", None), core
