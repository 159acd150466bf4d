"""The lab's verbose reasoner: how its tokenizer and model are made, taught and found on disk.

Teaching is plain next-token loss on worked solutions (`chains.worked_solution`). The shipped folder under
``lab/assets/chains`` was made by ``python -m lengthwise.lab.teach``; see its model card.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lengthwise.errors import ConfigError
from lengthwise.lab import chains

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

IGNORED = -100
SHIPPED = "lab:chains"
"""The name under which commands take the shipped reasoner, wherever the package is installed."""


def shipped_reasoner() -> Path:
    """Folder of the verbose reasoner that comes with the package, in Hugging Face format."""
    return Path(str(resources.files("lengthwise.lab") / "assets" / "chains"))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The chains tokenizer: one token per number, sign and word; loads by `AutoTokenizer`.

    transformers gives every Qwen2 model Qwen2's own pre-tokenizer, whatever its folder says, and that splits
    numbers into digits. Added tokens are matched before it, the longest first, so every word is one.
    """
    from tokenizers import AddedToken, Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(chains.VOCABULARY)}
    core = Tokenizer(models.BPE(vocabulary, []))
    plain = [word for word in chains.VOCABULARY if word not in (chains.PAD, chains.EOS)]
    core.add_tokens([AddedToken(word, normalized=False, lstrip=True) for word in plain])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=chains.PAD,
        eos_token=chains.EOS,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def build_model(
    *, seed: int, layers: int = 3, hidden: int = 128, heads: int = 4, kv_heads: int = 2
) -> Qwen2ForCausalLM:
    """An untrained reasoner: a stock Qwen2 configuration of about 0.6M parameters, tied embeddings."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(chains.VOCABULARY),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=chains.VOCABULARY.index(chains.PAD),
        eos_token_id=chains.VOCABULARY.index(chains.EOS),
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config)


def _examples(seed: int, slip: float, doubt: float, levels: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    word = {w: i for i, w in enumerate(chains.VOCABULARY)}
    rng = random.Random(f"teach/{seed}")
    while True:
        chain = chains.draw(rng, rng.choice(levels))
        if chains.split_of(chain) != "train":
            continue
        prompt = [word[w] for w in chain.words]
        solution = chains.worked_solution(rng, chain, slip=slip, doubt=doubt)
        yield prompt, [*(word[w] for w in solution), word[chains.EOS]]


def _batches(
    examples: Iterator[tuple[list[int], list[int]]], rows: int, pool: int, rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Padded batches of like lengths: a pool is drawn, sorted and dealt out in random order."""
    while True:
        drawn = sorted((next(examples) for _ in range(rows * pool)), key=lambda e: len(e[0]) + len(e[1]))
        deals = [drawn[i : i + rows] for i in range(0, len(drawn), rows)]
        rng.shuffle(deals)
        for deal in deals:
            width = max(len(p) + len(r) for p, r in deal)
            ids = torch.zeros(rows, width, dtype=torch.long)
            labels = torch.full((rows, width), IGNORED)
            for row, (prompt, response) in enumerate(deal):
                ids[row, : len(prompt) + len(response)] = torch.tensor(prompt + response)
                labels[row, len(prompt) : len(prompt) + len(response)] = torch.tensor(response)
            yield ids, labels


def teach(
    model: Qwen2ForCausalLM,
    *,
    steps: int,
    seed: int,
    rows: int = 48,
    peak_lr: float = 2e-3,
    warmup: int = 50,
    slip: float = 0.06,
    doubt: float = 0.35,
    levels: tuple[int, ...] = chains.LEVELS,
    report: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Teach the model worked solutions of train problems; returns the loss of every step.

    AdamW (betas .9/.98), linear warm-up, cosine to a tenth, gradient norm 1. `slip` and `doubt`
    are those of the solutions (`chains.worked_solution`). `report` gets (step, loss).

    Raises:
        ConfigError: `steps` or `rows` below 1.
    """
    if steps < 1 or rows < 1:
        raise ConfigError(f"steps is {steps} and rows {rows}; both must be at least 1")
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_lr, betas=(0.9, 0.98), weight_decay=0.01)
    batches = _batches(_examples(seed, slip, doubt, levels), rows, 8, random.Random(f"deal/{seed}"))
    model.train()
    losses = []
    for step in range(steps):
        progress = max(0.0, (step - warmup) / max(1, steps - warmup))
        share = min(1.0, (step + 1) / warmup) * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = peak_lr * share
        ids, labels = next(batches)
        logits = model(input_ids=ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if report is not None:
            report(step + 1, losses[-1])
    model.eval()
    return losses
