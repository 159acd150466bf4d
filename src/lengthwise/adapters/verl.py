"""verl with this package's methods: a reward manager, an advantage estimator and a policy loss in its registries.

verl imports `verl_plugin` through the entry point ``verl.plugins`` in every one of its processes, and says nothing at
all where that fails. So `load` warns aloud itself, and ``python -m lengthwise.adapters.verl`` checks before a run
that the names are there; exported launch scripts begin with it.

The configuration names the method: ``algorithm.adv_estimator=lengthwise``, ``algorithm.lengthwise={method, cap,
options}``, ``reward.reward_manager.name=lengthwise``, ``actor.policy_loss.loss_mode=lengthwise``.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lengthwise.adapters.batch_split import credited
from lengthwise.adapters.engine_names import VERL_NAMES, check_modules, installed
from lengthwise.adapters.method_support import chosen
from lengthwise.engine.method import Method
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError, InputError, LengthwiseError, LengthwiseWarning
from lengthwise.grading.prompt_contract import PromptContract
from lengthwise.grading.worker_pool import SafeGrader
from lengthwise.installation_check import tested_range
from lengthwise.objectives import clipped_surrogate
from lengthwise.optional_imports import importing

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import PreTrainedTokenizerBase as Tokenizer
    from verl import DataProto
    from verl.workers.config import ActorConfig

NEEDED = ("the verl adapter", "verl", "verl")
NAME = "lengthwise"
"""What estimator, policy loss and reward manager are registered as."""
CUT, RIGHT_BUT_CUT = 2.0**-12, 2.0**-11
"""verl's estimators see one number a response. A score is 1 for right and ended, else 0, and these are added for a
response that was cut, and for one that was cut and right: small, so that verl's mean score stays the accuracy, and
exact in float32."""

SHOWN = ("actor/pg_clipfrac", "actor/pg_clipfrac_lower", "actor/ppo_kl")
"""What the policy loss shows of every micro-batch, beside the share of rows without a token."""


def score_of(answer_correct: bool, finished: bool) -> float:
    """A response's verdict and whether it ended, as the one number that verl carries."""
    return float(answer_correct and finished) + (0.0 if finished else CUT + RIGHT_BUT_CUT * answer_correct)


def read_scores(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Verdicts and endings, bool [B] each, out of `score_of` numbers.

    Raises:
        InputError: a number that another reward manager made.
    """
    finished, wrong_cut, right_cut = scores >= 0, scores == CUT, scores == CUT + RIGHT_BUT_CUT
    cut = wrong_cut | right_cut
    odd = (~(cut | (scores == 0) | (scores == 1))).nonzero()
    if len(odd):
        raise InputError(
            f"the score of row {int(odd[0, 0])} is {float(scores[odd[0, 0]]):g}, which the reward manager "
            f"{NAME!r} never gives; set reward.reward_manager.name={NAME}, use_kl_in_reward=False, and no other "
            "shaping of rewards"
        )
    return (scores == 1) | right_cut, finished & ~cut


def method_of(config: DictConfig | None) -> tuple[Method, int]:
    """The method and cap that `algorithm.lengthwise` names.

    Raises:
        ConfigError: nothing is named there, or a method that verl cannot carry.
    """
    asked = None if config is None else config.get(NAME)
    if asked is None:
        raise ConfigError(f"algorithm.{NAME} is missing; name the method there: {{method: dler, cap: 4000}}")
    cap = int(asked["cap"])
    return chosen("verl", str(asked["method"]), dict(asked.get("options") or {}), cap), cap


def advantage(
    token_level_rewards: Tensor,
    response_mask: Tensor,
    config: DictConfig | None = None,
    index: Iterable[object] | None = None,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """Advantages float [B, T], twice (as verl's returns too), of the method that the configuration names.

    `token_level_rewards` float [B, T] holds each response's `score_of` on its last token, `index` its prompt's id.
    Rows without a response token (aborted, or verl's own padding) have advantage 0 and play no part in the others'.
    """
    method, cap = method_of(config)
    mask = response_mask.bool()
    if index is None:
        raise InputError("verl gave no uid; a method needs to know which responses answer one prompt")
    live = mask.any(1)
    # What verl made of the score of a row without a place for it is no matter.
    verdicts, finished = read_scores(torch.where(live, token_level_rewards.float().sum(1), 0.0))
    rollouts = _rollouts(mask, verdicts & live, finished & live, index, cap)
    credit = credited(method, rollouts, method.initial_state())[1]
    spread = (credit if credit.dim() == 2 else credit[:, None]) * mask
    return spread, spread.clone()


def _rollouts(mask: Tensor, verdicts: Tensor, finished: Tensor, index: Iterable[object], cap: int) -> Rollouts:
    rows, width = mask.shape
    numbers: dict[object, int] = {}
    groups = torch.tensor([numbers.setdefault(uid, len(numbers)) for uid in index], device=mask.device)
    blank = torch.zeros(rows, width, dtype=torch.long, device=mask.device)
    lengths = mask.sum(1)
    # verl's mask may leave tokens out in the middle (a tool's); a length is a number of tokens all the same.
    whole = torch.arange(width, device=mask.device)[None] < lengths[:, None]
    return Rollouts(
        prompt_ids=blank[:, :1], prompt_mask=torch.ones_like(blank[:, :1], dtype=torch.bool), completion_ids=blank,
        mask=whole, train_mask=whole, num_tokens=lengths, finished=finished, done=finished | (lengths >= cap),
        answer_correct=verdicts, group_ids=groups, problem_ids=groups, cap=torch.full_like(groups, cap),
        logp=torch.zeros(rows, width, device=mask.device), policy_version=blank,
    )  # fmt: skip


def policy_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: ActorConfig | None = None,
    rollout_is_weights: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, dict[str, float]]:
    """`clipped_surrogate` of one micro-batch, divided by what verl says of its mini-batch over all processes.

    The clips are the actor's `clip_ratio_low`, `clip_ratio_high` and `clip_ratio_c`. Rows without a response token add
    nothing; their share is shown.
    """
    assert config is not None, "verl gives the actor's"
    mask = response_mask.bool()
    facts = config.global_batch_info
    rows = mask.any(1)
    empty = {"actor/empty_rows": float((~rows).float().mean())}
    if not bool(rows.any()):  # with every name all the same: verl counts the values that its processes give
        return log_prob.sum() * 0.0, dict.fromkeys(SHOWN, 0.0) | empty
    credit = advantages if rollout_is_weights is None else advantages * rollout_is_weights
    tokens, count = facts.get("batch_num_tokens"), facts.get("global_batch_size")
    scale = facts.get("loss_scale_factor") or mask.shape[1]
    normaliser = {
        "token-mean": mask.sum() if tokens is None else tokens,
        "seq-mean-token-mean": rows.sum() if count is None else count,
        "seq-mean-token-sum": rows.sum() if count is None else count,
        "seq-mean-token-sum-norm": scale * (rows.sum() if count is None else count),
    }.get(loss_agg_mode)
    if normaliser is None:
        raise ConfigError(f"loss_agg_mode is {loss_agg_mode!r}; choose token-mean or one of the seq-mean ones")
    loss, stats = clipped_surrogate(
        log_prob[rows].float(), old_log_prob[rows].float(), credit[rows].float(), mask[rows],
        clip_low=config.clip_ratio_low, clip_high=config.clip_ratio_high, dual_clip=config.clip_ratio_c,
        aggregate=loss_agg_mode, normaliser=float(normaliser),
    )  # fmt: skip
    learnt = stats["tokens"]
    found = (stats["clipped_high"] + stats["clipped_low"], stats["dual_clipped"], stats["approx_kl_sum"])
    shown = {name: float(value / learnt) for name, value in zip(SHOWN, found, strict=True)}
    # verl averages gradients over its processes, and its normalisers count all of them.
    return loss * facts.get("dp_size", 1), shown | empty


class Verdicts:
    """How a response is judged: the contract and grader that `reward.lengthwise` names."""

    def __init__(self, config: DictConfig, tokenizer: Tokenizer | None) -> None:
        asked: DictConfig = config.reward.get(NAME) or {}
        if "contract" not in asked:
            raise ConfigError(f"reward.{NAME}.contract is missing; give a prompt contract's fields there")
        fields = {name: list(v) if isinstance(v, list | tuple) else v for name, v in asked["contract"].items()}
        self.contract, self.tokenizer = PromptContract.from_dict(fields), tokenizer
        self.grader = SafeGrader(self.contract, grader=asked.get("grader"))

    def judge(self, tokens: list[int], answer: str) -> tuple[bool, bool]:
        """Whether the answer is right, cut or not, and whether the response ended by EOS; neither without a token."""
        if not tokens:
            return False, False
        finished = tokens[-1] in self.contract.eos_ids
        kept = tokens[:-1] if finished else tokens
        assert self.tokenizer is not None, "a config alone judges nothing"
        text = self.tokenizer.decode(kept, skip_special_tokens=False)
        for stop in self.contract.stop_strings:
            text = text.split(stop)[0]
        return bool(self.grader(text, answer)), finished


def _reward_manager() -> type:
    with importing(*NEEDED):
        from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

    class LengthwiseRewardManager(RewardManagerBase):  # type: ignore[misc]  # verl is not read by the checker
        """Judges single responses; what they earn is the estimator's to say, who sees whole groups."""

        def __init__(self, config: DictConfig, tokenizer: Tokenizer, compute_score: object, **_: object) -> None:
            super().__init__(config, tokenizer, compute_score)
            self.verdicts = Verdicts(config, tokenizer)

        async def run_single(self, data: DataProto) -> dict[str, object]:
            """One response's score, and the facts that verl logs and filters groups by."""
            row = data[-1:][0]
            responses = row.batch["responses"]
            length = int(row.batch["attention_mask"][-responses.shape[-1] :].sum())
            answer = str(row.non_tensor_batch["reward_model"]["ground_truth"])
            tokens = responses[:length].tolist()
            right, finished = await self.loop.run_in_executor(None, self.verdicts.judge, tokens, answer)
            facts = {"acc": float(right), "finished": float(finished), "correct": float(right and finished)}
            facts["empty"] = float(length == 0)
            return {"reward_score": score_of(right, finished), "reward_extra_info": facts}

    return LengthwiseRewardManager


def register() -> None:
    """Put estimator, policy loss and reward manager into verl's registries; doing it twice changes nothing.

    Raises:
        ConfigError: verl has changed under the adapter.
        MissingExtraError: verl is not installed.
    """
    installed("verl")
    check_modules("verl", VERL_NAMES)
    with importing(*NEEDED):
        from verl.experimental.reward_loop import reward_manager as managers
        from verl.trainer.ppo import core_algos

    import lengthwise.context  # noqa: F401  (verl loads the model: its folder may need our position schemes)

    core_algos.register_adv_est(NAME)(advantage)
    core_algos.register_policy_loss(NAME)(policy_loss)
    try:
        managers.get_reward_manager_cls(NAME)
    except ValueError:
        managers.register(NAME)(_reward_manager())
    check_registered()


def check_registered() -> None:
    """See that verl finds our names.

    Raises:
        ConfigError: it does not; the message names the tested versions.
    """
    with importing(*NEEDED):
        from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
        from verl.trainer.ppo.core_algos import get_adv_estimator_fn, get_policy_loss_fn

    for what, find in (
        ("advantage estimator", get_adv_estimator_fn),
        ("policy loss", get_policy_loss_fn),
        ("reward manager", get_reward_manager_cls),
    ):
        try:
            found = find(NAME)
        except ValueError as error:
            raise ConfigError(
                f"verl knows no {what} {NAME!r}: its plug-in was not loaded. Tested with {tested_range('verl')}; see "
                "that VERL_USE_EXTERNAL_PLUGINS is not set to none"
            ) from error
        if what != "reward manager" and getattr(found, "__module__", "") not in (__name__, "__main__"):
            raise ConfigError(f"verl's {what} {NAME!r} is {found!r}, not this package's; uninstall what took the name")


def load() -> None:
    """What the plug-in does: register, and complain aloud, since verl itself swallows the error."""
    try:
        register()
    except Exception as error:
        warnings.warn(f"lengthwise could not register itself with verl: {error}", LengthwiseWarning, stacklevel=2)
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Check that verl loaded the plug-in, and with ``--config FOLDER`` an exported config; 0, or 2 with one line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--config", type=Path)
    asked = parser.parse_args(arguments)
    try:
        version = installed("verl")
        with importing(*NEEDED):
            import verl  # noqa: F401  # loads the plug-ins

        check_modules("verl", VERL_NAMES)
        from lengthwise.adapters import verl as plugin  # not __main__, which verl's plug-ins know nothing of

        plugin.check_registered()
        if asked.config is not None:
            from lengthwise.adapters.verl_config_check import check_config

            check_config(asked.config)
    except LengthwiseError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"verl {version}: estimator, policy loss and reward manager {NAME!r} are registered\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
