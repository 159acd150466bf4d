"""What a chat model wrote, as servers and tools hand it on: choices with messages, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lengthwise.logs.readers.log_row import UnusableError
from lengthwise.logs.readers.names import THINKING
from lengthwise.logs.readers.response_ends import End, end_of
from lengthwise.logs.readers.row_values import at, count_of, list_at, message_text, text_of

SUM_NOTE = "the usage of several choices is their sum; a tokenizer counts each"
TOKENS = ("usage.completion_tokens", "usage.output_tokens")
THOUGHT = (
    "usage.completion_tokens_details.reasoning_tokens", "usage.output_tokens_details.reasoning_tokens",
    "usage.reasoning_tokens",
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """One choice. ``num_tokens`` and ``reasoning_tokens``: None where only the sum of all is known (``shared``)."""

    place: int
    text: str
    thinking: str | None
    end: End
    reason: str | None
    num_tokens: int | None
    reasoning_tokens: int | None
    shared: int | None
    notes: tuple[str, ...] = ()


def choices_in(output: Mapping[str, object]) -> Iterator[Choice]:
    """The choices of one output: of chats (``message``) and of plain completions (``text``).

    Raises `UnusableError` where there is none.
    """
    choices = list_at(output, "choices")
    if not choices:
        raise UnusableError("no choices", f"the model's output has {', '.join(map(str, output)) or 'nothing'}")
    tokens, thought = (_first_count(output, names) for names in (TOKENS, THOUGHT))
    alone = len(choices) == 1
    for place, choice in enumerate(choices):
        text, thinking = _written(choice)
        end, reason = end_of(at(choice, "finish_reason") or at(choice, "stop_reason"))
        yield Choice(
            place, text, thinking, end, reason, tokens if alone else None,
            thought if alone and not (thought == 0 and thinking) else None,  # vLLM 0.32 says 0 beside its thinking
            None if alone else tokens, () if alone or tokens is None else (SUM_NOTE,),
        )  # fmt: skip


def _written(choice: object) -> tuple[str, str | None]:
    """Text and thinking of a choice; thinking may stand in parts of the content, or in a field beside it."""
    content = at(choice, "message.content")
    if content is None and (text := text_of(at(choice, "text"), "text")) is not None:
        return text, None
    if content is None and at(choice, "message") is None:
        raise UnusableError("a choice without a message or text", f"it is {str(choice)[:40]!r}")
    text, thinking = message_text(content)
    return text, thinking or thinking_beside(at(choice, "message"))


def thinking_beside(message: object) -> str | None:
    """The thinking that a message has in a field of its own; two fields that differ are unusable."""
    fields = {name: value for name in THINKING if isinstance(value := at(message, name), str) and value.strip()}
    first = next(iter(fields), None)
    if first is None:
        return None
    for name, value in fields.items():
        if value.split() != fields[first].split():
            raise UnusableError(f"{first} and {name} hold two kinds of thinking", "name one by --reasoning-column")
    return text_of(fields[first], first)


def _first_count(output: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    return next((count for name in names if (count := count_of(at(output, name), name)) is not None), None)
