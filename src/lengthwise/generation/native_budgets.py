"""Thinking budgets that a server keeps by itself: the field that each server reads, and a trial that it is obeyed.

A server passes over a field that it does not know without a word, so that a budget is in force only once one long
thinking was seen to be cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from lengthwise.config.groups.sampling import ServerKind
from lengthwise.errors import EndpointError
from lengthwise.generation.response_log import Completion
from lengthwise.grading.prompt_contract import PromptContract
from lengthwise.grading.thinking_marks import KINDS, split_thinking

CONTROL_PROBLEM = (
    "Find the number of ordered triples (a, b, c) of positive integers with a + b + c = 60 for which a*b*c is "
    "divisible by 2310. Check every case twice."
)
CONTROL_BUDGET, CONTROL_LIMIT, CONTROL_CAP = 128, 256, 640
"""The budget of the trial, the thinking tokens above which it is not kept, and the most tokens of the trial."""
TWICE, LITTLE = CONTROL_LIMIT // CONTROL_BUDGET, 16
"""Thinking of more than so many budgets, and of more than a few tokens, was not cut by one."""
OWNERS: Mapping[str, ServerKind] = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp"}
"""What servers give as the owner of their models."""
STARTED_WITH: Mapping[ServerKind, str] = {
    "vllm": "--reasoning-parser NAME or --reasoning-config JSON",
    "sglang": "--reasoning-parser NAME and --enable-strict-thinking",
    "llama.cpp": "a build that reads the field, --jinja, and a model whose template thinks",
}
"""What each server must be started with to keep a budget."""


@dataclass(frozen=True)
class Control:
    """A trial of a native budget: one hard problem at `CONTROL_BUDGET`.

    ``fields``: what the request said. ``thinking_tokens``: of the response; with less than half of the budget it ended
    by itself, and nothing is known. ``counted``: whether the server or a tokenizer counted them, else they are the
    share of the thinking in the characters.
    """

    server: ServerKind
    fields: Mapping[str, object]
    budget: int
    thinking_tokens: int
    response_tokens: int
    counted: bool

    @property
    def shown(self) -> bool:
        """Whether there was thinking to be cut."""
        return 2 * self.thinking_tokens >= self.budget

    def to_dict(self) -> dict[str, object]:
        """Ready for JSON."""
        return {**asdict(self), "fields": dict(self.fields)}

    def words(self) -> str:
        """What came of it, as a note."""
        about = "" if self.counted else "about "
        tried = f"native budget: a hard problem at {self.budget} was tried first ({self.server})"
        found = f"{tried} and thought about for {about}{self.thinking_tokens} tokens"
        return found if self.shown else f"{found}, too few to be cut, so whether budgets are kept is not known"


def budget_fields(kind: ServerKind, budget: int) -> dict[str, object]:
    """The fields of a request that set a thinking budget.

    vLLM reads ``thinking_token_budget`` at the top; inside ``chat_template_kwargs`` it is passed over. llama.cpp has
    had two names for one thing.
    """
    if kind == "vllm":
        return {"thinking_token_budget": budget}
    if kind == "sglang":
        return {"custom_params": {"thinking_budget": budget}}
    return {"thinking_budget_tokens": budget, "reasoning_budget_tokens": budget}


def recognised(owners: Sequence[str], asked: ServerKind | None, base: str) -> ServerKind:
    """What a server is: as the settings say, else as the owner of its models does.

    Raises:
        EndpointError: neither tells.
    """
    if asked is not None:
        return asked
    found = next((OWNERS[owner] for owner in owners if owner in OWNERS), None)
    if found is None:
        said = ", ".join(map(repr, dict.fromkeys(owners))) or "nobody"
        raise EndpointError(
            f"endpoint {base}: what server this is, and so which field sets a native budget, is not known (its models "
            f"are owned by {said}); give --server-kind vllm, sglang or llama.cpp, or --budget, which needs no server's "
            "help"
        )
    return found


def checked(control: Control, base: str) -> Control:
    """The trial itself, where the budget was kept or nothing is known.

    Raises:
        EndpointError: the thinking went on far beyond the budget.
    """
    if control.thinking_tokens > CONTROL_LIMIT:
        raise EndpointError(
            f"endpoint {base}: native_budget is not in force: a problem at a budget of {control.budget} "
            f"({', '.join(control.fields)}) was thought about for {control.thinking_tokens} tokens; start the server "
            f"({control.server}) with {STARTED_WITH[control.server]}, or give --budget, which needs no server's help"
        )
    return control


def thinking_text(text: str, reasoning: str | None, contract: PromptContract) -> str:
    """The thinking of a response, given apart or between its marks; all of it where it never closes."""
    return reasoning or split_thinking(text, contract.think_kinds or KINDS, begins=contract.think_close is not None)[0]


def thinking_tokens(tokens: int, text: str, reasoning: str | None, contract: PromptContract) -> int:
    """About how many of a response's tokens are thinking: its share of the characters."""
    thinking = thinking_text(text, reasoning, contract)
    return round(tokens * len(thinking) / max(1, len(text) + len(reasoning or "")))


def broken_budget(budget: int, responses: Sequence[Completion], contract: PromptContract) -> str | None:
    """What the responses show of a budget that was not kept, whatever the trial did; None where they show nothing."""
    limit = max(TWICE * budget, LITTLE)
    lengths = [thinking_tokens(one.num_tokens, one.text, one.reasoning, contract) for one in responses]
    beyond = [tokens for tokens in lengths if tokens > limit]
    if not beyond:
        return None
    return (
        f"the server did not keep native_budget {budget}: {len(beyond)} of {len(lengths)} responses think for more "
        f"than {limit} tokens, the longest for about {max(beyond)}; these are not numbers under that budget"
    )
