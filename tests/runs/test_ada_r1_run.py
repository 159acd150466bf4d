"""`shorten --method ada-r1` end to end on a tiny scale, each stage alone, kills, and DPO's numbers through TRL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lengthwise.cli import main
from lengthwise.config.commands import ShortenSettings
from lengthwise.config.groups.model import TrainingRuntime
from lengthwise.config.groups.training import AdaptationHere, Training
from lengthwise.engine.model_folders import load_policy, weights_sha
from lengthwise.errors import ConfigError, MissingExtraError, TrainingError
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods.bi_level import dpo
from lengthwise.methods.bi_level.dpo import check_trl, pair_tokens, train_on_pairs
from lengthwise.methods.bi_level.pairs import read_pairs
from lengthwise.methods.papers.ada_r1 import ada_r1
from lengthwise.optional_imports import importing
from lengthwise.runs.chains_demo import chain_problems
from lengthwise.runs.shortening.outcome import Outcome
from lengthwise.runs.shortening.resolve import method_options, shorten_by

HERE = (TrainingRuntime(device="cpu"), AdaptationHere())
LEARNING = ("samples=3", "lr=1e-4", "batch=4", "epochs=1")


def write_rows(path: Path, count: int, split: Any) -> str:
    rows = [chain.row for chain in chains.problems(count, split=split, seed=0, levels=(2, 3))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def asked(folder: Path, **changes: Any) -> ShortenSettings:
    given = {
        "model": "lab:chains", "data": write_rows(folder / "train.jsonl", 6, "train"), "method": "ada-r1",
        "eval_data": write_rows(folder / "test.jsonl", 6, "test"), "out": folder / "run", "cap": 60, "eval_cap": 60,
        "preset": "lab", "option": LEARNING, "short_model": "lab:terse", "checkpoint_every": 1, "device": "cpu",
    }  # fmt: skip
    return ShortenSettings.from_dict({**given, **changes})


def stage_of(name: str, folder: Path) -> dict[str, Any]:
    return shorten_by(asked(folder, stage=name)).to_dict()


# --- without TRL --------------------------------------------------------------------------------------------------


def test_stages_alone_up_to_the_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """merge, sample and pairs need no TRL; each says what it needs, and a finished one is not run again."""
    monkeypatch.setattr(dpo, "import_trl", _no_trl)
    with pytest.raises(ConfigError, match="stage pairs reads what sample left.*run --stage sample first"):
        stage_of("pairs", tmp_path)
    drawn = stage_of("sample", tmp_path)
    assert drawn["short"]["mean_tokens"] < drawn["long"]["mean_tokens"]
    assert drawn["sampled_tokens"] == drawn["short"]["tokens"] + drawn["long"]["tokens"]
    log = tmp_path / "run" / "stages" / "sample" / "work" / "long.jsonl"
    before = log.read_bytes()
    found = stage_of("pairs", tmp_path)
    pairs = list(read_pairs(tmp_path / "run" / "stages" / "pairs" / "work" / "pairs.jsonl"))
    assert len(pairs) == sum(found["pairs"].values()) > 0
    assert stage_of("sample", tmp_path) == drawn
    assert log.read_bytes() == before
    with pytest.raises(ConfigError, match="stage evaluate reads what merge and dpo left"):
        stage_of("evaluate", tmp_path)
    assert stage_of("merge", tmp_path)["alpha"] == 0.8
    with pytest.raises(MissingExtraError, match=r'ada-r1 needs trl; .*pip install "lengthwise\[trl\]"'):
        stage_of("dpo", tmp_path)
    with pytest.raises(ConfigError, match="holds a run with another config"):
        shorten_by(asked(tmp_path, stage="merge", option=(*LEARNING, "alpha=0.5")))


def _no_trl() -> None:
    with importing("ada-r1", "trl", "trl"):
        raise ModuleNotFoundError("No module named 'trl'", name="trl")


def test_samples_that_a_kill_interrupted_are_drawn_on(tmp_path: Path) -> None:
    """The log loses its last part and half a line; drawn again it is the same to the byte."""
    stage_of("sample", tmp_path)
    work = tmp_path / "run" / "stages" / "sample" / "work"
    whole = (work / "long.jsonl").read_bytes()
    (work.parent / "facts.json").unlink()
    lines = whole.splitlines(keepends=True)
    (work / "long.jsonl").write_bytes(b"".join(lines[:-7]) + lines[-7][:20])
    stage_of("sample", tmp_path)
    assert (work / "long.jsonl").read_bytes() == whole


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stage": "sft"}, "stage is 'sft'; choose one of merge, sample, pairs, dpo, evaluate"),
        ({"method": "dler", "short_model": None, "option": (), "stage": "merge"}, "has no stages to run alone"),
        ({"method": "dler", "option": ()}, "short_model is for ada-r1, but method is 'dler'"),
        ({"short_model": None}, "needs a short model beside MODEL"),
        ({"lora": 4}, "ada-r1 trains the merged weights themselves"),
        ({"lr": 1e-5}, "lr is 1e-05, but method 'ada-r1' has no training loop"),
        ({"steps": 7}, "steps is 7, but method 'ada-r1' has no training loop"),
        ({"option": ("samples=many",)}, "option samples is 'many'; give a whole number"),
    ],
)
def test_wrong_words_are_refused_and_nothing_is_written(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        shorten_by(asked(tmp_path, **{"stage": "merge", **changes}))
    assert not (tmp_path / "run").exists()


def test_epsilon_may_be_a_share_or_none(tmp_path: Path) -> None:
    assert method_options(asked(tmp_path, option=("epsilon=0.25",)))["epsilon"] == 0.25
    assert method_options(asked(tmp_path, option=("epsilon=none",)))["epsilon"] is None


# --- DPO by TRL ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """A whole run, without --stage."""
    _needs_trl()
    folder = tmp_path_factory.mktemp("ada")
    return shorten_by(asked(folder)), folder


def _needs_trl() -> None:
    pytest.importorskip("trl", reason="DPO needs the extra trl")
    pytest.importorskip("datasets", reason="DPO needs the extra trl")


def test_a_whole_run_leaves_what_every_method_leaves(finished: tuple[Outcome, Path]) -> None:
    outcome, folder = finished
    run = folder / "run"
    assert outcome.weights_sha_before != outcome.weights_sha_after
    assert set(outcome.stages) == {"merge", "sample", "pairs", "dpo"}
    assert outcome.sampled_tokens == outcome.stages["sample"].sampled_tokens
    assert outcome.stages["dpo"].found["loss_first"] == pytest.approx(0.693147, abs=1e-5)
    assert outcome.stages["dpo"].found["retokenised_unlike"] == 0
    assert outcome.controls["short"].mean_tokens < outcome.before.mean_tokens
    assert (run / "report.html").is_file()
    assert not (run / "stages" / "dpo" / "work" / "checkpoints").exists()
    after = load_policy(run / "model", device="cpu")
    assert weights_sha(after.model) == outcome.weights_sha_after
    assert shorten_by(asked(folder)).after == outcome.after
    for name in ("tokenizer.json", "tokenizer_config.json"):  # the base's own, over merge and DPO
        assert (run / "model" / name).read_bytes() == (shipped_reasoner() / name).read_bytes()


def test_ada_r1_row10_and_resume(finished: tuple[Outcome, Path], tmp_path: Path) -> None:
    """At the reference every pair costs ln 2; killed between checkpoints, DPO ends on the same weights."""
    outcome, folder = finished
    stages = folder / "run" / "stages"
    problems = chain_problems(chains.problems(6, split="train", seed=0, levels=(2, 3)), shipped_reasoner())
    rows, _ = pair_tokens(read_pairs(stages / "pairs" / "work" / "pairs.jsonl"), problems)
    settings = ada_r1(cap=60, short_model="lab:terse", samples=3, lr=1e-4, batch=4, epochs=1).settings
    train = Training(steps=200, checkpoint_every=1)
    work = tmp_path / "work"
    made = dpo._trainer

    def dies(*given: Any) -> Any:
        trainer = made(*given)
        step = trainer.training_step

        def training_step(*inputs: Any, **named: Any) -> Any:
            if trainer.state.global_step == 3:
                raise KeyboardInterrupt
            return step(*inputs, **named)

        trainer.training_step = training_step
        return trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dpo, "_trainer", dies)
        with pytest.raises(KeyboardInterrupt):
            train_on_pairs(stages / "merge" / "model", tmp_path / "out", work, rows, settings, train, *HERE)
    assert not (tmp_path / "out").exists()
    torn = work / "checkpoints" / "checkpoint-3"
    (torn / "trainer_state.json").unlink()  # as if the kill had hit while it was written
    facts = train_on_pairs(stages / "merge" / "model", tmp_path / "out", work, rows, settings, train, *HERE).to_dict()
    assert facts == {name: outcome.stages["dpo"].found[name] for name in facts}
    assert weights_sha(load_policy(tmp_path / "out", device="cpu").model) == outcome.weights_sha_after


def test_a_loss_that_is_no_number_is_not_saved(tmp_path: Path) -> None:
    """transformers writes NaN down as the mean of the losses before it, unless it is told not to."""
    _needs_trl()
    rows = [{"prompt_ids": [9, 3, 9, 2], "chosen_ids": [9, 10, 1], "rejected_ids": [11, 12, 13, 1]}] * 3
    settings = ada_r1(cap=60, batch=1, epochs=1, lr=1e12, grad_clip=1e12, warmup=0).settings
    with pytest.raises(TrainingError, match="loss of DPO is not finite"):
        train_on_pairs(shipped_reasoner(), tmp_path / "out", tmp_path, rows, settings, Training(steps=9), *HERE)
    assert not (tmp_path / "out").exists()


def trainer_on_one_pair(tmp_path: Path, shift: tuple[float, float], beta: float) -> tuple[Any, Any]:
    """TRL's trainer as we make it, on a pair whose log-ratios are `shift`: the reference is the policy, moved."""
    base = shipped_reasoner()
    rows = [{"prompt_ids": [9, 3, 9, 2], "chosen_ids": [9, 10, 1], "rejected_ids": [11, 12, 13, 1]}]
    settings = ada_r1(cap=60, batch=1, beta=max(beta, 1e-9)).settings
    policies = [load_policy(base, device="cpu") for _ in range(2)]
    trainer = dpo._trainer(*policies, rows, settings, Training(steps=1), *HERE, tmp_path / "checkpoints")
    trainer.beta = beta
    frozen = trainer.ref_model

    def moved(**given: Any) -> Any:
        log_probs = frozen(**given).log_probs.clone()
        first = len(rows[0]["prompt_ids"]) - 1 - (given["input_ids"].shape[1] - 1)
        log_probs[0, first] -= shift[0]
        log_probs[1, first] -= shift[1]
        return SimpleNamespace(log_probs=log_probs)

    trainer.ref_model = moved
    return trainer, trainer.data_collator(rows)


@pytest.mark.parametrize(
    ("beta", "shift", "loss", "factor"),
    [
        # beta (2 + 1) = .3: -log sigmoid(.3); .1 (1 - sigmoid(.3))
        pytest.param(0.1, (2.0, -1.0), 0.554355, 0.042556, id="ada-r1-row9"),
        pytest.param(0.1, (0.0, 0.0), 0.693147, 0.05, id="ada-r1-row10"),
        # swapped: -log sigmoid(-.3) = .554355 + .3, factor .1 sigmoid(.3)
        pytest.param(0.1, (-1.0, 2.0), 0.854355, 0.057444, id="ada-r1-invariant5-swapped"),
        pytest.param(0.1, (7.0, 4.0), 0.554355, 0.042556, id="ada-r1-invariant5-constant-added"),
        pytest.param(0.0, (2.0, -1.0), 0.693147, 0.0, id="ada-r1-invariant5-beta-0"),
    ],
)
def test_dpo_loss(tmp_path: Path, beta: float, shift: tuple[float, float], loss: float, factor: float) -> None:
    _needs_trl()
    trainer, inputs = trainer_on_one_pair(tmp_path, shift, beta)
    found = trainer.compute_loss(trainer.model, inputs)
    assert found.item() == pytest.approx(loss, abs=2e-6)
    found.backward()
    head = trainer.model.model.norm.weight
    got = head.grad.clone()
    # the gradient is -factor times that of log pi(y_w) - log pi(y_l), by a forward of our own
    head.grad = None
    ids, mask = inputs["input_ids"], inputs["completion_mask"]
    logits = trainer.model.model(input_ids=ids, attention_mask=inputs["attention_mask"]).last_hidden_state
    logp = torch.log_softmax(trainer.model.lm_head(logits)[:, :-1], -1).gather(2, ids[:, 1:, None])[:, :, 0]
    margin = (logp * mask[:, 1:]).sum(1)
    (margin[0] - margin[1]).backward()
    torch.testing.assert_close(got, -factor * head.grad, rtol=1e-3, atol=1e-6)


def test_a_kill_while_sampling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 after the first responses: the same command draws the rest, each sample once."""
    words = [
        "shorten", "lab:chains", "--method", "ada-r1", "--short-model", "lab:terse",
        "--data", write_rows(tmp_path / "train.jsonl", 6, "train"), "--eval-data",
        write_rows(tmp_path / "test.jsonl", 6, "test"), "--out", str(tmp_path / "run"), "--preset", "lab", "--cap",
        "60", "--eval-cap", "60", "--sample-rows", "3", "--device", "cpu", "--stage", "sample", "--json", "--option",
        "samples=3",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = tmp_path / "run" / "stages" / "sample" / "work" / "long.jsonl"
    command = [sys.executable, "-c", "from lengthwise.cli import main; main()", *words]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while not (log.is_file() and log.stat().st_size) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    # only the killed process must be one of its own; the second is spared the start
    monkeypatch.setattr(sys, "argv", ["lengthwise", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert json.loads(capsys.readouterr().out)["stage"] == "sample"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert len({(row["problem_id"], row["sample"]) for row in rows}) == len(rows) == 18


def test_the_device_must_be_one_that_trl_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpo, "import_trl", lambda: None)
    monkeypatch.setattr(dpo, "resolve_device", lambda device: torch.device(device))
    with pytest.raises(ConfigError, match="set CUDA_VISIBLE_DEVICES to one device"):
        check_trl("cuda:1")
    check_trl("cpu")
