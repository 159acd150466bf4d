from __future__ import annotations

import pytest
import tiny
import torch
from transformers import Mamba2Config, Mamba2ForCausalLM

from lengthwise.engine.backends import decoding_batch
from lengthwise.engine.backends.transformers_sampler import Sampler, most_steps, pad_left
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError, InputError, TrainingError, UnsupportedModelError

PROMPTS = [[5, 6, 7], [5, 6, 7], [9], [3, 4, 8, 10, 11, 12], [5, 6, 7]]


class ForwardLog:
    """Counts the rows and columns that a model's forward is given."""

    def __init__(self, net):
        self.shapes = []
        self.hook = net.register_forward_pre_hook(self.note, with_kwargs=True)

    def note(self, module, args, kwargs):
        self.shapes.append(tuple(kwargs["input_ids"].shape))

    @property
    def rows(self):
        return [rows for rows, _ in self.shapes]


def generate(sampler, prompts=PROMPTS, *, caps=8, seed=0, **options) -> Rollouts:
    return sampler.generate(prompts, caps=caps, generator=tiny.generator(seed), **options)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma", "gemma2", "gpt_neox"])
def test_log_probabilities_are_those_of_a_plain_forward(family, temperature):
    net = tiny.model(family, spread=1.5)
    drawn = generate(Sampler(net, eos_ids=[30, 31], pad_id=0), caps=12, temperature=temperature)
    for row, prompt in enumerate(PROMPTS):
        assert drawn.prompt(row) == prompt
        plain = tiny.plain_logp(net, prompt, drawn.response(row), temperature or 1.0)
        assert torch.allclose(drawn.logp[row, : len(plain)], plain, atol=1e-4)


def test_equal_prompts_share_one_prefill(net, sampler):
    log = ForwardLog(net)
    generate(sampler, [[5, 6, 7]] * 6 + [[9, 2]] * 2, caps=2)
    # two distinct prompts, left-padded to 3; then one token for each of at most 8 rows
    assert log.shapes[0] == (2, 3)
    assert all(columns == 1 for _, columns in log.shapes[1:])


def test_finished_rows_are_dropped_at_once(net, sampler):
    log = ForwardLog(net)
    drawn = generate(sampler, [[5, 6, 7]] * 24, caps=10, seed=3)
    # after t tokens exactly the rows that are longer than t are still decoded
    expected = [int((drawn.num_tokens > t).sum()) for t in range(1, int(drawn.num_tokens.max()))]
    assert log.rows[1:] == expected
    assert expected[-1] < expected[0] < 24


def test_every_row_keeps_its_own_cap(net):
    # no token ends a response: 39 has next to no chance, so every row must stop at its cap
    with torch.no_grad():
        net.get_output_embeddings().weight[39] = 0.0
    caps = [1, 7, 3, 10, 2]
    drawn = generate(Sampler(net, eos_ids=[39], pad_id=0), caps=caps, temperature=0.0)
    assert drawn.num_tokens.tolist() == caps
    assert drawn.cap.tolist() == caps
    assert not drawn.finished.any() and drawn.done.all()
    assert drawn.mask.sum(1).tolist() == caps


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma", "gpt_neox"])
def test_greedy_decoding_is_that_of_transformers(family):
    net = tiny.model(family, spread=2.0)
    distinct = [[5, 6, 7], [9], [3, 4, 8, 10, 11, 12], [20, 21]]
    drawn = generate(Sampler(net, eos_ids=tiny.EOS, pad_id=0), distinct, caps=15, temperature=0.0)
    ids, mask = pad_left(distinct, 0, "cpu")
    theirs = net.generate(
        ids, attention_mask=mask, do_sample=False, max_new_tokens=15, eos_token_id=tiny.EOS, pad_token_id=0
    )
    for row in range(len(distinct)):
        response = drawn.response(row)
        assert theirs[row, ids.shape[1] :][: len(response)].tolist() == response
        assert drawn.finished[row] == (response[-1] in tiny.EOS)


def test_every_eos_id_ends_a_response(sampler):
    drawn = generate(sampler, [[5, 6, 7]] * 60, caps=12)
    ends = set()
    for row in range(60):
        response = drawn.response(row)
        assert not set(response[:-1]) & set(tiny.EOS)
        assert bool(drawn.finished[row]) == (response[-1] in tiny.EOS)
        assert bool(drawn.done[row]) == (bool(drawn.finished[row]) or len(response) == 12)
        ends.add(response[-1])
    assert len(ends & set(tiny.EOS)) > 3


def test_the_end_at_the_cap_is_finished(sampler):
    drawn = generate(sampler, [[5, 6, 7]] * 60, caps=1)
    assert torch.equal(drawn.finished, drawn.completion_ids[:, 0] >= 30)
    assert drawn.finished.any() and not drawn.finished.all() and drawn.done.all()


def test_top_p_stays_inside_the_nucleus():
    net = tiny.model(spread=2.0)
    probs = tiny.plain_logits(net, [5, 6, 7])[-1].softmax(-1)
    ordered, order = probs.sort(descending=True)
    # the smallest set of likeliest tokens whose mass reaches 0.6
    nucleus = set(order[: int((ordered.cumsum(0) < 0.6).sum()) + 1].tolist())
    drawn = generate(Sampler(net, eos_ids=[39], pad_id=0), [[5, 6, 7]] * 400, caps=1, top_p=0.6)
    assert set(drawn.completion_ids[:, 0].tolist()) == nucleus
    # logp is that of the whole distribution, before top-p
    assert torch.allclose(drawn.logp[:, 0], probs.log()[drawn.completion_ids[:, 0]], atol=1e-4)


def test_a_tiny_top_p_is_greedy(sampler):
    greedy = generate(sampler, temperature=0.0)
    assert torch.equal(generate(sampler, top_p=1e-9).completion_ids, greedy.completion_ids)


def test_sampled_frequencies_match_the_softmax():
    net = tiny.model(spread=1.5)
    rows = 20_000
    drawn = generate(Sampler(net, eos_ids=[39], pad_id=0), [[5, 6, 7]] * rows, caps=1, temperature=0.8)
    probs = (tiny.plain_logits(net, [5, 6, 7])[-1] / 0.8).softmax(-1)
    counts = torch.bincount(drawn.completion_ids[:, 0], minlength=tiny.VOCABULARY)
    # chi-square with 39 degrees of freedom: 80 has a chance of about 1e-4
    assert float(((counts - rows * probs) ** 2 / (rows * probs)).sum()) < 80


def test_the_same_seed_gives_the_same_responses(sampler):
    first, again, other = generate(sampler, seed=1), generate(sampler, seed=1), generate(sampler, seed=2)
    assert torch.equal(first.completion_ids, again.completion_ids) and torch.equal(first.logp, again.logp)
    assert not (
        first.completion_ids.shape == other.completion_ids.shape
        and torch.equal(first.completion_ids, other.completion_ids)
    )


def test_max_rows_bounds_the_rows_in_flight(net):
    log = ForwardLog(net)
    few = generate(Sampler(net, eos_ids=tiny.EOS, pad_id=0, max_rows=2), temperature=0.0)
    assert max(log.rows) == 2
    everything = generate(Sampler(net, eos_ids=tiny.EOS, pad_id=0), temperature=0.0)
    assert torch.equal(few.completion_ids, everything.completion_ids)
    assert torch.allclose(few.logp, everything.logp, atol=1e-5)


# rows that wait

QUEUED = [[5, 6, 7]] * 5 + [[9]] * 4 + [list(range(3, 23))] * 3 + [[8, 4]]
"""Prompts of unlike lengths, the longest after others have ended."""


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt_neox"])
def test_rows_that_wait_get_the_log_probabilities_of_a_plain_forward(family, temperature):
    net = tiny.model(family, spread=1.5)
    options = {"caps": [1 + 5 * row % 17 for row in range(len(QUEUED))], "temperature": temperature}
    log = ForwardLog(net)
    drawn = generate(Sampler(net, eos_ids=[30, 31], pad_id=0, max_rows=3), QUEUED, **options)
    assert max(log.rows) == 3
    for row, prompt in enumerate(QUEUED):
        plain = tiny.plain_logp(net, prompt, drawn.response(row), temperature)
        assert torch.allclose(drawn.logp[row, : len(plain)], plain, atol=1e-4), row


def test_how_many_wait_and_when_their_turn_comes_changes_no_token(net, monkeypatch):
    found = [
        generate(Sampler(net, eos_ids=tiny.EOS, pad_id=0, max_rows=rows), QUEUED, caps=12, seed=3)
        for rows in (1, 2, 5, 12)
    ]
    monkeypatch.setattr(decoding_batch, "takes_rows_in", lambda layers: False)  # as where a cache takes none in
    found.append(generate(Sampler(net, eos_ids=tiny.EOS, pad_id=0, max_rows=5), QUEUED, caps=12, seed=3))
    other = generate(Sampler(net, eos_ids=tiny.EOS, pad_id=0, max_rows=5), QUEUED, caps=12, seed=4)
    assert len(set(found[0].num_tokens.tolist())) > 3
    for one in found:
        assert torch.equal(one.completion_ids, found[0].completion_ids)
        assert torch.allclose(one.logp, found[0].logp, atol=1e-4)
    assert other.completion_ids.tolist() != found[0].completion_ids.tolist()


def test_a_place_is_filled_as_soon_as_its_row_ends_and_a_prompt_is_read_once(net):
    log = ForwardLog(net)
    caps = [10, 2, 2, 2, 2, 2]
    generate(Sampler(net, eos_ids=[39], pad_id=0, max_rows=2), [[5, 6]] + [[7, 8]] * 5, caps=caps, temperature=0.0)
    # both prompts at first, the second anew for the first row that waits, then from what was read
    assert log.shapes.count((1, 2)) == 1 and log.shapes[0] == (2, 2)
    assert len(log.shapes) == 2 + 9  # ten tokens of the first row, and the others' beside it


@pytest.mark.parametrize(
    ("rooms", "rows", "steps"), [([3, 1, 4], 0, 4), ([3, 1, 4], 2, 5), ([3, 1, 4], 1, 8), ([5, 1, 1, 1, 1], 2, 5)]
)
def test_steps_are_those_of_places_that_are_filled_in_turn(rooms, rows, steps):
    assert most_steps(rooms, rows) == steps


def test_a_world_sees_its_rows_side_by_side(net):
    seen = []

    def world(row, written):
        seen.append(row)
        return 5

    generate(Sampler(net, eos_ids=[39], pad_id=0, max_rows=2), [[5]] * 4, caps=[3, 1, 2, 1], world=world)
    assert seen == [0, 1, 0, 0, 2, 3, 2]


def test_ids_are_numbered_by_prompt_unless_given(sampler):
    drawn = generate(sampler)
    assert drawn.group_ids.tolist() == [0, 0, 1, 2, 0] == drawn.problem_ids.tolist()
    named = generate(sampler, group_ids=[4, 4, 5, 6, 4], problem_ids=[70, 70, 80, 90, 70], policy_version=3)
    assert named.group_ids.tolist() == [4, 4, 5, 6, 4] and named.problem_ids.tolist() == [70, 70, 80, 90, 70]
    assert (named.policy_version[named.mask] == 3).all()
    assert not named.answer_correct.any()
    assert torch.equal(named.train_mask, named.mask)


# resume


def test_resuming_is_the_uninterrupted_greedy_decode():
    net = tiny.model(spread=2.0)
    sampler = Sampler(net, eos_ids=[30], pad_id=0)
    whole = generate(sampler, caps=14, temperature=0.0, policy_version=1)
    part = generate(sampler, caps=5, temperature=0.0, policy_version=1)
    more = sampler.resume(part, caps=14, generator=tiny.generator(), temperature=0.0, policy_version=2)
    assert torch.equal(more.completion_ids, whole.completion_ids)
    assert torch.equal(more.finished, whole.finished) and torch.equal(more.done, whole.done)
    assert torch.allclose(more.logp, whole.logp, atol=1e-4)
    # what was there is kept to the bit; only new tokens carry the new version
    width = part.mask.shape[1]
    assert torch.equal(more.logp[:, :width][part.mask], part.logp[part.mask])
    assert (more.policy_version[:, :width][part.mask] == 1).all()
    assert (more.policy_version[:, width:][more.mask[:, width:]] == 2).all()


def test_resuming_keeps_old_log_probabilities_under_new_weights(net, sampler):
    part = generate(sampler, [[5, 6, 7]] * 12, caps=2)
    with torch.no_grad():
        net.get_output_embeddings().weight.mul_(1.5)
    more = sampler.resume(part, caps=5, generator=tiny.generator(4), policy_version=9)
    assert torch.equal(more.logp[:, :2][part.mask], part.logp[part.mask])
    for row in range(12):
        plain = tiny.plain_logp(net, part.prompt(row), more.response(row))
        assert torch.allclose(more.logp[row, 2 : len(plain)], plain[2:], atol=1e-4)
    assert int(more.num_tokens.max()) > 2


def test_resuming_leaves_finished_rows_and_their_verdicts_alone(net, sampler):
    part = generate(sampler, [[5, 6, 7]] * 30, caps=2)
    part = part.with_fields(answer_correct=torch.ones(30, dtype=torch.bool))
    log = ForwardLog(net)
    more = sampler.resume(part, caps=6, generator=tiny.generator(1))
    done = part.finished
    assert done.any() and not done.all()
    assert torch.equal(more.num_tokens[done], part.num_tokens[done])
    assert more.answer_correct[done].all()
    # a longer text must be graded again
    assert not more.answer_correct[~done].any()
    assert max(log.rows) <= int((~done).sum())


def test_resuming_when_nothing_is_open_asks_the_model_nothing(net, sampler):
    part = generate(sampler, caps=3, temperature=0.0)
    log = ForwardLog(net)
    same = sampler.resume(part, caps=3, generator=tiny.generator())
    assert torch.equal(same.completion_ids, part.completion_ids) and log.shapes == []


def test_resuming_in_portions_of_max_rows(net):
    part = generate(Sampler(net, eos_ids=[30], pad_id=0), caps=2, temperature=0.0)
    all_at_once = Sampler(net, eos_ids=[30], pad_id=0).resume(part, caps=6, generator=tiny.generator(), temperature=0)
    by_two = Sampler(net, eos_ids=[30], pad_id=0, max_rows=2).resume(
        part, caps=6, generator=tiny.generator(), temperature=0
    )
    assert torch.equal(all_at_once.completion_ids, by_two.completion_ids)


# a world that writes


def test_the_world_writes_tokens_that_count_but_are_not_learnt(net):
    seen = []

    def world(row, written):
        seen.append((row, list(written)))
        return 17 if len(written) in (1, 3) else None

    sampler = Sampler(net, eos_ids=[30], pad_id=0)
    drawn = generate(sampler, caps=6, world=world)
    for row, prompt in enumerate(PROMPTS):
        response = drawn.response(row)
        for place, token in enumerate(response):
            forced = place in (1, 3)
            assert bool(drawn.train_mask[row, place]) == (not forced)
            assert token == 17 or not forced
        plain = tiny.plain_logp(net, prompt, response)
        assert torch.allclose(drawn.logp[row, : len(plain)], plain, atol=1e-4)
        # the world is shown every prefix of the row, once
        assert [w for r, w in seen if r == row] == [response[:n] for n in range(len(response))]
    assert torch.equal(drawn.mask.sum(1), drawn.num_tokens)


def test_an_end_that_the_world_writes_finishes_the_row(sampler):
    drawn = generate(sampler, caps=6, world=lambda row, written: 33 if len(written) == 2 else 5)
    assert drawn.num_tokens.tolist() == [3] * 5
    assert drawn.finished.all() and not drawn.train_mask.any()


def test_the_world_goes_on_where_a_resumed_row_stopped(net):
    sampler = Sampler(net, eos_ids=[30], pad_id=0)
    part = generate(sampler, caps=2, world=lambda row, written: 17 if len(written) == 1 else None)
    seen = {}

    def world(row, written):
        seen.setdefault(row, list(written))
        return 18 if len(written) == 3 else None

    more = sampler.resume(part, caps=5, generator=tiny.generator(2), world=world)
    for row, first in seen.items():
        assert first == part.response(row)
    long = more.num_tokens > 3
    assert long.any()
    assert (more.completion_ids[long, 3] == 18).all() and not more.train_mask[long, 3].any()
    assert not more.train_mask[part.num_tokens > 1, 1].any()


# what cannot be served exactly is refused


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_ordinary_models_pass_the_padding_check(family):
    Sampler(tiny.model(family), eos_ids=[30], pad_id=0).check()


def test_a_half_precision_model_passes_the_padding_check():
    Sampler(tiny.model().to(torch.bfloat16), eos_ids=[30], pad_id=0).check()


def test_a_model_that_ignores_its_attention_mask_is_refused(net):
    class Careless(type(net)):
        def forward(self, *args, attention_mask=None, **kwargs):
            return super().forward(*args, **kwargs)

    net.__class__ = Careless
    with pytest.raises(UnsupportedModelError, match=r"'qwen2' fails the padding self-check.*differ by"):
        Sampler(net, eos_ids=[30], pad_id=0).check()


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_padded_logits_that_are_no_numbers_are_refused(net, broken):
    class Masked(type(net)):
        """Padding gives rows without any key, whose softmax is NaN."""

        def forward(self, *args, attention_mask=None, **kwargs):
            out = super().forward(*args, attention_mask=attention_mask, **kwargs)
            if attention_mask is not None:
                out.logits[(attention_mask == 0).any(1), :, 5] = broken
            return out

    net.__class__ = Masked
    with pytest.raises(UnsupportedModelError, match="padded and unpadded logits differ by (nan|inf)"):
        Sampler(net, eos_ids=[30], pad_id=0).check()


def test_tokens_that_can_never_be_drawn_do_not_fail_the_padding_check(net):
    class Shortened(type(net)):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits[..., 37:] = -float("inf")
            return out

    net.__class__ = Shortened
    Sampler(net, eos_ids=[30], pad_id=0).check()


def test_a_model_that_cannot_take_positions_is_refused(net):
    class Strict(type(net)):
        def forward(self, input_ids=None, past_key_values=None, use_cache=None):
            return super().forward(input_ids=input_ids, past_key_values=past_key_values, use_cache=use_cache)

    net.__class__ = Strict
    with pytest.raises(UnsupportedModelError, match="padding self-check: TypeError"):
        Sampler(net, eos_ids=[30], pad_id=0).check()


def test_a_recurrent_model_is_refused():
    config = Mamba2Config(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_heads=8, head_dim=8, state_size=8, n_groups=1,
        chunk_size=8, expand=2,
    )  # fmt: skip
    torch.manual_seed(0)
    with pytest.raises(UnsupportedModelError, match="mamba2"):
        Sampler(Mamba2ForCausalLM(config).eval(), eos_ids=[30], pad_id=0).check()


def test_a_cache_whose_rows_cannot_be_selected_is_refused(net, sampler):
    class OldCache(type(net)):
        def forward(self, **kwargs):
            out = super().forward(**kwargs)
            out.past_key_values = tuple(out.past_key_values)
            return out

    net.__class__ = OldCache
    with pytest.raises(UnsupportedModelError, match="tuple whose rows cannot be selected"):
        generate(sampler)


# inputs


def test_a_prompt_that_does_not_fit_is_refused(sampler):
    with pytest.raises(InputError, match=r"prompt 1 has 60 tokens and the cap is 5, but the model allows 64"):
        generate(sampler, [[5], [5] * 60], caps=5)
    generate(sampler, [[5] * 60], caps=4)


@pytest.mark.parametrize(
    ("prompts", "options", "words"),
    [
        ([], {}, "prompts is empty"),
        ([[5], []], {}, r"prompts\[1\] has no token"),
        ([[5]], {"caps": 0}, "cap is 0 for row 0"),
        ([[5], [6]], {"caps": [3]}, "caps has 1 entries for 2 prompts"),
        ([[5]], {"temperature": -0.1}, "temperature is -0.1"),
        ([[5]], {"temperature": float("nan")}, "temperature is nan"),
        ([[5]], {"top_p": 0.0}, "top_p is 0.0"),
        ([[5]], {"top_p": 1.1}, "top_p is 1.1"),
    ],
)
def test_bad_arguments_are_named(sampler, prompts, options, words):
    with pytest.raises(ConfigError, match=words):
        generate(sampler, prompts, **options)


def test_bad_sampler_settings_are_named(net):
    with pytest.raises(ConfigError, match="eos_ids is empty"):
        Sampler(net, eos_ids=[], pad_id=0)
    with pytest.raises(ConfigError, match="max_rows is -1"):
        Sampler(net, eos_ids=[1], pad_id=0, max_rows=-1)


# found by test: what the self-check and the cache must survive


@pytest.mark.parametrize("name", ["Jamba", "Lfm2"])
def test_a_hybrid_whose_rows_cannot_be_dropped_is_refused(name):
    # Its prefill honours the mask and decodes right, until the first finished row is dropped.
    import transformers

    own = {
        "Jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4, "num_experts": 2},
        "Lfm2": {"layer_types": ["conv", "full_attention"]},
    }
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(
        vocab_size=40, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2, **own[name],
    )  # fmt: skip
    hybrid = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with pytest.raises(UnsupportedModelError, match="padding self-check"):
        Sampler(hybrid, eos_ids=[30], pad_id=0).check()


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_gradient_checkpointing_does_not_take_the_cache_away(net, sampler):
    # In training mode transformers drops the KV cache of a checkpointed model.
    options = {"caps": [6, 9, 3], "generator": tiny.generator()}
    want = sampler.generate([[3, 4, 5]] * 3, **options)
    net.gradient_checkpointing_enable({"use_reentrant": False})
    net.train()
    sampler.check()
    got = sampler.generate([[3, 4, 5]] * 3, **{**options, "generator": tiny.generator()})
    assert torch.equal(got.completion_ids, want.completion_ids)
    sampler.resume(got, caps=12, generator=tiny.generator())
    assert net.training


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_break_amid_a_response_are_named(net, temperature):
    forward = net.forward

    def breaking(*args, **kwargs):
        out = forward(*args, **kwargs)
        if kwargs["input_ids"].shape[1] == 1 and int(kwargs["position_ids"].max()) == 4:
            out.logits[0, -1, 7] = float("nan")
        return out

    net.forward = breaking
    sampler = Sampler(net, eos_ids=[39], pad_id=0)
    with pytest.raises(TrainingError, match="NaN"):
        sampler.generate([[3, 4]] * 2, caps=8, generator=tiny.generator(), temperature=temperature)


def test_broken_weights_are_named(net, sampler):
    with torch.no_grad():
        net.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="NaN"):
        sampler.generate([[3, 4]], caps=2, generator=tiny.generator())
