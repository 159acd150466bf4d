"""What the tests of the long-context tasks share: a byte tokenizer, made-up documents, a tiny model in a folder."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lengthwise.config.commands import ExtendSettings
from lengthwise.context.positions.extend_folder import Train, extend_folder
from lengthwise.context.positions.scheme_config import Scheme
from lengthwise.context.tasks.qa import Source


def byte_tokenizer() -> Any:
    """One token per byte, and an end token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<end>": 0, **{symbol: number for number, symbol in enumerate(alphabet, 1)}}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", pad_token="<end>")


def sources(count: int = 8, sentences: int = 30, *, numbers: bool = False) -> list[Source]:
    """Documents of made-up sentences; the answer of number i is in one of them."""
    rng, words = (
        random.Random(0),
        ["amber", "birch", "cloud", "delta", "ember", "frost", "grove", "heron", "ivory", "kelp"],
    )
    made = []
    for index in range(count):
        text = [" ".join(rng.choices(words, k=rng.randint(4, 12))).capitalize() + "." for _ in range(sentences)]
        answer = str(1800 + 23 * index) if numbers else f"Port {chr(65 + index)}ona"
        text.insert(rng.randrange(sentences), f"The mill of town {chr(65 + index)} was built at {answer}.")
        made.append(Source(" ".join(text), f"Where or when was the mill of town {chr(65 + index)} built?", answer))
    return made


def tiny_folder(folder: Path, *, vocabulary: int = 257) -> Path:
    """A random model of two layers with the byte tokenizer, trained context 64."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    set_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, eos_token_id=0, bos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def extended(source: Path, out: Path, scheme: Scheme, *, train: Train | None = None, **more: object) -> dict[str, Any]:
    """The report of a folder that is written with a scheme."""
    options = dict(scheme.options)
    given = {"model": str(source), "out": out, "scheme": scheme.name, "factor": scheme.factor, "option": options}
    return extend_folder(ExtendSettings.from_dict({**given, **more}), train=train).to_dict()
