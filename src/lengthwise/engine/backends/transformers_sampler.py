"""Sampling that costs what its tokens cost: shared prefill, finished rows dropped at once, a cap per row.

The model's own `forward` with its own KV cache does the work, so every decoder that transformers can decode
batched is served. Rows whose rotary factors differ (see `switching`) never share a forward. What cannot be served
exactly is refused by `Sampler.check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lengthwise.context_length import reach
from lengthwise.engine import listening
from lengthwise.engine.backends import self_check
from lengthwise.engine.backends.arguments import BROKEN_WEIGHTS, check_arguments, numbered
from lengthwise.engine.backends.decoding_model import DecodingModel, autocast_dtype, computes_in, gains
from lengthwise.engine.backends.drawing import draw_half, one_of_each
from lengthwise.engine.backends.growing_cache import grow_in_place
from lengthwise.engine.backends.partial_rollouts import Written
from lengthwise.engine.backends.partial_rollouts import pad_left as pad_left
from lengthwise.engine.backends.protocol import World
from lengthwise.engine.backends.self_check import evaluating
from lengthwise.engine.repeating import Recent
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.rotary_switch import forget, switch_of
from lengthwise.errors import ConfigError, TrainingError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache


class Sampler:
    """Draws responses from a causal language model on one device: the reference of all backends.

    `eos_ids` are all tokens that end a response, `pad_id` fills padding (any valid id). `max_rows` bounds the
    rows in flight, and with them the KV cache; 0 means all at once. `endless` is for a model under Lambda attention:
    its config's length is no bound, and only rows of one length are in flight together, because its first tokens
    count and none may be padding.
    """

    name, shares_weights = "transformers", True

    def __init__(
        self, model: PreTrainedModel, *, eos_ids: Sequence[int], pad_id: int, max_rows: int = 0, endless: bool = False
    ) -> None:
        if not eos_ids:
            raise ConfigError("eos_ids is empty; name at least one token that ends a response")
        if max_rows < 0:
            raise ConfigError(f"max_rows is {max_rows}; give 0 (no bound) or a positive number of rows")
        self.model = model
        self.eos_ids = torch.tensor(sorted(set(eos_ids)), device=model.device)
        self.pad_id = pad_id
        self.max_rows = max_rows
        self.endless = endless
        self._half: DecodingModel | None = None
        # Under Lambda attention positions are relative and never beyond the first factors.
        self.switch = None if endless else switch_of(model.config)

    @property
    def device(self) -> torch.device:
        """Where the model and its rollouts lie."""
        return torch.device(self.model.device)

    def sync(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Let go of what is held of the old weights in half precision; the policy's own model is read anew."""
        if self._half is not None:
            self._half.release()

    def rest(self) -> None:
        """Nothing: what is held is for the next tokens."""

    def close(self) -> None:
        """Free what is held between calls."""
        self._half = None

    def running(self) -> PreTrainedModel:
        """The model that decodes here: the policy's, in half precision with linear layers made ready for use."""
        if self.endless:  # its attention was put into the model itself
            return self.model
        dtype = computes_in(self.model)
        if self._half is None or self._half.dtype != dtype:
            self._half = DecodingModel(self.model, dtype) if gains(self.model, dtype) else None
        return self.model if self._half is None else self._half.ready()

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        caps: int | Sequence[int],
        generator: torch.Generator,
        temperature: float = 1.0,
        top_p: float = 1.0,
        group_ids: Sequence[int] | None = None,
        problem_ids: Sequence[int] | None = None,
        policy_version: int = 0,
        world: World | None = None,
        stop_repeats: bool = False,
    ) -> Rollouts:
        """Draw one response per prompt; equal prompts share one prefill.

        `prompts` holds B lists of token ids, `caps` the most response tokens per row (EOS included). Temperature
        0 takes the likeliest token. `logp` is the log-probability under softmax(logits / temperature), before
        top-p (at temperature 0: under softmax(logits)). Tokens that `world` writes count for length and are left
        out of `train_mask`. `stop_repeats` ends a response that goes round in a circle (see `repeating`): it is done
        and not finished, below its cap. `answer_correct` is all False until a grader fills it in. Empty input:
        ConfigError. After every step `listening` tells who wants to know.

        Raises:
            ConfigError: no prompt, an empty prompt, a cap below 1, temperature below 0, top_p outside (0, 1].
            InputError: a prompt and its cap together exceed what the model's config allows.
            TrainingError: the model's logits are NaN: its weights are broken.
        """
        rows = len(prompts)
        cap = [caps] * rows if isinstance(caps, int) else list(caps)
        check_arguments(prompts, cap, temperature, top_p, limit=None if self.endless else reach(self.model.config))
        groups = list(group_ids) if group_ids is not None else numbered(prompts)
        problems = list(problem_ids) if problem_ids is not None else groups
        state = Written([list(p) for p in prompts], [[] for _ in range(rows)], cap, stop_repeats=stop_repeats)
        self._write(state, generator, temperature, top_p, world)
        return state.rollouts(groups, problems, policy_version, pad_id=self.pad_id, device=self.model.device)

    @torch.no_grad()
    def resume(
        self,
        rollouts: Rollouts,
        *,
        caps: int | Sequence[int],
        generator: torch.Generator,
        temperature: float = 1.0,
        top_p: float = 1.0,
        policy_version: int = 0,
        world: World | None = None,
    ) -> Rollouts:
        """Continue rollouts that are not finished up to new caps; finished rows come back as they are.

        Tokens, log-probabilities and policy versions already there are kept; the rest as in `generate`.
        """
        rows = len(rollouts)
        cap = [caps] * rows if isinstance(caps, int) else list(caps)
        prompts = [rollouts.prompt(i) for i in range(rows)]
        check_arguments(prompts, cap, temperature, top_p, limit=None if self.endless else reach(self.model.config))
        state = Written.of(rollouts, prompts, cap)
        self._write(state, generator, temperature, top_p, world)
        resumed = state.rollouts(
            rollouts.group_ids.tolist(), rollouts.problem_ids.tolist(), policy_version, pad_id=self.pad_id,
            device=self.model.device,
        )  # fmt: skip
        unchanged = resumed.num_tokens == rollouts.num_tokens
        return resumed.with_fields(answer_correct=rollouts.answer_correct & unchanged)

    def _write(
        self, state: Written, generator: torch.Generator, temperature: float, top_p: float, world: World | None
    ) -> None:
        """Decode until every row has finished or reached its cap; rows whose factors switch are read anew there."""
        model = self.running()
        with evaluating(model):
            while rows := state.open_rows:
                parts = list(self._in_flight(state, rows))
                most = [max(state.room(row) for row in part) for part in parts]
                for number, active in enumerate(parts):
                    forget(model, self.switch)
                    with listening.before(sum(most[number + 1 :])):
                        self._decode(state, active, generator, temperature, top_p, world)
            forget(model, self.switch)

    def _in_flight(self, state: Written, rows: list[int]) -> Iterator[list[int]]:
        """The rows in the parts that are decoded together; of one length each where no padding is taken."""
        parts: dict[int, list[int]] = {}
        for row in rows:
            parts.setdefault(self._company(state.length(row), state.room(row)), []).append(row)
        for part in parts.values():
            size = self.max_rows or len(part)
            yield from (part[first : first + size] for first in range(0, len(part), size))

    def _company(self, tokens: int, room: int) -> int:
        if self.endless:
            return tokens
        return 0 if self.switch is None else self.switch.company(tokens, room)

    def _room(self, tokens: int, room: int) -> int:
        return room if self.switch is None else self.switch.until(tokens, room)

    def _decode(
        self,
        state: Written,
        active: list[int],
        generator: torch.Generator,
        temperature: float,
        top_p: float,
        world: World | None,
    ) -> None:
        """Write tokens into `state` until every active row has finished, reached its cap or its factors' switch."""
        model, device = self.running(), self.model.device
        state.watch_anew(active)
        context = [state.prompts[i] + state.responses[i] for i in active]
        logits, cache, mask, position = self.prefill(context)
        row_ids = torch.tensor(active, device=device)
        rooms = [self._room(state.length(i), state.room(i)) for i in active]
        room, most = torch.tensor(rooms, device=device), max(rooms)
        recent = Recent([state.responses[i] for i in active], device) if state.stop_repeats else None
        rows_out: list[Tensor] = []
        tokens_out: list[Tensor] = []
        logps_out: list[Tensor] = []
        forced_out: list[Tensor] = []
        while True:
            token, logp = _draw(logits, generator, temperature, top_p)
            forced = torch.zeros_like(token, dtype=torch.bool)
            if world is not None:
                last_rows, last = (rows_out[-1], tokens_out[-1]) if tokens_out else (None, None)
                token, forced = _write_world(world, state, row_ids, last_rows, last, token)
                logp = _log_prob(logits, token, temperature)
            rows_out.append(row_ids)
            tokens_out.append(token)
            logps_out.append(logp)
            forced_out.append(forced)
            room = room - 1
            keep = ~torch.isin(token, self.eos_ids) & (room > 0)
            if recent is not None:
                circling = keep & recent.add(token)
                state.stopped.update(row_ids[circling].tolist())
                keep &= ~circling
            index = keep.nonzero()[:, 0]
            listening.tell(len(token), len(token) - len(index), most - len(tokens_out))
            if len(index) < len(token):
                if not len(index):
                    break
                if recent is not None:
                    recent.keep(index)
                row_ids, room, token, position = row_ids[index], room[index], token[index], position[index]
                mask = mask[index]
                cache.batch_select_indices(index)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            position = position + 1
            out = model(
                input_ids=token[:, None],
                attention_mask=mask,
                position_ids=position[:, None],
                past_key_values=cache,
                use_cache=True,
            )
            logits, cache = out.logits[:, -1], out.past_key_values
        state.append(rows_out, tokens_out, logps_out, forced_out, self.eos_ids)

    def check(self) -> None:
        """Prove on the loaded model that padded, cached decoding equals a plain forward, see `self_check.check`.

        Raises:
            UnsupportedModelError: it does not, or the model cannot be decoded in a padded batch at all.
        """
        self_check.check(self.running(), self.prefill, self.switch)

    def prefill(self, context: list[list[int]]) -> tuple[Tensor, Cache, Tensor, Tensor]:
        """Run each distinct context once, left-padded, and spread its cache to all rows that share it."""
        distinct: dict[tuple[int, ...], int] = {}
        spread = [distinct.setdefault(tuple(tokens), len(distinct)) for tokens in context]
        ids, mask = pad_left(list(distinct), self.pad_id, self.model.device)
        position = (mask.cumsum(1) - 1).clamp(min=0)
        model = self.running()
        out = model(input_ids=ids, attention_mask=mask, position_ids=position, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        if not hasattr(cache, "batch_select_indices"):
            raise UnsupportedModelError(
                f"model_type {self.model.config.model_type!r} keeps a {type(cache).__name__} whose rows cannot be "
                "selected; use a decoder with an ordinary KV cache"
            )
        index = torch.tensor(spread, device=self.model.device)
        if spread != list(range(len(distinct))):
            cache.batch_select_indices(index)
        grow_in_place(cache, autocast_dtype(model))
        return out.logits[index, -1], cache, mask[index], position[index, -1]


def _draw(logits: Tensor, generator: torch.Generator, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    if logits.dtype != torch.float32 and temperature > 0 and top_p == 1:
        token, drawn = draw_half(logits, generator, temperature)
        return token, _numbers(drawn)
    half, logits = logits.dtype != torch.float32, logits.float()
    if temperature == 0:
        token = logits.argmax(-1)
        return token, _numbers(_log_prob(logits, token, temperature))
    logp = torch.log_softmax(logits if temperature == 1 else logits / temperature, -1)
    _numbers(logp[:, 0])
    probs = logp.exp()
    if top_p < 1:
        ordered, order = probs.sort(dim=-1, descending=True)
        # A token stays while the mass before it is below top_p, so the likeliest one always stays.
        outside = ordered.cumsum(-1) - ordered >= top_p
        probs = probs.masked_fill(outside.scatter(-1, order, outside), 0.0)
    token = one_of_each(probs, generator) if half else torch.multinomial(probs, 1, generator=generator)[:, 0]
    return token, logp.gather(-1, token[:, None])[:, 0]


def _numbers(logp: Tensor) -> Tensor:
    """The log-probabilities [B] of a token in each row; where any logit of a row is NaN, so is every one of them."""
    if bool(logp.isnan().any()):
        raise TrainingError(BROKEN_WEIGHTS)
    return logp


def _log_prob(logits: Tensor, token: Tensor, temperature: float) -> Tensor:
    scaled = logits.float() / (temperature or 1.0)
    return torch.log_softmax(scaled, -1).gather(-1, token[:, None])[:, 0]


def _write_world(
    world: World, state: Written, row_ids: Tensor, last_rows: Tensor | None, last: Tensor | None, token: Tensor
) -> tuple[Tensor, Tensor]:
    """Let the world overrule the sampled tokens; returns the tokens and which of them it wrote."""
    if last_rows is not None and last is not None:
        for row, written in zip(last_rows.tolist(), last.tolist(), strict=True):
            state.live[row].append(written)
    rows = row_ids.tolist()
    for row in rows:
        state.live.setdefault(row, list(state.responses[row]))
    chosen = [world(row, state.live[row]) for row in rows]
    forced = torch.tensor([c is not None for c in chosen], device=token.device)
    written_ids = torch.tensor([0 if c is None else c for c in chosen], device=token.device)
    return torch.where(forced, written_ids, token), forced
