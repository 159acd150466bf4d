"""On-policy distillation: the student's own tokens, pulled towards what a teacher would have put there (CRISP).

Shapes: B rows (rollouts), T response tokens, V vocabulary, k of its entries, H width of the last hidden states. Student
and teacher are aligned by response token, whatever their prompts. Vocabulary-wide forms work through chunks of tokens,
forward and backward.
"""

from __future__ import annotations

import math
from typing import Protocol, cast

import torch

from lengthwise.errors import InputError, ShapeError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._gradients import Saved, log_difference, with_gradient
from lengthwise.objectives._wide import wide

FORMS = ("full", "top-k", "sampled")
DIVERGENCES = ("reverse", "forward", "jensen-shannon")
RESTS = ("bucket", "renormalize")
MEANS = ("token-mean", "seq-mean-token-mean")

# Numbers of one chunk, a handful of which are alive at once: 4 MiB in float32 (half or a quarter of it is no faster,
# and waits more often for threads on a busy machine), and 128 MiB on other devices, where many small steps are slow.
_CHUNK = 2**20
_DEVICE_CHUNKS = 32
# Tokens of one chunk at least where each chunk reads an output layer.
_LEAST_TOKENS = 64
# Stands for log 0: its exp is 0, and 0 times it is 0 and not NaN.
_LOG_ZERO = -1e4


def reverse_kl(
    student_logp: torch.Tensor,
    teacher_logp: torch.Tensor,
    mask: torch.Tensor,
    *,
    form: str = "full",
    rest: str = "bucket",
    divergence: str = "reverse",
    beta: float = 0.5,
    aggregate: str = "token-mean",
    normaliser: float | None = None,
) -> torch.Tensor:
    """KL(student || teacher) at each token that the student wrote, averaged over the tokens (CRISP).

    ``full``: Σ_v S_v·(log S_v − log T_v).  ``top-k``: the same over k entries, which are the student's likeliest, with
    what is left as one more entry (``bucket``) or both renormalized to sum 1.  ``sampled``:
    stopgrad(log S(y) − log T(y))·log S(y), whose gradient is that of ``full`` in expectation and whose value is no KL.
    ``forward``: KL(T || S).  ``jensen-shannon``: β·KL(T || m) + (1 − β)·KL(S || m), m = β·T + (1 − β)·S.

    CRISP: Compressed Reasoning via Iterative Self-Policy Distillation, arXiv 2603.05433. Differs from the authors'
    code: mean over all tokens of the mini-batch; theirs is over micro-batches of 2 rows, then over these (the paper:
    ``seq-mean-token-mean``). ``top-k`` and ``sampled`` are TRL's, which renormalizes; that bounds the full KL on
    neither side, the bucket never exceeds it. ``forward`` collapses in the paper.

    Args:
        student_logp: float [B,T,V], [B,T,k] or [B,T] by ``form``: log-probabilities (not logits) under the weights
            that learn; the only argument with a gradient.
        teacher_logp: the same shape and dtype, of the same entries; taken as a constant.
        mask: bool [B,T], the tokens to learn from; rows without any are allowed. Padding may hold anything.
        form: ``full``, ``top-k`` or ``sampled``. What an entry misses of probability 1 is an error in ``full``.
        rest: ``bucket`` or ``renormalize``; read by ``top-k`` only.
        divergence: one of the three; ``sampled`` has ``reverse`` only.
        beta: weight of the teacher in m, above 0 and below 1; read by ``jensen-shannon`` only.
        aggregate: ``token-mean``, or ``seq-mean-token-mean``: each row by its own tokens, then over rows with any.
        normaliser: tokens (or rows with any) of the whole mini-batch, to be passed with each of its micro-batches so
            that their losses add up; None counts those given here.

    Returns:
        A 0-d tensor, at least 0 but for ``sampled``; exactly 0 with gradient 0 without a token. No verdict, group or
        length enters, so a group of one, all-correct and all-wrong are nothing special. The gradient in the logits
        sums to 0 at every token. Beyond its inputs and that gradient, no [B,T,V] tensor is made.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: inside the mask a number that is not finite, what is no log-probability, or a probability of 0
            where the divergence divides by it.
        ConfigError: an option out of range or unknown.
    """
    _check_options(form, rest, divergence, beta, aggregate, normaliser)
    checks.token_mask(mask)
    weight = _token_weights(mask, aggregate, normaliser)
    if form == "sampled":
        checks.token_values(mask, student_logp=student_logp, teacher_logp=teacher_logp)
        return _sampled(student_logp, teacher_logp, mask, weight)
    _check_vocabulary(student_logp, teacher_logp, mask, form)
    how = (form, rest, divergence, beta)
    return cast(
        torch.Tensor,
        _Divergence.apply(student_logp, teacher_logp.detach(), mask, weight, how),  # type: ignore[no-untyped-call]
    )


def _check_options(
    form: str, rest: str, divergence: str, beta: float, aggregate: str, normaliser: float | None
) -> None:
    checks.choice("form", form, FORMS)
    checks.choice("rest", rest, RESTS)
    checks.choice("divergence", divergence, DIVERGENCES if form != "sampled" else DIVERGENCES[:1])
    checks.number("beta", beta, low=0.0, above=0.0, below=1.0)
    checks.choice("aggregate", aggregate, MEANS)
    if normaliser is not None:
        checks.number("normaliser", normaliser, above=0.0)


def _check_vocabulary(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, form: str) -> None:
    entries = "V" if form == "full" else "k"
    for name, value in (("student_logp", student), ("teacher_logp", teacher)):
        checks.vocabulary(name, value, mask, entries)
    if student.shape != teacher.shape or student.dtype != teacher.dtype:
        raise ShapeError(
            f"teacher_logp is {teacher.dtype} {tuple(teacher.shape)} but student_logp is {student.dtype} "
            f"{tuple(student.shape)}; pass the same entries of both, in one dtype"
        )


def _token_weights(mask: torch.Tensor, aggregate: str, normaliser: float | None) -> torch.Tensor:
    """Return what one token of each row weighs in the loss, float64 [B]."""
    tokens = mask.sum(dim=1, dtype=torch.int32)
    if aggregate == "token-mean":
        count = max(int(tokens.sum()), 1) if normaliser is None else normaliser
        return wide(torch.ones_like(tokens)) / count
    count = max(int(torch.count_nonzero(tokens)), 1) if normaliser is None else normaliser
    return 1 / (wide(tokens.clamp(min=1)) * count)


def _sampled(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    padding = ~mask
    gradient = log_difference(student.detach(), teacher.detach(), "teacher_logp", padding)
    gradient.mul_(weight.to(gradient.dtype)[:, None])
    value = torch.where(mask, student.detach(), 0.0).mul_(gradient).sum()
    return with_gradient(student, value, gradient)


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return (p.exp() * (p - q)).sum(dim=-1)


def _between(student: torch.Tensor, teacher: torch.Tensor, divergence: str, beta: float) -> torch.Tensor:
    """Return the divergence of each row of log-probabilities, [N]."""
    s, t = student.clamp(min=_LOG_ZERO), teacher.clamp(min=_LOG_ZERO)
    if divergence == "reverse":
        return _kl(s, t)
    if divergence == "forward":
        return _kl(t, s)
    mixed = torch.logaddexp(t + math.log(beta), s + math.log1p(-beta))
    return beta * _kl(t, mixed) + (1 - beta) * _kl(s, mixed)


def _completed(logp: torch.Tensor, rest: str) -> torch.Tensor:
    """Make k log-probabilities a distribution: by an entry for what they leave, or by renormalizing them."""
    if rest == "renormalize":
        return logp - torch.logsumexp(logp, dim=-1, keepdim=True)
    # with k = V nothing is left but rounding; never log 0
    left = (1 - logp.exp().sum(dim=-1, keepdim=True)).clamp(min=torch.finfo(logp.dtype).eps)
    return torch.cat([logp, left.log()], dim=-1)


def _terms(student: torch.Tensor, teacher: torch.Tensor, how: tuple[str, str, str, float]) -> torch.Tensor:
    form, rest, divergence, beta = how
    if form == "top-k":
        student, teacher = _completed(student, rest), _completed(teacher, rest)
    return _between(student, teacher, divergence, beta)


def _check_chunk(student: torch.Tensor, teacher: torch.Tensor, how: tuple[str, str, str, float], row: int) -> None:
    """Refuse what is no distribution, and what would make the divergence infinite."""
    sums = {}
    for name, logp in (("student_logp", student), ("teacher_logp", teacher)):
        sums[name] = logp.exp().sum(dim=-1)
        wrong = ~(sums[name] <= 1 + 1e-3) if how[0] == "top-k" else ~((sums[name] - 1).abs() <= 1e-3)
        if wrong.any():
            total = float(sums[name][wrong][0])
            raise InputError(
                f"{name} has a token, about row {row}, whose probabilities sum to {total:.4g}; "
                "pass finite log-probabilities (torch.log_softmax of the logits)"
            )
    p, q = (student, teacher) if how[2] == "reverse" else (teacher, student)
    if how[2] != "jensen-shannon" and (torch.isneginf(q) & (p.exp() > 0)).any():
        name = "teacher_logp" if how[2] == "reverse" else "student_logp"
        raise InputError(
            f"{name} is -inf, about row {row}, for an entry that the other one gives probability, so the divergence "
            "is infinite; pass log-probabilities without masked entries, or divergence='jensen-shannon'"
        )


class _Context(Saved, Protocol):
    how: tuple[str, str, str, float]


class _Divergence(torch.autograd.Function):
    """The weighted divergence over the masked tokens, by chunks; the gradient is made in the backward pass only."""

    @staticmethod
    def forward(
        ctx: _Context,
        student: torch.Tensor,
        teacher: torch.Tensor,
        mask: torch.Tensor,
        weight: torch.Tensor,
        how: tuple[str, str, str, float],
    ) -> torch.Tensor:
        ctx.save_for_backward(student, teacher, mask, weight)
        ctx.how = how
        value = wide(student.new_zeros(()))
        for rows, columns in _chunks(mask, student.shape[2]):
            s, t = student[rows, columns], teacher[rows, columns]
            _check_chunk(s, t, how, int(rows[0]))
            value += (wide(_terms(s, t, how)) * weight[rows]).sum()
        return value.to(student.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: _Context, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        student, teacher, mask, weight = ctx.saved_tensors
        gradient = torch.zeros_like(student)
        for rows, columns in _chunks(mask, student.shape[2]):
            share = weight[rows].to(student.dtype) * grad_output
            gradient[rows, columns] = _slope(student[rows, columns], teacher[rows, columns], share, ctx.how)[1]
        return gradient, None, None, None, None


def _slope(
    student: torch.Tensor, teacher: torch.Tensor, weight: torch.Tensor, how: tuple[str, str, str, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted sum of a chunk and its gradient by ``student``."""
    with torch.enable_grad():
        leaf = student.detach().requires_grad_()
        value = (_terms(leaf, teacher, how) * weight).sum()
        return value.detach(), torch.autograd.grad(value, leaf)[0]


def _slope_in_logits(
    student: torch.Tensor, teacher: torch.Tensor, weight: torch.Tensor, how: tuple[str, str, str, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted sum of a chunk and its gradient by the student's logits."""
    if how[2] == "reverse":  # S (log S - log T - KL), exactly 0 between equals
        share, gap = student.exp(), student.clamp(min=_LOG_ZERO) - teacher.clamp(min=_LOG_ZERO)
        each = (share * gap).sum(dim=-1)
        return (each * weight).sum(), gap.sub_(each[:, None]).mul_(share).mul_(weight[:, None])
    value, slope = _slope(student, teacher, weight, how)
    return value, slope - student.exp() * slope.sum(dim=-1, keepdim=True)


def _chunks(mask: torch.Tensor, entries: int, least: int = 1) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return rows and columns of the masked tokens, so many at a time that a chunk has about `_CHUNK` numbers."""
    numbers = _CHUNK if mask.device.type == "cpu" else _CHUNK * _DEVICE_CHUNKS
    places = mask.reshape(-1).nonzero()[:, 0]
    if len(places) == 0:
        return []
    pieces = places.split(max(least, numbers // entries))
    return [(piece // mask.shape[1], piece % mask.shape[1]) for piece in pieces]


def reverse_kl_of_states(
    student_states: torch.Tensor,
    teacher_states: torch.Tensor,
    mask: torch.Tensor,
    *,
    student_head: torch.Tensor,
    teacher_head: torch.Tensor,
    divergence: str = "reverse",
    beta: float = 0.5,
    aggregate: str = "token-mean",
    normaliser: float | None = None,
) -> torch.Tensor:
    """`reverse_kl` in its full form, from hidden states and output layers: no [B,T,V] tensor is ever made.

    S = softmax(W_s·h_s), T = softmax(W_t·h_t) at each token, chunk by chunk; then as in `reverse_kl`.

    CRISP, arXiv 2603.05433; the way of computing it is ours.

    Args:
        student_states: float [B,T,H], the last hidden states that predict each response token, after the final norm;
            has a gradient.
        teacher_states: float [B,T,H'], those of the teacher behind its own prompt; taken as a constant.
        mask: bool [B,T], the tokens to learn from; rows without any are allowed. Padding may hold anything.
        student_head: float [V,H], the weight of the output layer, in the dtype of its states; has a gradient.
        teacher_head: float [V,H'], the same of the teacher, taken as a constant.
        divergence, beta, aggregate, normaliser: as in `reverse_kl`.

    Returns:
        A 0-d tensor, float32 (float64 for float64 states); exactly 0 with gradient 0 without a token. Products are
        computed in the dtype of the states, half precision included, all else in the dtype returned. Groups do not
        enter, so a group of one, all-correct and all-wrong are nothing special.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: inside the mask a state or a product that is not finite.
        ConfigError: an option out of range or unknown.
    """
    _check_options("full", "bucket", divergence, beta, aggregate, normaliser)
    checks.token_mask(mask)
    for name, states, head in (("student", student_states, student_head), ("teacher", teacher_states, teacher_head)):
        checks.output_layer(name, states, head, mask)
    if student_head.shape[0] != teacher_head.shape[0]:
        raise ShapeError(
            f"teacher_head has {teacher_head.shape[0]} entries but student_head has {student_head.shape[0]}; "
            "pass two models with one vocabulary"
        )
    weight = _token_weights(mask, aggregate, normaliser)
    how = ("full", "bucket", divergence, beta)

    states, head = student_states.detach(), student_head.detach()
    exact = torch.float64 if states.dtype == torch.float64 else torch.float32
    value, by_states, by_head = torch.zeros((), dtype=exact, device=mask.device), torch.zeros_like(states), None
    for rows, columns in _chunks(mask, len(head), _LEAST_TOKENS):
        h = states[rows, columns]
        logits = (h @ head.T).to(exact)
        goal = torch.log_softmax((teacher_states.detach()[rows, columns] @ teacher_head.detach().T).to(exact), dim=-1)
        logp = torch.log_softmax(logits, dim=-1)
        _check_chunk(logp, goal, how, int(rows[0]))
        part, slope = _slope_in_logits(logp, goal, weight[rows].to(exact), how)
        value += part
        slope = slope.to(h.dtype)
        by_states[rows, columns] = slope @ head
        by_head = slope.T @ h if by_head is None else by_head.addmm_(slope.T, h)
    if by_head is None:
        by_head = torch.zeros_like(head)
    return cast(
        torch.Tensor,
        _WithGradients.apply(student_states, student_head, value, by_states, by_head),  # type: ignore[no-untyped-call]
    )


class _WithGradients(torch.autograd.Function):
    """Gives a scalar that was computed outside autograd its known gradients with respect to two tensors."""

    @staticmethod
    def forward(
        ctx: Saved, _states: torch.Tensor, _head: torch.Tensor, value: torch.Tensor, *gradients: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Saved, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        by_states, by_head = ctx.saved_tensors
        return by_states * grad_output.to(by_states.dtype), by_head * grad_output.to(by_head.dtype), None, None, None


def teacher_is_copied(step: int, *, every: int) -> bool:
    """Say whether the student is copied into the teacher before a step (CRISP).

    every > 0, step > 0 and step mod every = 0.

    CRISP, arXiv 2603.05433 (50 there; 1 collapses, the scripts' 0 is a frozen teacher). The authors' code copies
    after the update when the count of finished steps divides, which is the same.

    Args:
        step: from 0.
        every: M, at least 0; 0 never copies.

    Returns:
        A bool; False at step 0, where teacher and student are the same. No batch enters, so all-correct, all-wrong
        and groups of one are nothing special.

    Raises:
        ConfigError: ``step`` or ``every`` out of range.
    """
    checks.whole("step", step, low=0)
    checks.whole("every", every, low=0)
    return every > 0 and step > 0 and step % every == 0
