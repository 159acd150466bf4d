"""Problems made ready for a model: ids, answers, room for the cap, stop strings, and the verdict on token ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lengthwise.errors import ConfigError, InputError
from lengthwise.grading.graders import Verdict
from lengthwise.grading.problems import Problems, prepare
from lengthwise.grading.prompt_contract import preset, resolve
from lengthwise.grading.worker_pool import SafeGrader

WORDS = ["<pad>", "<eos>", "<unk>", "<end>", *"7+59-2?=", "12", "13", "A:", "STOP", "HERE", "\u00e9"]
ROWS = [{"problem": "7 + 5 ?", "answer": "12"}, {"problem": "9 - 2 ?", "answer": 7}]


def words() -> PreTrainedTokenizerFast:
    """A word-level tokenizer that splits at blanks; an id is a position in `WORDS`."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", extra_special_tokens=["<end>"]
    )


def ids(text: str) -> list[int]:
    return [WORDS.index(word) for word in text.split()]


def problems(rows: Sequence[Mapping[str, Any]] = ROWS, *, grader: Any = None, **changes: Any) -> Problems:
    tokenizer = words()
    contract = resolve(preset("lab", **changes), tokenizer)
    return prepare(rows, contract, tokenizer, cap=8, positions=32, source="here", grader=grader)


# ---- prepare ------------------------------------------------------------------------------------------------


def test_prepare_renders_every_row_in_order():
    made = problems()
    assert len(made) == 2
    assert made.texts == ["7 + 5 ?", "9 - 2 ?"]
    assert made.prompts == [ids("7 + 5 ?"), ids("9 - 2 ?")]
    assert made.answers == ["12", "7"]
    assert made.categories is None


@pytest.mark.parametrize(("given", "kept"), [("p7", "p7"), (7, "7"), (0, "0")])
def test_a_problem_id_of_the_row_is_kept_zero_too(given, kept):
    assert problems([{**ROWS[0], "problem_id": given}]).ids == [kept]


@pytest.mark.parametrize("missing", [{}, {"problem_id": None}, {"problem_id": ""}])
def test_without_one_the_id_is_a_stable_hash_of_the_prompt(missing):
    first, second = problems([{**row, **missing} for row in ROWS]).ids
    assert (first, second) == tuple(problems().ids)
    assert first != second
    assert len(first) == 16
    # another answer or place is the same problem, another prompt is not
    assert problems([ROWS[1], {**ROWS[0], "answer": "13"}]).ids == [second, first]
    assert problems(template="{problem} =").ids != [first, second]


def test_categories_only_when_every_row_has_one():
    levels = [{**row, "level": level} for row, level in zip(ROWS, (3, "hard"), strict=True)]
    assert problems(levels).categories == ["3", "hard"]
    assert problems([levels[0], ROWS[1]]).categories is None


@pytest.mark.parametrize(("positions", "fits"), [(12, True), (11, False), (None, True)])
def test_a_prompt_must_leave_room_for_the_cap(positions, fits):
    # 4 prompt tokens and a cap of 8 need 12 positions
    tokenizer = words()
    options: dict[str, Any] = {"cap": 8, "positions": positions, "source": "here"}
    contract = resolve(preset("lab"), tokenizer)
    if fits:
        assert len(prepare(ROWS, contract, tokenizer, **options)) == 2
        return
    with pytest.raises(InputError, match=r"here row 1: the prompt has 4 tokens and the cap is 8, .* allows 11"):
        prepare(ROWS, contract, tokenizer, **options)


def test_what_cannot_be_prepared_is_named_with_its_row():
    with pytest.raises(InputError, match="here holds no rows"):
        problems([])
    with pytest.raises(InputError, match="here row 2: answer is '', which holds no answer"):
        problems([ROWS[0], {**ROWS[1], "answer": ""}])
    with pytest.raises(InputError, match="here row 2: no column 'answer'"):
        problems([ROWS[0], {"problem": "9 - 2 ?"}])
    with pytest.raises(InputError, match="here row 2: no column 'problem'"):
        problems([ROWS[0], {"answer": "7"}])
    with pytest.raises(InputError, match="here row 2: the tokenizer cannot write token 1"):
        problems([ROWS[0], {"problem": "eight", "answer": "8"}])


def test_a_fault_of_the_contract_stays_a_config_error():
    tokenizer = words()
    tokenizer.chat_template = "<think>"
    contract = preset("lab", chat_template=True)
    with pytest.raises(ConfigError, match="opens a thinking section"):
        prepare(ROWS, contract, tokenizer, cap=8, positions=32, source="here")


def test_a_name_that_comes_again_is_numbered():
    given = [{**ROWS[0], "problem_id": name} for name in ("a", "b", "a", "a#2", "a")]
    assert problems(given).ids == ["a", "b", "a#2", "a#2#2", "a#3"]
    assert len(set(problems([ROWS[0]] * 3).ids)) == 3


def test_problems_without_a_readable_reference_are_left_out_when_asked_for():
    rows = [{"problem": "7 ?", "answer": ""}, ROWS[0], {"problem": "9 ?"}, ROWS[1]]
    tokenizer = words()
    contract = resolve(preset("lab"), tokenizer)
    options: dict[str, Any] = {"cap": 8, "positions": 32, "source": "here"}
    made = prepare(rows, contract, tokenizer, **options, skip_unreadable=True)
    assert (made.answers, made.numbers) == (["12", "7"], [2, 4])
    assert [text.partition(":")[0] for text in made.left_out] == ["here row 1", "here row 3"]
    assert "no column 'answer'" in made.left_out[1]
    with pytest.raises(InputError, match="here row 1: answer is ''"):
        prepare(rows[:1], contract, tokenizer, **options, skip_unreadable=True)
    # A problem that cannot be asked is an error all the same, named by its place in the file.
    with pytest.raises(InputError, match="here row 3: the tokenizer cannot write token 1"):
        prepare([*rows[:2], {"problem": "eight", "answer": "8"}], contract, tokenizer, **options, skip_unreadable=True)


def test_prompts_may_be_made_under_another_contract_than_responses_are_read_under():
    tokenizer = words()
    contract = resolve(preset("lab"), tokenizer)
    asking = dataclasses.replace(contract, template="{problem} =")
    made = prepare(ROWS, contract, tokenizer, cap=8, positions=32, source="here", asking=asking)
    assert made.texts == ["7 + 5 ? =", "9 - 2 ? ="]
    assert made.contract is contract
    assert made.ids == problems().ids


def test_a_part_is_the_same_problems_fewer_of_them():
    made = problems([{**row, "level": 2} for row in ROWS])
    part = made.part(1, 5)
    assert (part.ids, part.prompts, part.answers, part.categories) == (
        made.ids[1:], made.prompts[1:], made.answers[1:], ["2"]
    )  # fmt: skip
    assert part.grader is made.grader
    assert part.fingerprint() != made.fingerprint() == problems([{**row, "level": 2} for row in ROWS]).fingerprint()


# ---- reading responses --------------------------------------------------------------------------------------


def test_the_text_of_a_response_leaves_one_eos_out():
    made = problems(eos_ids=(3,))
    assert made.contract.eos_ids == (1, 3)
    assert made.response_text(ids("A: 12 <eos>")) == "A: 12"
    assert made.response_text(ids("A: 12 <end>")) == "A: 12"
    assert made.response_text(ids("A: 12")) == "A: 12"
    assert made.response_text(ids("A: 12 <end> <eos>")) == "A: 12 <end>"
    assert made.response_text([]) == made.response_text([1]) == ""


def test_the_verdict_is_on_the_text_whether_or_not_it_was_cut():
    made = problems()
    assert made.is_right(0, ids("7 + 5 = 12 A: 12 <eos>"))
    assert made.is_right(0, ids("A: 12"))
    assert not made.is_right(1, ids("A: 12"))
    assert not made.is_right(0, ids("A: 13 <eos>"))
    assert not made.is_right(0, [])


def test_an_own_grader_replaces_the_contracts_and_sees_text():
    seen = []

    def grader(response: str, answer: str) -> Verdict:
        seen.append((response, answer))
        return Verdict(True, None, "mine")

    made = problems(grader=grader)
    assert made.is_right(1, ids("A: 13 <eos>")) is True
    assert seen == [("A: 13", "7")]


def test_what_records_call_the_grader():
    assert problems().grader_name == "lengthwise-lab/1"
    assert problems(grader=lambda response, answer: True).grader_name == "<lambda>"
    assert problems(grader="operator:eq").grader_name == "operator:eq"
    with pytest.raises(ConfigError, match="no module 'nowhere'"):
        problems(grader="nowhere:f")


def test_a_hostile_response_cannot_hang_training(tmp_path, monkeypatch):
    (tmp_path / "hanging.py").write_text(
        "def grade(response, answer):\n    while '13' in response: pass\n    return True\n"
    )
    monkeypatch.chdir(tmp_path)
    made = problems(grader="hanging:grade")
    quick = dataclasses.replace(made, grader=SafeGrader(made.contract, grader="hanging:grade", seconds=0.5))
    assert not quick.is_right(0, ids("A: 13 <eos>"))
    assert quick.is_right(0, ids("A: 12 <eos>"))
    assert quick.grader.timeouts == 1
    quick.grader.close()


def test_a_batch_is_graded_side_by_side_as_each_by_itself(tmp_path, monkeypatch):
    (tmp_path / "hanging.py").write_text(
        "def grade(response, answer):\n    while '13' in response: pass\n    return answer in response\n"
    )
    monkeypatch.chdir(tmp_path)
    made = problems(grader="hanging:grade")
    grader = SafeGrader(made.contract, grader="hanging:grade", seconds=0.5, workers=2)
    quick = dataclasses.replace(made, grader=grader)
    responses = [ids(text) for text in ("A: 12 <eos>", "A: 13 <eos>", "A: 7 <eos>", "A: 7 <eos>")]
    task = quick.task()
    assert task.grade_all is not None
    assert task.grade_all([0, 0, 1, 0], responses) == [True, False, True, False]
    assert grader.timeouts == 1
    grader.close()
    plain = problems()  # the lab's comparison of texts, in this process
    assert plain.responses_are_right([0, 0, 1, 0], responses) == [True, False, True, False]


def test_a_task_has_the_same_prompts_and_verdicts():
    made = problems(stop_strings=("STOP",))
    task = made.task()
    assert task.prompts == made.prompts
    assert task.grade(0, ids("A: 12 STOP <eos>"))
    assert not task.grade(0, ids("A: 13 STOP <eos>"))
    assert task.world is not None
    assert task.world([0, 0, 1], torch.Generator()) is not None


# ---- stop strings -------------------------------------------------------------------------------------------


def test_without_stop_strings_there_is_no_world():
    assert problems().stops([0, 1], torch.Generator()) is None


@pytest.mark.parametrize("stop", ["STOP", "STOP HERE", "P H", "=", "\u00e9"])
def test_the_world_writes_eos_once_a_stop_string_stands_there_and_never_before(stop):
    end = problems(stop_strings=(stop,)).stops([0], torch.Generator())
    assert end is not None
    # far longer than the window that is decoded
    written = ids("12 " * 60 + "A: 13 - STOP HERE = \u00e9")
    texts = [" ".join(WORDS[token] for token in written[:length]) for length in range(len(written) + 1)]
    for length, text in enumerate(texts):
        if stop in text:
            # the sampler asks after every token, so only the first time counts
            assert end(0, written[:length]) == 1
            assert stop not in texts[length - 1]
            return
        assert end(0, written[:length]) is None, text
    raise AssertionError("the stop string never stood there")


def test_any_of_several_stop_strings_ends_a_response_and_rows_do_not_mix():
    end = problems(stop_strings=("STOP HERE", "=")).stops([0, 1], torch.Generator())
    assert end is not None
    assert end(0, ids("7 =")) == 1
    assert end(1, ids("7 STOP")) is None
    assert end(1, ids("7 STOP HERE")) == 1


def test_what_follows_a_stop_string_is_not_read():
    made = problems(stop_strings=("STOP", "?"))
    assert made.response_text(ids("A: 12 STOP A: 13 <eos>")) == "A: 12 "
    assert made.response_text(ids("A: 12 ? 13 STOP <eos>")) == "A: 12 "
    assert made.is_right(0, ids("A: 12 STOP A: 13 <eos>"))
    assert not made.is_right(0, ids("A: 13 STOP A: 12"))
