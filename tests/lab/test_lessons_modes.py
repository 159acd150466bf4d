"""Reasoners with two modes: what they are taught, and what the shipped ones do."""

from __future__ import annotations

import itertools

import pytest
import torch

from lengthwise.errors import ConfigError
from lengthwise.lab import chains, reasoner, witnesses
from lengthwise.lab.lessons import LESSONS, modes_lesson
from lengthwise.lab.words import ANSWER, ASK_LONG, ASK_SHORT, EOS, MODES, OPEN_LONG, OPEN_SHORT


def taught(world: str, count: int = 400):
    return list(itertools.islice(modes_lesson(world).examples(0), count))


@pytest.mark.parametrize("world", ["chains", "witnesses"])
def test_a_named_mode_is_followed_and_bare_prompts_are_opened_by_a_coin(world):
    bare = named = 0
    for example in taught(world):
        opener = example.response[0]
        assert opener in (OPEN_LONG, OPEN_SHORT) and example.taught[0]
        if example.prompt[0] in (ASK_LONG, ASK_SHORT):
            named += 1
            assert (example.prompt[0] == ASK_LONG) == (opener == OPEN_LONG)
        else:
            bare += opener == OPEN_LONG
    # four standard errors
    assert abs(named / 400 - 0.5) < 0.1
    assert abs(bare / (400 - named) - 0.5) < 0.15


def test_a_short_answer_in_chains_is_given_at_once_and_is_right():
    for example in taught("chains"):
        if example.response[0] == OPEN_SHORT:
            problem = [word for word in example.prompt if word not in MODES]
            assert example.response[1] == ANSWER and example.response[3:] == [EOS]
            # the prompt is arithmetic as Python reads it
            assert int(example.response[2]) == eval("".join(problem[:-1]))
        else:
            assert chains.CHECK in example.response


def test_a_short_answer_in_witnesses_takes_one_reading_at_most():
    short = [e for e in taught("witnesses") if e.response[0] == OPEN_SHORT]
    for example in short:
        words = example.response
        asked = words.count(witnesses.ASK)
        assert asked <= 1 and words[-1] == EOS and (not asked or words[-2] == words[2])
        assert [w for w, t in zip(words, example.taught, strict=True) if not t] == ([words[2]] if asked else [])
    assert sum(e.response.count(witnesses.ASK) for e in short) > 0.9 * len(short)


def test_a_world_without_modes_is_named():
    with pytest.raises(ConfigError, match="search"):
        modes_lesson("search")


@pytest.mark.parametrize("world", ["chains", "witnesses"])
def test_the_words_of_the_modes_come_last_and_the_rest_keeps_its_weights(world):
    from transformers import AutoModelForCausalLM

    lesson = LESSONS[f"{world}-modes"]()
    shipped = AutoModelForCausalLM.from_pretrained(reasoner.shipped_reasoner(world)).get_input_embeddings().weight
    model = reasoner.first_model(lesson, seed=0)
    assert model.config.vocab_size == len(lesson.vocabulary) == len(shipped) + len(MODES)
    assert torch.equal(model.get_input_embeddings().weight[: len(shipped)], shipped)
    tokenizer = reasoner.build_tokenizer(lesson.vocabulary)
    ids = tokenizer(f"{ASK_LONG}\n7+5?" if world == "chains" else f"{ASK_LONG}\nq.70?")["input_ids"]
    # a line's end after the instruction is no token
    assert ids[0] == lesson.vocabulary.index(ASK_LONG) and len(ids) == 5


@pytest.mark.parametrize("world", ["chains", "witnesses"])
def test_the_shipped_reasoner_follows_the_mode_it_is_asked_for(world):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = reasoner.shipped_reasoner(f"{world}-modes")
    if not (folder / "model.safetensors").is_file():
        pytest.skip("not shipped in this tree")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    problems = ["7+5?", "3+4-2+6?"] if world == "chains" else ["q.60?", "q.97?"]
    for words, opener in ((ASK_LONG, OPEN_LONG), (ASK_SHORT, OPEN_SHORT)):
        for problem in problems:
            ids = torch.tensor([tokenizer(f"{words}\n{problem}")["input_ids"]])
            first = int(model(input_ids=ids).logits[0, -1].argmax())
            assert first == tokenizer.convert_tokens_to_ids(opener)
