"""On-policy distillation: the student's own tokens are pulled towards what its teacher would have put there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lengthwise.config.groups.training import Training
from lengthwise.context_length import reach
from lengthwise.engine.backends.partial_rollouts import pad_left
from lengthwise.engine.batches import Collected, Task, micro_batches, mini_batches, step_generator
from lengthwise.engine.groups import UPDATE_STAGE, Compute, GroupBatch, GroupLearner
from lengthwise.engine.log_probabilities import Scorer, readings
from lengthwise.engine.method import Method
from lengthwise.engine.optimizer_step import take_step
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.teacher import Teacher
from lengthwise.engine.training_state import Learnt, TrainingState
from lengthwise.errors import ConfigError, UnsupportedModelError
from lengthwise.objectives import reverse_kl, reverse_kl_of_states, round_half_up, teacher_is_copied

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

NOTHING = "no answer of the batch is one that it learns from; use easier problems, or raise the cap"


class Read(NamedTuple):
    """What student and teacher say of the response tokens: a loss, and log-probability and entropy of both, [N]."""

    loss: Tensor
    student: tuple[Tensor, Tensor]
    teacher: tuple[Tensor, Tensor]


class How(TypedDict):
    """What both forms over the vocabulary are told."""

    divergence: str
    beta: float
    aggregate: str
    normaliser: float


class DistillationLearner(GroupLearner):
    """Updates on the divergence between student and teacher; `model` holds the teacher's copied weights too.

    Of a model with an adapter the adapter alone is copied. While the teacher reads, its tensors take the places of the
    policy's, so that no second model is needed.

    Raises:
        ConfigError: words that cannot stand before a problem, change no prompt, or leave no room for an answer.
        UnsupportedModelError: the full form of a model that is not a decoder and a plain output layer.
    """

    def __init__(self, scorer: Scorer, task: Task, method: Method, config: Training, compute: Compute) -> None:
        super().__init__(scorer, method, config, compute)
        assert method.teacher is not None, "the method has a teacher"
        self.teacher: Teacher = method.teacher
        if self.teacher.form == "full" and not _plain_head(scorer):
            raise UnsupportedModelError(
                f"method {method.name!r} compares whole vocabularies through a plain output layer, and this model's "
                "logits are capped or scaled, or its layer has a bias or an adapter; take form top-k"
            )
        self.prompts = teacher_prompts(task, method, reach(scorer.model.config))
        self.copied = nn.ParameterList([nn.Parameter(p.detach().clone()) for p in self.parameters])
        self.model: nn.Module = nn.ModuleDict({"policy": scorer.model, "teacher": self.copied})

    def learn(self, batch: GroupBatch, run: TrainingState) -> Learnt:
        """Copy the teacher where it is due, and learn; without a row to learn from leave the weights alone."""
        copied = teacher_is_copied(run.step, every=self.teacher.every)
        if copied:
            with torch.no_grad():
                for held, learning in zip(self.copied, self.parameters, strict=True):
                    held.copy_(learning)
        kept = batch.rollouts.kept
        if len(kept) and not bool(self.method.advantage(self.method.reward(kept, run.method), kept).any()):
            return self._skip(batch, run, NOTHING)
        learnt = super().learn(batch, run)
        if learnt.judged is None:
            return learnt
        # What is said of groups and rewards is not for a loss that reads neither.
        judged = {"uniform_groups": 0.0, "reward_std": 1.0}
        return dataclasses.replace(learnt, metrics={**learnt.metrics, "teacher_copied": int(copied)}, judged=judged)

    def _update(self, batch: Collected, advantages: Tensor, run: TrainingState) -> dict[str, float]:
        self._warm(run.step)
        generator = step_generator(self.config.seed, run.step, UPDATE_STAGE, torch.device("cpu"))
        rows, useful = batch.kept, advantages != 0
        losses, norms = [], []
        totals: dict[str, float] = {}
        for mini in mini_batches(rows.group_ids, self.plan.updates, generator):
            live = mini[useful[mini]]
            if not len(live):
                continue
            self.optimizer.zero_grad(set_to_none=True)
            whole = _normaliser(rows.train_mask[live], self.teacher.aggregate)
            loss = 0.0
            for part in micro_batches(rows, live, max_tokens=self.plan.micro_batch_tokens, whole_groups=False):
                loss += self._accumulate(rows.select(part).trim(), whole, totals)
            norms.append(take_step(self.optimizer, self.parameters, self.plan.grad_clip, loss))
            losses.append(loss)
        tokens = max(totals["trained_tokens"], 1.0)
        means = {name: value / tokens for name, value in totals.items() if name != "trained_tokens"}
        return {
            "loss": sum(losses) / len(losses), "grad_norm": sum(norms) / len(norms), "updates": len(norms),
            "trained_tokens": totals["trained_tokens"], **means,
        }  # fmt: skip

    def _accumulate(self, rows: Rollouts, whole: float, totals: dict[str, float]) -> float:
        """Forward and backward of one micro-batch; adds to the gradients and to `totals`, returns its loss."""
        read = {"full": self._full, "top-k": self._top_k, "sampled": self._sampled}[self.teacher.form]
        found = read(rows, self._asked(rows), whole)
        found.loss.backward()
        learnt = rows.train_mask[rows.mask]
        logp, entropy = (part.detach() * learnt for part in found.student)
        goal, spread = (part * learnt for part in found.teacher)
        for name, values in {
            "trained_tokens": learnt,
            "entropy": entropy,
            "teacher_entropy": spread,
            "teacher_gap": logp - goal,
            "sampler_gap": (logp - rows.logp[rows.mask] * learnt).abs(),
        }.items():
            totals[name] = totals.get(name, 0.0) + float(values.sum())
        return float(found.loss.detach())

    def _asked(self, rows: Rollouts) -> Rollouts:
        """The rows behind the teacher's prompts."""
        prompts = [self.prompts[problem] for problem in rows.problem_ids.tolist()]
        ids, mask = pad_left(prompts, 0, rows.prompt_ids.device)
        return rows.with_fields(prompt_ids=ids, prompt_mask=mask.bool())

    @contextmanager
    def _teaching(self) -> Iterator[None]:
        """Within it the policy computes with the teacher's weights, without gradients."""
        self._exchange()
        try:
            with torch.no_grad():
                yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for held, learning in zip(self.copied, self.parameters, strict=True):
            held.data, learning.data = learning.data, held.data
        torch.clear_autocast_cache()  # it would go on with casts of the other weights

    def _full(self, rows: Rollouts, asked: Rollouts, whole: float) -> Read:
        scorer, targets = self.scorer, rows.completion_ids[rows.mask]
        states = response_states(scorer, rows)
        with self._teaching():
            goal = response_states(scorer, asked)
            goal_head = scorer.head.weight.detach()
            teacher = scorer.score(goal[rows.mask], targets, True)
        with torch.no_grad():
            student = scorer.score(states.detach()[rows.mask], targets, True)
        kind = states.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else scorer.head.weight.dtype
        with torch.autocast(kind, enabled=False):
            loss = reverse_kl_of_states(
                states.to(dtype), goal.to(dtype), rows.train_mask,
                student_head=scorer.head.weight.to(dtype), teacher_head=goal_head.to(dtype), **self._how(whole),
            )  # fmt: skip
        return Read(loss, student, teacher)

    def _top_k(self, rows: Rollouts, asked: Rollouts, whole: float) -> Read:
        scorer, targets = self.scorer, rows.completion_ids[rows.mask]
        states = response_states(scorer, rows)[rows.mask]
        logp, entries = likeliest(scorer, states, self.teacher.entries)
        with self._teaching():
            states_behind = response_states(scorer, asked)[rows.mask]
            goal = torch.cat(list(_picked(scorer, states_behind, entries)))
            teacher = scorer.score(states_behind, targets, True)
        with torch.no_grad():
            student = scorer.score(states.detach(), targets, True)
        loss = reverse_kl(
            _padded(logp, rows.mask), _padded(goal, rows.mask), rows.train_mask, form="top-k", rest=self.teacher.rest,
            **self._how(whole),
        )  # fmt: skip
        return Read(loss, student, teacher)

    def _sampled(self, rows: Rollouts, asked: Rollouts, whole: float) -> Read:
        logp, entropy = self.scorer(rows)
        with self._teaching():
            goal, spread = self.scorer(asked)
        teacher = self.teacher
        loss = reverse_kl(
            logp, goal, rows.train_mask, form="sampled", aggregate=teacher.aggregate, normaliser=whole
        )  # fmt: skip
        return Read(loss, (logp[rows.mask], entropy[rows.mask]), (goal[rows.mask], spread[rows.mask]))

    def _how(self, whole: float) -> How:
        t = self.teacher
        return How(divergence=t.divergence, beta=t.beta, aggregate=t.aggregate, normaliser=whole)


def check_teacher(task: Task, method: Method, config: PreTrainedConfig) -> None:
    """See before anything is sampled that a method's teacher, where it has one, can read its prompts.

    Raises:
        ConfigError: as `teacher_prompts`.
    """
    if method.teacher is not None:
        teacher_prompts(task, method, reach(config))


def teacher_prompts(task: Task, method: Method, limit: int | None) -> list[list[int]]:
    """The prompts that the teacher reads, one for each problem; `limit` bounds prompt and answer together.

    Raises:
        ConfigError: the words cannot stand before a problem, change no prompt, or leave no room for the cap.
    """
    assert method.teacher is not None, "the method has a teacher"
    words = method.teacher.words
    bare = [list(prompt) for prompt in task.prompts]
    if not words:
        return bare
    if task.instruct is None:
        raise ConfigError(
            f"method {method.name!r} puts words before a problem, but this task's prompts are fixed; "
            "take problems of text"
        )
    asked = [list(task.instruct(problem, words)) for problem in range(len(bare))]
    added = sum(map(len, asked)) - sum(map(len, bare))
    # some tokenizers drop what they do not know; a phrase may be one token
    if added * 8 < len(words.split()) * len(bare) or asked == bare:
        raise ConfigError(
            f"the teacher's words {words!r} change a prompt by {added / len(bare):.2g} tokens, so there is nothing to "
            "learn: the model's tokenizer knows none of them or hardly any, or the chat template leaves them out; give "
            "words that the model obeys"
        )
    longest = max(range(len(asked)), key=lambda problem: len(asked[problem]))
    cap = round_half_up(method.cap(0, method.initial_state()))
    if limit is not None and len(asked[longest]) + cap > limit:
        raise ConfigError(
            f"the teacher's longest prompt has {len(asked[longest])} tokens, "
            f"{len(asked[longest]) - len(bare[longest])} of them its words, and the cap is {cap}, but the model allows "
            f"{limit} positions in all; shorten the words or lower the cap"
        )
    return asked


def response_states(scorer: Scorer, rollouts: Rollouts) -> Tensor:
    """What the output layer reads at each response token, [B, T, H]; where the layer is not plain, the logits."""
    found: Tensor | None = None
    for reading in readings(rollouts, scorer.model, scorer.switch):
        read = scorer.states(reading)
        found = read.new_zeros(*rollouts.mask.shape, read.shape[-1]) if found is None else found
        found = found.masked_scatter(reading.scored[:, :, None], read)
    assert found is not None, "a batch has rows"
    return found


def likeliest(scorer: Scorer, states: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest log-probabilities of each token, [N, k], with a gradient, and their entries, int [N, k]."""

    def part(some: Tensor) -> tuple[Tensor, Tensor]:
        logp = _vocabulary(scorer, some)
        entries = logp.detach().topk(min(count, logp.shape[-1])).indices
        return logp.gather(-1, entries), entries

    found = [checkpoint(part, some, use_reentrant=False) for some in states.split(_chunk(scorer))]
    logps, entries = zip(*found, strict=True)
    return torch.cat(logps), torch.cat(entries)


def _picked(scorer: Scorer, states: Tensor, entries: Tensor) -> Iterator[Tensor]:
    rows = _chunk(scorer)
    for some, wanted in zip(states.split(rows), entries.split(rows), strict=True):
        yield _vocabulary(scorer, some).gather(-1, wanted)


def _vocabulary(scorer: Scorer, states: Tensor) -> Tensor:
    return torch.log_softmax((scorer.head(states) if scorer.split else states).float(), -1)


def _chunk(scorer: Scorer) -> int:
    vocabulary: int = scorer.model.get_input_embeddings().weight.shape[0]
    return max(1, scorer.chunk_bytes // (4 * vocabulary))


def _padded(values: Tensor, mask: Tensor) -> Tensor:
    return values.new_zeros(*mask.shape, values.shape[-1]).masked_scatter(mask[:, :, None], values)


def _plain_head(scorer: Scorer) -> bool:
    head = scorer.head
    return scorer.split and type(head) is nn.Linear and head.bias is None and not head._forward_hooks


def _normaliser(mask: Tensor, aggregate: str) -> float:
    """What the loss of a mini-batch is divided by: its tokens, or its rows with any."""
    return max(1.0, float(mask.sum() if aggregate == "token-mean" else mask.any(1).sum()))
