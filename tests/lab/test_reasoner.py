"""The lab's reasoner: tokenizer, model, teaching, and the shipped folder."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lengthwise.errors import ConfigError
from lengthwise.lab import chains, reasoner
from lengthwise.lab.chains import Chain
from lengthwise.lab.lessons import chains_lesson, terse_lesson

LESSON, SHORT = chains_lesson(), chains_lesson(levels=(1,))


def test_one_token_per_word_and_back():
    tokenizer = reasoner.build_tokenizer(chains.VOCABULARY)
    rng = random.Random(0)
    for level in chains.LEVELS:
        chain = chains.draw(rng, level)
        words = [*chain.words, *chains.worked_solution(rng, chain), chains.EOS]
        ids = tokenizer("".join(words))["input_ids"]
        assert ids == [chains.VOCABULARY.index(word) for word in words]
        assert tokenizer.decode(ids).replace(" ", "") == "".join(words)
    assert len(tokenizer) == len(chains.VOCABULARY)
    assert tokenizer.eos_token_id == chains.VOCABULARY.index(chains.EOS)
    assert tokenizer.pad_token_id == chains.VOCABULARY.index(chains.PAD)


def test_the_model_is_about_600_000_parameters_and_its_seed_decides_it():
    one, again, other = (reasoner.build_model(LESSON, seed=seed) for seed in (0, 0, 1))
    assert 500_000 < sum(p.numel() for p in one.parameters()) < 700_000
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert one.config.tie_word_embeddings


def test_it_is_saved_and_loaded_as_an_ordinary_folder(tmp_path):
    model = reasoner.build_model(LESSON, seed=0, layers=1, hidden=16).eval()
    model.save_pretrained(tmp_path)
    reasoner.build_tokenizer(chains.VOCABULARY).save_pretrained(tmp_path)
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = torch.tensor([tokenizer("7+5-3?")["input_ids"]])
    # AutoTokenizer gives Qwen2 models a pre-tokenizer of its own that parts digits; still one token per word
    assert ids.tolist() == [[chains.VOCABULARY.index(word) for word in Chain(7, (5, -3)).words]]
    assert tokenizer("7+15=22;")["input_ids"] == [chains.VOCABULARY.index(w) for w in ("7", "+", "15", "=", "22", ";")]
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


def test_teaching_repeats_itself():
    losses = [
        reasoner.teach(reasoner.build_model(LESSON, seed=0, layers=1, hidden=16), SHORT, steps=3, seed=0, rows=4)
        for _ in range(2)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": 1, "rows": 0}])
def test_teaching_needs_a_step_and_a_row(options):
    with pytest.raises(ConfigError, match="must be at least 1"):
        reasoner.teach(reasoner.build_model(LESSON, seed=0, layers=1, hidden=16), LESSON, seed=0, **options)


def test_teaching_reports_every_step_and_leaves_evaluation_mode():
    model, told = reasoner.build_model(LESSON, seed=0, layers=1, hidden=16), []
    losses = reasoner.teach(model, SHORT, steps=2, seed=0, rows=2, report=lambda *args: told.append(args))
    assert told == [(1, losses[0]), (2, losses[1])]
    assert not model.training


@pytest.mark.slow
def test_a_short_retraining_learns():
    model = reasoner.build_model(LESSON, seed=0, layers=2, hidden=64)
    lesson = chains_lesson(levels=(1, 2))
    losses = reasoner.teach(model, lesson, steps=60, seed=0, rows=32, peak_lr=5e-3, warmup=10)
    # 109 words are ln 109 = 4.69 nats at the start. Knowing the grammar and the numbers of the problem alone leaves
    # little but the sums: about 1.36 nats after 60 steps.
    assert losses[0] == pytest.approx(4.69, abs=0.3)
    assert sum(losses[-5:]) / 5 < 1.6


@pytest.mark.skipif(
    not (reasoner.shipped_reasoner() / "model.safetensors").is_file(), reason="not shipped in this tree"
)
def test_the_shipped_reasoner_works_its_chains_twice():
    folder = reasoner.shipped_reasoner()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    found = chains.problems(20, split="test", seed=0, levels=(3, 4))
    right = passes = 0
    for chain in found:
        ids = torch.tensor([tokenizer(chain.problem)["input_ids"]])
        out = model.generate(ids, max_new_tokens=160, do_sample=False)[0, ids.shape[1] :]
        text = tokenizer.decode(out, skip_special_tokens=True)
        right += text.rpartition(chains.ANSWER)[2].strip() == chain.answer
        passes += 1 + text.count(chains.CHECK)
    assert right >= 16
    assert passes / len(found) >= 2


def test_the_terse_reasoner_is_the_verbose_one_taught_on():
    long = AutoModelForCausalLM.from_pretrained(reasoner.shipped_reasoner())
    first = reasoner.first_model(terse_lesson(), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(long.parameters(), first.parameters(), strict=True))
    short = AutoModelForCausalLM.from_pretrained(reasoner.shipped_reasoner("terse")).eval()
    assert [p.shape for p in short.parameters()] == [p.shape for p in long.parameters()]
    moved = [
        float((a - b).detach().norm() / a.detach().norm())
        for a, b in zip(long.parameters(), short.parameters(), strict=True)
    ]
    # close enough to the verbose weights to be averaged with them
    assert 0 < max(moved) < 1
    tokenizer = AutoTokenizer.from_pretrained(reasoner.shipped_reasoner("terse"))
    for chain in chains.problems(6, split="test", seed=1, levels=(2, 3)):
        ids = torch.tensor([tokenizer(chain.problem)["input_ids"]])
        out = short.generate(ids, max_new_tokens=60, do_sample=False)[0, ids.shape[1] :]
        assert len(out) == chain.oracle_tokens
