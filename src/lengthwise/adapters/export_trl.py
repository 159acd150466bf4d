"""`lengthwise export trl`: a script and an accelerate config that run as they are."""

from __future__ import annotations

import json
import pprint
from pathlib import Path
from string import Template

from lengthwise.adapters.export_plan import Plan, prepare_folder
from lengthwise.config.groups.training import Cluster
from lengthwise.files import atomic_write_text
from lengthwise.folder_lock import writes
from lengthwise.installation_check import tested_range
from lengthwise.methods.user_method import from_anywhere

FILES = ("train.py", "accelerate.yaml")
"""How weights, gradients and optimizer are spread over devices."""

SCRIPT = Template('''"""$name inside TRL: $summary.

Written by `lengthwise export trl` for $tested. Run it in this folder; again, it goes on from its last checkpoint:

    accelerate launch --config_file accelerate.yaml train.py

Then measure: lengthwise evaluate model --data TEST.jsonl
"""

${standard}from pathlib import Path

import torch
${imports}from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOConfig

from lengthwise.adapters.verdicts import problems_for
from lengthwise.adapters.trl import LengthwiseGRPOTrainer
from lengthwise.data import read_rows
from lengthwise.grading.prompt_contract import PromptContract
from lengthwise.pretrained import copy_tokenizer

${own}HERE = Path(__file__).resolve().parent
MODEL = $model
DATA = $data
GRADER = $grader
METHOD, OPTIONS = $method, $options
CAP = $cap
TRUST_REMOTE_CODE = $trusted
CONTRACT = $contract

# $prompts prompts x $group responses a batch, $updates updates on it, over $processes device(s): a device takes
# $micro responses at a time, $accumulate times an update.
CUDA = torch.cuda.is_available()
SETTINGS = GRPOConfig(
    output_dir=str(HERE / "run"),
    num_generations=$group,
    per_device_train_batch_size=$micro,
    gradient_accumulation_steps=$accumulate,
    steps_per_generation=$generation,
    max_steps=$steps,
    max_completion_length=CAP,
    temperature=$temperature,
    learning_rate=$lr,
    lr_scheduler_type="constant_with_warmup",
    warmup_steps=$warmup,
    weight_decay=$decay,
    max_grad_norm=$clip,
    bf16=CUDA,
    use_cpu=not CUDA,
    gradient_checkpointing=$checkpointing,
    use_vllm=$vllm,
    vllm_mode="colocate",
    vllm_importance_sampling_correction=$correction,
    save_steps=$save,
    save_total_limit=2,
    logging_steps=1,
    report_to="tensorboard",
    seed=$seed,
    model_init_kwargs={"trust_remote_code": TRUST_REMOTE_CODE},
)


def main() -> None:
    problems = problems_for(
        MODEL, read_rows(DATA), PromptContract.from_dict(CONTRACT), cap=CAP, source=DATA, grader=GRADER,
        trust_remote_code=TRUST_REMOTE_CODE,
    )
    trainer = LengthwiseGRPOTrainer(
        MODEL, args=SETTINGS, method=METHOD, method_options=OPTIONS, problems=problems, max_draws=$draws$lora
    )
    run = HERE / "run"
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(run)) if run.is_dir() else None)
    $save_model
    if trainer.accelerator.is_main_process:  # the model's own files in place of a rewritten tokenizer
        copy_tokenizer(Path(MODEL), HERE / "model")


if __name__ == "__main__":
    main()
''')

SAVE = 'trainer.save_model(str(HERE / "model"))'
SAVE_LORA = """trainer.save_model(str(HERE / "adapter"))
    if trainer.accelerator.is_main_process:  # merged, so that every reader of a model folder takes it
        merged = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
        merged.save_pretrained(str(HERE / "model"))"""
LORA = """,
        peft_config=LoraConfig(r=$rank, lora_alpha=$alpha, target_modules="all-linear", task_type="CAUSAL_LM"),
   """


@writes("plan.out")
def write_trl(plan: Plan) -> list[Path]:
    """Write the script and the config; returns their paths.

    Raises:
        ConfigError: files that are there already.
    """
    out = prepare_folder(plan.settings, FILES)
    atomic_write_text(out / "train.py", script(plan))
    atomic_write_text(out / "accelerate.yaml", accelerate_config(plan.settings.cluster))
    return [out / name for name in FILES]


def script(plan: Plan) -> str:
    """The text of the training script."""
    asked, train = plan.settings, plan.settings.training
    rank, cluster = asked.adaptation.lora, asked.cluster
    lora = Template(LORA).substitute(rank=rank, alpha=2 * rank) if rank else ""
    folder = plan.own_folder
    own = "" if folder is None else f"sys.path.append({str(folder)!r})  # where the module of your own lies\n"
    return SCRIPT.substitute(
        standard="import sys\n" if own else "", own=own,
        imports="from peft import LoraConfig\n" if lora else "", name=plan.method.name,
        summary=plan.method.summary, tested=tested_range("trl"),
        model=repr(str(plan.model)), data=repr(_data(asked.data)), grader=repr(asked.contract.grader),
        method=repr(from_anywhere(asked.method)), options=_literal(plan.options), cap=plan.cap,
        contract=_literal(plan.problems.contract.to_dict()), prompts=train.prompts, group=train.group_size,
        updates=train.updates, processes=cluster.processes, micro=plan.micro_batch_rows, accumulate=plan.accumulate,
        generation=plan.accumulate * train.updates, steps=train.steps * train.updates,
        temperature=train.temperature, lr=train.lr, warmup=train.warmup_steps * train.updates,
        decay=train.weight_decay, clip=train.grad_clip, checkpointing=asked.adaptation.gradient_checkpointing,
        vllm=cluster.vllm, correction=cluster.vllm and plan.method.takes_advantages,
        save=train.checkpoint_every * train.updates,
        seed=train.seed, draws=train.max_draws, lora=lora, trusted=asked.trust_remote_code,
        save_model=SAVE_LORA if lora else SAVE,
    )  # fmt: skip


def accelerate_config(cluster: Cluster) -> str:
    """The text of the accelerate config: plain, DeepSpeed or FSDP."""
    processes, sharding = cluster.processes, cluster.sharding
    kind = {"zero2": "DEEPSPEED", "zero3": "DEEPSPEED", "fsdp": "FSDP"}.get(sharding, "MULTI_GPU")
    fields: dict[str, object] = {
        "compute_environment": "LOCAL_MACHINE",
        "debug": False,
        "distributed_type": kind if processes > 1 else "NO",
        "downcast_bf16": "no",
        "machine_rank": 0,
        "main_training_function": "main",
        "mixed_precision": "no",
        "num_machines": cluster.nodes,
        "num_processes": processes,
        "rdzv_backend": "static",
        "same_network": True,
        "use_cpu": False,
    }
    lines = [f"{name}: {_yaml(value)}" for name, value in fields.items()]
    nested = {
        "zero2": ("deepspeed_config", {"zero_stage": 2, "zero3_init_flag": False, "gradient_clipping": "auto"}),
        "zero3": (
            "deepspeed_config",
            {"zero_stage": 3, "zero3_init_flag": True, "zero3_save_16bit_model": True, "gradient_clipping": "auto"},
        ),
        "fsdp": (
            "fsdp_config",
            {
                "fsdp_version": 2, "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                "fsdp_reshard_after_forward": True, "fsdp_offload_params": False,
                "fsdp_state_dict_type": "FULL_STATE_DICT", "fsdp_cpu_ram_efficient_loading": True,
            },
        ),
    }.get(sharding)  # fmt: skip
    if nested is not None:
        lines += [f"{nested[0]}:", *(f"  {name}: {_yaml(value)}" for name, value in nested[1].items())]
    head = "# The script says itself whether it computes in bfloat16; several processes on a CPU find gloo.\n"
    return head + "\n".join(lines) + "\n"


def _yaml(value: object) -> str:
    return json.dumps(value)  # quoted, since a bare `no` is YAML's false


def _data(source: str) -> str:
    return str(Path(source).resolve()) if Path(source).is_file() else source


def _literal(value: object) -> str:
    return pprint.pformat(value, width=110, sort_dicts=False)
