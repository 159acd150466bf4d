"""The lab's reasoners: how their tokenizers and models are made, taught and found on disk.

Teaching is plain next-token loss on worked solutions (`lessons`). The shipped folders under ``lab/assets`` were made
by ``python -m lengthwise.lab.teach``; see their model cards.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lengthwise.errors import ConfigError
from lengthwise.lab.lessons import Example, Lesson
from lengthwise.lab.words import EOS, PAD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

IGNORED = -100
SHIPPED = "lab:chains"
"""The name under which commands take the shipped verbose reasoner, wherever the package is installed."""
POSITIONS = 512


def shipped_reasoner(world: str = "chains") -> Path:
    """Folder of a reasoner that comes with the package, in Hugging Face format."""
    return Path(str(resources.files("lengthwise.lab") / "assets" / world))


def build_tokenizer(vocabulary: Sequence[str]) -> PreTrainedTokenizerFast:
    """A world's tokenizer: one token per word; loads by `AutoTokenizer`.

    transformers gives every Qwen2 model Qwen2's own pre-tokenizer, whatever its folder says, and that splits
    numbers into digits. Added tokens are matched before it, the longest first, so every word is one.
    """
    from tokenizers import AddedToken, Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE({word: index for index, word in enumerate(vocabulary)}, []))
    plain = [word for word in vocabulary if word not in (PAD, EOS)]
    core.add_tokens([AddedToken(word, normalized=False, lstrip=True) for word in plain])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=EOS,
        clean_up_tokenization_spaces=False,
        model_max_length=POSITIONS,
    )


def build_model(lesson: Lesson, *, seed: int, layers: int | None = None, hidden: int | None = None) -> Qwen2ForCausalLM:
    """An untrained reasoner for a lesson: a stock Qwen2 configuration, tied embeddings.

    `layers` and `hidden` replace the lesson's own sizes.
    """
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    width = hidden or lesson.hidden
    config = Qwen2Config(
        vocab_size=len(lesson.vocabulary),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers or lesson.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        pad_token_id=lesson.vocabulary.index(PAD),
        eos_token_id=lesson.vocabulary.index(EOS),
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config)


def first_model(lesson: Lesson, *, seed: int) -> Qwen2ForCausalLM:
    """What a lesson begins with: an untrained model, or the shipped one that it teaches further.

    Words that the shipped one does not know come last in the lesson's vocabulary and get fresh embeddings.
    """
    from transformers import Qwen2ForCausalLM

    if lesson.start is None:
        return build_model(lesson, seed=seed)
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM.from_pretrained(shipped_reasoner(lesson.start))
    if model.config.vocab_size < len(lesson.vocabulary):
        model.resize_token_embeddings(len(lesson.vocabulary))
    return model


def _batches(lesson: Lesson, rows: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Padded batches of like lengths: a pool is drawn, sorted and dealt out in random order."""
    word = {w: i for i, w in enumerate(lesson.vocabulary)}
    examples, rng = lesson.examples(seed), random.Random(f"deal/{seed}")

    def size(example: Example) -> int:
        return len(example.prompt) + len(example.response)

    while True:
        drawn = sorted((next(examples) for _ in range(rows * lesson.pool)), key=size)
        deals = [drawn[i : i + rows] for i in range(0, len(drawn), rows)]
        rng.shuffle(deals)
        for deal in deals:
            width = max(size(example) for example in deal)
            ids = torch.zeros(rows, width, dtype=torch.long)
            labels = torch.full((rows, width), IGNORED)
            for row, (prompt, response, taught) in enumerate(deal):
                answer = torch.tensor([word[w] for w in response])
                ids[row, : len(prompt)] = torch.tensor([word[w] for w in prompt])
                part = slice(len(prompt), len(prompt) + len(response))
                ids[row, part] = answer
                labels[row, part] = answer.masked_fill(~torch.tensor(taught), IGNORED)
            yield ids, labels


def teach(
    model: Qwen2ForCausalLM,
    lesson: Lesson,
    *,
    steps: int,
    seed: int,
    rows: int = 48,
    peak_lr: float = 2e-3,
    warmup: int = 50,
    report: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Teach the model a lesson's worked solutions; returns the loss of every step.

    AdamW (betas .9/.98), linear warm-up, cosine to a tenth, gradient norm 1. `report` gets (step, loss).

    Raises:
        ConfigError: `steps` or `rows` below 1.
    """
    if steps < 1 or rows < 1:
        raise ConfigError(f"steps is {steps} and rows {rows}; both must be at least 1")
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_lr, betas=(0.9, 0.98), weight_decay=0.01)
    batches = _batches(lesson, rows, seed)
    model.train()
    losses = []
    for step in range(steps):
        progress = max(0.0, (step - warmup) / max(1, steps - warmup))
        share = min(1.0, (step + 1) / warmup) * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = peak_lr * share
        ids, labels = (part.to(model.device) for part in next(batches))
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
