"""Merging three bfloat16 models: time and peak memory beside mergekit, and time as a multiple of copying the files.

Wanted: task arithmetic not slower than mergekit with at most 0.7 of its peak; TIES at least 2 times faster with at
most 0.8 of its peak. A peak is that of the whole process, imports included. Times are those of the merge itself,
after imports and with both sides' inputs in the page cache; the whole process' time is in the raw result too.
mergekit writes 50 MB shards, which need less memory than its default. It may live in an environment of its own.

    python benchmarks/merge.py --mergekit-python PYTHON --json benchmarks/results/merge.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _bench import RESULTS, facts, run_worker, write_json

METHODS = {"task-arithmetic": {"scale": 0.7}, "ties": {"density": 0.2}}
WANTED = {"task-arithmetic": (1.0, 0.7), "ties": (0.5, 0.8)}
"""Most time and most peak memory, as shares of mergekit's."""
SHARD = 50_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mergekit-python", default=sys.executable, help="an interpreter that has mergekit 0.1.5")
    parser.add_argument("--layers", type=int, default=14, help="14 layers of width 1024: 0.4 GiB a model")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--methods", default=",".join(METHODS), help="which to merge by, with commas")
    parser.add_argument("--json", type=Path, default=RESULTS / "merge.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="merge-") as folder:
        spec = {"task": "make", "root": folder, "layers": arguments.layers}
        made = run_worker(__file__, spec, threads=1)
        result = {**facts("lengthwise", "numpy"), **_measured(Path(folder), arguments), "model": made}
    write_json(arguments.json, result)
    print(json.dumps(result["summary"], indent=1))


def _measured(root: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    sides = {"lengthwise": sys.executable, "mergekit": arguments.mergekit_python}
    runs: list[dict[str, Any]] = []
    for _ in range(arguments.repeats):
        runs.append({"what": "copy", "seconds": _copy(root)})
        for method in arguments.methods.split(","):
            for side, python in sides.items():
                spec = {"task": side, "method": method, "root": str(root)}
                runs.append({"what": f"{side} {method}", **_process(python, spec, arguments.threads)})
    return {"threads": arguments.threads, "runs": runs, "summary": _summary(runs)}


def _copy(root: Path) -> float:
    """Seconds to copy the three models, synced."""
    start = time.perf_counter()
    for name in ("base", "first", "second"):
        target = root / "copy.safetensors"
        shutil.copyfile(root / name / "model.safetensors", target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
        target.unlink()
    return time.perf_counter() - start


def _process(python: str, spec: dict[str, Any], threads: int) -> dict[str, Any]:
    """One merge in a process of its own: its own time, the process' time, and the kernel's word on its peak."""
    out = Path(spec["root"]) / "merged"
    shutil.rmtree(out, ignore_errors=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [python, __file__, "--worker", json.dumps(spec)], env=environment, stdout=subprocess.PIPE, stderr=errors,
            text=True,
        )  # fmt: skip
        assert child.stdout is not None
        said = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if child.returncode:
            raise SystemExit(f"{spec} failed:\n{errors.read()[-4000:]}")
    return {
        **json.loads(said.strip().splitlines()[-1]),
        "process_seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
    }


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    def median(what: str, key: str) -> float:
        return statistics.median(run[key] for run in runs if run["what"] == what)

    copy = median("copy", "seconds")
    found: dict[str, Any] = {"copy_seconds": round(copy, 3)}
    for method, (most_time, most_memory) in WANTED.items():
        if not any(run["what"].endswith(f" {method}") for run in runs):
            continue
        own, other = f"lengthwise {method}", f"mergekit {method}"
        row = {
            key: [round(median(own, key), 3), round(median(other, key), 3)]
            for key in ("seconds", "process_seconds", "cpu_seconds", "peak_mib")
        }
        times, peaks = row["seconds"][0] / row["seconds"][1], row["peak_mib"][0] / row["peak_mib"][1]
        found[method] = {
            **row,
            "times_of_copying": round(row["seconds"][0] / copy, 2),
            "time_ratio": round(times, 3),
            "peak_ratio": round(peaks, 3),
            "passed": times <= most_time and peaks <= most_memory,
        }
    return found


def work(spec: dict[str, Any]) -> None:
    tasks = {"make": _make, "lengthwise": _lengthwise, "mergekit": _mergekit}
    said = tasks[spec["task"]](spec)
    if "out" in spec:
        Path(spec["out"]).write_text(json.dumps(said))
    else:
        print(json.dumps(said))


def _make(spec: dict[str, Any]) -> dict[str, Any]:
    """A base and two models whose changes are small, in the shapes of a Llama model with a tied head."""
    import numpy as np

    from lengthwise.safetensors_io.dtypes import BY_CODE, narrow
    from lengthwise.safetensors_io.tensor_sources import TensorInfo
    from lengthwise.safetensors_io.writer import ShardWriter

    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32_000, "hidden_size": 1024,
        "intermediate_size": 2816, "num_hidden_layers": spec["layers"], "num_attention_heads": 16,
        "num_key_value_heads": 16, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "tie_word_embeddings": True, "dtype": "bfloat16",
    }  # fmt: skip
    infos = {name: TensorInfo(shape, BY_CODE["BF16"]) for name, shape in _shapes(config).items()}
    for model, name in enumerate(("base", "first", "second")):
        folder = Path(spec["root"]) / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        # mergekit has no checksums to compare, so there are none here
        writer = ShardWriter(folder, infos)
        for number, (tensor, info) in enumerate(writer.outputs.items()):
            values = np.random.default_rng(number).standard_normal(info.size, np.float32)
            values *= np.float32(0.02)
            if model:
                change = np.random.default_rng((number, model)).standard_normal(info.size, np.float32)
                values += change * np.float32(0.001)
            writer.write(tensor, narrow(values, info.dtype))
        writer.close()
        writer.publish()
    return {"parameters": sum(info.size for info in infos.values()), "bytes": sum(i.nbytes for i in infos.values())}


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.self_attn.{part}_proj.weight": (width, width) for part in "qkvo"}
        shapes |= {f"{prefix}.mlp.{part}_proj.weight": (inner, width) for part in ("gate", "up")}
        shapes[f"{prefix}.mlp.down_proj.weight"] = (width, inner)
        shapes |= {f"{prefix}.{part}_layernorm.weight": (width,) for part in ("input", "post_attention")}
    return {**shapes, "model.norm.weight": (width,)}


def _lengthwise(spec: dict[str, Any]) -> dict[str, Any]:
    from lengthwise.config.commands import MergeSettings
    from lengthwise.merging.folder_merge import merge_folders

    root = Path(spec["root"])
    folders = {"base": str(root / "base"), "models": (str(root / "first"), str(root / "second"))}
    options = {"method": spec["method"], "weights": (0.5, 0.3), **METHODS[spec["method"]]}
    asked = MergeSettings.from_dict({**options, **folders, "out": root / "merged"})
    start = time.perf_counter()
    merge_folders(asked)
    return {"seconds": time.perf_counter() - start}


def _mergekit(spec: dict[str, Any]) -> dict[str, Any]:
    import torch
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    root, options = Path(spec["root"]), dict(METHODS[spec["method"]])
    density = {"density": options.pop("density")} if "density" in options else {}
    parameters = {"lambda": options["scale"]} if "scale" in options else {}
    config = MergeConfiguration.model_validate(
        {
            "merge_method": spec["method"].replace("-", "_"),
            "base_model": str(root / "base"),
            "dtype": "bfloat16",
            "parameters": parameters,
            "models": [
                {"model": str(root / name), "parameters": {"weight": weight, **density}}
                for name, weight in (("first", 0.5), ("second", 0.3))
            ],
        }
    )
    start = time.perf_counter()
    run_merge(config, str(root / "merged"), MergeOptions(copy_tokenizer=False, quiet=True, out_shard_size=SHARD))
    return {"seconds": time.perf_counter() - start}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(json.loads(sys.argv[2]))
    else:
        main()
