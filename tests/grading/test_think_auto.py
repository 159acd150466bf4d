"""`--think auto`: the chat template and the vocabulary decide, both, and what they decided is said and recorded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from thinking_templates import (
    CLOSES,
    HYBRID,
    KIMI,
    ON_DEMAND,
    OPENS,
    OSS,
    PLAIN,
    SILENT,
    STRIPS,
    THINK,
    tokenizer,
)  # fmt: skip

from lengthwise.config.groups.prompts import PromptOptions
from lengthwise.errors import ConfigError
from lengthwise.grading.contract_choice import contract_for_model, contract_for_server
from lengthwise.grading.prompt_contract import PromptContract, preset, render, resolve
from lengthwise.grading.think_auto import as_rendered, decide, undecided


def decided(template: str | None, extra: list[str], think: str = "auto", **changes: Any) -> tuple[PromptContract, str]:
    """The contract that comes of it, and what is shown to the model."""
    made = tokenizer(template, extra)
    asked = preset("math", template="{problem}", **changes)
    contract = resolve(decide(asked, made, think), made)
    return contract, render(contract, made, {"problem": "7 + 5 ?"})[0]


AUTO = [
    # template, tokens of the vocabulary, what the prompt ends in, closing mark, words of the reason
    (PLAIN, [], "<bot> ", None, "neither chat template nor vocabulary knows any mark"),
    (PLAIN, THINK, "<bot> ", None, "the vocabulary knows <think>, the chat template does not"),
    (STRIPS, [], "<bot> ", None, "the chat template knows <think>, the vocabulary does not"),
    (STRIPS, ["<think>"], "<bot> ", None, "the chat template knows <think>, the vocabulary does not"),
    (STRIPS, THINK, "<bot> <think>\n", "</think>", "'<think>\\n' is pre-filled, which chat template and voc"),
    (OPENS, THINK, "<bot> <think>\n", "</think>", "the chat template opens it by itself (<think>)"),
    (OPENS, ["<think>"], "<bot> <think>\n", "</think>", "opens it by itself"),  # its own text is not foreign to it
    (OPENS.replace("<think>\n", "<thought>"), ["<thought>"], "<bot> <thought>", "</thought>", "by itself (<thought>)"),
    (CLOSES, THINK, "<bot> <think>\n\n</think>\n\n", None, "closes it before the response (</think>)"),
    (HYBRID, THINK, "<bot> <think>\n", "</think>", "both know"),
    (ON_DEMAND, THINK, "<bot> </think>", None, "closes it before the response"),
    (SILENT, THINK, "<bot> ", None, "the chat template has it switched off (enable_thinking)"),
    (KIMI, ["◁think▷", "◁/think▷"], "<bot> ◁think▷", "◁/think▷", "'◁think▷' is pre-filled"),
    (KIMI, THINK, "<bot> ", None, "the chat template knows ◁think▷, the vocabulary does not"),
    (OSS, ["<|channel|>", "<|message|>"], "analysis<|message|>", "<|channel|>final<|message|>", "both know"),
]


@pytest.mark.parametrize(("template", "extra", "ending", "closes", "why"), AUTO)
def test_template_and_vocabulary_decide(
    template: str, extra: list[str], ending: str, closes: str | None, why: str
) -> None:
    contract, text = decided(template, extra)
    assert text.endswith(ending)
    assert text.count("<think>") == ending.count("<think>")
    assert contract.think_close == closes
    assert why in str(contract.think_reason)
    assert contract.enable_thinking is None
    assert contract.think_marks == (closes is None)
    assert (contract.think_prefix == "") == (closes is None)
    assert ("--think yes" in str(contract.think_reason)) == (closes is None)
    assert PromptContract.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract


def test_without_a_chat_template_nothing_is_pre_filled() -> None:
    contract, text = decided(None, THINK, chat_template=False)
    assert (text, contract.think_close) == ("7 + 5 ?", None)
    assert "no chat template that could know" in str(contract.think_reason)
    # One that is there and not used tells what the model knows.
    assert decided(STRIPS, THINK, chat_template=False)[1] == "7 + 5 ?<think>\n"


YES_AND_NO = [
    # template, tokens, --think yes, --think no
    (PLAIN, THINK, "<bot> <think>\n", "<bot> "),
    (STRIPS, THINK, "<bot> <think>\n", "<bot> "),
    (OPENS, THINK, "<bot> <think>\n", None),
    (HYBRID, THINK, "<bot> <think>\n", "<bot> <think>\n\n</think>\n\n"),
    (ON_DEMAND, THINK, "<bot> <think>", "<bot> </think>"),
    (SILENT, THINK, "<bot> Think! <think>\n", "<bot> "),
    (KIMI, ["◁think▷", "◁/think▷"], "<bot> ◁think▷", "<bot> "),
]


@pytest.mark.parametrize(("template", "extra", "yes", "no"), YES_AND_NO)
def test_yes_and_no_are_obeyed_and_templates_told(template: str, extra: list[str], yes: str, no: str | None) -> None:
    extra = [*extra, "Think!"]
    contract, text = decided(template, extra, "yes")
    assert text.endswith(yes)
    assert contract.think_close is not None
    assert contract.think_reason is None
    told = template in (HYBRID, ON_DEMAND, SILENT)
    assert contract.enable_thinking is (True if told else None)
    if no is None:
        with pytest.raises(ConfigError, match="opens a thinking section but the prompt contract 'math' has none"):
            decided(template, extra, "no")
        return
    contract, text = decided(template, extra, "no")
    assert text.endswith(no)
    assert (contract.think_close, contract.think_marks, contract.think_reason) == (None, False, None)
    assert contract.enable_thinking is (False if told else None)


@pytest.mark.parametrize("template", [PLAIN, STRIPS, HYBRID, CLOSES])
def test_marks_leave_prompts_as_the_template_makes_them(template: str) -> None:
    contract, text = decided(template, THINK, "marks")
    assert text == tokenizer(template, THINK).apply_chat_template(
        [{"role": "user", "content": "7 + 5 ?"}], tokenize=False, add_generation_prompt=True
    )
    assert (contract.think_close, contract.think_marks, contract.enable_thinking) == (None, True, None)


def test_yes_to_a_model_that_knows_no_marks_takes_the_presets() -> None:
    contract = decide(preset("math"), tokenizer(PLAIN, []), "yes")
    assert contract == preset("math")


def test_a_contract_without_thinking_has_nothing_to_decide() -> None:
    for think in ("auto", "yes", "no", "marks"):
        assert decide(preset("lab"), tokenizer(STRIPS, THINK), think) == preset("lab")
    assert undecided(preset("lab")) == preset("lab")


def test_a_template_that_refuses_a_role_is_one_line() -> None:
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + PLAIN
    contract = preset("math", system_prompt="Be brief.")
    with pytest.raises(ConfigError, match=r"refuses a conversation of system and user \(no system role\)"):
        decide(contract, tokenizer(refuses, THINK))
    assert decide(preset("math"), tokenizer(refuses, THINK)).think_close is None


def test_several_templates_by_name_are_all_looked_at() -> None:
    several: Any = {"default": PLAIN, "tool_use": STRIPS}
    assert decided(several, THINK)[0].think_close == "</think>"


def test_generate_goes_on_from_what_the_template_opens() -> None:
    contract = PromptContract("generate", chat_template=True)
    for template, ending in ((OPENS, "<think>\n"), (STRIPS, "<bot> "), (CLOSES, "</think>\n\n")):
        made = tokenizer(template, THINK)
        assert render(as_rendered(contract, made), made, {"problem": "7 + 5 ?"})[0].endswith(ending)
    plain = dataclasses.replace(contract, chat_template=False)
    assert as_rendered(plain, tokenizer(OPENS, THINK)) == plain


# ---- what is asked for -----------------------------------------------------------------------------------------


def test_what_a_user_asks_becomes_the_contract(tmp_path: Path) -> None:
    made = tokenizer(STRIPS, THINK)
    assert contract_for_model(PromptOptions(), tmp_path, made).think_prefix == "<think>\n"
    assert contract_for_model(PromptOptions(think="no"), tmp_path, made).think_prefix == ""
    own = PromptOptions(prompt_template="Q: {problem}", system_prompt="Be kind.", chat_template=False, several="any")
    changed = contract_for_model(own, tmp_path, made)
    assert (changed.template, changed.system_prompt) == ("Q: {problem}", "Be kind.")
    assert (changed.chat_template, changed.answers, changed.problem_column) == (False, "any", "problem")


def test_a_server_without_a_tokenizer_is_read_by_marks() -> None:
    contract = contract_for_server(PromptOptions())
    assert (contract.think_prefix, contract.think_close, contract.think_marks) == ("", None, True)
    assert contract_for_server(PromptOptions(think="yes")) == preset("math")
    assert contract_for_server(PromptOptions(think="no")).think_marks is False
    marks = contract_for_server(PromptOptions(think="marks"))
    assert marks == dataclasses.replace(contract, think_reason=None)
    assert contract_for_server(PromptOptions(preset="lab")) == preset("lab")
