"""TRL's GRPOTrainer with this package's methods: more devices by accelerate, DeepSpeed or FSDP, sampling by vLLM.

TRL draws and scores responses; what is made of them is the method's: which groups are kept, reward, advantage, loss,
cap and state, over the whole batch of all processes. The adapter wraps TRL and copies nothing of it: what it touches
that TRL does not promise is listed in `names`.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable, Mapping, Sized
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import lengthwise.context  # noqa: F401  (TRL loads the model: its folder may need our position schemes)
from lengthwise.adapters.batch_split import Batch, Mini, Piece, deal, join_batches, part_loss, sees_all, verdicts_of
from lengthwise.adapters.engine_names import (
    TRL_ATTRIBUTES,
    TRL_METHODS,
    TRL_OPTIONAL_ROWS,
    TRL_ROWS,
    check_attributes,
    check_methods,
    installed,
)
from lengthwise.adapters.method_support import chosen
from lengthwise.adapters.trl_aborted import Aborted, Filled
from lengthwise.adapters.trl_settings import check_settings
from lengthwise.adapters.trl_state import read_state, write_state
from lengthwise.adapters.trl_vllm import mend_hand_over
from lengthwise.adapters.verdicts import Rows, as_dataset, prompt_rows, stable_id, verdict_function
from lengthwise.engine.batches import Collected, nothing_kept, problem_at, step_generator
from lengthwise.engine.groups import UPDATE_STAGE
from lengthwise.engine.method import Method, State, finite
from lengthwise.engine.rollout_metrics import rollout_metrics
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.rotary_switch import check_shared
from lengthwise.engine.step_warnings import Watch
from lengthwise.engine.trainer import MOST_SKIPPED
from lengthwise.errors import ConfigError, LengthwiseWarning, TrainingError
from lengthwise.grading.problems import Problems
from lengthwise.objectives import round_half_up
from lengthwise.objectives._wide import wide, wide_dtype
from lengthwise.optional_imports import importing

with importing("the TRL adapter", "trl", "trl"):
    from trl import GRPOConfig, GRPOTrainer

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedModel
    from trl.trainer.grpo_trainer import RewardFunc


class LengthwiseGRPOTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL is not read by the checker
    """TRL's GRPOTrainer, carrying out one of this package's methods.

    `method` is a name, made with `args.max_completion_length` as its cap and with `method_options`, or a `Method`.
    `problems` gives data set and grader under our prompt contract; without it `train_dataset` and `reward_funcs` are
    TRL's, of which the one function returns 1 for a right answer and 0 for a wrong one, cut or not, and a column
    `problem_id` names problems for ever. `max_draws` bounds dynamic sampling: groups that the method does not keep are
    drawn again, with other prompts of the data set; of an iterable data set they are only filtered.

    One batch is a generation batch of TRL: `steps_per_generation / gradient_accumulation_steps` updates are taken on
    it, times `num_iterations`. Everything else is TRL's own.

    Raises:
        ConfigError: a method that TRL cannot carry, or a setting of `args` that the method replaces.
        UnsupportedModelError: rotary factors that would switch within a batch.
    """

    _buffered_inputs: list[Piece] | None

    def __init__(
        self,
        model: str | PreTrainedModel,
        reward_funcs: RewardFunc | list[RewardFunc] | None = None,
        args: GRPOConfig | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        *,
        method: str | Method,
        method_options: Mapping[str, object] | None = None,
        problems: Problems | None = None,
        max_draws: int = 8,
        **named: object,
    ) -> None:
        installed("trl")
        check_methods("trl", GRPOTrainer, TRL_METHODS)
        args = copy.copy(args) if args is not None else GRPOConfig()
        if max_draws < 1:
            raise ConfigError(f"max_draws is {max_draws}; give at least 1")
        self.method = chosen("trl", method, method_options or {}, args.max_completion_length)
        check_settings(args, self.method, {field.name: field.default for field in fields(GRPOConfig)})
        args.beta = self.method.kl_coef
        if problems is not None:
            if train_dataset is not None or reward_funcs is not None:
                raise ConfigError("problems is given, and so are train_dataset or reward_funcs; give one or the other")
            train_dataset, reward_funcs = as_dataset(prompt_rows(problems)), verdict_function(problems)
            named.setdefault("processing_class", problems.tokenizer)
        self.max_draws, self.watch = max_draws, Watch()
        self.method_state: State = self.method.initial_state()
        self._verdicts = torch.zeros(0, dtype=torch.bool)
        self._weights_before: float | None = None
        self._aborted = Aborted()
        if named.get("rollout_func") is not None:
            named["rollout_func"] = self._aborted.filling(named["rollout_func"])
        super().__init__(model=model, reward_funcs=reward_funcs, args=args, train_dataset=train_dataset, **named)
        sampler = ("vllm_generation",) if self.use_vllm else ("generation_config", "generation_kwargs")
        check_attributes("trl", self, TRL_ATTRIBUTES + sampler)
        if self.use_vllm:
            mend_hand_over(self.vllm_generation, self.model, self.accelerator.device)
        longest = 1 if problems is None else max(map(len, problems.prompts))
        check_shared(self.model.config, longest + self.max_completion_length, "TRL")
        if problems is not None and set(problems.contract.eos_ids) != set(self.eos_token_ids):
            raise ConfigError(
                f"the prompt contract ends a response at {sorted(problems.contract.eos_ids)} but TRL at "
                f"{sorted(self.eos_token_ids)}; make eos_token_id of the model's generation_config.json name them all"
            )
        if self.method.observe is not None and not self._indexed:
            raise ConfigError(f"method {self.method.name!r} watches fixed problems; give a data set that is no stream")

    # What is drawn.

    @property
    def _indexed(self) -> bool:
        return isinstance(self.train_dataset, Sized)

    @property
    def batches_done(self) -> int:
        """Batches learnt from so far: the step that schedules count; read off TRL's own counter of updates."""
        updates = self.args.steps_per_generation // self.args.gradient_accumulation_steps
        return int(self.state.global_step) // int(updates * self.num_iterations)

    def _prepare_inputs(self, generation_batch: Rows) -> Piece:
        if not self.model.training:
            batch = self._draw(generation_batch, self.max_completion_length, 0, self.num_generations_eval).answers()
            return {"mini": self._deal(batch, self._rewards(batch), updates=1, micro=1)[0], "micro": 0}
        every = self.args.steps_per_generation * self.num_iterations
        if self._step % every == 0 or self._buffered_inputs is None:
            self._buffered_inputs = self._next_batch(generation_batch)
        piece: Piece = self._buffered_inputs[self._step % self.args.steps_per_generation]
        return piece

    def _next_batch(self, inputs: Rows) -> list[Piece]:
        step, accumulate = self.batches_done, self.args.gradient_accumulation_steps
        cap = self._cap(step)
        watched = self.method.observe
        if watched is not None and step % watched.every == 0:
            seen = self._draw(self._rows(range(watched.prompts)), cap, 0).answers()
            if len(seen):
                self.method_state = watched.update(self.method_state, seen.rollouts)
        drawn, kept = self._collect(inputs, step, cap)
        rewards = self._rewards(kept)
        minis = self._deal(kept, rewards, updates=self.args.steps_per_generation // accumulate, micro=accumulate)
        everything = join_batches(drawn).rollouts
        self._report(Collected(everything, kept.rollouts, len(drawn), 0), rewards, cap)
        self.method_state = self.method.update_state(self.method_state, everything)
        return [{"mini": mini, "micro": micro} for mini in minis for micro in range(accumulate)]

    def _cap(self, step: int) -> int:
        """This step's cap, made TRL's."""
        cap = round_half_up(self.method.cap(step, self.method_state))
        if not 1 <= cap <= self.max_completion_length:
            raise ConfigError(
                f"the cap of step {step} is {cap}, but max_completion_length is {self.max_completion_length}; make "
                "that the method's longest cap"
            )
        if self.use_vllm:
            self.vllm_generation.max_completion_length = cap
        else:
            self.generation_config.max_new_tokens = self.generation_kwargs["max_new_tokens"] = cap
        return cap

    def _collect(self, inputs: Rows, step: int, cap: int) -> tuple[list[Batch], Batch]:
        """All that was drawn, and the kept groups; prompts of which none is kept are passed over, as in our engine."""
        wanted, asked = self.args.generation_batch_size // self.num_generations, 0
        for _ in range(MOST_SKIPPED):
            first = self._more(step, asked, wanted) if asked else inputs
            drawn, kept, asked = self._round(first, step, cap, asked)
            everything = join_batches(drawn).rollouts
            if kept:
                batch = join_batches(kept)
                groups = batch.rollouts.group_ids
                return drawn, batch.select(torch.isin(groups, groups.unique()[:wanted]))
            why = nothing_kept(Collected(everything, everything, len(drawn), 0), cap)
            if not self._indexed:
                break
            warnings.warn(f"batch {step}: passed over, {why}", LengthwiseWarning, stacklevel=2)
            self.method_state = self.method.update_state(self.method_state, everything)
        raise TrainingError(f"{why}. Batches in a row with nothing to learn from end a run at {MOST_SKIPPED}")

    def _round(self, inputs: Rows, step: int, cap: int, asked: int) -> tuple[list[Batch], list[Batch], int]:
        """What was drawn, the kept groups of it, drawn again while there are too few, and the prompts asked by then."""
        wanted = self.args.generation_batch_size // self.num_generations
        drawn: list[Batch] = []
        kept: list[Batch] = []
        found, before = 0, asked
        while found < wanted and len(drawn) < self.max_draws:
            share = found / (asked - before) if found else 0.5
            ask = min(wanted, math.ceil((wanted - found) / max(share, 0.25)))
            batch = self._draw(self._more(step, asked, ask) if drawn else inputs, cap, asked)
            asked += len(batch.rollouts.group_ids.unique())
            self._aborted.note(int((batch.rollouts.num_tokens == 0).sum()))
            batch = batch.answers()
            drawn.append(batch)
            rows = None if self.method.keep is None else self.method.keep(batch.rollouts)
            kept.append(batch if rows is None else batch.select(rows))
            found += len(kept[-1].rollouts.group_ids.unique())
            if not self._indexed:
                break  # an iterable data set is read in order: filtered, not refilled
        if not any(len(batch) for batch in drawn):
            raise TrainingError(f"TRL gave no response token in {len(drawn)} draws; see what its sampler says")
        return drawn, [batch for batch in kept if len(batch)], asked

    def _more(self, step: int, asked: int, ask: int) -> Rows:
        """Rows of other prompts for this process, each as often as a group is large."""
        size, processes = self.num_generations, self.accelerator.num_processes
        unit = processes // math.gcd(processes, size)  # so many groups are shared out evenly
        ask = -(-ask // unit) * unit
        wanted = self.args.generation_batch_size // size
        first = step * wanted * self.max_draws + asked
        count = len(self.train_dataset)
        return self._rows(problem_at(first + i, count, self.args.seed + 1) for i in range(ask))

    def _rows(self, places: Iterable[int]) -> Rows:
        """This process's share of the named rows of the data set, each as often as a group is large."""
        count = len(self.train_dataset)
        rows = [self.train_dataset[place % count] for place in places for _ in range(self.num_generations)]
        each = len(rows) // self.accelerator.num_processes
        if each * self.accelerator.num_processes != len(rows):
            raise ConfigError(
                f"{len(rows)} rows cannot be shared out over {self.accelerator.num_processes} processes; make the "
                "method's watched set, or num_generations, a multiple of them"
            )
        return rows[each * self.accelerator.process_index :][:each]

    def _calculate_rewards(self, *given: object, **named: object) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(*given, **named)
        self._verdicts = verdicts_of(rewards)
        return rewards

    def _generate_single_turn(self, *given: object, **named: object) -> Filled:
        responses, logprobs = super()._generate_single_turn(*given, **named)
        return self._aborted.fill(responses, logprobs, self.eos_token_ids[0])

    def _draw(self, inputs: Rows, cap: int, first_group: int, size: int | None = None) -> Batch:
        """One sampling by TRL, over all processes: every process holds all rows, on the CPU."""
        self._aborted.begin()
        out = super()._generate_and_score_completions(inputs)
        if "pixel_values" in out:
            raise ConfigError("the data set has images; the adapter takes text alone")
        prompt_ids, prompt_mask, completion_ids, mask = (out[name] for name in TRL_ROWS)
        beside = {name: out[key] for name, key in TRL_OPTIONAL_ROWS.items() if key in out}
        ids = torch.tensor([stable_id(row) for row in inputs], device=mask.device)
        mask = self._aborted.without(mask.bool())
        learnt = (mask * beside.pop("tool_mask", 1)).bool()
        last = completion_ids.gather(1, (mask.sum(1, keepdim=True) - 1).clamp(min=0))[:, 0]
        ended = torch.isin(last, torch.tensor(self.eos_token_ids, device=mask.device)) & mask.any(1)
        prompt_ids, prompt_mask = (self._gather(t, first=True) for t in (prompt_ids, prompt_mask.bool()))
        completion_ids, mask, learnt = (self._gather(t) for t in (completion_ids, mask, learnt))
        beside = {name: self._gather(value.float().expand(len(ids), -1)) for name, value in beside.items()}
        rows, width = mask.shape
        check_shared(self.model.config, prompt_mask.shape[1] + width, "TRL")
        if int(mask.sum(1).max()) > cap:
            raise ConfigError(f"TRL sampled {int(mask.sum(1).max())} tokens under a cap of {cap}; see docs/engines.md")
        if "importance" in beside:
            beside["importance"] = beside["importance"].expand(rows, width)
        finished = self._gather(ended)
        rollouts = Rollouts(
            prompt_ids=prompt_ids, prompt_mask=prompt_mask, completion_ids=completion_ids, mask=mask,
            train_mask=learnt, num_tokens=mask.sum(1), finished=finished,
            done=finished | (mask.sum(1) >= cap), answer_correct=self._verdicts.cpu(),
            group_ids=first_group + torch.arange(rows) // (size or self.num_generations),
            problem_ids=self._gather(ids), cap=torch.full((rows,), cap),
            logp=beside.pop("sampled", beside.get("old", torch.zeros(rows, width))).nan_to_num(),
            policy_version=torch.full((rows, 1), self.batches_done).expand(rows, width),
        )  # fmt: skip
        return Batch(rollouts, beside)

    def _gather(self, value: Tensor, *, first: bool = False) -> Tensor:
        # Accelerate pads a bool tensor by adding a whole number, which makes it one of whole numbers on some processes.
        moved = value.to(torch.uint8) if value.dtype is torch.bool else value
        if moved.dim() == 2:
            moved = self.accelerator.pad_across_processes(moved, dim=1, pad_first=first)
        gathered: Tensor = self.accelerator.gather(moved.contiguous()).to(value.dtype).cpu()
        return gathered

    # What is learnt from it.

    def _rewards(self, batch: Batch) -> Tensor:
        return finite(self.method.name, "reward", self.method.reward(batch.rollouts, self.method_state))

    def _deal(self, batch: Batch, rewards: Tensor, *, updates: int, micro: int) -> list[Mini]:
        advantages = finite(self.method.name, "advantage", self.method.advantage(rewards, batch.rollouts))
        return deal(
            batch, advantages, self.method, updates=updates, micro=micro,
            processes=self.accelerator.num_processes,
            generator=step_generator(self.args.seed, self.batches_done, UPDATE_STAGE, torch.device("cpu")),
        )  # fmt: skip

    def _compute_loss(self, model: nn.Module, inputs: Piece) -> Tensor:
        mini, micro = inputs["mini"], inputs["micro"]
        rows = mini.parts[micro][self.accelerator.process_index]
        if sees_all(self.method) and mini.pieces > 1 and micro == 0:
            mini.whole = self._score_all(model, mini)
        # An empty part still goes forward and backward: the processes meet there.
        part = mini.batch.select(rows if len(rows) else torch.tensor([0])).trim().to(self.accelerator.device)
        logp, entropy, aux = self._score(model, part.rollouts, entropy=True)
        assert entropy is not None, "it was asked for"
        loss: Tensor = logp.sum() * 0
        stats: dict[str, Tensor] = {}
        if len(rows):
            loss, stats = part_loss(self.method, mini, rows, part, logp)
        self._note(stats, entropy, part.rollouts.train_mask if len(rows) else part.rollouts.train_mask & False)
        loss = loss * self.accelerator.num_processes  # DDP, FSDP and DeepSpeed average over the processes
        if self.aux_loss_enabled:
            assert aux is not None, "it was asked for"
            loss = loss + self.router_aux_loss_coef * aux / len(mini.parts)
        return loss

    def _score(
        self, model: nn.Module, rollouts: Rollouts, *, entropy: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        logp, entropies, aux = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([rollouts.prompt_ids, rollouts.completion_ids], 1),
            torch.cat([rollouts.prompt_mask, rollouts.mask], 1).long(),
            rollouts.mask.shape[1],
            compute_entropy=entropy,
            compute_aux_loss=self.aux_loss_enabled and entropy,
        )
        return logp.float(), entropies, aux

    @torch.no_grad()
    def _score_all(self, model: nn.Module, mini: Mini) -> Tensor:
        """Log-probabilities [B, T] of a whole mini-batch under the present weights, each process scoring its rows."""
        whole = torch.zeros(mini.batch.rollouts.mask.shape, device=self.accelerator.device)
        for parts in mini.parts:
            rows = parts[self.accelerator.process_index]
            part = mini.batch.select(rows if len(rows) else torch.tensor([0])).trim().to(self.accelerator.device)
            logp = self._score(model, part.rollouts, entropy=False)[0]
            whole[rows.to(whole.device), : logp.shape[1]] = logp[: len(rows)]
        reduced: Tensor = self.accelerator.reduce(whole, "sum")
        return reduced

    # What is said and kept.

    def _note(self, stats: dict[str, Tensor], entropy: Tensor, mask: Tensor) -> None:
        """Shares of tokens over all processes, for TRL's log."""
        names = ("tokens", "clipped_high", "clipped_low", "dual_clipped", "approx_kl_sum")
        own = torch.stack([torch.as_tensor(float(stats.get(name, 0.0))) for name in names])
        own = torch.cat([own, torch.stack([(entropy.detach().float() * mask).sum().cpu(), mask.sum().float().cpu()])])
        total = self.accelerator.reduce(own.to(self.accelerator.device), "sum").cpu()
        log = self._metrics["train" if self.model.training else "eval"]
        for name, value in zip(names[1:], total[1:5], strict=True):
            log[f"lengthwise/{name.removesuffix('_sum')}"].append(float(value / total[0].clamp(min=1)))
        log["entropy"].append(float(total[5] / total[6].clamp(min=1)))

    def _report(self, batch: Collected, rewards: Tensor, cap: int) -> None:
        """This batch's facts for TRL's log, and a warning where nothing can be learnt from it."""
        advantages = self.method.advantage(rewards, batch.kept)
        facts = {"cap": cap, "empty_rows": self._aborted.counted(), **rollout_metrics(batch, rewards, advantages)}
        for name, value in facts.items():
            self._metrics["train"][f"lengthwise/{name}"].append(float(value))
        wanted = self.args.generation_batch_size // self.num_generations
        facts |= {"groups_wanted": wanted, "updates": 1, "clip_low_share": 1.0, "weights_moved": self._moved()}
        for text in self.watch.look(facts):
            warnings.warn(f"batch {self.batches_done}: {text}", LengthwiseWarning, stacklevel=2)

    @torch.no_grad()
    def _moved(self) -> float:
        """How far the weights that draw have moved since the last batch; 1 where there was none."""
        local = (p.to_local() if hasattr(p, "to_local") else p for p in self.model.parameters() if p.requires_grad)
        own = [wide(p).abs().sum() for p in local if p.numel()]
        here = torch.stack(own).sum() if own else torch.zeros((), dtype=wide_dtype(self.accelerator.device))
        now = float(self.accelerator.reduce(here.to(self.accelerator.device), "sum"))
        before, self._weights_before = self._weights_before, now
        return 1.0 if before is None else abs(now - before)

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            write_state(folder, self.method.name, self.method_state, self.watch)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.method_state, self.watch = read_state(Path(checkpoint), self.method.name)
