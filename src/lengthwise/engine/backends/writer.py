"""Who writes the tokens of a whole run, for every policy that it loads: opened once, closed at its end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from lengthwise.engine.backends.choice import Choice, Wanted
from lengthwise.engine.backends.vllm_engine import GIB, Serving
from lengthwise.engine.backends.vllm_sampler import Served, VllmSampler
from lengthwise.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from lengthwise.engine.model_folders import Policy

MOST_ROWS = 256
"""Rows that vLLM has in flight unless fewer are asked for."""
SHARE = 0.3
"""Of a GPU's memory, beside a policy, its gradients and its optimizer."""
QUARTER = 4
"""The cache on a CPU takes at most this part of the machine's memory, unless its size is given."""
SPARE = 256
"""Tokens that a method may put before a problem, beyond the longest prompt."""


class Writer(AbstractContextManager["Writer"]):
    """Gives policies the chosen backend; under transformers they keep none, and write by themselves."""

    def __init__(self, choice: Choice, served: Served | None, eos_ids: Sequence[int]) -> None:
        self.choice, self.served, self.eos_ids = choice, served, tuple(eos_ids)

    @property
    def facts(self) -> dict[str, str]:
        """What a run's folder keeps of it, where others than the model's own forward write."""
        return {} if self.served is None else {"written_by": self.choice.name}

    def attach(self, policy: Policy) -> Policy:
        """The policy with what writes its tokens."""
        if self.served is None:
            return policy
        backend = VllmSampler(
            policy.model, self.served, eos_ids=self.eos_ids, pad_id=policy.pad_id,
            as_in_folder=policy.folder == self.served.serving.folder,
        )  # fmt: skip
        return replace(policy, backend=backend)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.served is not None:
            self.served.close()


def open_writer(
    choice: Choice,
    wanted: Wanted,
    *,
    dtype: str,
    tokens: int,
    rows: int,
    memory: float | None,
    eos_ids: Sequence[int],
    trains: bool,
    trust_remote_code: bool = False,
) -> Writer:
    """What was chosen, not started yet.

    `tokens` is the most that a prompt and its response have together, `rows` the most in flight (0: `MOST_ROWS`).
    `memory`: on a GPU the share that vLLM takes, on a CPU the GiB of its cache. `trains`: the policy learns meanwhile.

    Raises:
        ConfigError: a share of a GPU above 1.
    """
    if choice.name == "transformers":
        return Writer(choice, None, eos_ids)
    positions, in_flight = tokens + SPARE, min(rows or MOST_ROWS, MOST_ROWS)
    longest = getattr(wanted.config.get_text_config(), "max_position_embeddings", None)
    serving = Serving(
        wanted.folder, wanted.device, dtype, min(positions, longest or positions), in_flight,
        trust_remote_code=trust_remote_code,
    )  # fmt: skip
    if wanted.device.type == "cpu":
        size = int(memory * GIB) if memory is not None else _cache_bytes(wanted.config, dtype, serving)
        return Writer(choice, Served(replace(serving, cache_bytes=size)), eos_ids)
    if memory is not None and memory > 1:
        raise ConfigError(f"vllm_memory is {memory:g}, but on a GPU it is a share of its memory; give at most 1")
    return Writer(choice, Served(replace(serving, share=memory or SHARE, sleeps=trains)), eos_ids)


def _cache_bytes(config: PretrainedConfig, dtype: str, serving: Serving) -> int:
    """What all rows in flight need at their longest, at most a quarter of the machine; at least what one needs."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    token = 2 * int(text.num_hidden_layers * heads * size) * (4 if dtype == "float32" else 2)
    row = token * (serving.positions + SPARE)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(min(serving.rows * row, machine // QUARTER), row)
