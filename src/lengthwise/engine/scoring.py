"""Log-probabilities of given responses under a model, in chunks, without a [B, T, V] tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lengthwise.engine.rollouts import NO_TOKEN, Rollouts

# Bytes of float32 logits held at once; above it, chunks are recomputed in the backward pass.
CHUNK_BYTES = 64 << 20
# Far above every soft cap in use (30 to 50).
LARGE_LOGIT = 200.0


class Scorer:
    """Scores responses with a causal language model.

    The decoder runs once per batch, the head in chunks over the response tokens alone. Whether decoder and head
    together equal the model's own `forward` is proved on the loaded model (soft-capped or scaled logits do not);
    where they differ, the whole forward is used.
    """

    def __init__(self, model: Any, *, temperature: float = 1.0, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.model = model
        self.temperature = temperature
        self.chunk_bytes = chunk_bytes
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.decoder = base.get_decoder()
        self.head = base.get_output_embeddings()
        self.split = self._split_is_exact()

    @torch.no_grad()
    def _split_is_exact(self) -> bool:
        if self.head is None or self.decoder is self.model:
            return False
        size = self.model.get_input_embeddings().weight.shape[0]
        ids = torch.tensor([[(5 * k + 1) % size for k in range(6)]], device=self.model.device)
        hidden = self.decoder(input_ids=ids, use_cache=False).last_hidden_state
        # A soft cap is invisible on the small logits of a young model, so both paths are shown large ones.
        scale = LARGE_LOGIT / float(self.head(hidden).abs().max().clamp(min=1e-6))

        def enlarge(module: Any, args: Any, output: Any) -> Any:
            output.last_hidden_state = output.last_hidden_state * scale
            return output

        handle = self.decoder.register_forward_hook(enlarge)
        try:
            whole = self.model(input_ids=ids, use_cache=False).logits.float()
        finally:
            handle.remove()
        parts = self.head(hidden * scale).float()
        return whole.shape == parts.shape and torch.allclose(whole, parts, atol=1e-2, rtol=1e-4)

    def __call__(self, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy (nats, detached) of every response token: float32 [B, T], 0 on padding."""
        ids, positions = _sequences(rollouts)
        targets = rollouts.completion_ids[rollouts.mask]
        if self.split:
            hidden = self.decoder(input_ids=ids, use_cache=False).last_hidden_state
            hidden = hidden.flatten(0, 1)[positions]
            logp, entropy = self._chunked(hidden, targets)
        else:
            logits = self.model(input_ids=ids, use_cache=False).logits.flatten(0, 1)[positions]
            logp, entropy = _log_prob_and_entropy(logits, targets, self.temperature)
        blank = torch.zeros(rollouts.mask.shape, dtype=torch.float32, device=ids.device)
        return blank.masked_scatter(rollouts.mask, logp), blank.masked_scatter(rollouts.mask, entropy)

    def first_logits(self, prompts: Tensor) -> Tensor:
        """What predicts the first token after each prompt: float32 [P, V]. `prompts` [P, Q] as `bare_prompt_ids`."""
        lengths = (prompts != NO_TOKEN).sum(1)
        column = torch.arange(prompts.shape[1], device=prompts.device)[None]
        # Padding moves to the right, where causal attention never looks.
        ids = torch.zeros_like(prompts)
        ids[column < lengths[:, None]] = prompts[prompts != NO_TOKEN]
        rows = torch.arange(len(prompts), device=prompts.device)
        if self.split:
            hidden = self.decoder(input_ids=ids, use_cache=False).last_hidden_state
            found: Tensor = self.head(hidden[rows, lengths - 1])
        else:
            found = self.model(input_ids=ids, use_cache=False).logits[rows, lengths - 1]
        return found.float()

    def _chunked(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        rows = max(1, self.chunk_bytes // (4 * self.head.weight.shape[0]))
        if len(hidden) <= rows:
            return self._score(hidden, targets)
        chunks = [
            checkpoint(self._score, h, t, use_reentrant=False)
            for h, t in zip(hidden.split(rows), targets.split(rows), strict=True)
        ]
        logps, entropies = zip(*chunks, strict=True)
        return torch.cat(logps), torch.cat(entropies)

    def _score(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return _log_prob_and_entropy(self.head(hidden), targets, self.temperature)


def _log_prob_and_entropy(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    scaled = torch.log_softmax(logits.float() / temperature, -1)
    with torch.no_grad():
        # `entr` is 0 where a masked token's logit is -inf; exp(x) * x would be NaN there.
        entropy = torch.special.entr(scaled.exp()).sum(-1)
    return scaled.gather(-1, targets[:, None])[:, 0], entropy


def _sequences(rollouts: Rollouts) -> tuple[Tensor, Tensor]:
    """Prompt and response without the padding between them, and the flat positions that predict each token.

    Padding stands on the right only: causal attention never lets a real token see it, so no mask is needed.
    """
    prompt_lengths = rollouts.prompt_mask.sum(1)
    totals = prompt_lengths + rollouts.num_tokens
    width = int(totals.max())
    ids = torch.zeros(len(rollouts), width, dtype=torch.long, device=rollouts.prompt_ids.device)
    column = torch.arange(width, device=ids.device)[None]
    ids[column < prompt_lengths[:, None]] = rollouts.prompt_ids[rollouts.prompt_mask]
    in_response = (column >= prompt_lengths[:, None]) & (column < totals[:, None])
    ids[in_response] = rollouts.completion_ids[rollouts.mask]
    return ids, (in_response.flatten().nonzero()[:, 0] - 1)
