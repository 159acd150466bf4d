"""Sampling that costs what its tokens cost: shared prefill, finished rows dropped at once or replaced, a cap per row.

The model's own `forward` with its own KV cache does the work, so every decoder that transformers can decode
batched is served. Rows whose rotary factors differ (see `switching`) never share a forward. What cannot be served
exactly is refused by `Sampler.check`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lengthwise.context_length import reach
from lengthwise.engine import listening
from lengthwise.engine.backends import self_check
from lengthwise.engine.backends.arguments import check_arguments, numbered
from lengthwise.engine.backends.decoding_batch import DecodingBatch, Prefilled, Queue
from lengthwise.engine.backends.decoding_model import DecodingModel, autocast_dtype, computes_in, gains
from lengthwise.engine.backends.drawing import draw, log_prob, row_numbers
from lengthwise.engine.backends.growing_cache import grow_in_place
from lengthwise.engine.backends.partial_rollouts import Decoded, Written
from lengthwise.engine.backends.partial_rollouts import pad_left as pad_left
from lengthwise.engine.backends.protocol import World
from lengthwise.engine.backends.self_check import evaluating
from lengthwise.engine.repeating import Recent
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.rotary_switch import forget, switch_of
from lengthwise.errors import ConfigError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache


@dataclass(frozen=True)
class Drawing:
    """How tokens are drawn. `seeds` are of rows that draw from numbers of their own, whatever their company."""

    generator: torch.Generator
    temperature: float
    top_p: float
    world: World | None
    seeds: Mapping[int, int] | None = None


class Sampler:
    """Draws responses from a causal language model on one device: the reference of all backends.

    `eos_ids` are all tokens that end a response, `pad_id` fills padding (any valid id). `max_rows` bounds the
    rows in flight, and with them the KV cache; 0 means all at once. Rows beyond it wait and take the places of those
    that end; each then draws from a seed of its own, so that its tokens do not depend on its company. `endless` is for
    a model under Lambda attention: its config's length is no bound, and only rows of one length are in flight together,
    because its first tokens count and none may be padding.
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
        self._write(state, Drawing(generator, temperature, top_p, world))
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
        self._write(state, Drawing(generator, temperature, top_p, world))
        resumed = state.rollouts(
            rollouts.group_ids.tolist(), rollouts.problem_ids.tolist(), policy_version, pad_id=self.pad_id,
            device=self.model.device,
        )  # fmt: skip
        unchanged = resumed.num_tokens == rollouts.num_tokens
        return resumed.with_fields(answer_correct=rollouts.answer_correct & unchanged)

    def _write(self, state: Written, how: Drawing) -> None:
        """Decode until every row has finished or reached its cap; rows whose factors switch are read anew there."""
        model = self.running()
        how = self._with_seeds(how, state.open_rows)
        with evaluating(model):
            while rows := state.open_rows:
                parts = list(self._in_flight(state, rows, queue=how.seeds is not None))
                most = [most_steps([state.room(row) for row in part], self.max_rows) for part in parts]
                for number, part in enumerate(parts):
                    forget(model, self.switch)
                    with listening.before(sum(most[number + 1 :])):
                        self._decode(state, part, how)
            forget(model, self.switch)

    def _with_seeds(self, how: Drawing, rows: list[int]) -> Drawing:
        """A seed for each row where some have to wait and any may be beside any other."""
        # A world may want to see rows side by side, as the one does that stops a response once another has ended.
        if not 0 < self.max_rows < len(rows) or self.endless or self.switch is not None or how.world is not None:
            return how
        seeds = torch.randint(2**62, (len(rows),), generator=how.generator, device=how.generator.device)
        return replace(how, seeds=dict(zip(rows, seeds.tolist(), strict=True)))

    def _in_flight(self, state: Written, rows: list[int], *, queue: bool) -> Iterator[list[int]]:
        """The rows in the parts that are decoded together; of one length each where no padding is taken."""
        parts: dict[int, list[int]] = {}
        for row in rows:
            parts.setdefault(self._company(state.length(row), state.room(row)), []).append(row)
        for part in parts.values():
            size = len(part) if queue else self.max_rows or len(part)
            yield from (part[first : first + size] for first in range(0, len(part), size))

    def _company(self, tokens: int, room: int) -> int:
        if self.endless:
            return tokens
        return 0 if self.switch is None else self.switch.company(tokens, room)

    def _room(self, state: Written, row: int) -> int:
        tokens, room = state.length(row), state.room(row)
        return room if self.switch is None else self.switch.until(tokens, room)

    def _decode(self, state: Written, rows: list[int], how: Drawing) -> None:
        """Write tokens into `state` until every row has finished, reached its cap or its factors' switch.

        Rows beyond `max_rows` wait for the places of others; those that still wait when no other is left stay open.
        """
        model, size = self.running(), self.max_rows or len(rows)
        queue, active = Queue(rows[size:], size), rows[:size]
        state.watch_anew(active)
        batch = self._batch(state, active, how, keep_places=bool(queue.waiting))
        most = most_steps([self._room(state, row) for row in rows], size)
        decoded = Decoded()
        while True:
            token, logp, forced = self._next(state, batch, decoded, how)
            decoded.add(batch.rows, token, logp, forced)
            index = self._going_on(state, batch, token)
            listening.tell(len(token), len(token) - len(index), max(most - len(decoded.tokens), 0))
            if len(index) < len(token):
                if not len(index):
                    break
                token = token[index]
                batch.keep(index)
            batch.step(model, token)
            if how.seeds is not None and batch.takes_rows_in:
                self._refill(state, batch, queue, how.seeds)
        state.append(decoded, self.eos_ids)

    def _batch(self, state: Written, rows: list[int], how: Drawing, *, keep_places: bool) -> DecodingBatch:
        """A batch of these rows with their contexts read."""
        device = self.device
        contexts = [state.context(row) for row in rows]
        logits, cache, mask, position = self.prefill(contexts, most_rows=len(rows) if keep_places else 0)
        seeds = None if how.seeds is None else torch.tensor([how.seeds[row] for row in rows], device=device)
        recent = Recent([state.responses[row] for row in rows], device) if state.stop_repeats else None
        rooms = torch.tensor([self._room(state, row) for row in rows], device=device)
        return DecodingBatch(torch.tensor(rows, device=device), rooms, logits, cache, mask, position, seeds, recent)

    def _refill(self, state: Written, batch: DecodingBatch, queue: Queue, seeds: Mapping[int, int]) -> None:
        """Let rows that wait take the places of those that ended; a context that was read last is not read again."""
        turn = {row: tuple(state.context(row)) for row in queue.turn(len(batch.rows))}
        fresh = set(turn.values()) - queue.known
        reads = [queue.read, self._read(sorted(fresh))] if fresh else [queue.read]
        for read in reads:
            rows = [row for row, context in turn.items() if read is not None and context in read.place]
            if read is None or not rows:
                continue
            batch.take_in(
                torch.tensor(rows, device=self.device),
                torch.tensor([state.room(row) for row in rows], device=self.device),
                torch.tensor([seeds[row] for row in rows], device=self.device),
                read,
                torch.tensor([read.place[turn[row]] for row in rows], device=self.device),
                [state.responses[row] for row in rows],
            )
        queue.read = reads[-1] if queue.waiting else None

    def _next(
        self, state: Written, batch: DecodingBatch, decoded: Decoded, how: Drawing
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The next token of every row, its log-probability, and whether the world wrote it."""
        source = how.generator if batch.seeds is None else row_numbers(batch.seeds, batch.position)
        token, logp = draw(batch.logits, source, how.temperature, how.top_p)
        if how.world is None:
            return token, logp, torch.zeros_like(token, dtype=torch.bool)
        token, forced = _write_world(how.world, state, batch.rows, decoded, token)
        return token, log_prob(batch.logits, token, how.temperature), forced

    def _going_on(self, state: Written, batch: DecodingBatch, token: Tensor) -> Tensor:
        """The rows [K] of a batch that go on after these tokens."""
        batch.room = batch.room - 1
        keep = ~torch.isin(token, self.eos_ids) & (batch.room > 0)
        if batch.recent is not None:
            circling = keep & batch.recent.add(token)
            state.stopped.update(batch.rows[circling].tolist())
            keep &= ~circling
        return keep.nonzero()[:, 0]

    def check(self) -> None:
        """Prove on the loaded model that padded, cached decoding equals a plain forward, see `self_check.check`.

        Raises:
            UnsupportedModelError: it does not, or the model cannot be decoded in a padded batch at all.
        """
        self_check.check(self.running(), self.prefill, self.switch)

    def prefill(self, context: list[list[int]], *, most_rows: int = 0) -> tuple[Tensor, Cache, Tensor, Tensor]:
        """Run each distinct context once, left-padded, and spread its cache to all rows that share it."""
        read = self._read(context)
        spread = [read.place[tuple(tokens)] for tokens in context]
        index = torch.tensor(spread, device=self.model.device)
        if spread != list(range(len(read.place))):
            read.cache.batch_select_indices(index)
        grow_in_place(read.cache, autocast_dtype(self.running()), most_rows=most_rows)
        return read.logits[index], read.cache, read.mask[index], read.position[index]

    def _read(self, contexts: Iterable[Sequence[int]]) -> Prefilled:
        """Run each distinct context once, left-padded."""
        place: dict[tuple[int, ...], int] = {}
        for tokens in contexts:
            place.setdefault(tuple(tokens), len(place))
        ids, mask = pad_left(list(place), self.pad_id, self.model.device)
        position = (mask.cumsum(1) - 1).clamp(min=0)
        out = self.running()(
            input_ids=ids, attention_mask=mask, position_ids=position, use_cache=True, logits_to_keep=1
        )
        cache = out.past_key_values
        if not hasattr(cache, "batch_select_indices"):
            raise UnsupportedModelError(
                f"model_type {self.model.config.model_type!r} keeps a {type(cache).__name__} whose rows cannot be "
                "selected; use a decoder with an ordinary KV cache"
            )
        return Prefilled(place, out.logits[:, -1], cache, mask, position[:, -1])


def most_steps(rooms: Sequence[int], most_rows: int) -> int:
    """Steps in which rows get so many tokens each, at most `most_rows` (0: all) at a time, waiting rows in turn."""
    size = most_rows or len(rooms)
    ends = list(rooms[:size])
    heapq.heapify(ends)
    for room in rooms[size:]:
        heapq.heapreplace(ends, ends[0] + room)
    return max(ends)


def _write_world(
    world: World, state: Written, row_ids: Tensor, decoded: Decoded, token: Tensor
) -> tuple[Tensor, Tensor]:
    """Let the world overrule the sampled tokens; returns the tokens and which of them it wrote."""
    if decoded.tokens:
        for row, written in zip(decoded.rows[-1].tolist(), decoded.tokens[-1].tolist(), strict=True):
            state.live[row].append(written)
    rows = row_ids.tolist()
    for row in rows:
        state.live.setdefault(row, list(state.responses[row]))
    chosen = [world(row, state.live[row]) for row in rows]
    forced = torch.tensor([c is not None for c in chosen], device=token.device)
    written_ids = torch.tensor([0 if c is None else c for c in chosen], device=token.device)
    return torch.where(forced, written_ids, token), forced
