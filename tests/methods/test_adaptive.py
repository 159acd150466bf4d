"""`adaptive` and what the engine does for it: modes asked for, bare prompts, the switching loss, fine-tuning before.

Rows and invariants named are those of the page adaptive-deep-reasoning.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace

import pytest
import tiny
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from lengthwise.config.groups.model import TrainingRuntime
from lengthwise.config.groups.training import Training
from lengthwise.engine import Sampler, Scorer, Task, load_policy
from lengthwise.engine.batches import check_needs, collect
from lengthwise.engine.extra_losses import add_extras, resolve_extras
from lengthwise.engine.method import Asked, BarePrompts, ExtraLoss, Method, StageInputs
from lengthwise.engine.rollouts import NO_TOKEN, join
from lengthwise.engine.updates import UpdatePlan, update_policy
from lengthwise.errors import ConfigError, InputError, MissingExtraError
from lengthwise.grading.problems import prepare
from lengthwise.grading.prompt_contract import preset, resolve
from lengthwise.lab import chains
from lengthwise.lab.reasoner import build_tokenizer
from lengthwise.lab.words import ASK_LONG, ASK_SHORT, MODES, OPEN_LONG, OPEN_SHORT
from lengthwise.methods import build_method
from lengthwise.methods.mode_sft import IGNORED, ModeSft, check_trl, fine_tune, four_kinds
from lengthwise.methods.papers.adaptive import adaptive
from lengthwise.objectives import group_normalised, mode_reward, mode_switch, preferred_mode

WORDS = {"long": 20, "short": 21, "[L]": 22, "[S]": 23}
LONG, SHORT = WORDS["long"], WORDS["short"]


def method(**options) -> Method:
    names = {"long_opener": "long", "short_opener": "short", "long_instruction": "[L]", "short_instruction": "[S]"}
    return adaptive(**{"cap": 9, "instruction_sep": "", **names, **options})


def task(**changes) -> Task:
    """Prompts of one to three tokens; right is an answer whose first token is even."""
    prompts = [[2 + n] * (1 + n % 3) for n in range(12)]
    plain = {
        "prompts": prompts, "grade": lambda problem, tokens: tokens[0] % 2 == 0,
        "instruct": lambda problem, words: [WORDS[words], *prompts[problem]], "token_id": WORDS.__getitem__,
    }  # fmt: skip
    return Task(**{**plain, **changes})


def drawn(net, chosen=None, practice=None, *, prompts=4, group_size=4):
    return collect(
        Sampler(net, eos_ids=tiny.EOS, pad_id=0), practice or task(), chosen or method(), {}, step=0, cap=9, cursor=0,
        prompts=prompts, group_size=group_size, max_draws=1, temperature=1.0, seed=0,
    ).drawn  # fmt: skip


# ------------------------------------------------------------------------------------------------ what is asked


def test_invariant_1_half_of_every_group_is_asked_for_each_mode(net):
    rollouts = drawn(net)
    for group in rollouts.group_ids.unique():
        here = rollouts.select(rollouts.group_ids == group)
        assert here.is_long.tolist() == [True, True, False, False]
        bare = task().prompts[int(here.problem_ids[0])]
        for row in range(4):
            assert here.prompt(row) == [WORDS["[L]" if here.is_long[row] else "[S]"], *bare]
            assert [t for t in here.bare_prompt_ids[row].tolist() if t != NO_TOKEN] == bare


def test_optional_fields_go_with_their_rows_and_are_not_there_for_others(net):
    rollouts = drawn(net)
    rows = torch.tensor([9, 2])
    part = rollouts.select(rows)
    assert part.is_long.equal(rollouts.is_long[rows]) and part.trim().bare_prompt_ids.equal(part.bare_prompt_ids)
    short = replace(part, bare_prompt_ids=part.bare_prompt_ids[:, -1:])
    both = join([short, rollouts])
    assert both.bare_prompt_ids.shape[1] == rollouts.bare_prompt_ids.shape[1]
    assert both.bare_prompt_ids[:2, 0].tolist() == [NO_TOKEN] * 2
    plain = drawn(net, build_method("grpo", cap=9))
    assert plain.is_long is None and plain.bare_prompt_ids is None and plain.select(rows).is_long is None


def test_edge_case_a_group_that_cannot_be_halved_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(ConfigError, match="group_size is 5 but method 'adaptive' asks each problem in 2 ways"):
        tiny.trainer(tmp_path, method=method(), practice=task(), group_size=5)
    check_needs(task(), method(), 4)


@pytest.mark.parametrize(
    ("practice", "chosen", "says"),
    [
        (task(instruct=None), method(), "puts words before a problem, but this task's prompts are fixed"),
        (task(token_id=None), method(), "speaks of ['long', 'short'], but this task knows no words"),
        (task(), replace(method(), prompts=lambda ask: [Asked(ask(""))]), "needs is_long, but its prompts do not say"),
    ],
)
def test_a_task_that_cannot_give_what_is_needed_is_refused_before_the_first_step(tmp_path, practice, chosen, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        tiny.trainer(tmp_path, method=chosen, practice=practice)


def test_needs_and_extra_losses_are_checked_when_the_method_is_made():
    with pytest.raises(
        ConfigError, match="needs names 'is_log'; the optional fields are is_long, obeys, bare_prompt_ids"
    ):
        replace(method(), needs=("is_log",))
    with pytest.raises(ConfigError, match="add 'bare_prompt_ids' to its needs"):
        replace(method(), needs=("is_long",))
    with pytest.raises(ConfigError, match="long_opener and short_opener are both 'long'"):
        method(short_opener="long")
    with pytest.raises(ConfigError, match="has its own needs"):
        replace(build_method("t-ppo", cap=9), needs=("is_long",))


# ------------------------------------------------------------------------------------------------ what is learnt


def test_rewards_are_those_of_the_modes(net):
    rollouts = drawn(net)
    want = mode_reward(rollouts.correct, rollouts.is_long, rollouts.group_ids, rho=0.25)
    assert method(rho=0.25).reward(rollouts, {}).equal(want)
    assert 0 < rollouts.correct.float().mean() < 1


def test_with_obey_an_answer_that_opens_in_the_other_mode_counts_as_wrong(net):
    # Every third token opens long, every other third short: the tiny model writes any of them.
    practice = task(token_id=lambda word: {"long": 3, "short": 4}[word])
    chosen = method(obey=True)
    rollouts = drawn(net, chosen, practice)
    opened = torch.tensor([rollouts.response(row)[0] for row in range(len(rollouts))])
    assert rollouts.obeys.equal(opened == torch.where(rollouts.is_long, 3, 4))
    right = torch.tensor([True, True, True, True])
    four = rollouts.select(torch.arange(4)).with_fields(
        answer_correct=right, finished=right, obeys=torch.tensor([True, True, True, False])
    )
    assert chosen.reward(four, {}).tolist() == [1.0, 1.0, 0.5, 0.0]  # the page's row: long [1,1], short [1,0]
    assert method().reward(four.with_fields(obeys=None), {}).tolist() == [0.5, 0.5, 1.0, 1.0]
    assert drawn(net).obeys is None


def test_an_answer_asked_for_shortly_that_is_longer_than_short_cap_counts_as_wrong(net):
    rollouts = drawn(net)
    short_and_right = rollouts.num_tokens[~rollouts.is_long & rollouts.correct]
    limit = int(short_and_right.min())
    assert limit < int(short_and_right.max()), "some are cut, some are not"
    within = rollouts.is_long | (rollouts.num_tokens <= limit)
    want = mode_reward(rollouts.correct & within, rollouts.is_long, rollouts.group_ids)
    assert method(short_cap=limit).reward(rollouts, {}).equal(want)
    assert not want.equal(method().reward(rollouts, {}))


@pytest.mark.parametrize("short_cap", [-1, 99_999])
def test_a_short_cap_outside_the_cap_is_refused(short_cap):
    with pytest.raises(ConfigError, match=f"short_cap is {short_cap}; give tokens up to the cap"):
        method(short_cap=short_cap)


def test_answers_are_compared_within_their_mode_or_within_their_group(net):
    rollouts = drawn(net)
    rewards = method().reward(rollouts, {})
    assert method().advantage(rewards, rollouts).equal(group_normalised(rewards, rollouts.group_ids))
    within = method(baseline="mode").advantage(rewards, rollouts)
    for long in (True, False):
        rows = rollouts.is_long == long
        assert within[rows].equal(group_normalised(rewards[rows], rollouts.group_ids[rows]))
    with pytest.raises(ConfigError, match="baseline is 'none'; choose group or mode"):
        method(baseline="none")


def test_obey_needs_words_that_the_task_knows():
    with pytest.raises(ConfigError, match="needs obeys, but no word opens its answers, or the task knows none"):
        check_needs(task(token_id=None), method(obey=True), 4)
    unopened = replace(method(obey=True), prompts=lambda ask: [Asked(ask("[L]"), True), Asked(ask("[S]"), False)])
    with pytest.raises(ConfigError, match="needs obeys"):
        check_needs(task(), unopened, 4)


def test_with_control_opener_every_answer_follows_the_bare_prompt_and_its_opener(net):
    rollouts = drawn(net, method(control="opener", switch_loss="nll"), task(instruct=None))
    for row in range(len(rollouts)):
        bare = task().prompts[int(rollouts.problem_ids[row])]
        assert rollouts.prompt(row) == [*bare, LONG if rollouts.is_long[row] else SHORT]
        assert [t for t in rollouts.bare_prompt_ids[row].tolist() if t != NO_TOKEN] == bare
    assert rollouts.is_long.tolist() == [True, True, False, False] * 4


def test_with_control_opener_both_caps_count_the_opener(net):
    rollouts = drawn(net, method(control="opener", switch_loss="nll"))
    answered = rollouts.with_fields(answer_correct=torch.ones_like(rollouts.correct))
    short = answered.num_tokens[~answered.is_long & answered.finished]
    shortest = int(short.min())
    assert shortest < int(short.max())
    chosen = method(control="opener", switch_loss="nll", short_cap=shortest + 1)
    assert chosen.cap(0, {}) == 8 and chosen.options["cap"] == 9
    right = answered.finished & (answered.is_long | (answered.num_tokens <= shortest))
    assert chosen.reward(answered, {}).equal(mode_reward(right, answered.is_long, answered.group_ids))


def test_control_opener_is_refused_where_nothing_can_open_an_answer():
    with pytest.raises(ConfigError, match="control is 'coin'; choose instruction or opener"):
        method(control="coin")
    with pytest.raises(ConfigError, match="obey is True with control opener"):
        method(control="opener", obey=True)
    with pytest.raises(ConfigError, match="switch_loss is 'ce' with control opener; use nll"):
        method(control="opener")
    unopened = replace(
        method(control="opener", switch_loss="nll"), prompts=lambda ask: [Asked(ask(""), True, opened=True)]
    )
    with pytest.raises(ConfigError, match="opens answers itself, but names no opener"):
        check_needs(task(), unopened, 4)
    with pytest.raises(ConfigError, match="opens answers itself, but names no opener, or the task knows none"):
        check_needs(task(token_id=None), method(control="opener", switch_loss="nll"), 4)


@pytest.mark.parametrize("tokens", [1, 10_000])
def test_the_switching_loss_is_that_of_the_first_logits_after_the_bare_prompts(net, tokens):
    # A naive reading: every bare prompt alone, without padding.
    chosen, rollouts = method(switch_weight=0.7), drawn(net)
    fresh = copy.deepcopy(net)
    loss, values = add_extras(Scorer(fresh), resolve_extras(chosen, task()), rollouts, micro_batch_tokens=tokens)
    plain = copy.deepcopy(net)
    groups = rollouts.group_ids.unique()
    first = [int((rollouts.group_ids == group).nonzero()[0]) for group in groups]
    logits = torch.stack(
        [plain(input_ids=torch.tensor([task().prompts[int(rollouts.problem_ids[row])]])).logits[0, -1] for row in first]
    )
    mode = preferred_mode(rollouts.correct, rollouts.is_long, rollouts.group_ids)[first]
    assert len(set(mode.tolist())) > 1
    want = mode_switch(logits, mode, long_token=LONG, short_token=SHORT)
    (0.7 * want).backward()
    assert values["mode_switch"] == pytest.approx(float(want), abs=1e-5) and loss == pytest.approx(0.7 * float(want))
    for (name, got), expected in zip(fresh.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_invariant_4_nothing_but_the_position_after_the_bare_prompt_is_pulled_by_it(net):
    """With equal rewards the surrogate is silent, so the update is that of the switching loss alone."""
    chosen = method(switch_weight=1.0)
    rollouts = drawn(net)
    rollouts = rollouts.with_fields(
        answer_correct=torch.ones_like(rollouts.answer_correct), finished=torch.ones_like(rollouts.finished)
    )
    silent = replace(chosen, reward=lambda r, state: torch.ones(len(r)))
    advantages = silent.advantage(silent.reward(rollouts, {}), rollouts)
    assert not advantages.any()
    fresh, twin = copy.deepcopy(net), copy.deepcopy(net)
    stats = update_policy(
        Scorer(fresh), torch.optim.SGD(fresh.parameters(), lr=1.0), list(fresh.parameters()), silent, rollouts,
        advantages, UpdatePlan(1, 10_000, 1e9), generator=tiny.generator(),
        extras=resolve_extras(silent, task()),
    )  # fmt: skip
    add_extras(Scorer(twin), resolve_extras(silent, task()), rollouts, micro_batch_tokens=10_000)
    for after, before, alone in zip(fresh.parameters(), net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(after, before - alone.grad)
    assert stats["trained_tokens"] == 0 and stats["mode_switch"] == pytest.approx(stats["loss"], abs=1e-6)


def test_edge_case_all_prompts_skipped_gives_a_loss_of_0_and_no_gradient(net):
    rollouts = drawn(net)
    rollouts = rollouts.with_fields(answer_correct=torch.zeros_like(rollouts.answer_correct))
    fresh = copy.deepcopy(net)
    loss, values = add_extras(Scorer(fresh), resolve_extras(method(), task()), rollouts, micro_batch_tokens=10_000)
    assert loss == 0 and values == {"mode_switch": 0.0}
    assert all(p.grad is None or not p.grad.any() for p in fresh.parameters())


def test_several_extra_losses_add_up_with_their_weights(net):
    def constant(bare: BarePrompts) -> torch.Tensor:
        return bare.first_logits[:, bare.tokens[0]].mean() * 0 + 2.0

    one = ExtraLoss("one", 0.5, constant, ("long",))
    two = ExtraLoss("two", 3.0, constant, ("short",))
    chosen = replace(method(), extra_losses=(one, two))
    loss, values = add_extras(Scorer(net), resolve_extras(chosen, task()), drawn(net), micro_batch_tokens=100)
    assert loss == pytest.approx(7.0) and values == {"one": 2.0, "two": 2.0}


@pytest.mark.filterwarnings("ignore::lengthwise.errors.LengthwiseWarning")
def test_bare_prompts_learn_to_open_in_the_mode_that_suits(tmp_path):
    # Only long answers are right: an answer counts if its prompt asked for long.
    chosen = replace(
        method(switch_weight=1.0),
        reward=lambda r, state: r.is_long.float(),
        update_state=lambda state, r: {"seen": int(r.is_long.sum())},
    )
    practice = task(grade=lambda problem, tokens: True)
    chosen = replace(chosen, extra_losses=(ExtraLoss("mode_switch", 1.0, _always_long, ("long", "short")),))
    net = tiny.model()
    seen: list = []
    tiny.trainer(tmp_path, net=net, method=chosen, practice=practice, steps=8, lr=1e-2).train(seen.append)
    assert seen[-1]["mode_switch"] < 0.5 * seen[0]["mode_switch"]
    logits = tiny.plain_logits(net, practice.prompts[0])[-1]
    assert logits[LONG] > logits[SHORT]


def _always_long(bare: BarePrompts) -> torch.Tensor:
    mode = torch.ones(len(bare.rows), dtype=torch.long)
    return mode_switch(bare.first_logits, mode, long_token=bare.tokens[0], short_token=bare.tokens[1])


@pytest.mark.filterwarnings("ignore::lengthwise.errors.LengthwiseWarning")
def test_a_run_of_adaptive_goes_on_as_if_it_had_not_stopped(tmp_path):
    def run(folder, steps):
        seen: list = []
        tiny.trainer(folder, method=method(), practice=task(), steps=steps).train(seen.append)
        return tiny.comparable(seen)

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 2)
    assert run(tmp_path / "parts", 4) == whole[2:]
    assert all(row["mode_switch"] > 0 for row in whole)


# ------------------------------------------------------------------------------------------ fine-tuning before

ROW = {"problem": "1+1?", "answer": "2", "long": f"{OPEN_LONG}1+1=2;A:2", "short": f"{OPEN_SHORT}A:2"}
SFT = ModeSft("rows.jsonl", ASK_LONG, ASK_SHORT, OPEN_LONG, OPEN_SHORT, 1.0, 1e-3, 2)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer((*chains.VOCABULARY, *MODES))


@pytest.fixture
def problems(tokenizer):
    return prepare([ROW], resolve(preset("lab"), tokenizer), tokenizer, cap=9, positions=64, source="rows")


def test_every_row_is_taught_in_four_kinds_and_on_its_response_alone(problems, tokenizer):
    rows = four_kinds([ROW], problems, SFT)
    shown = []
    for row in rows:
        ids, labels = row["input_ids"], row["labels"]
        taught = [one for one in labels if one != IGNORED]
        assert labels == [IGNORED] * (len(ids) - len(taught)) + taught and ids[-len(taught) :] == taught
        assert taught[-1] == tokenizer.eos_token_id
        shown.append((tokenizer.decode(ids[: -len(taught)]).replace(" ", ""), tokenizer.decode(taught[:-1])))
    asked = [ASK_LONG.replace(" ", ""), "", ASK_SHORT.replace(" ", ""), ""]
    assert [prompt for prompt, _ in shown] == [f"{words}1+1?" for words in asked]
    assert [answer.replace(" ", "") for _, answer in shown] == [ROW["long"]] * 2 + [ROW["short"]] * 2


def test_a_response_that_its_opener_does_not_begin_is_refused_with_its_row(problems):
    with pytest.raises(InputError, match=r"rows.jsonl, row 2: the short response begins 'A:2'.*opener 'direct:'"):
        four_kinds([ROW, {**ROW, "short": "A:2"}], problems, SFT)


def test_openers_are_one_token_each_and_a_mode_stands_before_the_problem(problems, tokenizer):
    made = problems.task()
    assert made.token_id(OPEN_LONG) == tokenizer.convert_tokens_to_ids(OPEN_LONG)
    with pytest.raises(ConfigError, match="name a text that is one token"):
        made.token_id("1+1")
    assert made.instruct(0, ASK_LONG) == [tokenizer.convert_tokens_to_ids(ASK_LONG), *made.prompts[0]]


@pytest.mark.parametrize(
    ("options", "says"), [({"sft_lr": 0.0}, "sft_lr is 0.0"), ({"sft_epochs": -1.0}, "sft_epochs is -1.0")]
)
def test_impossible_fine_tuning_is_refused_when_the_method_is_made(options, says):
    with pytest.raises(ConfigError, match=says):
        method(sft_data="rows.jsonl", **options)


def test_without_data_there_is_no_stage_before():
    assert method().prepare == () and [stage.name for stage in method(sft_data="x").prepare] == ["sft"]


def test_trl_fine_tunes_both_modes(tmp_path, tokenizer, problems):
    try:
        check_trl()
    except MissingExtraError:
        pytest.skip("the extra trl is not installed")
    start, data = tmp_path / "start", tmp_path / "rows.jsonl"
    torch.manual_seed(0)
    net = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                    num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
                    eos_token_id=tokenizer.eos_token_id, pad_token_id=0, bos_token_id=None)
    )  # fmt: skip
    net.save_pretrained(start)
    tokenizer.save_pretrained(start)
    data.write_text((json.dumps(ROW) + "\n") * 16)
    inputs = StageInputs(
        base=start, model=start, out=tmp_path / "out", work=tmp_path / "work", problems=problems, cap=9,
        train=Training(steps=1), runtime=TrainingRuntime(device="cpu"), tell=lambda text: None,
    )  # fmt: skip
    asked = replace(SFT, data=str(data), epochs=4.0, lr=2e-2, batch=8)
    facts = fine_tune(inputs, asked=asked)
    assert (facts["answers"], facts["steps"]) == (64, 32)
    assert (tmp_path / "out" / "tokenizer_config.json").read_bytes() == (start / "tokenizer_config.json").read_bytes()
    policy = load_policy(tmp_path / "out", device="cpu")
    for words, answer in ((ASK_LONG, ROW["long"]), (ASK_SHORT, ROW["short"])):
        said = Sampler(policy.model, eos_ids=[tokenizer.eos_token_id], pad_id=0).generate(
            [problems.instructed(0, words)], caps=20, generator=tiny.generator(), temperature=0
        )
        assert problems.response_text(said.response(0)).replace(" ", "") == answer
