"""Log-probabilities of given responses under a model, in chunks, without a [B, T, V] tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lengthwise.engine.chunked_head import chunked_log_prob
from lengthwise.engine.rollouts import NO_TOKEN, Rollouts
from lengthwise.engine.rotary_switch import Switch, forget, switch_of, unlearnable

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutput

# Bytes of float32 logits held at once; above it, chunks are recomputed in the backward pass.
CHUNK_BYTES = 64 << 20
# Far above every soft cap in use (30 to 50).
LARGE_LOGIT = 200.0


class Scorer:
    """Scores responses with a causal language model.

    The decoder runs once per batch, the head in chunks over the response tokens alone. Whether decoder and head
    together equal the model's own `forward` is proved on the loaded model (soft-capped or scaled logits do not);
    where they differ, the whole forward is used. Where rotary factors switch with the length, a response that crosses
    the switch is read twice, see `readings`. With `adapted` False a model with an adapter is scored as it was without
    it: the starting weights, without a second copy of them.
    """

    def __init__(
        self, model: PreTrainedModel, *, temperature: float = 1.0, chunk_bytes: int = CHUNK_BYTES, adapted: bool = True
    ) -> None:
        self.model = model
        self.chosen: Callable[[], AbstractContextManager[None]] = nullcontext if adapted else model.disable_adapter
        self.temperature = temperature
        self.chunk_bytes = chunk_bytes
        self.switch = switch_of(model.config)
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.decoder = base.get_decoder()
        self.head = base.get_output_embeddings()
        with self.chosen():
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

        def enlarge(_: nn.Module, __: object, output: BaseModelOutput) -> BaseModelOutput:
            output.last_hidden_state = output.last_hidden_state * scale
            return output

        handle = self.decoder.register_forward_hook(enlarge)
        try:
            whole = self.model(input_ids=ids, use_cache=False).logits.float()
        finally:
            handle.remove()
        parts = self.head(hidden * scale).float()
        return whole.shape == parts.shape and torch.allclose(whole, parts, atol=1e-2, rtol=1e-4)

    def __call__(self, rollouts: Rollouts, *, entropy: bool = True) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy (nats, detached) of every response token: float32 [B, T], 0 on padding.

        Entropy is 0 everywhere where it is not asked for.

        Raises:
            UnsupportedModelError: responses beyond rotary factors that change with every length.
        """
        logp = torch.zeros(rollouts.mask.shape, dtype=torch.float32, device=rollouts.prompt_ids.device)
        entropies = torch.zeros_like(logp)
        for reading in readings(rollouts, self.model, self.switch):
            with self.chosen():
                found = self._read(reading, rollouts.completion_ids[reading.scored], entropy)
            logp = logp.masked_scatter(reading.scored, found[0])
            entropies = entropies.masked_scatter(reading.scored, found[1])
        return logp, entropies

    def _read(self, reading: Reading, targets: Tensor, entropy: bool) -> tuple[Tensor, Tensor]:
        return self.score(self.states(reading), targets, entropy)

    def states(self, reading: Reading) -> Tensor:
        """What the head reads at each scored token, [N, H]; where the head does not make up the rest, the logits."""
        if self.split:
            found: Tensor = self.decoder(input_ids=reading.ids, use_cache=False).last_hidden_state
        else:
            found = self.model(input_ids=reading.ids, use_cache=False).logits
        return found.flatten(0, 1)[reading.positions]

    def first_logits(self, prompts: Tensor) -> Tensor:
        """What predicts the first token after each prompt: float32 [P, V]. `prompts` [P, Q] as `bare_prompt_ids`."""
        lengths = (prompts != NO_TOKEN).sum(1)
        if self.switch is None or not bool((lengths > self.switch.length).any()):
            return self._first_logits(prompts, lengths)
        if not self.switch.steady:
            raise unlearnable(self.model.config, self.switch, int(lengths.max()))
        beyond = lengths > self.switch.length
        found = [self._first_logits(prompts[side], lengths[side]) for side in (~beyond, beyond) if bool(side.any())]
        order = torch.cat([(~beyond).nonzero()[:, 0], beyond.nonzero()[:, 0]])
        return torch.cat(found)[order.argsort()]

    def _first_logits(self, prompts: Tensor, lengths: Tensor) -> Tensor:
        # Padding moves to the right, where causal attention never looks.
        width = prompts.shape[1] if self.switch is None else int(lengths.max())
        ids = prompts.new_zeros(len(prompts), width)
        ids[torch.arange(width, device=prompts.device)[None] < lengths[:, None]] = prompts[prompts != NO_TOKEN]
        rows = torch.arange(len(prompts), device=prompts.device)
        if self.split:
            hidden = self.decoder(input_ids=ids, use_cache=False).last_hidden_state
            found: Tensor = self.head(hidden[rows, lengths - 1])
        else:
            found = self.model(input_ids=ids, use_cache=False).logits[rows, lengths - 1]
        return found.float()

    def score(self, states: Tensor, targets: Tensor, entropy: bool) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy, float32 [N], of targets int [N] after what `states` gives."""
        if not self.split:
            return _log_prob_and_entropy(states, targets, self.temperature, entropy)
        rows = max(1, self.chunk_bytes // (4 * self.head.weight.shape[0]))
        if len(states) <= rows:
            return self._score(states, targets, entropy)
        if type(self.head) is nn.Linear and not self.head._forward_hooks:
            return chunked_log_prob(
                states, self.head, targets, temperature=self.temperature, rows=rows, entropy=entropy
            )  # fmt: skip
        chunks = [
            checkpoint(self._score, h, t, entropy, use_reentrant=False)
            for h, t in zip(states.split(rows), targets.split(rows), strict=True)
        ]
        logps, entropies = zip(*chunks, strict=True)
        return torch.cat(logps), torch.cat(entropies)

    def _score(self, hidden: Tensor, targets: Tensor, entropy: bool) -> tuple[Tensor, Tensor]:
        return _log_prob_and_entropy(self.head(hidden), targets, self.temperature, entropy)


def _log_prob_and_entropy(
    logits: Tensor, targets: Tensor, temperature: float, wanted: bool
) -> tuple[Tensor, Tensor]:  # fmt: skip
    scaled = torch.log_softmax(logits.float() / temperature, -1)
    logp = scaled.gather(-1, targets[:, None])[:, 0]
    if not wanted:
        return logp, torch.zeros_like(logp)
    with torch.no_grad():
        # `entr` is 0 where a masked token's logit is -inf; exp(x) * x would be NaN there.
        return logp, torch.special.entr(scaled.exp()).sum(-1)


class Reading(NamedTuple):
    """One forward: `ids` [b, W] as input, and the flat `positions` in it that predict the `scored` tokens.

    `scored` bool [B, T] marks response tokens of the whole batch; `positions` are in its row-major order.
    """

    ids: Tensor
    positions: Tensor
    scored: Tensor


def readings(rollouts: Rollouts, model: PreTrainedModel, switch: Switch | None) -> Iterator[Reading]:
    """The forwards that score every response token as it was drawn; one, where rotary factors do not `switch`.

    Where they do, a token predicted from at most `switch.length` tokens is scored from these alone, and any other
    from its whole text: a row that crosses is read on both sides.

    Raises:
        UnsupportedModelError: a text beyond factors that change with every length.
    """
    prompt_lengths = rollouts.prompt_mask.sum(1)
    longest = int((prompt_lengths + rollouts.num_tokens).max())
    if switch is None:
        yield Reading(*_sequences(rollouts), rollouts.mask)
        return
    if not switch.steady and longest - 1 > switch.length:
        raise unlearnable(model.config, switch, longest)
    forget(model, switch)
    known = prompt_lengths[:, None] + torch.arange(rollouts.mask.shape[1], device=rollouts.mask.device)
    for scored, width in (
        (rollouts.mask & (known <= switch.length), min(longest, switch.length)),
        (rollouts.mask & (known > switch.length), longest),
    ):
        rows = scored.any(1)
        if bool(rows.any()):
            ids = _sequences(rollouts.select(rows))[0][:, :width]
            row = scored[rows].nonzero()[:, 0]
            yield Reading(ids, row * ids.shape[1] + known[rows][scored[rows]] - 1, scored)


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
