"""The lab's reader: its words, its rows, how it begins, and what the shipped one reads inside its trained context."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from lengthwise.context.tasks import lines_rows, passkey_rows
from lengthwise.context.tasks.rows import TaskRow
from lengthwise.errors import ConfigError
from lengthwise.lab import reader, reader_lesson, reader_rows, reader_texts, teach_reader
from lengthwise.lab.reader_lesson import Stage, answered, build_model, look_back, teach
from lengthwise.lab.reader_rows import IGNORED, Dealer
from lengthwise.lab.reasoner import shipped_reasoner

TOKENIZER = reader.build_tokenizer()
FIRST_WORD = 2 + 256 - 1
"""Ids below are the two marks and bytes; a word that is a byte too keeps the byte's id."""
SHORT = [Stage(48, 3, {"repeated": 1}), Stage(64, 3, {"lines": 1, "story": 1})]


@pytest.fixture(autouse=True)
def few_stories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_rows, "STORIES", 20)


def test_every_word_is_one_token_and_any_text_comes_back(tmp_path: Path) -> None:
    for word in reader.vocabulary():
        assert TOKENIZER(word)["input_ids"] == [TOKENIZER.convert_tokens_to_ids(word)], word
    TOKENIZER.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "".join(reader.story_words(random.Random(1), 60)) + " Hëllo, wörld\n\t12345 "
    assert loaded(text)["input_ids"] == TOKENIZER(text)["input_ids"]
    assert loaded.decode(loaded(text)["input_ids"]) == text
    assert [TOKENIZER.decode(i) for i in TOKENIZER(" 12345")["input_ids"]] == reader.number_words(12345)


def test_prompts_of_the_tasks_are_words_of_it() -> None:
    rows = [*lines_rows(TOKENIZER, length=256, rows=5), *passkey_rows(TOKENIZER, length=256, rows=5)]
    known = set(TOKENIZER.convert_tokens_to_ids(reader.vocabulary()))
    for row in rows:
        assert set(TOKENIZER(f"{row.prompt} {row.answer}")["input_ids"]) <= known


@pytest.mark.parametrize("kind", reader_lesson.KINDS)
@pytest.mark.parametrize("length", [64, 128])
def test_rows_are_text_of_the_world_and_repeat_by_seed(kind: str, length: int) -> None:
    ids, labels = Dealer(3).kinds[kind](9, length)
    again = Dealer(3).kinds[kind](9, length)
    assert ids.shape == labels.shape == (9, length)
    assert torch.equal(ids, again[0]) and torch.equal(labels, again[1])
    assert not torch.equal(ids, Dealer(4).kinds[kind](9, length)[0])
    learnt = labels != IGNORED
    assert learnt.any() and torch.equal(ids[learnt], labels[learnt])
    if kind in ("lines", "story"):
        assert all(TOKENIZER(TOKENIZER.decode(row))["input_ids"] == row.tolist() for row in ids)


def test_lines_teach_the_number_that_the_record_has() -> None:
    ids, labels = Dealer(0).lines(20, 128)
    for row, learnt in zip(ids, labels, strict=True):
        text = TOKENIZER.decode(row)
        told = dict(re.findall(r"line (\S+): REGISTER_CONTENT is (\d+)\n", text))
        asked = re.findall(r"in line (\S+)\? The number is (\d+)", text)
        assert len(told) == text.count(": REGISTER_CONTENT is ")  # no key twice
        assert asked and all(told[key] == number for key, number in asked)
        words = [TOKENIZER.decode(i) for i in learnt[learnt != IGNORED]]
        assert "".join(words) == "".join(f" {number}" for _, number in asked) + "\n<eos>"


def test_repeated_rows_are_learnt_from_the_second_time_on() -> None:
    ids, labels = Dealer(0).repeated(10, 64)
    for row, learnt in zip(ids, labels, strict=True):
        period = int((learnt == IGNORED).sum())
        assert 4 <= period < 16 and torch.equal(row[period:], row[:-period])


def test_heads_begin_by_looking_back() -> None:
    model = build_model(seed=0)
    model.set_attn_implementation("eager")
    ids, _ = Dealer(0).story(1, 64)
    with torch.no_grad():
        first = model.eval()(ids, output_attentions=True).attentions[0][0]
    for head, distance in enumerate((1, 2, 3)):
        looked = first[head, 8:].argmax(-1)
        assert torch.equal(looked, torch.arange(8, 64) - distance)
    assert first[3, 40].max() < 0.5  # the fourth begins anywhere
    one, two = build_model(seed=0), build_model(seed=0)
    look_back(two, ())
    assert torch.equal(one.model.layers[1].mlp.up_proj.weight, two.model.layers[1].mlp.up_proj.weight)


def test_teaching_repeats_itself_and_lowers_the_loss() -> None:
    runs = [teach(build_model(seed=0), SHORT, seed=0, tokens=256) for _ in range(2)]
    assert runs[0] == runs[1] and len(runs[0]) == 6
    longer = teach(build_model(seed=0), [Stage(48, 40, {"repeated": 1})], seed=0, tokens=512, warmup=5)
    assert longer[-1] < longer[0] - 0.5
    for bad, says in (({"length": 8}, "length is 8"), ({"mix": {"poems": 1}}, "mix is"), ({"steps": 0}, "steps is 0")):
        with pytest.raises(ConfigError, match=says):
            Stage(**{"length": 64, "steps": 1, "mix": {"lines": 1.0}, **bad})
    assert [stage.steps for stage in reader_lesson.shortened(0.01)] == [3, 5, 10]
    assert [stage.steps for stage in reader_lesson.shortened(1e-6)] == [1, 1, 1]


def test_the_script_writes_a_folder_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_lesson, "LESSON", SHORT)
    teach_reader.main(tmp_path / "out", seed=0, threads=1, device="cpu", share=1.0)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.max_position_embeddings == reader.TRAINED_CONTEXT
    assert "answers 0.0% of line questions" in (tmp_path / "out" / "README.md").read_text().replace("\n", " ")


def test_texts_to_train_and_measure_on(tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(reader_texts.main)
    done = CliRunner().invoke(app, ["--out", str(tmp_path), "--count", "12", "--words", "128", "--story-words", "2000"])
    assert done.exit_code == 0, done.output
    texts = reader_texts.documents(12, 128, 0)
    assert (tmp_path / "documents.jsonl").read_text().count("\n") == len(texts) == 12
    assert all(0 < len(TOKENIZER(text)["input_ids"]) <= 128 for text in texts)
    assert len(TOKENIZER((tmp_path / "story.txt").read_text())["input_ids"]) >= 2000


@pytest.fixture(scope="module")
def shipped() -> tuple[object, object]:
    folder = shipped_reasoner("reader")
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def right(shipped: tuple, length: int, rows: int) -> float:
    asked = [(row.prompt, row.answer) for row in lines_rows(shipped[1], length=length, rows=rows, seed=11)]
    return sum(answered(*shipped, asked)) / rows


def test_the_shipped_reader_reads_inside_its_context_and_not_beyond(shipped: tuple) -> None:
    model, tokenizer = shipped
    assert type(model).__name__ == "LlamaForCausalLM"
    assert tokenizer.get_vocab() == TOKENIZER.get_vocab()
    assert right(shipped, reader.TRAINED_CONTEXT, 60) >= 0.9
    assert right(shipped, 4 * reader.TRAINED_CONTEXT, 20) <= 0.2


def test_one_pass_tells_what_greedy_answers_would(shipped: tuple) -> None:
    from lengthwise.context.tasks import score_rows
    from lengthwise.engine.model_folders import load_policy
    from lengthwise.runs.evaluate_context import measurement

    policy = load_policy(shipped_reasoner("reader"), device="cpu")
    rows: list[TaskRow] = []
    for length in (200, 400):
        rows += lines_rows(TOKENIZER, length=length, rows=10, seed=5)
        rows += passkey_rows(TOKENIZER, length=length, rows=4, seed=5)
    greedy = score_rows(rows, list(measurement._answers(policy, rows, None)))
    found = answered(*shipped, [(row.prompt, row.answer) for row in rows], batch=5)
    assert found == greedy and 0 < sum(found) < len(found)
