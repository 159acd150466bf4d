"""`lengthwise export verl`: a hydra config over verl's own, the problems, and a launch script."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from lengthwise.adapters.export_plan import Plan, prepare_folder
from lengthwise.adapters.method_support import surrogate_settings
from lengthwise.adapters.verl import NAME
from lengthwise.errors import ConfigError, MissingExtraError
from lengthwise.files import atomic_write_text
from lengthwise.folder_lock import writes
from lengthwise.installation_check import tested_range
from lengthwise.methods.user_method import from_anywhere

FILES = ("config.yaml", "problems.jsonl", "launch.sh")
VERBATIM = "{{ messages[0]['content'] }}"
"""A chat template that adds nothing: the prompts are rendered already, under our prompt contract."""
NO_DUAL_CLIP = 1e9
"""A ratio that is never reached: verl's clip_ratio_c cannot be left out."""
KL_KINDS = {"k1": "kl", "k2": "mse", "k3": "low_var_kl"}


@writes("plan.out")
def write_verl(plan: Plan) -> list[Path]:
    """Write config, problems and launch script; returns their paths.

    Raises:
        ConfigError: files that are there already.
    """
    rows = [json.dumps(row, ensure_ascii=False) for row in problem_rows(plan)]
    out = prepare_folder(plan.settings, FILES)
    atomic_write_text(out / "problems.jsonl", "\n".join(rows) + "\n")
    atomic_write_text(out / "config.yaml", config_text(plan))
    atomic_write_text(out / "launch.sh", launch_text(plan))
    (out / "launch.sh").chmod(0o755)
    return [out / name for name in FILES]


def problem_rows(plan: Plan) -> list[dict[str, object]]:
    """verl's rows, whose prompts its chat template leaves as the contract's own token ids.

    Raises:
        ConfigError: the tokenizer writes other tokens than the contract.
    """
    problems, tokenizer = plan.problems, plan.problems.tokenizer
    opening = tokenizer.bos_token or ""
    rows: list[dict[str, object]] = []
    for number, ids in enumerate(problems.prompts):
        text = problems.texts[number]
        fits = [t for t in (text, opening + text) if list(tokenizer(t, add_special_tokens=False)["input_ids"]) == ids]
        if not fits:
            raise ConfigError(f"the tokenizer turns the prompt {text!r} into other tokens than the prompt contract")
        rows.append(
            {
                "prompt": [{"role": "user", "content": fits[0]}],
                "data_source": NAME,
                "reward_model": {"style": "rule", "ground_truth": problems.answers[number]},
                "extra_info": {"problem_id": problems.ids[number]},
            }
        )
    return rows


def verl_settings(plan: Plan) -> dict[str, object]:
    """What the run says in verl's words; everything else is verl's default."""
    asked, train, method, options = plan.settings, plan.settings.training, plan.method, surrogate_settings(plan.method)
    out = plan.out.resolve()
    rows = str(out / "problems.jsonl")
    assert options is not None, "verl was refused another loss"
    contract = plan.problems.contract.to_dict()
    room = plan.longest_prompt + plan.cap
    scored = 2 * plan.micro_batch_rows * room
    dual = options.get("dual_clip") or NO_DUAL_CLIP
    actor: dict[str, object] = {
        "strategy": "fsdp",
        "ppo_mini_batch_size": train.prompts // train.updates,
        "use_dynamic_bsz": True,
        "ppo_max_token_len_per_gpu": plan.micro_batch_rows * room,
        "clip_ratio": options["clip_low"],
        "clip_ratio_low": options["clip_low"],
        "clip_ratio_high": options["clip_high"],
        "clip_ratio_c": dual,
        "loss_agg_mode": options["aggregate"],
        "loss_scale_factor": plan.cap if options["aggregate"].endswith("-norm") else None,
        "policy_loss": {"loss_mode": NAME},
        "use_kl_loss": method.kl_coef > 0,
        "kl_loss_coef": method.kl_coef,
        "kl_loss_type": KL_KINDS[method.kl_kind],
        "entropy_coeff": 0,
        "ppo_epochs": 1,
        "optim": {
            "lr": train.lr, "weight_decay": train.weight_decay, "clip_grad": train.grad_clip,
            "lr_warmup_steps": train.warmup_steps * train.updates or -1,
        },
    }  # fmt: skip
    return {
        "data": {
            "train_files": [rows], "val_files": [rows],
            "train_batch_size": train.prompts, "max_prompt_length": plan.longest_prompt,
            "max_response_length": plan.cap, "truncation": "error", "seed": train.seed,
            "trust_remote_code": asked.trust_remote_code,
        },
        "algorithm": {
            "adv_estimator": NAME,
            NAME: {"method": from_anywhere(asked.method), "cap": plan.cap, "options": plan.options},
            "use_kl_in_reward": False,
            "filter_groups": {"enable": method.keep is not None, "metric": "acc" if method.keep else "reward"},
        },
        "reward": {
            "reward_manager": {"source": "register", "name": NAME},
            NAME: {"contract": contract, "grader": asked.contract.grader},
        },
        "actor_rollout_ref": {
            "model": {
                "path": str(plan.model), "custom_chat_template": VERBATIM, "lora_rank": asked.adaptation.lora,
                "enable_gradient_checkpointing": asked.adaptation.gradient_checkpointing,
                "trust_remote_code": asked.trust_remote_code,
            },
            "actor": actor,
            "ref": {"log_prob_use_dynamic_bsz": True, "log_prob_max_token_len_per_gpu": scored},
            "rollout": {
                "name": "vllm", "n": train.group_size, "temperature": train.temperature, "top_p": 1.0, "top_k": -1,
                "tensor_model_parallel_size": asked.cluster.tensor_parallel, "max_model_len": room,
                "log_prob_use_dynamic_bsz": True, "log_prob_max_token_len_per_gpu": scored,
                "calculate_log_probs": True,
            },
        },
        "trainer": {
            "nnodes": asked.cluster.nodes, "n_gpus_per_node": asked.cluster.devices, "use_v1": True,
            "total_training_steps": train.steps, "total_epochs": 1_000, "save_freq": train.checkpoint_every,
            "test_freq": -1, "val_before_train": False, "logger": ["console", "tensorboard"],
            "project_name": NAME, "experiment_name": method.name, "default_local_dir": str(out / "run"),
            "max_actor_ckpt_to_keep": 2, "resume_mode": "auto",
        },
    }  # fmt: skip


def config_text(plan: Plan) -> str:
    """The hydra config: verl's own, with what the run says on top."""
    head = (
        f"# {plan.method.name} inside verl ({tested_range('verl')}), written by `lengthwise export verl`; "
        "launch.sh starts it.\n"
        "hydra:\n  searchpath: [pkg://verl.trainer.config]\n\ndefaults:\n  - ppo_trainer\n  - _self_\n\n"
    )
    return head + _yaml(verl_settings(plan), 0)


def _yaml(value: Mapping[str, object], depth: int) -> str:
    """Plain YAML: nested mappings as blocks, everything else as JSON, which YAML reads."""
    lines = []
    for name, entry in value.items():
        pad = "  " * depth
        if isinstance(entry, dict) and entry:
            lines.append(f"{pad}{name}:\n{_yaml(entry, depth + 1)}".rstrip("\n"))
        else:
            lines.append(f"{pad}{name}: {json.dumps(entry, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def launch_text(plan: Plan) -> str:
    """The launch script: it checks before it starts, and says how the result becomes an ordinary model folder."""
    return f"""#!/usr/bin/env bash
# {plan.method.name} inside verl. Written by `lengthwise export verl`.
# With several nodes start Ray on each first (ray start --head; ray start --address=HEAD:6379), then this on the head.
set -euo pipefail
HERE="$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)"
export VERL_USE_EXTERNAL_PLUGINS="${{VERL_USE_EXTERNAL_PLUGINS:-auto}}"
{_find_own(plan)}
python -m lengthwise.adapters.verl --config "$HERE"   # stops here if the plug-in or the config does not hold
python -m verl.trainer.main_ppo --config-path "$HERE" --config-name config "$@"

newest="$(ls -d "$HERE"/run/global_step_* | sort -V | tail -1)"
python -m verl.model_merger merge --backend fsdp --local_dir "$newest/actor" --target_dir "$HERE/model"
# The model's own tokenizer files, in place of those that were written anew.
python -c 'import sys; from pathlib import Path; from lengthwise.pretrained import copy_tokenizer
copy_tokenizer(*map(Path, sys.argv[1:]))' {shlex.quote(str(plan.model))} "$HERE/model"
echo "Measure it: lengthwise evaluate $HERE/model --data TEST.jsonl"
"""


def _find_own(plan: Plan) -> str:
    """Lets every process import the user's own module."""
    return (
        ""
        if plan.own_folder is None
        else f'export PYTHONPATH={shlex.quote(str(plan.own_folder))}:"${{PYTHONPATH:-}}"\n'
    )


def validated(folder: Path) -> str:
    """Check a written config with verl's own classes; says so, or why that could not be done here.

    Raises:
        ConfigError: verl refuses the config.
    """
    try:
        version = metadata.version("verl")
    except metadata.PackageNotFoundError:
        return "not against verl, which is not installed here; launch.sh does it before it starts"
    from lengthwise.adapters.verl_config_check import check_config

    try:
        check_config(folder)
    except MissingExtraError as error:
        return f"not against verl: {error}; launch.sh does it before it starts"
    return f"against the config classes of verl {version}"
