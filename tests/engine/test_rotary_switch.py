"""Rotary factors that switch with the length: a row's log-probabilities do not change with its company."""

from __future__ import annotations

import copy
import json

import pytest
import tiny
import torch
from adapter_rows import switching
from context_words import extended
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhimoeConfig,
    PhimoeForCausalLM,
    Qwen2Config,
)
from typer.testing import CliRunner

from lengthwise.cli import app
from lengthwise.config.groups.training import Training
from lengthwise.context.lambda_shaped_attention.streaming import read, write
from lengthwise.context.positions.scheme_config import Scheme
from lengthwise.context_length import reach
from lengthwise.engine.backends.transformers_sampler import Sampler
from lengthwise.engine.batches import Task
from lengthwise.engine.log_probabilities import Scorer
from lengthwise.engine.metrics_log import read_metrics
from lengthwise.engine.model_folders import load_policy
from lengthwise.engine.ppo.critic import Critic
from lengthwise.engine.rollouts import NO_TOKEN, join
from lengthwise.engine.rotary_switch import Switch, check_learnable, check_shared, switch_of
from lengthwise.engine.trainer import Trainer
from lengthwise.errors import UnsupportedModelError
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import build_method

FIRST, REACH = 16, 64
SHORT, LONG = [1.0, 1.1, 1.2, 1.3], [3.0, 6.0, 12.0, 24.0]
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "short_factor": SHORT, "long_factor": LONG, "attention_factor": 1.2,
    "original_max_position_embeddings": FIRST,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
SIZE = {**tiny._SIZE, "num_key_value_heads": 2}
PHI = {"original_max_position_embeddings": FIRST, "rope_parameters": {**LONGROPE, "partial_rotary_factor": 1.0}}
MOE = {**LONGROPE, "short_mscale": 1.1, "long_mscale": 1.3}
KINDS = {
    "phi3": (Phi3Config, Phi3ForCausalLM, PHI),
    "llama": (LlamaConfig, LlamaForCausalLM, {"rope_parameters": LONGROPE}),
    "phimoe": (
        PhimoeConfig, PhimoeForCausalLM, {"rope_parameters": MOE, "num_local_experts": 2, "num_experts_per_tok": 2},
    ),
    "dynamic": (
        LlamaConfig, LlamaForCausalLM, {"rope_parameters": DYNAMIC, "max_position_embeddings": FIRST},
    ),
}  # fmt: skip
STEADY = ["phi3", "llama", "phimoe"]
# read within the first factors throughout; up to the switch and over it; beyond it from the start
PROMPTS = [[5, 6], [7, 8, 9] * 4, [10, 11] * 8, [12, 13, 14] * 6, [12, 13, 14] * 6]
CAPS = [4, 12, 6, 5, 3]


def model(kind: str, seed: int = 0):
    config_class, model_class, own = KINDS[kind]
    torch.manual_seed(seed)
    made = model_class(config_class(**{**SIZE, **own}, attn_implementation="eager")).eval()
    with torch.no_grad():  # large enough that another rotation is seen in the logits
        for name, parameter in made.named_parameters():
            if "q_proj" in name or "k_proj" in name or "qkv_proj" in name:
                parameter.mul_(8)
        made.get_output_embeddings().weight.mul_(20)
    return made


def sample(net, prompts=PROMPTS, caps=CAPS, *, temperature=1.0, **options):
    sampler = Sampler(net, eos_ids=[39], pad_id=0, **options)
    return sampler.generate(prompts, caps=caps, generator=tiny.generator(), temperature=temperature)


def alone(net, prompt, response):
    """Log-probability of every token from a plain forward of what stands before it, and nothing else."""
    found = []
    for end, token in enumerate(response):
        if switch_of(net.config) == Switch("dynamic", FIRST, steady=False):
            tiny.plain_logits(net, [1])  # the factors of an earlier text would stay
        found.append(tiny.plain_logits(net, [*prompt, *response[:end]])[-1].log_softmax(-1)[token])
    return torch.stack(found)


def test_the_switch_changes_these_models():
    for kind in KINDS:
        net, ids = model(kind), [5, 6, 7, 8] * 6
        short = tiny.plain_logits(net, ids[:FIRST])
        tiny.plain_logits(net, [1])
        assert (tiny.plain_logits(net, ids)[:FIRST] - short).abs().max() > 0.05, kind


@pytest.mark.parametrize("kind", STEADY)
@pytest.mark.parametrize("rows", [0, 2])
def test_sampled_log_probabilities_are_those_of_each_row_alone(kind, rows):
    net = model(kind)
    drawn = sample(net, max_rows=rows)
    for row, prompt in enumerate(PROMPTS):
        response = drawn.response(row)
        assert torch.allclose(drawn.logp[row, : len(response)], alone(net, prompt, response), atol=1e-4), row
    assert (drawn.num_tokens == torch.tensor(CAPS)).sum() >= 3  # they do cross


@pytest.mark.parametrize("kind", STEADY)
def test_scores_are_those_of_each_row_alone_and_the_samplers(kind):
    net = model(kind)
    drawn = sample(net)
    logp, entropy = Scorer(net)(drawn)
    assert torch.allclose(logp, drawn.logp, atol=1e-4)
    assert ((entropy > 0) == drawn.mask).all()
    for row in range(len(drawn)):
        own = drawn.select(torch.tensor([row])).trim()
        assert torch.allclose(Scorer(net)(own)[0], logp[row : row + 1, : own.mask.shape[1]], atol=1e-4)


def test_greedy_answers_are_those_that_transformers_gives_each_prompt_alone():
    # Phi-3's own generate reads a text anew where its factors switch
    net = model("phi3")
    drawn = sample(net, temperature=0.0)
    for row, prompt in enumerate(PROMPTS):
        theirs = net.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=CAPS[row], eos_token_id=39, pad_token_id=0
        )
        assert theirs[0, len(prompt) :].tolist() == drawn.response(row)


@pytest.mark.parametrize("kind", STEADY)
def test_a_resumed_response_crosses_as_an_uninterrupted_one_does(kind):
    net = model(kind)
    sampler = Sampler(net, eos_ids=[39], pad_id=0)
    whole = sample(net, temperature=0.0)
    part = sampler.generate(PROMPTS, caps=2, generator=tiny.generator(), temperature=0.0)
    more = sampler.resume(part, caps=CAPS, generator=tiny.generator(), temperature=0.0)
    assert torch.equal(more.completion_ids, whole.completion_ids)
    assert torch.allclose(more.logp, whole.logp, atol=1e-4)


def test_a_world_sees_every_token_where_a_row_is_read_anew():
    net, seen = model("phi3"), []

    def world(row, tokens):
        seen.append((row, list(tokens)))

    sampler = Sampler(net, eos_ids=[39], pad_id=0)
    drawn = sampler.generate(PROMPTS, caps=CAPS, generator=tiny.generator(), world=world)
    for row in range(len(PROMPTS)):
        assert [told for who, told in seen if who == row] == [
            drawn.response(row)[:end] for end in range(int(drawn.num_tokens[row]))
        ]


def test_gradients_of_a_batch_are_the_sum_of_its_rows():
    net = model("phi3")
    drawn = sample(net)

    def gradients(parts):
        fresh = copy.deepcopy(net)
        for part in parts:
            (Scorer(fresh)(part)[0] ** 2).sum().backward()
        return [p.grad for p in fresh.parameters() if p.grad is not None]

    rows = [drawn.select(torch.tensor([row])).trim() for row in range(len(drawn))]
    for one, other in zip(gradients([drawn]), gradients(rows), strict=True):
        assert torch.allclose(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", STEADY)
def test_the_critic_judges_each_row_as_if_alone(kind):
    net = model(kind)
    critic, drawn = Critic(net), sample(net)
    torch.nn.init.normal_(critic.head.weight)
    values = critic(drawn)
    for row in range(len(drawn)):
        own = drawn.select(torch.tensor([row])).trim()
        assert torch.allclose(critic(own), values[row : row + 1, : own.mask.shape[1]], atol=1e-4)
    assert (values[drawn.mask] != 0).all() and (values[~drawn.mask] == 0).all()


def test_first_logits_do_not_depend_on_the_other_prompts():
    net, prompts = model("phi3"), [PROMPTS[0], PROMPTS[3], PROMPTS[2]]
    width = max(map(len, prompts))
    padded = torch.tensor([[NO_TOKEN] * (width - len(p)) + p for p in prompts])
    found = Scorer(net).first_logits(padded)
    for row, prompt in enumerate(prompts):
        assert torch.allclose(found[row], tiny.plain_logits(net, prompt)[-1], atol=1e-4)


# dynamic: sampled row length by row length, never learnt from beyond the first factors


def test_dynamic_rows_are_sampled_as_transformers_samples_each_alone():
    net = model("dynamic")
    prompts, caps = [[5, 6], [7, 8, 9] * 4, [12, 13, 14] * 6, [7, 8, 9] * 4, [9, 8, 9] * 4], [4, 12, 9, 12, 3]
    drawn = sample(net, prompts, caps, temperature=0.0)
    for row, prompt in enumerate(prompts):
        tiny.plain_logits(net, [1])
        theirs = net.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=caps[row], eos_token_id=39, pad_token_id=0
        )
        assert theirs[0, len(prompt) :].tolist() == drawn.response(row)
        own = sample(net, [prompt], [caps[row]], temperature=0.0)
        assert torch.allclose(own.logp, drawn.logp[row : row + 1, : own.mask.shape[1]], atol=1e-4)


def test_a_long_dynamic_text_leaves_nothing_behind():
    net = model("dynamic")
    before = tiny.plain_logits(net, [5, 6, 7, 8] * 4)
    sample(net, [[12, 13, 14] * 6], [9])
    assert torch.equal(tiny.plain_logits(net, [5, 6, 7, 8] * 4), before)  # exactly the trained length
    tiny.plain_logits(net, [5, 6, 7, 8] * 6)  # another program's long text
    drawn = tiny.rollouts([4, 6], prompt_lengths=[12, 3], seed=2)
    logp = Scorer(net)(drawn)[0]
    assert torch.allclose(logp[0, :4], alone(net, drawn.prompt(0), drawn.response(0)), atol=1e-4)


def test_dynamic_texts_beyond_the_first_factors_are_not_learnt_from():
    net = model("dynamic")
    fits, crosses = tiny.rollouts([5], prompt_lengths=[12]), tiny.rollouts([6], prompt_lengths=[12])
    Scorer(net)(fits)  # 17 tokens, of which 16 are read
    for judge in (Scorer(net), Critic(net)):
        with pytest.raises(UnsupportedModelError, match=r"dynamic rotary factors, which beyond 16 tokens.*may have 18"):
            judge(join([fits, crosses]))
    check_learnable(net.config, 17)
    with pytest.raises(UnsupportedModelError, match="Lower the cap so that both stay within 16 tokens"):
        check_learnable(net.config, 18)
    check_learnable(model("phi3").config, 60)


# what is known of a config


def test_configs_of_every_kind_say_where_they_switch():
    longrope = Switch("longrope", FIRST, steady=True)
    assert [switch_of(model(kind).config) for kind in STEADY] == [longrope] * 3
    assert switch_of(model("dynamic").config) == Switch("dynamic", FIRST, steady=False)
    assert switch_of(tiny.model().config) is None
    for other in (
        {"rope_type": "linear", "factor": 2.0}, {"rope_type": "yarn", "factor": 2.0},
        {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    ):  # fmt: skip
        rope = {**other, "rope_theta": 1e4, "original_max_position_embeddings": 32}
        assert switch_of(LlamaConfig(**{**SIZE, "rope_parameters": rope})) is None
    old = type("Old", (), {"rope_scaling": {"type": "su"}, "original_max_position_embeddings": 9})()
    assert switch_of(old) == Switch("su", 9, steady=True)
    kinds = {"full_attention": {"rope_type": "default"}, "sliding_attention": {**DYNAMIC}}
    mixed = type("Mixed", (), {"rope_parameters": kinds, "max_position_embeddings": 20})()
    assert switch_of(mixed) == Switch("dynamic", 20, steady=False)
    two = type("Two", (), {"rope_parameters": {"a": LONGROPE, "b": DYNAMIC}, "max_position_embeddings": 20})()
    assert switch_of(two) == Switch("dynamic/longrope", FIRST, steady=False)


def test_every_type_of_transformers_is_known_to_switch_or_not_to():
    # whoever ships a new type has to look whether it switches
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    import lengthwise.context  # noqa: F401  # registers its own

    known = {"linear", "dynamic", "yarn", "longrope", "llama3", "proportional", "lengthwise.context"}
    assert set(ROPE_INIT_FUNCTIONS) - {"default"} <= known


def test_a_reach_is_the_trained_length_times_the_factor_where_the_config_keeps_it():
    assert reach(model("dynamic").config) == 4 * FIRST
    assert reach(model("phi3").config) == reach(tiny.model().config) == 64
    assert reach(type("Bare", (), {})()) is None


def test_other_engines_are_kept_on_one_side():
    config = model("phi3").config
    check_shared(config, FIRST, "TRL")
    with pytest.raises(UnsupportedModelError, match=r"longrope rotary factors that switch at 16 tokens.*TRL"):
        check_shared(config, FIRST + 1, "TRL")
    check_shared(tiny.model().config, 10_000, "TRL")


# the proof


@pytest.mark.parametrize("kind", KINDS)
def test_models_that_switch_where_they_say_pass_the_self_check(kind):
    Sampler(model(kind), eos_ids=[39], pad_id=0).check()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("said", [None, -4, 4, 13])
def test_a_switch_that_is_not_where_the_config_says_is_noticed(kind, said):
    net = model(kind)
    wrong = None if said is None else Switch("wrong", FIRST + said - 2, steady=True)
    sampler = Sampler(net, eos_ids=[39], pad_id=0)
    sampler.switch = wrong
    if kind == "dynamic" and said is None:
        net.config.max_position_embeddings = FIRST  # the factors follow what the config says
    with pytest.raises(UnsupportedModelError, match="a row alone and beside a row at far positions differ by"):
        sampler.check()


def test_factors_that_follow_the_longest_row_are_noticed_wherever_they_come_from(net):
    # a rotary module of a model's own code, of which no config speaks
    own = type(net.model.rotary_emb)

    class Following(own):
        def forward(self, x, position_ids):
            cos, sin = super().forward(x, position_ids)
            return (cos * 2, sin * 2) if int(position_ids.max()) >= 40 else (cos, sin)

    net.model.rotary_emb.__class__ = Following
    assert switch_of(Qwen2Config()) is None
    with pytest.raises(UnsupportedModelError, match="beside a row at far positions differ by"):
        Sampler(net, eos_ids=[39], pad_id=0).check()


# whole runs

OPTIONS = {"grpo": {}, "t-ppo": {"window": 4, "critic_warmup": 0}}


@pytest.mark.parametrize("method", ["grpo", "t-ppo"])
def test_a_run_over_the_switch_scores_what_it_sampled(method, tmp_path):
    net = model("phi3")
    with torch.no_grad():
        net.get_output_embeddings().weight.mul_(0.1)  # so that the responses of a group differ
    prompts = [[*prompt, *[5] * (number % 3 * 8)] for number, prompt in enumerate(tiny.task().prompts)]
    long = Task(prompts, grade=lambda number, tokens: sum(tokens) % 2 == 0)
    trainer = Trainer(
        net, method=build_method(method, cap=8, **OPTIONS[method]), task=long,
        config=Training(steps=3, prompts=4, group_size=4, updates=2, lr=1e-4), folder=tmp_path,
        eos_ids=tiny.EOS, pad_id=0,
    )  # fmt: skip
    trainer.train()
    for row in read_metrics(tmp_path):
        assert row["sampler_gap"] < 1e-4


@pytest.mark.parametrize("method", ["grpo", "t-ppo"])
def test_a_run_that_could_not_score_what_it_sampled_ends_before_it_samples(method, tmp_path):
    net = model("dynamic")
    trainer = Trainer(
        net, method=build_method(method, cap=FIRST, **OPTIONS[method]), task=tiny.task(),
        config=Training(steps=1, prompts=2, group_size=2), folder=tmp_path, eos_ids=[39], pad_id=0,
    )  # fmt: skip
    net.register_forward_pre_hook(lambda *_: pytest.fail("it sampled"))
    with pytest.raises(UnsupportedModelError, match="beyond 16 tokens change with every token"):
        trainer.train()


# positions that are drawn anew: a scheme of our own


def test_a_checkpointed_model_scores_at_the_positions_it_sampled_at(tmp_path):
    extended(shipped_reasoner(), tmp_path / "drawn", Scheme("randomised"))
    for checkpointing in (False, True):
        policy = load_policy(tmp_path / "drawn", device="cpu", gradient_checkpointing=checkpointing)
        drawn = sample(policy.model)
        logp = Scorer(policy.model)(drawn)[0]
        assert torch.allclose(logp, drawn.logp, atol=1e-4)
        logp.sum().backward()
    config = policy.model.config
    check_shared(config, 30, "TRL", ours=False)
    with pytest.raises(UnsupportedModelError, match="draws positions anew in training mode, in which TRL scores"):
        check_shared(config, 30, "TRL")


# one text at a time: `generate` and `evaluate-context`


def test_generate_reads_a_text_anew_where_its_factors_switch(tmp_path):
    folder = switching(tmp_path / "longrope", 24)
    policy = load_policy(folder, device="cpu")
    text = policy.tokenizer.decode(policy.tokenizer("1+2+3+4+5+6")["input_ids"])
    for words, room in ((text, 30), (text * 3, 9)):
        arguments = ["generate", str(folder), "--prompt", words, "--cap", str(room), "--prefill-chunk", "4", "--json"]
        said = json.loads(CliRunner().invoke(app, arguments).stdout)["text"]
        ids = policy.tokenizer(words)["input_ids"]
        sampler = Sampler(policy.model, eos_ids=[policy.tokenizer.eos_token_id], pad_id=0)
        wanted = sampler.generate([ids], caps=room, generator=tiny.generator(), temperature=0.0).response(0)
        assert said == policy.tokenizer.decode(wanted, skip_special_tokens=True)


def test_written_text_is_that_of_phi_3_s_own_generate():
    net = model("phi3")
    for prompt in (PROMPTS[1], PROMPTS[3]):
        cache = DynamicCache()
        logits = read(net, prompt, cache=cache, chunk=len(prompt), on_read=lambda _: None)
        options = {"eos_ids": (39,), "generator": tiny.generator(), "max_tokens": 40, "prompt": prompt, "anew": FIRST}
        found = list(write(net, logits, cache=cache, **options))
        theirs = net.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=40, eos_token_id=39, pad_token_id=0
        )
        assert theirs[0, len(prompt) :].tolist() == found
        assert cache.get_seq_length() == len(prompt) + len(found) - 1
