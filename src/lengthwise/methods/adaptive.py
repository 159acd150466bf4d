"""Adaptive Deep Reasoning: one model that chooses long or short reasoning by itself. arXiv 2505.20101. Experimental.

Half of each group is asked for a long answer, half for a short one; the mode that suits the prompt earns the full
reward, and a loss on the first token after the bare prompt teaches the model to open its answer in that mode. The
paper's constants and formulas are not available and there is no official code: rewards, rule and loss are our
reconstruction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from lengthwise.engine.method import Ask, Asked, BarePrompts, ExtraLoss, Method, Stage
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError
from lengthwise.methods._parts import group_relative
from lengthwise.methods.mode_sft import ModeSft, fine_tune
from lengthwise.objectives import group_normalised, mode_reward, mode_switch, preferred_mode

CHOICES = {
    "baseline": ("group", "mode"),
    "control": ("instruction", "opener"),
    "switch_loss": ("ce", "hinge", "nll"),
}


def adaptive(
    *,
    cap: int,
    tau: float = 1.0,
    delta: float = 0.0,
    rho: float = 0.5,
    r_wrong: float = 0.0,
    on_all_wrong: str = "skip",
    obey: bool = False,
    short_cap: int = 0,
    baseline: str = "group",
    control: str = "instruction",
    switch_loss: str = "ce",
    margin: float = 1.0,
    switch_weight: float = 0.1,
    long_instruction: str = "[Please answer with Long CoT]",
    short_instruction: str = "[Please answer with Short CoT]",
    instruction_sep: str = "\n",
    long_opener: str = "<think>",
    short_opener: str = "</think>",
    sft_data: str = "",
    sft_epochs: float = 1.0,
    sft_lr: float = 1e-5,
    sft_batch: int = 32,
    **common: Any,
) -> Method:
    """GRPO over two instructed modes with `switch_weight` times the switching loss on the bare prompt.

    `long_opener` and `short_opener` are the one token that opens an answer in either mode. With `sft_data` (rows with a
    problem, a `long` and a `short` response, openers included) the model is first fine-tuned on both modes, with the
    instruction and without, by TRL; otherwise it must follow both instructions already. With `obey` an answer that
    opens in the other mode than it was asked for counts as wrong, with `short_cap` one that was asked for shortly and
    has more tokens: else such answers may grow long, and pass for short ones. `baseline` ``mode`` compares an answer
    with those of its group that were asked for the same mode, so that no mode is driven off where the other is better;
    `rho` has then no effect. With `control` ``opener`` nothing is asked for: the bare prompt is followed by the mode's
    opener, so that what is practised is what bare prompts get; `cap` and `short_cap` count the opener too, and the
    instructions serve fine-tuning alone; it needs `switch_loss` ``nll``. All other options are ours.
    """
    options = {name: value for name, value in locals().items() if name != "common"}
    _check(options)
    opened = control == "opener"
    asked = (
        (long_instruction + instruction_sep, True, long_opener),
        (short_instruction + instruction_sep, False, short_opener),
    )
    rule: dict[str, Any] = {"tau": tau, "delta": delta, "on_all_wrong": on_all_wrong}
    sft = ModeSft(sft_data, asked[0][0], asked[1][0], long_opener, short_opener, sft_epochs, sft_lr, sft_batch)

    def prompts(ask: Ask) -> list[Asked]:
        return [Asked(ask("" if opened else words), is_long, opener, opened) for words, is_long, opener in asked]

    def right(r: Rollouts) -> Tensor:
        obeys = r.correct if r.obeys is None else r.correct & r.obeys
        return obeys & (modes_of(r) | (r.num_tokens + opened <= short_cap)) if short_cap else obeys

    def switch(bare: BarePrompts) -> Tensor:
        r = bare.rollouts
        mode = preferred_mode(right(r), modes_of(r), r.group_ids, **rule)[bare.rows]
        long_token, short_token = bare.tokens
        return mode_switch(
            bare.first_logits, mode, long_token=long_token, short_token=short_token, kind=switch_loss, margin=margin
        )

    def advantage(rewards: Tensor, r: Rollouts) -> Tensor:
        return group_normalised(rewards, r.group_ids if baseline == "group" else 2 * r.group_ids + modes_of(r))

    method = group_relative(
        name="adaptive",
        paper="Adaptive Deep Reasoning: Triggering Deep Thinking When Needed, arXiv 2505.20101",
        summary="learns by itself whether to think long or short (experimental: parts are our reconstruction)",
        cap=cap - opened,
        reward=lambda r, state: mode_reward(right(r), modes_of(r), r.group_ids, rho=rho, r_wrong=r_wrong, **rule),
        options=options,
        **common,
        prompts=prompts,
        needs=("is_long", "bare_prompt_ids", *(("obeys",) if obey else ())),
        extra_losses=(ExtraLoss("mode_switch", switch_weight, switch, (long_opener, short_opener)),),
        prepare=(Stage("sft", partial(fine_tune, asked=sft)),) if sft_data else (),
    )
    return replace(method, advantage=advantage)


def _check(options: Mapping[str, Any]) -> None:
    """Refuse modes that cannot be told apart, and options that do not go together."""
    cap, short_cap, opener = options["cap"], options["short_cap"], options["long_opener"]
    if opener == options["short_opener"]:
        raise ConfigError(f"long_opener and short_opener are both {opener!r}; each mode opens in its own way")
    if not 0 <= short_cap <= cap:
        raise ConfigError(f"short_cap is {short_cap}; give tokens up to the cap, {cap}, or 0 for none")
    for name, allowed in CHOICES.items():
        if options[name] not in allowed:
            raise ConfigError(f"{name} is {options[name]!r}; give {' or '.join(allowed)}")
    if options["control"] == "instruction":
        return
    if options["obey"]:
        raise ConfigError("obey is True with control opener, which opens every answer itself; leave obey out")
    if options["switch_loss"] != "nll":
        raise ConfigError(
            f"switch_loss is {options['switch_loss']!r} with control opener; use nll: openers are then never sampled, "
            "and a loss that sets one against the other lets all other words come before both"
        )


def modes_of(rollouts: Rollouts) -> Tensor:
    """Which rows were asked for a long answer, bool [B]."""
    assert rollouts.is_long is not None, "the engine fills in what a method needs"
    return rollouts.is_long
