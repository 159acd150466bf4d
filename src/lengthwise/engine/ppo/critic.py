"""The value model: the policy's own architecture with one number in place of the vocabulary.

Shapes: B rows (responses), T response tokens.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lengthwise.engine.batches import micro_batches, mini_batches
from lengthwise.engine.log_probabilities import readings
from lengthwise.engine.optimizer_step import take_step
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.rotary_switch import switch_of
from lengthwise.engine.updates import UpdatePlan
from lengthwise.errors import InputError, UnsupportedModelError
from lengthwise.files import replacing
from lengthwise.objectives import clipped_value

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Critic(torch.nn.Module):
    """V before each response token: a copy of a policy's decoder and a linear head that says 0 until it is taught.

    The copy learns what the policy learns: all weights, or with LoRA its adapters. The head always learns, in float32.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Copy the decoder of a causal language model.

        Raises:
            UnsupportedModelError: the model has no decoder apart from its head.
        """
        super().__init__()
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        decoder = base.get_decoder()
        if decoder is None or decoder is base:
            raise UnsupportedModelError(
                f"model_type {base.config.model_type!r} has no decoder apart from its head, so no value model can be "
                "made of it; use a method without a critic, for example dler"
            )
        self.decoder = copy.deepcopy(decoder)
        self.switch = switch_of(base.config)
        self.head = torch.nn.Linear(base.config.get_text_config().hidden_size, 1, device=model.device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, rollouts: Rollouts) -> Tensor:
        """Values of all response tokens, each from what stands before it: float32 [B, T], 0 on padding."""
        found = torch.zeros(rollouts.mask.shape, dtype=torch.float32, device=rollouts.prompt_ids.device)
        for reading in readings(rollouts, self.decoder, self.switch):
            hidden = self.decoder(input_ids=reading.ids, use_cache=False).last_hidden_state
            # In bfloat16 a value near 1 would come in steps of 1/128, coarser than what it should tell apart.
            with torch.autocast(reading.ids.device.type, enabled=False):
                values = self.head(hidden.flatten(0, 1)[reading.positions].float())[:, 0]
            found = found.masked_scatter(reading.scored, values)
        return found

    def save(self, path: Path) -> None:
        """Write all weights as one safetensors file, whole or not at all."""
        with replacing(path) as partial:
            save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, partial)

    def load(self, path: Path) -> None:
        """Put in the weights that `save` wrote.

        Raises:
            InputError: not a readable safetensors file, or of another architecture.
        """
        try:
            self.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"critic is {str(path)!r}: it cannot be loaded ({reason}); give a file that was saved by a run on the "
                "same model"
            ) from error


@torch.no_grad()
def estimate(critic: Critic, rollouts: Rollouts, micro_batch_tokens: int) -> Tensor:
    """Values float32 [B, T] under the critic's weights, in parts of at most `micro_batch_tokens` padded tokens."""
    values = torch.zeros_like(rollouts.logp)
    rows = torch.arange(len(rollouts), device=values.device)
    for part in micro_batches(rollouts, rows, max_tokens=micro_batch_tokens, whole_groups=False):
        sub = rollouts.select(part).trim()
        values[part, : sub.mask.shape[1]] = critic(sub)
    return values


def update_critic(
    critic: Critic,
    optimizer: torch.optim.Optimizer,
    parameters: list[Tensor],
    rollouts: Rollouts,
    old_values: Tensor,
    returns: Tensor,
    plan: UpdatePlan,
    *,
    clip_low: float,
    clip_high: float,
    generator: torch.Generator,
) -> dict[str, float]:
    """Take up to `plan.updates` optimizer steps on done responses; returns statistics over all their tokens.

    `rollouts` holds whole responses with group ids that differ, `old_values` and `returns` are float [B, T]. Each
    response counts the same, whatever its length.

    Raises:
        TrainingError: the loss or the gradient norm is not finite; the weights are left as they were before
            that optimizer step.
    """
    totals: dict[str, float] = {}
    losses, norms = [], []
    for mini in mini_batches(rollouts.group_ids, plan.updates, generator):
        optimizer.zero_grad(set_to_none=True)
        loss = 0.0
        for part in micro_batches(rollouts, mini, max_tokens=plan.micro_batch_tokens, whole_groups=False):
            sub = rollouts.select(part).trim()
            width = sub.mask.shape[1]
            value, stats = clipped_value(
                critic(sub), old_values[part, :width], returns[part, :width], sub.mask,
                clip_low=clip_low, clip_high=clip_high, normaliser=len(mini),
            )  # fmt: skip
            value.backward()
            loss += float(value.detach())
            for name, number in stats.items():
                totals[name] = totals.get(name, 0.0) + float(number)
        norms.append(take_step(optimizer, parameters, plan.grad_clip, loss))
        losses.append(loss)
    return {
        "value_loss": sum(losses) / len(losses),
        "value_grad_norm": sum(norms) / len(norms),
        "value_updates": len(norms),
        "value_clip_share": totals["value_clipped"] / totals["value_tokens"],
    }
