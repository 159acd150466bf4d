"""The prompt contract that the options of a command choose, completed for one model or for a server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.config.groups.prompts import PromptOptions
from lengthwise.errors import ConfigError
from lengthwise.grading import think_auto
from lengthwise.grading.prompt_contract import PromptContract, preset, resolve
from lengthwise.lab.shipped_models import is_shipped
from lengthwise.pretrained import read_generation_config

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OF_THE_CONTRACT = ("answer_pattern", "problem_column", "answer_column", "system_prompt", "chat_template")
"""Options that are fields of a contract, under the same names."""


def chosen_contract(options: PromptOptions) -> PromptContract:
    """The preset with what was given changed; whether responses think is settled for one model, see below."""
    changes = {name: value for name in OF_THE_CONTRACT if (value := getattr(options, name)) is not None}
    changes["answers"] = options.several
    if options.prompt_template is not None:
        changes["template"] = options.prompt_template
    return preset(options.preset, **changes)


def contract_for_model(options: PromptOptions, folder: Path, tokenizer: PreTrainedTokenizerBase) -> PromptContract:
    """The contract completed for the model, or the tokenizer, in a folder.

    Raises:
        ConfigError: a chat template for one of the lab's models, or one that the tokenizer does not have; no EOS.
    """
    contract = chosen_contract(options)
    if contract.chat_template and is_shipped(folder):
        raise ConfigError(
            f"preset is {options.preset!r}, but the lab's models answer as the lab asks; give --preset lab"
        )
    return resolve(think_auto.decide(contract, tokenizer, options.think), tokenizer, read_generation_config(folder))


def contract_for_server(options: PromptOptions) -> PromptContract:
    """The contract for a server whose tokenizer is not at hand."""
    contract = chosen_contract(options)
    if options.think in (think_auto.NO, think_auto.MARKS):
        marks = options.think == think_auto.MARKS
        return dataclasses.replace(contract, think_prefix="", think_close=None, think_marks=marks)
    return think_auto.undecided(contract) if options.think == think_auto.AUTO else contract


def say_thinking(contract: PromptContract, tell: Callable[[str, Mapping[str, object]], None]) -> None:
    """Tell how responses think, where that was decided for the user: ("said", {"text"})."""
    if contract.think_reason is not None:
        tell("said", {"text": f"thinking: {contract.think_reason}"})
