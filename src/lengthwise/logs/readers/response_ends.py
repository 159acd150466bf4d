"""Why a response ended, from the words of servers and tools."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class End(StrEnum):
    """How a response ended; a reason that nobody knows is `UNKNOWN`, never a reason to drop a row."""

    FINISHED = "finished"
    TOOL = "asks a tool"
    CUT = "cut"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def finished(self) -> bool | None:
        """Whether the model ended by itself; None where that is not known."""
        return None if self is End.UNKNOWN else self in (End.FINISHED, End.TOOL)


WORDS: Mapping[End, tuple[str, ...]] = {
    End.FINISHED: ("stop", "eos", "eos_token", "stop_sequence", "end_turn", "completed", "complete"),
    End.TOOL: ("tool_calls", "tool_use", "function_call", "pause_turn"),
    End.CUT: (
        "length", "max_tokens", "max_length", "model_length", "max_output_tokens", "incomplete",
        "model_context_window_exceeded",
    ),
    End.REFUSED: ("content_filter", "safety", "refusal", "recitation"),
    End.FAILED: ("abort", "cancelled", "error", "insufficient_system_resource"),
}  # fmt: skip
"""In lower case, with _ for -."""
_ENDS = {word: end for end, words in WORDS.items() for word in words}


def end_of(value: object) -> tuple[End, str | None]:
    """How a response ended, and the log's own word: of a reason, of ``finished`` (true or false), or of an object
    with a ``type`` (SGLang).

    Anything else, None included, is unknown.
    """
    if isinstance(value, Mapping):
        value = value.get("type")
    if isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1)):
        return (End.FINISHED if value else End.CUT), None
    if not isinstance(value, str) or not value.strip():
        return End.UNKNOWN, None
    word = value.strip().casefold().replace("-", "_")
    if word in ("true", "false"):
        return (End.FINISHED if word == "true" else End.CUT), None
    return _ENDS.get(word, End.UNKNOWN), value.strip()
