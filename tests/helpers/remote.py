"""Model folders that bring Python code of their own, which leaves a file behind when it runs."""

from __future__ import annotations

import json
from pathlib import Path

from context_words import tiny_folder

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Path({canary!r}).touch()

class OwnConfig(LlamaConfig):
    model_type = {kind!r}

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig

class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


def with_code(folder: Path, canary: Path, *, kind: str = "own-kind") -> Path:
    """A tiny byte model with config, model and tokenizer of its own; running them makes the file `canary`.

    With `kind` "llama" transformers knows the architecture too, so that the code is not needed.
    """
    tiny_folder(folder)
    (folder / "own.py").write_text(CODE.format(canary=str(canary), kind=kind))
    maps = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    change(folder / "config.json", model_type=kind, architectures=["OwnModel"], max_position_embeddings=512)
    change(folder / "config.json", auto_map=maps)
    change(folder / "tokenizer_config.json", tokenizer_class="OwnTokenizer")
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "own.OwnTokenizer"]})
    return folder


def change(file: Path, **fields: object) -> None:
    """Set fields of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
