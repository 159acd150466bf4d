"""The verl plug-in inside verl itself: its registries, its compute_advantage, its policy losses, its config classes.

verl needs an older transformers than the default environment has; scripts/test_verl.sh makes one and runs this.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

pytest.importorskip("verl", reason="verl is not installed; scripts/test_verl.sh makes an environment with it")

from adapter_rows import CAP, batch, method, scores_of, switching, with_empty
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.ppo.core_algos import get_adv_estimator_fn, get_policy_loss_fn
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.utils.config import omega_conf_to_dataclass

from lengthwise.adapters import engine_names, verl
from lengthwise.adapters.export_plan import plan
from lengthwise.adapters.export_verl import write_verl
from lengthwise.adapters.method_support import why_not
from lengthwise.adapters.verl_config_check import check_config
from lengthwise.config.commands import ExportSettings
from lengthwise.errors import ConfigError, LengthwiseWarning, UnsupportedModelError
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import METHODS, build_method
from lengthwise.objectives import clipped_surrogate

CARRIED = [name for name in METHODS if why_not("verl", build_method(name, cap=CAP)) is None]


def config(name, **options):
    return OmegaConf.create({"lengthwise": {"method": name, "cap": CAP, "options": options}})


def through_verl(rollouts, name, order, **options):
    """Advantages by verl's compute_advantage, of rows in another order, put back."""
    mask = rollouts.mask[order].long()
    rewards = torch.zeros(mask.shape)
    rewards[torch.arange(len(order)), mask.sum(1) - 1] = scores_of(rollouts)[order]
    uids = np.array([f"prompt {int(g)}" for g in rollouts.group_ids[order]], dtype=object)
    data = DataProto.from_dict({"token_level_rewards": rewards, "response_mask": mask}, non_tensors={"uid": uids})
    found = compute_advantage(data, adv_estimator="lengthwise", config=config(name, **options))
    return found.batch["advantages"][order.argsort()]


@pytest.mark.parametrize("name", CARRIED)
def test_advantages_are_the_pure_functions(name):
    rollouts, chosen = batch(seed=3), method(name)
    credit = chosen.advantage(chosen.reward(rollouts, {}), rollouts)
    wanted = (credit if credit.dim() == 2 else credit[:, None]) * rollouts.mask
    order = torch.randperm(len(rollouts), generator=torch.Generator().manual_seed(1))
    found = through_verl(rollouts, name, order, **method.options.get(name, {}))
    assert float((found - wanted).abs().max()) <= 1e-6


@pytest.mark.parametrize("name", CARRIED)
def test_rows_without_a_token_have_no_advantage_and_change_no_other(name):
    rollouts = batch(seed=3)
    options = method.options.get(name, {})
    wanted = through_verl(rollouts, name, torch.arange(len(rollouts)), **options)
    for at, group in ((0, 0), (24, 99)):  # among a prompt's responses, and verl's own padding with an id of its own
        found = through_verl(with_empty(rollouts, at, group), name, torch.arange(len(rollouts) + 1), **options)
        assert float(found[at].abs().sum()) == 0
        assert torch.equal(torch.cat([found[:at], found[at + 1 :]]), wanted)


def test_a_group_of_one_has_no_advantage_here_and_its_raw_reward_in_verls_own():
    rollouts = batch(seed=3)
    alone = rollouts.with_fields(group_ids=torch.arange(len(rollouts)))
    found = through_verl(alone, "grpo", torch.arange(len(alone)))
    assert float(found.abs().max()) == 0
    mask = alone.mask.float()
    rewards = torch.zeros(mask.shape)
    rewards[:, 0] = alone.correct.float()
    own, _ = get_adv_estimator_fn("grpo")(
        token_level_rewards=rewards, response_mask=mask, index=np.array([str(i) for i in range(len(alone))])
    )
    assert float(own.abs().max()) > 0.9, "verl has changed its convention; the adapter's page says it has not"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    def write(name, *options):
        folder = tmp_path_factory.mktemp(name)
        data = folder / "chains.jsonl"
        rows = chains.problems(40, split="train", seed=0)
        data.write_text("\n".join(json.dumps(chain.row) for chain in rows) + "\n")
        given = {
            "engine": "verl", "model": str(shipped_reasoner()), "data": str(data), "out": folder, "method": name,
            "cap": CAP, "option": options, "steps": 2, "prompts": 8, "group_size": 4, "updates": 2, "preset": "lab",
        }  # fmt: skip
        write_verl(plan(ExportSettings.from_dict(given)))
        return folder

    return write


@pytest.mark.parametrize("name", CARRIED)
def test_the_policy_loss_in_parts_is_the_pure_function_of_the_whole(name, exported):
    actor = omega_conf_to_dataclass(check_config(exported(name)).actor_rollout_ref.actor)
    rollouts, chosen = batch(seed=4), method(name)
    rows, width = rollouts.mask.shape
    credit = chosen.advantage(chosen.reward(rollouts, {}), rollouts)
    credit = (credit if credit.dim() == 2 else credit[:, None]) * rollouts.mask
    generator = torch.Generator().manual_seed(2)
    old = -torch.rand(rows, width, generator=generator)
    logp = (old + 0.4 * torch.randn(rows, width, generator=generator)).requires_grad_()
    said = chosen.options
    whole, _ = clipped_surrogate(
        logp, old, credit, rollouts.mask, clip_low=said["clip_low"], clip_high=said["clip_high"],
        dual_clip=said.get("dual_clip"), aggregate=said["aggregate"], max_tokens=CAP,
    )  # fmt: skip
    (wanted,) = torch.autograd.grad(whole, logp)
    loss_fn = get_policy_loss_fn(actor.policy_loss.loss_mode)
    processes = 2
    actor.global_batch_info.update(
        dp_size=processes, batch_num_tokens=int(rollouts.mask.sum()), global_batch_size=rows,
        loss_scale_factor=actor.loss_scale_factor,
    )  # fmt: skip
    order = torch.randperm(rows, generator=generator)
    total = torch.zeros_like(logp)
    for part in order.split(5):
        loss, _ = loss_fn(
            old_log_prob=old[part], log_prob=logp[part], advantages=credit[part],
            response_mask=rollouts.mask[part], loss_agg_mode=actor.loss_agg_mode, config=actor,
        )  # fmt: skip
        total += torch.autograd.grad(loss / processes, logp)[0]
    assert float((total - wanted).abs().max() / wanted.abs().max()) <= 1e-5


def test_verls_own_loss_does_not_agree_with_a_refused_setting(exported):
    folder = exported("dler")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace('loss_agg_mode: "token-mean"', 'loss_agg_mode: "tokens"'))
    with pytest.raises(ConfigError, match="verl refuses"):
        check_config(folder)
    (folder / "config.yaml").write_text(text.replace('method: "dler"', 'method: "drpo"'))
    with pytest.raises(ConfigError, match="does not run inside verl"):
        check_config(folder)


def test_a_config_under_which_factors_would_switch_within_a_batch_is_refused(exported, tmp_path):
    folder, crossing = exported("dler"), switching(tmp_path / "crossing", CAP)
    text = (folder / "config.yaml").read_text()
    said = json.dumps(str(shipped_reasoner().resolve()))
    assert said in text
    (folder / "config.yaml").write_text(text.replace(said, json.dumps(str(crossing))))
    with pytest.raises(UnsupportedModelError, match=f"switch at {CAP} tokens.*verl puts rows of all lengths"):
        check_config(folder)


def test_the_reward_manager_judges_text_and_ending(exported):
    from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls

    from lengthwise.pretrained import load_tokenizer

    composed = check_config(exported("dler"))
    tokenizer = load_tokenizer(shipped_reasoner())
    made = get_reward_manager_cls("lengthwise")(composed, tokenizer, None)
    words = ["3", "+", "4", "=", "7", ";", "A:", "7"]
    for ids, answer, wanted in (
        ([*tokenizer.convert_tokens_to_ids(words), tokenizer.eos_token_id], "7", (True, True)),
        (tokenizer.convert_tokens_to_ids(words), "7", (True, False)),
        ([], "7", (False, False)),
        ([*tokenizer.convert_tokens_to_ids(words), tokenizer.eos_token_id], "8", (False, True)),
    ):
        padded = torch.tensor([ids + [0] * (12 - len(ids))])
        seen = torch.tensor([[1, 1] + [1] * len(ids) + [0] * (12 - len(ids))])
        data = DataProto.from_dict(
            {"responses": padded, "attention_mask": seen, "prompts": torch.ones(1, 2, dtype=torch.long)},
            non_tensors={"reward_model": np.array([{"ground_truth": answer}], dtype=object)},
        )
        out = made.loop.run_until_complete(made.run_single(data)) if not asyncio.iscoroutine(made) else None
        assert out["reward_score"] == verl.score_of(*wanted)
        assert out["reward_extra_info"] == {
            "acc": float(wanted[0]), "finished": float(wanted[1]), "correct": float(all(wanted)),
            "empty": float(not ids),
        }  # fmt: skip


def test_a_plug_in_that_is_not_loaded_is_found_before_the_run():
    command = [sys.executable, "-m", "lengthwise.adapters.verl"]
    done = subprocess.run(
        command, env=os.environ | {"VERL_USE_EXTERNAL_PLUGINS": "none"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "its plug-in was not loaded" in done.stderr and "verl>=" in done.stderr


def test_a_name_that_verl_dropped_is_complained_of_aloud(monkeypatch):
    gone = {"verl.trainer.ppo.core_algos": ("register_adv_est", "no_such_name")}
    monkeypatch.setattr(verl, "VERL_NAMES", gone)
    with pytest.warns(LengthwiseWarning, match="no_such_name is gone"), pytest.raises(ConfigError):
        verl.load()


def test_every_name_that_is_touched_is_there():
    engine_names.check_modules("verl", engine_names.VERL_NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LengthwiseWarning)
        engine_names.installed("verl")
