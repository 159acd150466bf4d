"""Tiny models and a tiny task: everything the engine's tests train and sample, small enough for one core."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from lengthwise.config.groups.training import Training
from lengthwise.engine.backends.protocol import Backend
from lengthwise.engine.batches import Task
from lengthwise.engine.method import Method
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.trainer import Trainer
from lengthwise.methods import build_method

VOCABULARY = 40
EOS = list(range(30, 40))
"""A quarter of the vocabulary ends a response, so that an untaught model ends its answers soon."""

_SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": EOS[0],
    "bos_token_id": 1,
}
_GROUPED = {"num_key_value_heads": 2}
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, _GROUPED),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, _GROUPED),
    "gemma": (GemmaConfig, GemmaForCausalLM, {**_GROUPED, "head_dim": 8}),
    "gemma2": (
        Gemma2Config,
        Gemma2ForCausalLM,
        # a low cap, so that leaving it out changes the numbers
        {**_GROUPED, "head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 2.0, "sliding_window": 64},
    ),
    "gpt_neox": (GPTNeoXConfig, GPTNeoXForCausalLM, {}),
}


def model(family: str = "qwen2", *, seed: int = 0, spread: float = 1.0) -> Any:
    """A randomly initialised tiny model; a larger `spread` makes its next-token distribution less flat."""
    config_class, model_class, extra = FAMILIES[family]
    torch.manual_seed(seed)
    made = model_class(config_class(**_SIZE, **extra, attn_implementation="eager"))
    with torch.no_grad():
        # The head alone: logits with a spread of about `spread` whatever the family's own initialisation.
        logits = made(input_ids=torch.arange(2, 20)[None]).logits
        if spread and family != "gemma2":
            made.get_output_embeddings().weight.mul_(spread / logits.std())
    return made.eval()


def generator(seed: int = 0) -> torch.Generator:
    """A seeded CPU generator."""
    return torch.Generator().manual_seed(seed)


def plain_logits(net: Any, tokens: Sequence[int]) -> torch.Tensor:
    """Logits [len, V] of a forward without padding and without cache."""
    with torch.no_grad():
        return net(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0].float()


def plain_logp(net: Any, prompt: Sequence[int], response: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """Log-probability of every response token, by one plain forward of the whole sequence."""
    logits = plain_logits(net, [*prompt, *response])[len(prompt) - 1 : -1]
    scaled = torch.log_softmax(logits / temperature, -1)
    return scaled.gather(1, torch.tensor(list(response))[:, None])[:, 0]


def rollouts(
    lengths: Sequence[int],
    *,
    groups: Sequence[int] | None = None,
    correct: Sequence[bool] | None = None,
    finished: Sequence[bool] | None = None,
    cap: int | None = None,
    seed: int = 0,
    prompt_lengths: Sequence[int] | None = None,
) -> Rollouts:
    """Made-up rollouts with responses of the given lengths and random tokens."""
    rows, width = len(lengths), max(lengths)
    dice = generator(seed)
    prompts = list(prompt_lengths) if prompt_lengths is not None else [3] * rows
    num_tokens = torch.tensor(list(lengths))
    mask = torch.arange(width)[None] < num_tokens[:, None]
    prompt_width = max(prompts)
    prompt_mask = torch.arange(prompt_width)[None] >= prompt_width - torch.tensor(prompts)[:, None]
    ended = torch.tensor(list(finished) if finished is not None else [True] * rows)
    return Rollouts(
        prompt_ids=torch.randint(2, VOCABULARY, (rows, prompt_width), generator=dice) * prompt_mask,
        prompt_mask=prompt_mask,
        completion_ids=torch.randint(2, VOCABULARY, (rows, width), generator=dice) * mask,
        mask=mask,
        train_mask=mask.clone(),
        num_tokens=num_tokens,
        finished=ended,
        done=torch.ones(rows, dtype=torch.bool),
        answer_correct=torch.tensor(list(correct) if correct is not None else [True] * rows),
        group_ids=torch.tensor(list(groups) if groups is not None else list(range(rows))),
        problem_ids=torch.tensor(list(groups) if groups is not None else list(range(rows))),
        cap=torch.full((rows,), cap or width),
        logp=-3.0 * mask.float(),
        policy_version=torch.zeros(rows, width, dtype=torch.long),
    )


def task(problems: int = 12) -> Task:
    """Right is an answer whose first token is even: about every second one of an untaught model."""
    return Task(
        prompts=[[2 + number % 25, 1] for number in range(problems)], grade=lambda number, tokens: tokens[0] % 2 == 0
    )


def trainer(
    folder: Path, *, net: Any = None, method: Method | None = None, practice: Task | None = None,
    backend: Backend | None = None, **options: Any,
) -> Trainer:  # fmt: skip
    """A trainer of the tiny task; `options` are those of `Training`."""
    settings: dict[str, Any] = {
        "steps": 3, "prompts": 4, "group_size": 4, "updates": 2, "lr": 1e-2, "checkpoint_every": 1, **options
    }  # fmt: skip
    return Trainer(
        model() if net is None else net,
        method=method or build_method("grpo", cap=6),
        task=practice or task(),
        config=Training(**settings),
        folder=folder,
        eos_ids=EOS,
        pad_id=0,
        backend=backend,
    )


def comparable(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Metrics without the clock."""
    return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows]
