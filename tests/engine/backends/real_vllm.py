"""The backend with vLLM itself, on the lab's reasoner in float32: run by scripts/test_vllm.sh."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lengthwise.config.groups.training import Training
from lengthwise.engine import Sampler, Scorer
from lengthwise.engine.backends.protocol import prove
from lengthwise.engine.backends.vllm_engine import Serving
from lengthwise.engine.backends.vllm_sampler import Served, VllmSampler
from lengthwise.engine.batches import Task
from lengthwise.engine.metrics_log import read_metrics
from lengthwise.engine.model_folders import load_policy
from lengthwise.engine.trainer import Trainer
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import build_method

FOLDER = shipped_reasoner()
EOS = [1]
PROMPTS = [  # 6-5+5?  8-1-7+2?  0+9-6+1+7?  6-5+2-1+9+1?
    [15, 4, 14, 3, 14, 2], [17, 4, 10, 4, 16, 3, 11, 2], [9, 3, 18, 4, 15, 3, 10, 3, 16, 2],
    [15, 4, 14, 3, 11, 4, 10, 3, 18, 3, 10, 2],
]  # fmt: skip


def policy(rank: int = 0) -> Any:
    return load_policy(FOLDER, device="cpu", lora_rank=rank)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    found = Served(Serving(FOLDER, torch.device("cpu"), "float32", positions=160, rows=32, cache_bytes=2**28))
    yield found
    found.close()


def sampler(net: Any, served: Served) -> VllmSampler:
    return VllmSampler(net, served, eos_ids=EOS, pad_id=0)


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rank", [0, 4])
def test_the_proof_passes_after_a_hand_over_of_changed_weights(served: Served, rank: int) -> None:
    net = policy(rank).model
    found = prove(sampler(net, served), Scorer(net), PROMPTS, temperature=1.0)
    assert found.mean_gap < 1e-4 and (found.changed_gap or 1) < 1e-4 < 1e-2 < (found.moved or 0)


def test_a_seed_gives_the_same_tokens_also_after_a_hand_over(served: Served) -> None:
    net = policy().model
    backend = sampler(net, served)
    first = backend.generate(PROMPTS * 4, caps=40, generator=dice(3))
    backend.sync(net.named_parameters())
    second = backend.generate(PROMPTS * 4, caps=40, generator=dice(3))
    other = backend.generate(PROMPTS * 4, caps=40, generator=dice(4))
    assert torch.equal(first.completion_ids, second.completion_ids) and torch.equal(first.logp, second.logp)
    assert first.completion_ids.tolist() != other.completion_ids.tolist()


def test_log_probabilities_are_those_under_the_temperature_and_resuming_goes_on(served: Served) -> None:
    net = policy().model
    backend = sampler(net, served)
    start = backend.generate(PROMPTS, caps=[3, 9, 5, 7], generator=dice(), temperature=0.7)
    rest = backend.resume(start, caps=20, generator=dice(1), temperature=0.7)
    assert (start.num_tokens <= torch.tensor([3, 9, 5, 7])).all()
    for row in range(4):
        assert rest.response(row)[: int(start.num_tokens[row])] == start.response(row)
    gap = (Scorer(net, temperature=0.7)(rest)[0] - rest.logp).abs()[rest.mask]
    assert float(gap.detach().max()) < 1e-3


@pytest.mark.filterwarnings("ignore::lengthwise.errors.LengthwiseWarning")  # all answers are cut on purpose
def test_both_backends_learn_alike_over_twenty_updates_at_temperature_zero(served: Served, tmp_path: Path) -> None:
    # The likeliest token depends on the weights alone, so equal batches give equal weights, step after step.
    rows = []
    for name in ("transformers", "vllm"):
        made = policy()
        greedy = sampler(made.model, served) if name == "vllm" else Sampler(made.model, eos_ids=EOS, pad_id=0)
        greedy.generate = cold(greedy.generate)  # type: ignore[method-assign]
        task = Task(PROMPTS, lambda problem, tokens: len(tokens) % 2 == problem % 2)
        trainer = Trainer(
            made.model, method=build_method("linear-price", cap=24, price=0.02), task=task, folder=tmp_path / name,
            config=Training(steps=10, prompts=2, group_size=2, updates=2, lr=1e-4), eos_ids=EOS, pad_id=0,
            backend=greedy,
        )  # fmt: skip
        trainer.train()
        rows.append(([row["mean_tokens"] for row in read_metrics(tmp_path / name)], made.model.state_dict()))
    assert rows[0][0] == rows[1][0]
    assert any(not torch.equal(value, rows[0][1][name]) for name, value in policy().model.state_dict().items())
    assert all(torch.allclose(value, rows[1][1][name], atol=1e-6) for name, value in rows[0][1].items())


def cold(generate: Any) -> Any:
    """Draw the likeliest tokens; every second row of a group is cut at half the cap, or all its rows would be alike."""

    def draw(prompts: Any, *, caps: int, **options: Any) -> Any:
        halved = [caps if row % 2 else caps // 2 for row in range(len(prompts))]
        return generate(prompts, caps=halved, **{**options, "temperature": 0.0})

    return draw


WRITES = """
import sys, torch
from lengthwise.engine.backends.vllm_engine import Serving
from lengthwise.engine.backends.vllm_sampler import Served, VllmSampler
from lengthwise.engine.model_folders import load_policy
net = load_policy(sys.argv[1], device="cpu").model
served = Served(Serving(net.config._name_or_path, torch.device("cpu"), "float32", 160, 8, cache_bytes=2**27))
backend = VllmSampler(net, served, eos_ids=[1], pad_id=0)
print("writing", flush=True)
while True:
    backend.generate([[5, 6, 7]] * 8, caps=100, generator=torch.Generator().manual_seed(0))
    print("wrote", flush=True)
"""


def test_nothing_of_vllm_outlives_a_killed_run(tmp_path: Path) -> None:
    mark = f"LENGTHWISE_TEST_MARK={tmp_path}"
    child = subprocess.Popen(
        ["env", mark, sys.executable, "-c", WRITES, str(FOLDER)], stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert child.stdout is not None and "writing" in child.stdout.readline() and "wrote" in child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    time.sleep(1.0)
    alive = [
        path.parent.name for path in Path("/proc").glob("[0-9]*/environ")
        if _read(path).find(mark.encode()) >= 0
    ]  # fmt: skip
    assert alive == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended meanwhile, or is another user's
        return b""


TRAINS = """
import sys, torch
from pathlib import Path
from lengthwise.config.groups.training import Training
from lengthwise.engine.backends.vllm_engine import Serving
from lengthwise.engine.backends.vllm_sampler import Served, VllmSampler
from lengthwise.engine.batches import Task
from lengthwise.engine.metrics_log import read_metrics
from lengthwise.engine.model_folders import load_policy
from lengthwise.engine.trainer import Trainer
from lengthwise.errors import BackendError
from lengthwise.methods import build_method
model, folder, dies = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "dies"
net = load_policy(model, device="cpu").model
served = Served(Serving(Path(model), torch.device("cpu"), "float32", 160, 8, cache_bytes=2**27))
engine = served.engine._llm.llm_engine
step = engine.step
def dying():
    if dies and len(read_metrics(folder)) == 1:
        raise RuntimeError("EngineCore is gone")
    return step()
engine.step = dying
prompts = [[15, 4, 14, 3, 14, 2], [17, 4, 10, 4, 16, 3, 11, 2]]
trainer = Trainer(
    net, method=build_method("linear-price", cap=24, price=0.02), task=Task(prompts, lambda n, ids: len(ids) % 2 == n),
    folder=folder, config=Training(steps=3, prompts=2, group_size=4, updates=1, lr=1e-4, checkpoint_every=1),
    eos_ids=[1], pad_id=0, backend=VllmSampler(net, served, eos_ids=[1], pad_id=0),
)
try:
    trainer.train()
except BackendError as error:
    print("ERROR", error)
print("LENGTHS", [row["mean_tokens"] for row in read_metrics(folder)])
"""


def trained(folder: Path, *, dies: bool = False) -> list[str]:
    """What a process of its own, with a vLLM of its own, says of a run in this folder."""
    said = subprocess.run(
        [sys.executable, "-c", TRAINS, str(FOLDER), str(folder), "dies" if dies else "lives"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [line for line in said.stdout.splitlines() if line.startswith(("ERROR", "LENGTHS"))]


def test_a_vllm_that_dies_is_one_line_and_the_run_goes_on_with_the_tokens_that_another_start_draws(
    tmp_path: Path,
) -> None:
    told, so_far = trained(tmp_path / "run", dies=True)
    assert told.startswith(
        "ERROR vLLM stopped while it wrote tokens: RuntimeError: EngineCore is gone; the same command"
    )
    # Two starts of vLLM from one seed: what the second one draws is what the first would have drawn.
    whole = trained(tmp_path / "whole")
    assert trained(tmp_path / "run") == whole and whole[0].startswith(so_far.removesuffix("]"))
