"""What a run will take, from the model's config alone: memory by part, and time from the device's measured speed."""

from __future__ import annotations

import functools
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lengthwise.config.groups.training import Training
from lengthwise.engine.backends.decoding_model import held_bytes
from lengthwise.engine.log_probabilities import CHUNK_BYTES
from lengthwise.engine.method import Recipe
from lengthwise.engine.model_folders import DTYPES
from lengthwise.generation.sampling import ROWS_AT_ONCE
from lengthwise.pretrained import empty_model
from lengthwise.statistics.json_form import Result

if TYPE_CHECKING:
    from transformers import PretrainedConfig

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
CPU = torch.device("cpu")
PROBES = {"cuda": 8192, "mps": 2048, "cpu": 1024}
"""Side of the square matrices that are multiplied to measure a device."""
ACTIVATION_BYTES = {(False, True): 4, (False, False): 3, (True, True): 6, (True, False): 3}
"""By whether an adapter alone learns and whether in float32: seen with SmolLM2-135M and Qwen2.5-Coder-0.5B on a CPU."""
GRADIENT_SHARE = 3
"""One part in so many of gradients and AdamW is gradients."""
SLOW_PROBE = 256
"""The same for half precision on a CPU, which may have no instructions for it."""


@dataclass(frozen=True)
class Estimate(Result):
    """Bytes by part, sampled tokens and seconds per step; rough, within a factor of about two.

    `process` is what this process has resident without a model, where the model lies in the same memory.
    """

    parameters: int
    process: int
    weights: int
    gradients_and_optimizer: int
    reference_model: int
    critic: int
    sampling_weights: int
    kv_cache: int
    logits: int
    activations: int
    tokens_per_step: int
    seconds_per_step: float

    @property
    def total(self) -> int:
        """The larger of sampling and updating, on top of the process and of all models' weights and optimizer."""
        held = (
            self.process
            + self.weights
            + self.gradients_and_optimizer
            + self.reference_model
            + self.critic
            + self.sampling_weights
        )
        return held + max(self.kv_cache, self.activations) + self.logits


def parameter_counts(config: PretrainedConfig, *, trust_remote_code: bool = False) -> tuple[int, int]:
    """Parameters of the model a config describes, and of its decoder alone; nothing is allocated."""
    model = empty_model(config, trust_remote_code=trust_remote_code)
    whole, decoder = (sum(p.numel() for p in part.parameters()) for part in (model, model.get_decoder()))
    return whole, decoder


def estimate(
    config: PretrainedConfig,
    train: Training,
    *,
    cap: int,
    prompt_tokens: int,
    dtype: str,
    lora: int,
    gradient_checkpointing: bool,
    method: Recipe | None = None,
    device: torch.device = CPU,
    counts: tuple[int, int] | None = None,
) -> Estimate:
    """Estimate memory and time of one step of a method; without one, of a method with the policy alone.

    `counts` are the config's `parameter_counts`, where they are known.

    Weights: 4 bytes each when all are trained, the dtype's size when frozen under LoRA. Gradients and AdamW: 12
    more per trained one. A KL penalty holds the starting weights once more, unless they are the policy's own under its
    adapter; a critic is a decoder that learns as the policy does. In half precision the sampler holds the weights of
    linear layers once more, ready for use (see `DecodingModel`). KV cache: 2 · layers · kv_heads · head_dim · bytes ·
    rows · (prompt + cap). Activations per token and layer: about 8 hidden + 5 intermediate values of
    `ACTIVATION_BYTES`, with checkpointing one hidden value; autocast holds float32 weights once more in its own
    numbers. A step learns from no more tokens at a time than an update has; where that is one micro-batch,
    `activations` is what they take beyond the gradients that take their place. Time: 2·N·tokens for every forward, to
    write and to learn, and 4·N·tokens for a backward, at the device's measured speed; decoding reads all weights once
    per token in a row, which bounds it from below. With windows a step writes a window of each response and reads what
    stands before it; where thinking is cut, each is written once and learnt from with every answer after every cut.
    """
    text = config.get_text_config()
    layers, hidden = text.num_hidden_layers, text.hidden_size
    inner = getattr(text, "intermediate_size", None) or 4 * hidden
    size = BYTES[dtype]
    count, decoder = counts or parameter_counts(config)
    held, adapter = (size, 4 * lora * layers * (2 * hidden + inner)) if lora else (4, 0)
    loop = None if method is None else method.loop
    windows = None if loop is None else loop.windows
    has_reference = loop is not None and (loop.kl_coef > 0 or loop.teacher is not None)
    cuts = None if loop is None else loop.cuts
    each = 1 if cuts is None else len(cuts.budgets) * cuts.answers
    drawn = train.prompts * train.group_size
    rows = drawn * each
    in_flight = min(rows, train.sample_rows or rows)
    update = -(-train.prompts // train.updates) * train.group_size * each * (prompt_tokens + cap)
    learnt = min(train.micro_batch_tokens, update)
    per_token = hidden if gradient_checkpointing else 8 * hidden + 5 * inner
    one_layer = (8 * hidden + 5 * inner) if gradient_checkpointing else 0
    written = cap if windows is None else min(windows.window, cap)
    read = rows * (prompt_tokens + (written + cap) // 2)
    flops, bandwidth = machine_speed(device, dtype)
    tokens = rows * written if cuts is None else drawn * cuts.budgets[-1] + rows * cuts.answer
    decode = max(2 * count * tokens / flops, written * count * size / bandwidth)
    shared = loop is not None and loop.shared is not None
    learning = _learning(count, adapter)
    # Gradients take the place of the activations that a backward pass frees, unless they wait for the next micro-batch.
    freed = learning // GRADIENT_SHARE if learnt == update else 0
    policy = 6 + 2 * ((train.updates > 1) + has_reference + shared)
    learn = (policy * count + (0 if windows is None else 8 * decoder)) * read / flops
    return Estimate(
        parameters=count,
        process=resident() if device.type == "cpu" else 0,
        weights=count * held,
        gradients_and_optimizer=learning,
        reference_model=4 * count if has_reference and not lora else 0,
        critic=0 if windows is None else decoder * held + _learning(decoder, adapter),
        sampling_weights=held_bytes(_linear_weights(text, count), DTYPES[dtype], device, frozen=lora > 0),
        kv_cache=_kv_bytes(config, dtype) * in_flight * (prompt_tokens + cap),
        logits=3 * min(CHUNK_BYTES, 4 * text.vocab_size * learnt) + 8 * text.vocab_size * in_flight,
        activations=max(0, ACTIVATION_BYTES[lora > 0, size == 4] * learnt * (per_token * layers + one_layer) - freed)
        + (size * count if size < 4 and not lora else 0),
        tokens_per_step=tokens,
        seconds_per_step=decode + learn,
    )


@functools.cache
def resident() -> int:
    """Bytes of memory that this process had when it was first asked, or at the most where no more is known."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def _linear_weights(text: PretrainedConfig, count: int) -> int:
    """About how many of a model's parameters are in linear layers, its head among them: all but an embedding apart."""
    return count if text.tie_word_embeddings else count - int(text.vocab_size) * int(text.hidden_size)


def _learning(count: int, adapter: int) -> int:
    """Bytes of gradients and AdamW, with the adapter's own weights where only that learns."""
    return 16 * adapter if adapter else 12 * count


@dataclass(frozen=True)
class Measuring(Result):
    """What the measurements of a run take: responses, tokens at the most, seconds, and bytes of their KV cache."""

    responses: int
    tokens: int
    seconds: float
    kv_cache: int


def measuring(
    config: PretrainedConfig,
    passes: Sequence[int],
    *,
    cap: int,
    prompt_tokens: int,
    dtype: str,
    device: torch.device = CPU,
    counts: tuple[int, int] | None = None,
) -> Measuring:
    """Estimate measurements of so many responses each, all as long as the cap allows: an upper bound of their tokens.

    Time: 2·N·tokens at the device's measured speed; all weights are read once per token in a row, for `ROWS_AT_ONCE`
    responses together.
    """
    flops, bandwidth = machine_speed(device, dtype)
    count = (counts or parameter_counts(config))[0]
    reads = sum(-(-responses // ROWS_AT_ONCE) for responses in passes) * cap
    tokens = sum(passes) * cap
    rows = min(max(passes), ROWS_AT_ONCE)
    return Measuring(
        responses=sum(passes),
        tokens=tokens,
        seconds=max(2 * count * tokens / flops, reads * count * BYTES[dtype] / bandwidth),
        kv_cache=_kv_bytes(config, dtype) * rows * (prompt_tokens + cap),
    )


def _kv_bytes(config: PretrainedConfig, dtype: str) -> int:
    """Bytes that one token leaves in the KV cache."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    return 2 * int(text.num_hidden_layers) * int(kv_heads) * int(head_dim) * BYTES[dtype]


@functools.cache
def machine_speed(device: torch.device = CPU, dtype: str = "float32") -> tuple[float, float]:
    """Floating-point operations and bytes per second of a device, from a moment's measurement."""
    slow = device.type == "cpu" and dtype != "float32"
    side = SLOW_PROBE if slow else PROBES.get(device.type, PROBES["cpu"])
    a = torch.ones(side, side, device=device, dtype=DTYPES[dtype])
    flops = 2 * side**3 / _seconds(lambda: a @ a)
    block = torch.ones(max(16 << 20, side * side), device=device)
    return flops, 2 * 4 * block.numel() / _seconds(block.clone)


def _seconds(work: Callable[[], torch.Tensor], times: int = 4) -> float:
    """Seconds of one call, after a first one that is not counted."""
    float(work().flatten()[0])  # a device works on by itself until a number is read back
    started = time.perf_counter()
    for _ in range(times):
        found = work()
    float(found.flatten()[0])
    return (time.perf_counter() - started) / times


def device_name(device: torch.device) -> str:
    """A device as a reader knows it: "this CPU", "cuda (NVIDIA H200)"."""
    if device.type == "cpu":
        return "this CPU"
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
