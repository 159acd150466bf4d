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
from typing import Any, Literal

from torch import Tensor

from lengthwise.config.definition import setting
from lengthwise.engine.method import Ask, Asked, BarePrompts, ExtraLoss, Method, Stage
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError
from lengthwise.methods._parts import GroupRelative, group_relative
from lengthwise.methods.declaration import declare
from lengthwise.methods.mode_sft import ModeSft, fine_tune
from lengthwise.objectives import group_normalised, mode_reward, mode_switch, preferred_mode


class AdaptiveOptions(GroupRelative):
    """Options of Adaptive Deep Reasoning; all but the instructions are ours."""

    tau: float = setting(1.0, ge=0, le=1, help="Share of right short answers from which on short suits a prompt.")
    delta: float = setting(0.0, ge=0, le=1, help="Lead in right answers that the long mode needs to suit a prompt.")
    rho: float = setting(0.5, ge=0, lt=1, help="What a right answer in the other mode loses.")
    r_wrong: float = setting(0.0, ge=-1, le=0, help="What a wrong answer earns.")
    on_all_wrong: Literal["skip", "long"] = setting("skip", help="The mode that suits a prompt with no right answer.")
    obey: bool = setting(False, help="Count answers as wrong that open in the other mode than was asked for.")
    short_cap: int = setting(
        0, help="Most tokens of a right answer that was asked for shortly; 0: no bound.", ge=0,
        refusal="give tokens up to the cap, or 0 for none",
    )  # fmt: skip
    baseline: Literal["group", "mode"] = setting(
        "group", help="Compare an answer with its group, or with those of its mode alone."
    )  # fmt: skip
    control: Literal["instruction", "opener"] = setting("instruction", help="How a mode is asked for.")
    switch_loss: Literal["ce", "hinge", "nll"] = setting("ce", help="The loss on the first token.")
    margin: float = setting(1.0, ge=0, help="Margin of the hinge.")
    switch_weight: float = setting(0.1, ge=0, help="Weight of the loss on the first token.")
    long_instruction: str = setting("[Please answer with Long CoT]", help="What asks for a long answer.")
    short_instruction: str = setting("[Please answer with Short CoT]", help="What asks for a short answer.")
    instruction_sep: str = setting("\n", help="What stands between instruction and problem.")
    long_opener: str = setting("<think>", help="The one token that opens a long answer.")
    short_opener: str = setting("</think>", help="The one token that opens a short answer.")
    sft_data: str = setting("", help="Rows with a problem, a long and a short answer, to fine-tune on before.")
    sft_epochs: float = setting(1.0, gt=0, help="Fine-tuning: passes over the rows.")
    sft_lr: float = setting(1e-5, gt=0, help="Fine-tuning: learning rate.")
    sft_batch: int = setting(32, ge=1, help="Fine-tuning: rows per step.")

    def check(self) -> None:
        """Modes that can be told apart, and options that go together."""
        super().check()
        if self.long_opener == self.short_opener:
            raise ConfigError(
                f"long_opener and short_opener are both {self.long_opener!r}; each mode opens in its own way"
            )
        if self.short_cap > self.cap:
            raise ConfigError(f"short_cap is {self.short_cap}; give tokens up to the cap, {self.cap}, or 0 for none")
        if self.opened and self.obey:
            raise ConfigError("obey is True with control opener, which opens every answer itself; leave obey out")
        if self.opened and self.switch_loss != "nll":
            raise ConfigError(
                f"switch_loss is {self.switch_loss!r} with control opener; use nll: openers are then never sampled, "
                "and a loss that sets one against the other lets all other words come before both"
            )

    @property
    def opened(self) -> bool:
        """Whether prompts end with the opener of their mode."""
        return self.control == "opener"

    @property
    def modes(self) -> tuple[tuple[str, bool, str], ...]:
        """What stands before the problem, whether it asks for a long answer, and the opener, of both modes."""
        return (
            (self.long_instruction + self.instruction_sep, True, self.long_opener),
            (self.short_instruction + self.instruction_sep, False, self.short_opener),
        )


@declare(
    "adaptive",
    AdaptiveOptions,
    paper="Adaptive Deep Reasoning: Triggering Deep Thinking When Needed, arXiv 2505.20101",
    summary="learns by itself whether to think long or short (experimental: parts are our reconstruction)",
)
def adaptive(options: AdaptiveOptions) -> Method:
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
    rule: dict[str, Any] = {"tau": options.tau, "delta": options.delta, "on_all_wrong": options.on_all_wrong}
    openers = (options.long_opener, options.short_opener)

    def prompts(ask: Ask) -> list[Asked]:
        return [
            Asked(ask("" if options.opened else words), is_long, opener, options.opened)
            for words, is_long, opener in options.modes
        ]

    def advantage(rewards: Tensor, r: Rollouts) -> Tensor:
        by_group = options.baseline == "group"
        return group_normalised(rewards, r.group_ids if by_group else 2 * r.group_ids + modes_of(r))

    method = group_relative(
        options,
        cap=options.cap - options.opened,
        reward=lambda r, state: mode_reward(
            right(r, options), modes_of(r), r.group_ids, rho=options.rho, r_wrong=options.r_wrong, **rule
        ),
        prompts=prompts,
        needs=("is_long", "bare_prompt_ids", *(("obeys",) if options.obey else ())),
        extra_losses=(
            ExtraLoss("mode_switch", options.switch_weight, partial(_switch, options=options, rule=rule), openers),
        ),
        prepare=_fine_tuning(options),
    )
    return replace(method, advantage=advantage)


def _fine_tuning(o: AdaptiveOptions) -> tuple[Stage, ...]:
    if not o.sft_data:
        return ()
    (ask_long, *_), (ask_short, *_) = o.modes
    asked = ModeSft(o.sft_data, ask_long, ask_short, o.long_opener, o.short_opener, o.sft_epochs, o.sft_lr, o.sft_batch)
    return (Stage("sft", partial(fine_tune, asked=asked)),)


def right(r: Rollouts, options: AdaptiveOptions) -> Tensor:
    """Which rows count as right, bool [B]: right, in the mode that was asked for, and short where it was to be."""
    obeys = r.correct if r.obeys is None else r.correct & r.obeys
    if not options.short_cap:
        return obeys
    return obeys & (modes_of(r) | (r.num_tokens + options.opened <= options.short_cap))


def _switch(bare: BarePrompts, *, options: AdaptiveOptions, rule: Mapping[str, Any]) -> Tensor:
    r = bare.rollouts
    mode = preferred_mode(right(r, options), modes_of(r), r.group_ids, **rule)[bare.rows]
    long_token, short_token = bare.tokens
    return mode_switch(
        bare.first_logits, mode, long_token=long_token, short_token=short_token, kind=options.switch_loss,
        margin=options.margin,
    )  # fmt: skip


def modes_of(rollouts: Rollouts) -> Tensor:
    """Which rows were asked for a long answer, bool [B]."""
    assert rollouts.is_long is not None, "the engine fills in what a method needs"
    return rollouts.is_long
