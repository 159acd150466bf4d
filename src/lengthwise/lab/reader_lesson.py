"""How the reader is made: a small Llama, stages of ever longer rows, next-word loss on what is to be learnt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lengthwise.context.lambda_shaped_attention.window_rules import whole
from lengthwise.context.tasks.lines import lines_rows
from lengthwise.errors import ConfigError
from lengthwise.lab import reader
from lengthwise.lab.reader_rows import IGNORED, Dealer

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

KINDS = ("lines", "passkey", "story", "repeated")
SPREAD, CONSTANT, SHARPNESS, PAIRS = 0.1, 3.0, 48.0, 6
"""Deviation of the first weights; and of heads that look back: the constant word part they read, their score where
they look, and how many of the fastest pairs carry it."""


@dataclass(frozen=True)
class Stage:
    """``steps`` of rows of ``length`` words, kinds drawn by the shares of ``mix``."""

    length: int
    steps: int
    mix: Mapping[str, float]

    def __post_init__(self) -> None:
        whole("length", self.length, 32)
        whole("steps", self.steps, 1)
        if not self.mix or set(self.mix) - set(KINDS):
            raise ConfigError(f"mix is {dict(self.mix)!r}; choose kinds of {', '.join(KINDS)}")


LESSON = (
    Stage(48, 300, {"repeated": 1}),
    Stage(64, 500, {"lines": 6, "repeated": 1, "story": 1}),
    Stage(reader.TRAINED_CONTEXT, 1000, {"lines": 6, "passkey": 1, "story": 3, "repeated": 1}),
)
"""The lesson of the shipped reader: copy, look up among a few lines, then read all of the trained context."""
FURTHER = {"lines": 6.0, "passkey": 1.0, "story": 3.0}
"""Kinds of rows of a fine-tuning on longer rows."""


def shortened(share: float) -> list[Stage]:
    """The lesson with that share of its steps."""
    return [Stage(stage.length, max(1, round(share * stage.steps)), stage.mix) for stage in LESSON]


def build_model(*, seed: int, layers: int = 2, hidden: int = 64) -> LlamaForCausalLM:
    """An untrained reader: stock Llama, 4 heads of 32 dimensions, tied embeddings, trained context 256.

    Three heads of its first layer begin as ones that look back one, two and three words (`look_back`).
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(reader.build_tokenizer()), hidden_size=hidden, intermediate_size=2 * hidden,
        num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=4, head_dim=32,
        initializer_range=SPREAD, max_position_embeddings=reader.TRAINED_CONTEXT, tie_word_embeddings=True,
        rope_theta=10_000.0, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    look_back(model, (1, 2, 3))
    return model


@torch.no_grad()
def look_back(model: LlamaForCausalLM, distances: Sequence[int]) -> None:
    """Make the first layer's heads begin by looking so many words back, one distance a head.

    Every word gets the same first dimension. Query and key of a head read it alone, and the key is turned ahead by the
    distance, so that the score is sharpest there: a start from which looking things up is learnt within minutes. It is
    trained like every other weight.
    """
    config, words = model.config, model.model.embed_tokens.weight
    norm = config.initializer_range * math.sqrt(config.hidden_size)
    words[:, 0] = 0
    words.copy_(torch.nn.functional.normalize(words, dim=-1) * norm)  # equal norms, so that no word scores higher
    words[:, 0] = CONSTANT * config.initializer_range
    read = CONSTANT / math.sqrt(1 + CONSTANT**2 / config.hidden_size)  # the first dimension after the layer's norm
    size, half = math.sqrt(SHARPNESS * math.sqrt(config.head_dim) / PAIRS) / read, config.head_dim // 2
    turns = model.model.rotary_emb.inv_freq[:PAIRS]
    attention = model.model.layers[0].self_attn
    for head, distance in enumerate(distances):
        part = slice(head * config.head_dim, (head + 1) * config.head_dim)
        query, key = torch.zeros(config.head_dim), torch.zeros(config.head_dim)
        query[:PAIRS] = size
        key[:PAIRS], key[half : half + PAIRS] = size * torch.cos(turns * distance), size * torch.sin(turns * distance)
        for weight, column in ((attention.q_proj.weight, query), (attention.k_proj.weight, key)):
            weight[part] *= 0.02 / config.initializer_range
            weight[part, 0] = column


def teach(
    model: LlamaForCausalLM,
    stages: Sequence[Stage] = LESSON,
    *,
    seed: int,
    tokens: int = 4096,
    peak_lr: float = 4e-3,
    warmup: int = 50,
    report: Callable[[int, float], None] = lambda *_: None,
) -> list[float]:
    """Teach a model the stages in order; returns the loss of every step.

    ``tokens`` words a step. AdamW (betas .9/.98), linear warm-up, cosine to a tenth over all stages, gradient norm 1.
    ``report`` gets (step, mean loss of the last 50) every 50 steps.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_lr, betas=(0.9, 0.98), weight_decay=0.01)
    plan = [stage for stage in stages for _ in range(stage.steps)]
    losses: list[Tensor] = []
    dealer = Dealer(seed)
    model.train()
    for step, stage in enumerate(plan, 1):
        progress = max(0.0, (step - warmup) / max(1, len(plan) - warmup))
        share = min(1.0, step / warmup) * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = peak_lr * share
        ids, labels = dealer.deal(stage.mix, max(1, tokens // stage.length), stage.length)
        loss = loss_of(model, ids.to(device), labels.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
        if step % 50 == 0 or step == len(plan):
            report(step, float(torch.stack(losses[-50:]).mean()))
    model.eval()
    return torch.stack(losses).tolist()


def loss_of(model: LlamaForCausalLM, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean next-word loss where labels are given; logits are computed there alone."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    learnt = labels[:, 1:] != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learnt]), labels[:, 1:][learnt])


def retrieves(model: LlamaForCausalLM, *, length: int, rows: int = 100, seed: int = 0) -> float:
    """Share of line prompts of ``length`` words that the model answers right."""
    tokenizer = reader.build_tokenizer()
    made = lines_rows(tokenizer, length=length, rows=rows, seed=seed)
    return sum(answered(model, tokenizer, [(row.prompt, row.answer) for row in made])) / rows


@torch.no_grad()
def answered(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, asked: Sequence[tuple[str, str]], *, batch: int = 25
) -> list[bool]:
    """For each (prompt, number) whether the likeliest words are the number's, and no digit follows them.

    Read off one pass over prompt and number, which equals the greedy answer word by word until its first mistake.
    """
    words = tokenizer.get_vocab()
    digits = torch.zeros(len(tokenizer), dtype=torch.bool)
    digits[[words[word] for word in reader.NUMBERS]] = True
    device, found = next(model.parameters()).device, []
    for first in range(0, len(asked), batch):
        part = asked[first : first + batch]
        prompts = [tokenizer(prompt)["input_ids"] for prompt, _ in part]
        numbers = [tokenizer(f" {answer}")["input_ids"] for _, answer in part]
        width = max(len(p) + len(n) for p, n in zip(prompts, numbers, strict=True))
        rows = [p + n + [0] * (width - len(p) - len(n)) for p, n in zip(prompts, numbers, strict=True)]
        hidden = model.model(input_ids=torch.tensor(rows, device=device), use_cache=False).last_hidden_state
        for row, (prompt, number) in enumerate(zip(prompts, numbers, strict=True)):
            said = model.lm_head(hidden[row, len(prompt) - 1 : len(prompt) + len(number)]).argmax(-1).cpu()
            found.append(said[:-1].tolist() == number and not bool(digits[said[-1]]))
    return found
