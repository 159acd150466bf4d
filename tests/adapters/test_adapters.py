"""What the adapters share, without TRL or verl: dealing a batch out, verdicts, names, support, and exported files."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from adapter_rows import CAP, batch, method, scores_of, switching, with_empty

from lengthwise.adapters import engine_names, method_support, verl
from lengthwise.adapters.batch_split import Batch, credited, deal, join_batches, part_loss, verdicts_of
from lengthwise.adapters.export_plan import plan
from lengthwise.adapters.export_trl import write_trl
from lengthwise.adapters.export_verl import problem_rows, verl_settings, write_verl
from lengthwise.adapters.verdicts import prompt_rows, stable_id, verdict_function
from lengthwise.config.commands import ExportSettings
from lengthwise.config.files import load, merged
from lengthwise.engine.method import LossInputs, Method
from lengthwise.errors import (
    ConfigError,
    InputError,
    LengthwiseWarning,
    MissingExtraError,
    TrainingError,
    UnsupportedModelError,
)
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import METHODS, build_method
from lengthwise.objectives.losses import AGGREGATES

DOCS = Path(__file__).resolve().parents[2] / "docs"


def whole_gradient(chosen, rollouts, credit, logp, old, reference):
    """The gradient of a batch's loss in one piece, by the method alone."""
    mask = rollouts.train_mask
    shared = None if chosen.shared is None else chosen.shared(logp.detach(), old, mask)
    loss, _ = chosen.loss(LossInputs(logp, old, credit, mask, rollouts, chosen.normaliser(rollouts), shared))
    if chosen.kl_coef:
        from lengthwise.objectives import kl_penalty

        loss = loss + chosen.kl_coef * kl_penalty(logp, reference, mask, kind=chosen.kl_kind)
    return torch.autograd.grad(loss, logp)[0], float(loss.detach())


@pytest.mark.parametrize("name", ["dler", "drpo", "dr-grpo", "grpo-lambda", "kimi"])
@pytest.mark.parametrize(("micro", "processes"), [(1, 1), (3, 1), (2, 2), (5, 3)])
def test_however_rows_are_dealt_the_gradient_is_that_of_the_whole(name, micro, processes):
    rollouts, chosen = batch(seed=5), method(name)
    # Caps that vary from row to row, as in a batch of several draws; none below what was written.
    rollouts = rollouts.with_fields(cap=rollouts.num_tokens.clamp(min=20))
    generator = torch.Generator().manual_seed(6)
    old = -torch.rand(rollouts.mask.shape, generator=generator, dtype=torch.double)
    logp = old + 0.3 * torch.randn(old.shape, generator=generator, dtype=torch.double)
    beside = {"old": old} | ({"reference": old - 0.2} if chosen.kl_coef else {})
    credit = chosen.advantage(chosen.reward(rollouts, {}), rollouts)
    minis = deal(
        Batch(rollouts, beside), credit, chosen, updates=1, micro=micro, processes=processes, generator=generator
    )
    (mini,) = minis
    place = {tuple(row): n for n, row in enumerate(rollouts.completion_ids.tolist())}
    back = torch.tensor([place[tuple(row)] for row in mini.batch.rollouts.completion_ids.tolist()])
    wanted, value = whole_gradient(chosen, rollouts, credit, logp.clone().requires_grad_(), old, old - 0.2)
    seen = sorted(int(row) for parts in mini.parts for rows in parts for row in rows)
    assert seen == list(range(len(rollouts)))
    mini.whole = logp[back] if mini.pieces > 1 else None
    found, total = torch.zeros_like(logp), 0.0
    for parts in mini.parts:
        for rows in parts:
            part = mini.batch.select(rows).trim()
            width = part.rollouts.mask.shape[1]
            own = logp[back][rows][:, :width].clone().requires_grad_()
            loss, _ = part_loss(chosen, mini, rows, part, own)
            found[back[rows], :width] += torch.autograd.grad(loss, own)[0]
            total += float(loss.detach())
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-14)
    assert total == pytest.approx(value, rel=1e-9)


def learnt_from(chosen, rollouts, logp, old):
    """Rewards, advantages, loss and the gradient of all rows, as the adapters make them of a scored batch."""
    rewards, credit = credited(chosen, rollouts, chosen.initial_state())
    beside = {"old": old} | ({"reference": old - 0.2} if chosen.kl_coef else {})
    (mini,) = deal(
        Batch(rollouts, beside), credit, chosen, updates=1, micro=2, processes=1, generator=torch.Generator()
    )
    live = (rollouts.num_tokens > 0).nonzero()[:, 0]
    assert len(mini.batch) == len(live)  # one mini-batch holds all rows in their order
    mini.whole = logp[live]
    found, total = torch.zeros_like(logp), 0.0
    for (rows,) in mini.parts:
        part = mini.batch.select(rows).trim()
        width = part.rollouts.mask.shape[1]
        own = logp[live][rows][:, :width].clone().requires_grad_()
        loss, _ = part_loss(chosen, mini, rows, part, own)
        found[live[rows], :width] += torch.autograd.grad(loss, own)[0]
        total += float(loss.detach())
    return rewards, credit, found, total


class TokenCredit:
    """A method with windows gets float [B, T] in place of rewards; this gives each row's reward to its tokens."""

    def __init__(self, method):
        self.method = method

    def __getattr__(self, name):
        return getattr(self.method, name)

    def advantage(self, rewards, rollouts):
        return self.method.advantage(rewards[:, None] * rollouts.train_mask, rollouts)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("at", "group"), [(0, 0), (5, 1), (24, 5), (9, 77)])
def test_a_row_without_a_token_changes_no_other_row_s_numbers_and_has_none(name, at, group):
    chosen = method(name)
    if not isinstance(chosen, Method) or chosen.teacher is not None or chosen.cuts is not None:
        return  # ada-r1 has no batches, a teacher's loss is its learner's, cut thinking has rows of its own
    chosen = TokenCredit(chosen) if chosen.windows is not None else chosen
    rollouts = batch(seed=5)
    modes = torch.arange(len(rollouts)) % 2 == 0
    rollouts = rollouts.with_fields(
        is_long=modes, obeys=~modes, bare_prompt_ids=rollouts.prompt_ids, thinking_tokens=rollouts.num_tokens // 2
    )
    generator = torch.Generator().manual_seed(6)
    old = -torch.rand(rollouts.mask.shape, generator=generator, dtype=torch.double)
    logp = old + 0.3 * torch.randn(old.shape, generator=generator, dtype=torch.double)
    wanted = learnt_from(chosen, rollouts, logp, old)
    places = torch.tensor([row for row in range(len(rollouts) + 1) if row != at])
    spread = [torch.full((len(rollouts) + 1, old.shape[1]), -1.0, dtype=torch.double) for _ in range(2)]
    for values, given in zip(spread, (logp, old), strict=True):
        values[places] = given
    found = learnt_from(chosen, with_empty(rollouts, at, group), *spread)
    for mine, theirs in zip(found[:3], wanted[:3], strict=True):
        assert torch.equal(mine[places], theirs)
        assert float(mine[at].abs().sum()) == 0
    assert found[3] == pytest.approx(wanted[3], rel=1e-12)
    # What methods remember and watch leaves such rows out too; they are given the batch without them.
    alive = Batch(with_empty(rollouts, at, group), {}).answers().rollouts
    state = chosen.initial_state()
    assert chosen.update_state(state, alive) == chosen.update_state(state, rollouts)


@pytest.mark.parametrize(
    "name", [n for n in METHODS if method_support.why_not("verl", build_method(n, cap=CAP)) is None]
)
@pytest.mark.parametrize("score", [0.0, 2.0**-12, 0.3])  # lost, of a response that was cut, or made of several
def test_verl_s_rows_without_a_token_have_no_advantage_and_change_no_other(name, score):
    given = {"lengthwise": {"method": name, "cap": CAP, "options": method.options.get(name, {})}}

    def advantages(rollouts):
        rewards = torch.zeros(rollouts.mask.shape)
        last = rollouts.num_tokens - 1  # -1 of a row without a token: verl's score stands in the last column then
        rewards[torch.arange(len(rollouts)), last] = torch.where(last < 0, score, scores_of(rollouts))
        uids = [f"prompt {int(group)}" for group in rollouts.group_ids]
        return verl.advantage(rewards, rollouts.mask.long(), config=given, index=uids)[0]

    rollouts = batch(seed=3)
    wanted = advantages(rollouts)
    for at, group in ((0, 0), (7, 2), (24, 99)):
        found = advantages(with_empty(rollouts, at, group))
        assert float(found[at].abs().sum()) == 0
        assert torch.equal(torch.cat([found[:at], found[at + 1 :]]), wanted)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_verl_s_policy_loss_counts_rows_without_a_token_and_learns_nothing_from_them(aggregate):
    rollouts = batch(seed=4)
    generator = torch.Generator().manual_seed(2)
    old = -torch.rand(rollouts.mask.shape, generator=generator)
    logp = old + 0.4 * torch.randn(old.shape, generator=generator)
    credit = torch.randn(old.shape, generator=generator)
    actor = SimpleNamespace(
        clip_ratio_low=0.2, clip_ratio_high=0.28, clip_ratio_c=10.0,
        global_batch_info={"batch_num_tokens": 500, "global_batch_size": 24, "dp_size": 2, "loss_scale_factor": CAP},
    )  # fmt: skip

    def learnt(mask, *values):
        own = [value.clone() for value in values]
        loss, shown = verl.policy_loss(own[0], own[1].requires_grad_(), own[2], mask.long(), aggregate, actor)
        return torch.autograd.grad(loss, own[1])[0], shown

    wanted, plain = learnt(rollouts.mask, old, logp, credit)
    grown = [torch.cat([value, torch.full_like(value[:1], 7.0)]) for value in (old, logp, credit)]
    found, shown = learnt(torch.cat([rollouts.mask, rollouts.mask[:1] & False]), *grown)
    assert torch.equal(found[:24], wanted) and float(found[24].abs().sum()) == 0
    assert shown.pop("actor/empty_rows") == pytest.approx(1 / 25) and plain.pop("actor/empty_rows") == 0
    assert shown == plain
    # A micro-batch of such rows alone shows the same names: verl wants as many values of every process.
    found, shown = learnt(rollouts.mask[:2] & False, *(value[:2] for value in (old, logp, credit)))
    assert float(found.abs().sum()) == 0 and shown == dict.fromkeys(plain, 0.0) | {"actor/empty_rows": 1.0}


def test_a_response_without_a_token_is_neither_right_nor_ended():
    judge = verl.Verdicts.__new__(verl.Verdicts)
    judge.grader = lambda text, answer: True  # a grader that likes silence
    assert judge.judge([], "7") == (False, False)


def test_a_watched_group_that_lacks_a_row_is_as_large_as_the_others():
    # Two groups of K = 6, all right, so of the high tier, whose k is 2K/3 = 4; one of the 12 responses is gone. Three
    # of the 11 are within 5 tokens: 3 * 4 >= 11. By 11 // 2 = 5 rows a group k would be 3, and 9 < 11.
    seen = tiny.rollouts([5] * 3 + [20] * 8, groups=[0] * 6 + [1] * 5, correct=[True] * 11, cap=CAP)
    assert method("laser-d").observe.update({}, seen)["targets"][2] == 5


def test_a_batch_without_any_token_has_no_numbers_and_is_not_learnt_from():
    rollouts, chosen = with_empty(batch(seed=5), 0, 0).select(torch.arange(25) == 0), method("dler")
    rewards, credit = credited(chosen, rollouts, {})
    assert rewards.tolist() == credit.tolist() == [0.0]
    with pytest.raises(TrainingError, match="none of 1 responses has a token to learn from"):
        deal(Batch(rollouts, {}), credit, chosen, updates=1, micro=1, processes=1, generator=torch.Generator())


def test_mini_batches_hold_whole_groups_and_empty_ones_are_made_up():
    rollouts, chosen = batch(seed=5), method("dler")
    kept = Batch(rollouts.select(rollouts.group_ids < 2), {})
    credit = chosen.advantage(chosen.reward(kept.rollouts, {}), kept.rollouts)
    seed = torch.Generator().manual_seed(0)
    minis = deal(kept, credit, chosen, updates=3, micro=2, processes=2, generator=seed)
    assert [sum(len(r) for parts in mini.parts for r in parts) for mini in minis] == [4, 4, 0]
    assert all(len(mini.batch.rollouts.group_ids.unique()) == 1 for mini in minis)


def test_joined_batches_keep_what_lies_beside():
    one = Batch(batch(seed=1), {"old": torch.ones(24, CAP)})
    narrow = one.select(one.rollouts.num_tokens < 20).trim()
    both = join_batches([narrow, one])
    assert len(both) == len(narrow) + len(one)
    assert both.beside["old"].shape == both.rollouts.mask.shape
    assert float(both.beside["old"][: len(narrow), narrow.rollouts.mask.shape[1] :].abs().sum()) == 0


def test_verdicts_are_one_column_of_right_or_wrong():
    assert verdicts_of(torch.tensor([[1.0], [0.0]])).tolist() == [True, False]
    with pytest.raises(InputError, match=r"gave 0.5 for row 1"):
        verdicts_of(torch.tensor([[1.0], [0.5]]))
    with pytest.raises(InputError, match="nan for row 0"):
        verdicts_of(torch.tensor([[float("nan")]]))
    with pytest.raises(InputError, match="2 functions"):
        verdicts_of(torch.ones(3, 2))


def test_a_score_of_verl_carries_verdict_and_ending():
    pairs = [(right, ended) for right in (True, False) for ended in (True, False)]
    verdicts, finished = verl.read_scores(torch.tensor([verl.score_of(*pair) for pair in pairs]))
    assert list(zip(verdicts.tolist(), finished.tolist(), strict=True)) == pairs
    rollouts = batch(seed=2)
    scores = scores_of(rollouts)
    assert abs(float(scores.mean()) - float(rollouts.correct.float().mean())) < 1e-3
    with pytest.raises(InputError, match=r"row 1 is 0.3, which the reward manager 'lengthwise' never gives"):
        verl.read_scores(torch.tensor([1.0, 0.3]))


def test_estimator_and_loss_of_verl_work_without_it():
    rollouts, chosen = batch(seed=3), method("dler")
    rewards = torch.zeros(rollouts.mask.shape)
    rewards[torch.arange(24), rollouts.num_tokens - 1] = scores_of(rollouts)
    uids = [f"u{int(g)}" for g in rollouts.group_ids]
    asked = {"lengthwise": {"method": "dler", "cap": CAP}}
    found, _ = verl.advantage(rewards, rollouts.mask.long(), asked, uids)
    wanted = chosen.advantage(chosen.reward(rollouts, {}), rollouts) * rollouts.mask
    assert float((found - wanted).abs().max()) <= 1e-6
    with pytest.raises(ConfigError, match=r"algorithm.lengthwise is missing"):
        verl.advantage(rewards, rollouts.mask.long(), {}, uids)
    actor = SimpleNamespace(
        global_batch_info={"dp_size": 1, "batch_num_tokens": None}, clip_ratio_low=0.2, clip_ratio_high=0.28,
        clip_ratio_c=10.0,
    )  # fmt: skip
    nothing = torch.zeros(2, 3, requires_grad=True)
    loss, _ = verl.policy_loss(nothing.detach(), nothing, nothing.detach(), torch.zeros(2, 3), "token-mean", actor)
    assert float(loss.detach()) == 0 and loss.requires_grad
    with pytest.raises(ConfigError, match="loss_agg_mode is 'mean'"):
        verl.policy_loss(nothing.detach(), nothing, nothing.detach(), torch.ones(2, 3), "mean", actor)


def test_a_changed_engine_is_named_with_the_way_out():
    class Trainer:
        def _compute_loss(self, model):
            """Lost a parameter."""

    with pytest.raises(ConfigError, match=r"Trainer._compute_loss has no parameter 'inputs' any more.*pip install"):
        engine_names.check_methods("trl", Trainer, {"_compute_loss": ("model", "inputs")})
    with pytest.raises(ConfigError, match=r"Trainer._prepare_inputs is gone.*tested with trl>="):
        engine_names.check_methods("trl", Trainer, {"_prepare_inputs": ()})
    with pytest.raises(ConfigError, match=r"Trainer._step is gone"):
        engine_names.check_attributes("trl", Trainer(), ("_step",))
    with pytest.raises(ConfigError, match=r"module no.such.module is gone"):
        engine_names.check_modules("verl", {"no.such.module": ("x",)})
    with pytest.raises(ConfigError, match=r"json.no_such_name is gone"):
        engine_names.check_modules("verl", {"json": ("no_such_name",)})


def test_an_untested_version_warns_and_a_missing_one_says_what_to_install(monkeypatch):
    monkeypatch.setattr(engine_names.metadata, "version", lambda package: "99.1.0")
    with pytest.warns(LengthwiseWarning, match=r"trl is version 99.1.0; the adapter was tested with trl>="):
        engine_names.installed("trl")

    def missing(package):
        raise engine_names.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(engine_names.metadata, "version", missing)
    with pytest.raises(MissingExtraError, match=r"pip install \"lengthwise\[verl\]\""):
        engine_names.installed("verl")


def test_the_pages_table_says_what_the_code_does():
    page = (DOCS / "engines.md").read_text(encoding="utf-8")
    for name, *cells in method_support.table():
        rows = [line for line in page.splitlines() if f"`{name}`" in line.split(" | ")[-1] and line.startswith("| ")]
        assert [row.removeprefix("| ").split(" | ")[:2] for row in rows] == [cells], name


@pytest.mark.parametrize("name", [n for n in ("t-ppo", "ppo", "adaptive") if n in METHODS])
def test_what_no_engine_carries_is_refused_with_the_alternative(name):
    for engine in method_support.ENGINES:
        with pytest.raises(ConfigError, match=f"does not run inside {engine}.*use `lengthwise shorten`"):
            method_support.chosen(engine, name, {}, CAP)


def test_verl_refuses_what_its_registries_cannot_carry():
    for name, reason in (("drpo", "no group ids"), ("siri", "cap moves"), ("hapo", "remembers")):
        with pytest.raises(ConfigError, match=reason):
            method_support.chosen("verl", name, {}, CAP)
    with pytest.raises(ConfigError, match="its KL is a token mean"):
        method_support.chosen("verl", "grpo", {"kl_coef": 0.1}, CAP)
    assert method_support.chosen("verl", "grpo", {"kl_coef": 0.1, "aggregate": "token-mean"}, CAP).kl_coef == 0.1
    with pytest.raises(ConfigError, match="is made already"):
        method_support.chosen("trl", build_method("grpo", cap=CAP), {"kl_coef": 0.1}, CAP)


@pytest.fixture
def asked(tmp_path):
    data = tmp_path / "chains.jsonl"
    rows = chains.problems(20, split="train", seed=0)
    data.write_text("\n".join(json.dumps(chain.row) for chain in rows) + "\n")

    def make(engine="trl", **changes):
        given = {
            "engine": engine, "model": str(shipped_reasoner()), "data": str(data), "out": tmp_path / "out", "cap": 50,
            "steps": 3, "prompts": 8, "group_size": 4, "updates": 2, "preset": "lab",
        }  # fmt: skip
        return plan(ExportSettings.from_dict(given | changes))

    return make


def test_prompts_become_the_contracts_own_tokens_in_either_engine(asked):
    problems = asked().problems
    for row, ids in zip(prompt_rows(problems), problems.prompts, strict=True):
        assert list(problems.tokenizer(text=row["prompt"])["input_ids"]) == ids
    for row, ids in zip(problem_rows(asked("verl")), problems.prompts, strict=True):
        (message,) = row["prompt"]
        assert list(problems.tokenizer(message["content"], add_special_tokens=False)["input_ids"]) == ids
    with_stop = problems.__class__(**{**vars(problems), "contract": problems.contract.__class__(
        **{**problems.contract.to_dict(), "stop_strings": (";",)})})  # fmt: skip
    with pytest.raises(ConfigError, match="stop_strings"):
        prompt_rows(with_stop)


def test_verdicts_read_tokens_and_names_stay(asked):
    problems = asked().problems
    judge = verdict_function(problems)
    words = ["A:", problems.answers[3]]
    tokens = [*problems.tokenizer.convert_tokens_to_ids(words), problems.tokenizer.eos_token_id]
    assert judge(completion_ids=[tokens, tokens[:-2]], problem_id=[problems.ids[3]] * 2) == [1.0, 0.0]
    assert stable_id({"prompt": "a"}) == stable_id({"prompt": "a", "answer": "b"}) != stable_id({"prompt": "b"})
    assert stable_id({"prompt": "a", "problem_id": "7"}) == stable_id({"prompt": "b", "problem_id": "7"})
    assert 0 <= stable_id({"prompt": "a"}) < 2**62


def test_an_exported_script_compiles_and_says_the_sizes(asked, tmp_path):
    sized = {"devices": 2, "micro_batch_rows": 4, "lora": 8, "vllm": True, "sharding": "zero3"}
    made = asked(out=tmp_path / "x", **sized)
    files = write_trl(made)
    text = files[0].read_text()
    compile(text, "train.py", "exec")
    for line in ("per_device_train_batch_size=4", "gradient_accumulation_steps=2", "steps_per_generation=4",
                 "max_steps=6", "num_generations=4", "LoraConfig(r=8", "use_vllm=True"):  # fmt: skip
        assert line in text, line
    assert "zero_stage: 3" in files[1].read_text() and 'mixed_precision: "no"' in files[1].read_text()
    assert merged(ExportSettings, load(tmp_path / "x"), {"out": tmp_path / "x"}) == made.settings
    with pytest.raises(ConfigError, match="already holds train.py, accelerate.yaml"):
        write_trl(made)
    with pytest.raises(ConfigError, match="sharding is 'zero4'; choose one of"):
        asked(**sized | {"sharding": "zero4"})
    with pytest.raises(ConfigError, match="on one device"):
        asked(sharding="fsdp")


def test_an_exported_verl_run_says_the_methods_own_settings(asked, tmp_path):
    made = asked("verl", method="dr-grpo", out=tmp_path / "v")
    said = verl_settings(made)
    actor = said["actor_rollout_ref"]["actor"]
    assert actor["loss_agg_mode"] == "seq-mean-token-sum-norm" and actor["loss_scale_factor"] == 50
    assert actor["clip_ratio_c"] > 1e8 and actor["use_kl_loss"] is False and actor["ppo_mini_batch_size"] == 4
    assert said["algorithm"]["filter_groups"]["enable"] is False
    assert said["actor_rollout_ref"]["rollout"]["n"] == 4 and said["data"]["max_response_length"] == 50
    kl = verl_settings(asked("verl"))["actor_rollout_ref"]["actor"]
    assert (kl["kl_loss_type"], kl["kl_loss_coef"], kl["clip_ratio_high"]) == ("mse", 5e-4, 0.28)
    files = write_verl(made)
    assert subprocess.run(["bash", "-n", str(files[2])], check=False).returncode == 0
    assert len(files[1].read_text().splitlines()) == 20
    with pytest.raises(ConfigError, match="no divisor of the 1 devices"):
        asked("verl", tensor_parallel=2)


OWN = """from __future__ import annotations
import dataclasses
from lengthwise.methods import dler

def method(*, cap: int, alpha: float, own_loss: bool = False):
    base = dler(cap=cap, clip_high=0.4)
    changes = {"loss": lambda inputs: base.loss(inputs)} if own_loss else {}
    return dataclasses.replace(base, name="mine", options={"cap": cap, "alpha": alpha}, **changes)
"""


def test_an_export_names_a_method_of_ones_own_so_that_it_is_found_from_its_folder(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    given = {"method": "mine.py", "option": ("alpha=0.5",)}
    text = write_trl(asked(**given, out=tmp_path / "x"))[0].read_text()
    assert f"METHOD, OPTIONS = {str(tmp_path / 'mine.py')!r}, {{'alpha': 0.5}}" in text
    made = asked("verl", **given)
    said = verl_settings(made)
    assert said["algorithm"]["lengthwise"] == {
        "method": str(tmp_path / "mine.py"), "cap": 50, "options": {"alpha": 0.5}
    }  # fmt: skip
    assert said["actor_rollout_ref"]["actor"]["clip_ratio_high"] == 0.4  # its loss says it, its options do not
    with pytest.raises(ConfigError, match="method 'mine' does not run inside verl: its loss is its own"):
        asked("verl", **(given | {"option": ("alpha=0.5", "own_loss=true")}))
    # A module is found by imports alone, which look in the folder it was found in.
    (tmp_path / "grader_for_an_export.py").write_text("def exact(response, answer):\n    return response == answer\n")
    given = {"grader": "grader_for_an_export:exact"}
    text = write_trl(asked(**given, out=tmp_path / "y"))[0].read_text()
    assert "import sys\nfrom pathlib" in text and f"sys.path.append({str(tmp_path)!r})" in text
    compile(text, "train.py", "exec")
    launch = write_verl(asked("verl", **given, out=tmp_path / "z"))[2]
    assert f'export PYTHONPATH={tmp_path}:"${{PYTHONPATH:-}}"' in launch.read_text()
    assert subprocess.run(["bash", "-n", str(launch)], check=False).returncode == 0


def test_sizes_that_do_not_divide_are_refused_before_anything_is_written(asked, tmp_path):
    with pytest.raises(ConfigError, match=r"8 x group_size 4 = 32 responses .* make them a multiple of 6"):
        asked(devices=3)
    with pytest.raises(ConfigError, match="micro_batch_rows is 5, but an update has 16 responses a device"):
        asked(micro_batch_rows=5)
    with pytest.raises(ConfigError, match="cap is 'auto'"):
        asked(cap="auto")
    with pytest.raises(ConfigError, match="does not run inside verl"):
        asked("verl", method="drpo")
    for name in ("devices", "nodes", "micro_batch_rows"):
        with pytest.raises(ConfigError, match=f"{name} is 0"):
            asked(**{name: 0})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", ["trl", "verl"])
def test_factors_that_would_switch_within_a_batch_are_refused_before_anything_is_written(engine, asked, tmp_path):
    longest = asked(engine).longest_prompt
    within = switching(tmp_path / "within", longest + 50)
    assert asked(engine, model=str(within)).cap == 50
    crossing = switching(tmp_path / "crossing", longest + 49)
    with pytest.raises(UnsupportedModelError, match=rf"switch at {longest + 49} tokens.*{engine} puts rows of all"):
        asked(engine, model=str(crossing))


def test_the_guides_commands_name_flags_that_exist():
    from typer.main import get_command

    from lengthwise.cli import app

    known = {flag for param in get_command(app).commands["export"].params for flag in param.opts}  # type: ignore[attr-defined]
    page = (DOCS / "more-devices.md").read_text(encoding="utf-8")
    for block in re.findall(r"lengthwise export [^`]*?(?=\n\n|```)", page, re.S):
        assert set(re.findall(r"--[a-z-]+", block)) <= known, block
