"""How problems are asked and answers are read."""

from __future__ import annotations

import re
from typing import Literal

from lengthwise.config.definition import again, setting
from lengthwise.config.settings import Settings
from lengthwise.errors import ConfigError

Preset = Literal["lab", "gsm8k", "math", "aime"]
LogPreset = Literal["auto", "lab", "gsm8k", "math", "aime"]
Think = Literal["auto", "yes", "no", "marks"]
LogThink = Literal["auto", "yes", "no"]
PROBLEM, PROMPT = "{problem}", "{prompt}"
"""Where a template wants a problem, and where it wants a prompt."""
COLUMNS = (
    "response_column", "answer_column", "reasoning_column", "tokens_column", "reasoning_tokens_column",
    "finished_column", "problem_column", "problem_id_column", "sample_column", "category_column", "verdict_column",
)  # fmt: skip
"""Settings that say where a log has what."""


class AnswerOptions(Settings):
    """How answers are read out of responses."""

    panel = "Data and prompt"
    several: Literal["all", "any"] = setting(
        "all", help="What a list as the right answer holds: all, parts of one answer, or any, alternatives."
    )
    answer_pattern: str | None = setting(
        None, help="Regular expression with one group, the answer; its last match counts.", metavar="regex"
    )
    grader: str | None = setting(
        None, help="Your own grader, module:function.", default_text="the preset's", metavar="module:function"
    )
    problem_column: str | None = setting(
        None, help="Column of the problem.", default_text="the preset's", metavar="name"
    )  # fmt: skip
    answer_column: str | None = setting(
        None, help="Column of the right answer.", default_text="the preset's", metavar="name"
    )

    def check(self) -> None:
        """A pattern that is a regular expression with one group."""
        super().check()
        if self.answer_pattern is None:
            return
        try:
            found = re.compile(self.answer_pattern).groups
        except re.error as error:
            raise ConfigError(
                f"answer_pattern is {self.answer_pattern!r}, which is no regular expression ({error}); for example "
                "'Result: (.+)'"
            ) from error
        if found != 1:
            raise ConfigError(
                f"answer_pattern is {self.answer_pattern!r} with {found} groups; it needs exactly one, the answer; "
                "put (...) around the answer, and write other groups as (?:...)"
            )


class PromptOptions(AnswerOptions):
    """How problems are asked and answers are read."""

    preset: Preset = setting("math", help="Prompt contract: how problems are asked and answers are written.")
    think: Think = setting(
        "auto",
        help="Whether responses begin in their thinking; auto: template and vocabulary tell; marks: their own marks.",
    )
    prompt_template: str | None = setting(
        None, help="Prompt with {problem} in it.", default_text="the preset's", metavar="text"
    )  # fmt: skip
    system_prompt: str | None = setting(None, help="System prompt.", metavar="text")
    chat_template: bool | None = setting(
        None, help="Render through the tokenizer's chat template.", default_text="the preset's"
    )

    def check(self) -> None:
        """A template with one place for the problem."""
        super().check()
        if self.prompt_template is not None and self.prompt_template.count(PROBLEM) != 1:
            raise ConfigError(f"prompt_template is {self.prompt_template!r}; it must hold {PROBLEM} exactly once")


class LogAnswers(AnswerOptions):
    """How answers are read out of responses that exist already; `auto` tells by their own marks."""

    preset: LogPreset = again(PromptOptions, "preset", "auto", help="How answers are written; auto: their marks tell.")
    think: LogThink | None = again(
        PromptOptions, "think", None, help="Whether responses begin in their thinking; auto: their marks tell.",
        default_text="as the preset has it",
    )  # fmt: skip
    problem_column: str | None = again(AnswerOptions, "problem_column", default_text="the format's")
    answer_column: str | None = again(
        AnswerOptions, "answer_column", default_text="the format's",
        help="Column of the right answer, of --answers where that is given; or none.",
    )  # fmt: skip
    response_column: str | None = setting(
        None, help="Column of the response; a dotted path leads inside, as choices.0.message.content.",
        default_text="the format's", metavar="name",
    )  # fmt: skip
    reasoning_column: str | None = setting(
        None, help="Column of thinking given apart, or none.", default_text="the format's", metavar="name"
    )
    tokens_column: str | None = setting(
        None, help="Column of the response tokens, as usage.completion_tokens.", default_text="the format's",
        metavar="name",
    )  # fmt: skip
    reasoning_tokens_column: str | None = setting(
        None, help="Column of the tokens of thinking.", default_text="the format's", metavar="name"
    )
    finished_column: str | None = setting(
        None, help="Column that tells how the response ended.", default_text="the format's", metavar="name"
    )
    problem_id_column: str | None = setting(
        None, help="Column of the problem's name.", default_text="the format's", metavar="name"
    )
    sample_column: str | None = setting(
        None, help="Column that tells a problem's responses apart.", default_text="the format's", metavar="name"
    )
    category_column: str | None = setting(
        None, help="Column of the category.", default_text="the format's", metavar="name"
    )  # fmt: skip
    verdict_column: str | None = setting(
        None, help="The log's own verdict, which counts in place of ours: a column, or as the format names it.",
        metavar="name",
    )  # fmt: skip

    def check(self) -> None:
        """Names of columns that are some."""
        super().check()
        for option in COLUMNS:
            name = getattr(self, option)
            if name is not None and not name.strip():
                raise ConfigError(f"{option} is {name!r}; name a column of the log")
