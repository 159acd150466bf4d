"""The prompt contract: rows to tokens, answers from rows, responses split at their thinking."""

from __future__ import annotations

import dataclasses
import itertools
import json
from fractions import Fraction

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import GenerationConfig, PreTrainedTokenizerFast

from lengthwise.errors import ConfigError, InputError
from lengthwise.grading.answer_extraction.answer_text import as_number
from lengthwise.grading.prompt_contract import (
    PRESETS,
    PromptContract,
    gold_answer,
    preset,
    render,
    resolve,
    split_response,
)

WORDS = ["<pad>", "<eos>", "<unk>", "<bos>", "<user>", "<bot>", "<think>", "</think>", "?", "+", "7", "5", "12", "Add:"]
IDS = {word: index for index, word in enumerate(WORDS)}
CHAT = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }} {% else %}<user> {{ m.content }} "
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<bot> {% endif %}"
)
ROW = {"problem": "7 + 5 ?", "answer": "12"}


def tokenizer(*, chat: str | None = None, ending: str | None = None, **special) -> PreTrainedTokenizerFast:
    """One id per word; `ending` is appended to plain text, as some tokenizers do."""
    core = Tokenizer(models.WordLevel(IDS, unk_token=special.get("unk_token", "<unk>")))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ending is not None:
        core.post_processor = processors.TemplateProcessing(single=ending, special_tokens=list(IDS.items()))
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>", **special}
    made = PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **names)
    made.chat_template = chat
    return made


def ids(text: str) -> list[int]:
    return [IDS[word] for word in text.split()]


# ---- the contract itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    contract = preset(name)
    assert PromptContract.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract
    assert contract.name == name


def test_the_lab_preset_asks_the_problem_and_nothing_else():
    lab = preset("lab")
    assert (lab.template, lab.chat_template, lab.think_close, lab.think_prefix) == ("{problem}", False, None, "")
    assert (lab.problem_column, lab.answer_column, lab.answer_format) == ("problem", "answer", "lab")
    assert preset("gsm8k").problem_column == "question"


def test_fingerprint_changes_with_every_field_but_the_name():
    contract = preset("math")
    changes = {
        "chat_template": False,
        "system_prompt": "Be brief.",
        "template": "Q: {problem}",
        "think_prefix": "<think>\nSo ",
        "think_close": "</thought>",
        "think_marks": True,
        "enable_thinking": True,
        "stop_strings": ("Q:",),
        "eos_ids": (1,),
        "problem_column": "q",
        "answer_column": "a",
        "answer_format": "auto",
        "answer_before_close": True,
        "answer_pattern": "Result: (.+)",
        "answers": "any",
    }
    assert {*changes, "name", "think_reason"} == {field.name for field in dataclasses.fields(PromptContract)}
    prints = [dataclasses.replace(contract, **{name: value}).fingerprint() for name, value in changes.items()]
    assert len({contract.fingerprint(), *prints}) == len(changes) + 1
    assert dataclasses.replace(contract, name="mine", think_reason="so").fingerprint() == contract.fingerprint()
    assert len(contract.fingerprint()) == 16


def test_contracts_without_an_answer_pattern_keep_the_fingerprint_of_older_records():
    # as written in records of version 0.1, before the field was there
    assert preset("lab").fingerprint() == "5d0ac4081f6eb59a"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: preset("gsm8"), "unknown prompt contract 'gsm8'; did you mean gsm8k"),
        (lambda: preset("lab", tempalte="x"), "unknown field of a prompt contract 'tempalte'; did you mean template"),
        (lambda: PromptContract.from_dict({"name": "x", "stop": []}), "unknown field of a prompt contract 'stop'"),
        (lambda: PromptContract.from_dict({}), 'needs a "name"'),
        (lambda: preset("lab", template="no slot"), r"must hold \{problem\} exactly once"),
        (lambda: preset("lab", template="{problem} {problem}"), "exactly once"),
        (lambda: preset("lab", answer_format="number"), "unknown answer_format 'number'"),
        (lambda: preset("lab", think_prefix="<think>"), "a pre-filled thinking needs the text that ends it"),
        (lambda: preset("lab", think_close=""), "think_close ''"),
        (lambda: preset("lab", stop_strings=("",)), "an empty text would stop every response"),
        (lambda: preset("lab", answer_pattern="Result: (.+"), "which is no regular expression"),
        (lambda: preset("lab", answer_pattern=3), "which is no regular expression"),
        (lambda: preset("lab", answer_pattern="Result: .+"), "with 0 groups; it needs exactly one"),
        (lambda: preset("lab", answer_pattern="(a)(b)"), r"with 2 groups; .* write other groups as \(\?:"),
    ],
)
def test_an_impossible_contract_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


# ---- resolve ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, (1,)),
        (GenerationConfig(), (1,)),
        (GenerationConfig(eos_token_id=5), (1, 5)),
        (GenerationConfig(eos_token_id=[7, 5, 1]), (1, 5, 7)),
    ],
)
def test_all_eos_ids_are_collected(config, expected):
    resolved = resolve(preset("lab"), tokenizer(), config)
    assert resolved.eos_ids == expected
    assert resolve(resolved, tokenizer(), config) == resolved


def test_eos_ids_of_the_contract_stay():
    assert resolve(preset("lab", eos_ids=(9,)), tokenizer()).eos_ids == (1, 9)


def test_resolve_refuses_no_eos_and_no_chat_template():
    with pytest.raises(ConfigError, match="no response could end"):
        resolve(preset("lab"), tokenizer(eos_token=None))
    with pytest.raises(ConfigError, match=r"wants a chat template .* chat_template=False"):
        resolve(preset("math"), tokenizer())
    assert resolve(preset("math"), tokenizer(chat=CHAT)).eos_ids == (1,)


# ---- render -------------------------------------------------------------------------------------------------


def test_plain_prompt():
    contract = resolve(preset("lab"), tokenizer())
    assert render(contract, tokenizer(), ROW) == ("7 + 5 ?", ids("7 + 5 ?"))


def test_plain_prompt_with_system_prompt_template_and_thinking():
    contract = preset(
        "lab", system_prompt="Add:", template="7 {problem} ", think_prefix="<think>\n", think_close="</think>"
    )
    text, tokens = render(contract, tokenizer(), ROW)
    assert text == "Add:\n\n7 7 + 5 ? <think>\n"
    assert tokens == ids("Add: 7 7 + 5 ? <think>")


def test_braces_in_template_and_problem_are_text():
    contract = preset("lab", template=r"{problem} \boxed{}")
    latex = tokenizer(unk_token=None, pad_token=None)
    text, _ = render(contract, latex, {"problem": r"7 \frac{1}{2} {problem}"})
    assert text == r"7 \frac{1}{2} {problem} \boxed{}"


def test_a_bos_stays_and_an_appended_eos_goes():
    made = tokenizer(ending="<bos> $A <eos>", bos_token="<bos>")
    contract = resolve(preset("lab"), made)
    assert render(contract, made, ROW)[1] == ids("<bos> 7 + 5 ?")


def test_chat_prompt_adds_no_special_tokens_of_its_own():
    made = tokenizer(chat=CHAT, ending="<bos> $A <eos>", bos_token="<bos>")
    contract = resolve(preset("lab", chat_template=True, system_prompt="Add:"), made)
    text, tokens = render(contract, made, ROW)
    assert text == "Add: <user> 7 + 5 ? <bot> "
    assert tokens == ids(text)


@pytest.mark.parametrize(
    ("template", "prefix", "ending"),
    [
        (CHAT, "<think>\n", "<bot> <think>\n"),
        (CHAT.replace("<bot> ", "<bot> <think>\n"), "<think>\n", "<bot> <think>\n"),
        (CHAT.replace("<bot> ", "<bot> <think>\n"), "<think>\n7 ", "<bot> <think>\n7 "),
        (CHAT.replace("<bot> ", "<bot> <think>\n"), "", "<bot> <think>\n"),
    ],
    ids=["added", "already there", "lengthened", "template only"],
)
def test_the_thinking_is_opened_exactly_once(template, prefix, ending):
    made = tokenizer(chat=template)
    contract = preset("lab", chat_template=True, think_prefix=prefix, think_close="</think>")
    text, tokens = render(contract, made, ROW)
    assert text.endswith(ending)
    assert tokens.count(IDS["<think>"]) == 1


def test_a_template_that_thinks_against_the_contract_is_refused():
    made = tokenizer(chat=CHAT.replace("<bot> ", "<bot> <think>\n"))
    with pytest.raises(ConfigError, match="opens a thinking section but the prompt contract 'lab' has none"):
        render(preset("lab", chat_template=True), made, ROW)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "7", "answer": "7"}, "no column 'problem' in the row; it has question, answer"),
        ({"problem": " "}, "problem is ' '; a problem is text"),
        ({"problem": 7}, "problem is 7"),
        ({"problem": "7 + eleven ?"}, r"cannot write token 3 of the prompt '7 \+ eleven \?': it becomes '<unk>'"),
    ],
)
def test_a_bad_row_is_refused(row, message):
    with pytest.raises(InputError, match=message):
        render(preset("lab"), tokenizer(), row)


def test_unknown_words_written_as_padding_are_refused_too():
    made = tokenizer(unk_token="<pad>")
    with pytest.raises(InputError, match="it becomes '<pad>'"):
        render(preset("lab"), made, {"problem": "7 + eleven ?"})


# ---- gold answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        ("gsm8k", "16 - 3 - 4 = 9\n9 * 2 = 18\n#### 18", "18"),
        ("gsm8k", "#### 2,125", "2125"),
        ("gsm8k", "#### -5", "-5"),
        ("gsm8k", "#### $18.00", "18"),
        ("gsm8k", "1,000.5", "1000.5"),
        ("gsm8k", 18.0, "18"),
        ("gsm8k", 18, "18"),
        ("aime", "025", "25"),
        ("aime", 25, "25"),
        ("aime", ["204"], "204"),
        ("math", r"So $x = \boxed{\frac{3}{4}}$.", r"\frac{3}{4}"),
        ("math", r"\boxed{1} and then \boxed{\{2\}}", r"\{2\}"),
        ("math", r" \frac{3}{4} ", r"\frac{3}{4}"),
        ("math", 0.5, "0.5"),
        ("math", Fraction(3, 4), "3/4"),
        ("math", ["1", "2"], "1, 2"),
        ("auto", "work\n#### 2,125", "2125"),
        ("auto", "#### many", "many"),
        ("auto", r"\boxed{7}", "7"),
        ("auto", -3, "-3"),
        ("lab", " 12 ", "12"),
        ("lab", 12, "12"),
        ("lab", "#### 12", "#### 12"),
    ],
)
def test_gold_answers(form, value, expected):
    assert gold_answer(preset("lab", answer_format=form), {"answer": value}) == expected


@pytest.mark.parametrize(
    ("form", "value", "message"),
    [
        ("math", None, "answer is None; wanted text, a finite number or a list"),
        ("math", True, "answer is True"),
        ("math", float("nan"), "answer is nan"),
        ("math", float("inf"), "answer is inf"),
        ("math", {"a": 1}, "wanted text"),
        ("math", "", "which holds no answer"),
        ("math", [], "which holds no answer"),
        ("math", "work ####", "which holds no answer"),
        ("gsm8k", "eighteen", "wants a number, perhaps after '####'"),
        ("aime", r"\frac{", "wants a number"),
    ],
)
def test_an_unreadable_gold_is_refused(form, value, message):
    with pytest.raises(InputError, match=message):
        gold_answer(preset("lab", answer_format=form), {"answer": value})


def test_gold_without_its_column():
    with pytest.raises(InputError, match="no column 'answer' in the row; it has problem"):
        gold_answer(preset("lab"), {"problem": "7"})


def test_reading_a_gold_answer_twice_changes_nothing():
    for form, value in itertools.product(("gsm8k", "aime", "math", "auto"), ("#### 2,125", "007", 3.0, "1/2")):
        contract = preset("lab", answer_format=form)
        once = gold_answer(contract, {"answer": value})
        assert gold_answer(contract, {"answer": once}) == once


# ---- split --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b</think>c", ("a b", "c", True)),
        ("<think>\na b</think>c", ("\na b", "c", True)),
        ("a b", ("a b", "", False)),
        ("", ("", "", False)),
        ("a</think>", ("a", "", True)),
        ("a</think>b<think>c", ("ac", "", False)),
        ("a</think>b<think>c</think>d", ("ac", "bd", True)),
        ("a</think>b</think>c", ("ab", "c", True)),
        ("a</think>b<think>c</think>d</think>e", ("abcd", "e", True)),
    ],
)
def test_split_with_thinking(text, expected):
    assert split_response(preset("math"), text) == expected


def test_split_without_thinking_is_all_answer():
    assert split_response(preset("lab"), "a</think>b") == ("", "a</think>b", True)


def test_split_with_a_mark_of_another_kind_never_reopens():
    contract = preset("lab", think_close="[end]")
    assert contract.think_open is None
    assert split_response(contract, "a[end]b<end>c") == ("a", "b<end>c", True)


def test_split_of_a_response_that_opens_and_closes_for_ever():
    # 17 MB: quadratic work would never end
    thinking, answer, closed = split_response(preset("math"), "x</think>y<think>" * 1_000_000)
    assert (len(thinking), answer, closed) == (1_000_000, "", False)
    for mark, wanted in (("x</think>", (1_000_000, "", True)), ("x<think>", (1_000_000, "", False))):
        thinking, answer, closed = split_response(preset("math"), mark * 1_000_000)
        assert (len(thinking), answer, closed) == wanted


# ---- reading numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("18", 18),
        ("+18.", 18),
        ("- 5", -5),
        ("−5", -5),
        ("2,125", 2125),
        ("1,234,567.5", Fraction(2469135, 2)),
        (r"11,\!111", 11111),
        ("1{,}234", 1234),
        (".5", Fraction(1, 2)),
        ("3/4", Fraction(3, 4)),
        ("$18$", 18),
        (r"\$18", 18),
        (r"\(18\)", 18),
        ("0.1", Fraction(1, 10)),
        ("1 2", None),
        ("12,34", None),
        ("1/0", None),
        ("x", None),
        ("-", None),
        ("", None),
        ("18 eggs", None),
        ("1" * 5000, None),  # Python refuses to read it
    ],
)
def test_plain_numbers_are_read_exactly(text, expected):
    assert as_number(text) == expected
