"""Runs with more than a loop: stages, merging back, windows through `lengthwise shorten`, killed and gone on with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
import windows
from safetensors.torch import load_file

from lengthwise.config.groups.model import TrainingRuntime
from lengthwise.config.groups.training import MovingCap, Training
from lengthwise.engine import load_policy
from lengthwise.engine.method import Stage, StageInputs
from lengthwise.engine.metrics_log import read_metrics
from lengthwise.errors import ConfigError, LengthwiseWarning
from lengthwise.files import read_json
from lengthwise.generation.response_log import ResponseLog
from lengthwise.lab import chains, witnesses
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.merging import update_selective_merge
from lengthwise.methods.bi_level import stages as bi_level_stages
from lengthwise.methods.papers.t_ppo import t_ppo
from lengthwise.runs.compare.arenas import WITNESS_CAP, witness_problems
from lengthwise.runs.shortening.shorten import _forewarn
from lengthwise.runs.shortening.stages import check_names, finished_stages, merge_back, run_stages

SECONDS = 600


# ------------------------------------------------------------------------------------------------------- stages


def inputs_for(base: Path):
    def given(model: Path, out: Path, work: Path) -> StageInputs:
        return StageInputs(
            base=base, model=model, out=out, work=work, problems=None, cap=9, train=Training(steps=1),
            runtime=TrainingRuntime(device="cpu"), tell=lambda text: None,
        )  # fmt: skip

    return given


class Noting:
    """A stage that notes its calls and may die after so many."""

    def __init__(self, deaths: int = 0) -> None:
        self.calls: list[tuple[Path, bool]] = []
        self.deaths = deaths

    def __call__(self, inputs: StageInputs) -> dict[str, int]:
        self.calls.append((inputs.model, (inputs.work / "notes").is_file()))
        (inputs.work / "notes").write_text("so far")
        if len(self.calls) <= self.deaths:
            raise KeyboardInterrupt
        inputs.out.mkdir(exist_ok=True)
        return {"sampled_tokens": 7}


def test_each_stage_starts_from_the_one_before_and_is_done_once(tmp_path):
    first, second = Noting(), Noting(deaths=1)
    stages = (Stage("one", first), Stage("two", second))
    base = tmp_path / "base"
    with pytest.raises(KeyboardInterrupt):
        run_stages(stages, base, tmp_path, inputs_for(base))
    assert finished_stages(stages, tmp_path).keys() == {"one"}
    last = run_stages(stages, base, tmp_path, inputs_for(base))
    assert run_stages(stages, base, tmp_path, inputs_for(base)) == last == tmp_path / "stages" / "two" / "model"
    made = tmp_path / "stages" / "one" / "model"
    # what a killed stage had in its work folder is there when it is run again
    assert first.calls == [(base, False)] and second.calls == [(made, False), (made, True)]
    facts = finished_stages(stages, tmp_path)
    assert facts["two"].sampled_tokens == 7 and facts["two"].seconds >= 0


def test_the_models_of_ada_r1_are_given_what_writes_the_runs_tokens(tmp_path, monkeypatch):
    class DrawnWithError(Exception):
        pass

    def draw(policy, *_, **__):
        raise DrawnWithError(policy)

    monkeypatch.setattr(bi_level_stages, "load_policy", lambda folder, **_: f"the {folder.name} model")
    monkeypatch.setattr(bi_level_stages, "complete_all", draw)
    monkeypatch.setattr(ResponseLog, "missing", lambda *_: [(0, 0)])
    inputs = replace(inputs_for(tmp_path)(tmp_path, tmp_path, tmp_path), attach="{} with vLLM".format)
    asked = SimpleNamespace(temperature=1.0, top_p=1.0, samples=1)
    with pytest.raises(DrawnWithError, match="^the short model with vLLM$"):
        bi_level_stages._sample("short", tmp_path / "short", inputs, asked)


def test_two_stages_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="names of their own; a comes twice"):
        check_names((Stage("a", Noting()), Stage("b", Noting()), Stage("a", Noting())))


def test_merging_back_is_the_update_selective_merge_of_base_and_trained(tmp_path):
    base, trained = tiny.model(seed=1), tiny.model(seed=2)
    base.save_pretrained(tmp_path / "base")
    trained.save_pretrained(tmp_path / "trained")
    stage = merge_back(0.25, 0.7)
    out = tmp_path / "out"
    inputs = inputs_for(tmp_path / "base")(tmp_path / "trained", out, tmp_path)
    facts = stage.run(inputs)
    stage.run(inputs)  # a stage that was killed after its model was whole writes it again
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "trained"))
    want = update_selective_merge(one, two, density=0.25, scale=0.7)
    found = load_file(out / "model.safetensors")
    assert all(torch.equal(found[name], torch.as_tensor(want[name])) for name in one)
    assert facts["changed"]["models"][0]["kept"] == pytest.approx(0.25, abs=1e-3)


def test_models_that_cannot_be_merged_are_said_in_one_line(tmp_path):
    tiny.model().save_pretrained(tmp_path / "base")
    tiny.model("gpt_neox").save_pretrained(tmp_path / "trained")
    with pytest.raises(ConfigError, match="merge_back cannot merge into the untouched model: "):
        merge_back(0.25, 0.7).run(inputs_for(tmp_path / "base")(tmp_path / "trained", tmp_path / "out", tmp_path))


# ------------------------------------------------------------------------------------------------------ warnings


def before(lengths, right):
    return SimpleNamespace(num_tokens=[[n] for n in lengths], correct=[[ok] for ok in right])


@pytest.mark.parametrize(("cap", "moving"), [(11, None), (20, MovingCap("cosine", 11, 9))])
def test_a_cap_below_the_shortest_right_answer_is_said_before_the_training(cap, moving):
    job = SimpleNamespace(cap=cap, moving=moving)
    with pytest.warns(LengthwiseWarning, match=r"cap is 11 tokens, below the shortest of the 2 right answers.*\(12\)"):
        _forewarn(job, before([12, 15, 3], [True, True, False]))


def test_a_cap_that_an_answer_meets_and_a_model_without_right_answers_are_no_news():
    job = SimpleNamespace(cap=12, moving=None)
    _forewarn(job, before([12, 15], [True, True]))
    _forewarn(job, before([30, 40], [False, False]))


# ------------------------------------------------------------------------------------------- windows in the lab


def start(folder: Path, data: Path) -> subprocess.Popen[str]:
    words = [
        "shorten", "lab:chains", "--method", "t-ppo", "--data", data, "--preset", "lab", "--cap", 24, "--eval-cap", 60,
        "--eval-limit", 6, "--steps", 5, "--prompts", 2, "--group-size", 2, "--checkpoint-every", 1, "--option",
        "critic_warmup=1", "--lr", "1e-5", "--merge-back", "0.25,0.7", "--out", folder, "--device", "cpu", "--json",
    ]  # fmt: skip
    command = [sys.executable, "-c", "from lengthwise.cli import main; main()", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_t_ppo_on_chains_is_killed_and_goes_on_from_the_command_line(tmp_path):
    data = tmp_path / "train.jsonl"
    rows = [chain.row for chain in chains.problems(60, split="train", seed=0, levels=(2, 3))]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = start(tmp_path / "whole", data)
    killed = start(tmp_path / "killed", data)
    waited = time.monotonic()
    while len(read_metrics(tmp_path / "killed")) < 2 and killed.poll() is None and time.monotonic() - waited < SECONDS:
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "killed" / "outcome.json").exists()
    said, errors = whole.communicate(timeout=SECONDS)
    assert whole.returncode == 0, errors
    again = start(tmp_path / "killed", data)
    _, errors = again.communicate(timeout=SECONDS)
    assert again.returncode == 0, errors
    metrics = [tiny.comparable(read_metrics(tmp_path / name)) for name in ("whole", "killed")]
    assert metrics[0] == metrics[1] and len(metrics[0]) == 5
    assert all(row["decode_steps"] <= 8 for row in metrics[0]) and any(row["going_on"] for row in metrics[0])
    outcomes = [read_json(tmp_path / name / "outcome.json") for name in ("whole", "killed")]
    assert outcomes[0]["weights_sha_after"] == outcomes[1]["weights_sha_after"] != outcomes[0]["weights_sha_before"]
    assert outcomes[0]["stages"]["merge-back"]["density"] == 0.25 and json.loads(said)["model"].endswith("model")
    assert (tmp_path / "whole" / "report.html").is_file()


@pytest.mark.filterwarnings("ignore::lengthwise.errors.LengthwiseWarning")
def test_t_ppo_on_witnesses_never_learns_the_world_s_words(tmp_path):
    folder = shipped_reasoner("witnesses")
    policy = load_policy(folder, device="cpu")
    problems = witness_problems(witnesses.problems(8, seed=0), folder)
    made = windows.Recorder(
        policy.model, method=t_ppo(cap=WITNESS_CAP, critic_warmup=0), task=problems.task(),
        config=Training(steps=4, prompts=2, group_size=2, updates=1, lr=1e-5, checkpoint_every=4),
        folder=tmp_path, eos_ids=list(problems.contract.eos_ids), pad_id=policy.pad_id,
    )  # fmt: skip
    made.train()
    ask, answer = (policy.tokenizer.convert_tokens_to_ids(word) for word in (witnesses.ASK, witnesses.ANSWER))
    asked = 0
    for batch, learnt in zip(made.batches, made.seen_by_policy, strict=True):
        for one in batch:
            for place, token in enumerate(one.tokens):
                reading = place > 0 and one.tokens[place - 1] == ask
                stopped = token == answer and place == witnesses.TOKENS_PER_READING * witnesses.MOST_READINGS
                assert one.trained[place] == (not reading and not stopped)
                asked += reading
            first, mask, _ = learnt[one.serial]
            assert mask == one.trained[first:]
    assert asked > 50 and any(response.done for batch in made.batches for response in batch)
