"""Flags that several commands have: a group is a dataclass, and a command takes the whole of it as one parameter."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from lengthwise.errors import ConfigError

if TYPE_CHECKING:
    from lengthwise.config.groups.prompts import PromptOptions

Flag = typer.Option
Threads = Annotated[
    int | None,
    Flag(min=1, help="Threads of the CPU. Default: 1 for models below 20 million parameters, else one a core."),
]


THINK_HELP = "Whether responses begin in their thinking. auto: template and vocabulary tell; marks: their own marks."


def think_mode(think: str | None, no_think: bool) -> str:
    """What `--think` and `--no-think` say together.

    Raises:
        ConfigError: they contradict each other.
    """
    if no_think and think not in (None, "no"):
        raise ConfigError(f"--think {think} and --no-think exclude each other; give one of them")
    return "no" if no_think else think or "auto"


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Spread the parameters of a command that are groups into one flag per field, in their place."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}
    spread: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            found = [(name, parameter.default, hints[name])]
        else:
            types = get_type_hints(groups[name], include_extras=True)
            found = [(field.name, field.default, types[field.name]) for field in fields(groups[name])]
        spread += [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d, annotation=t) for n, d, t in found]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        made = {name: group(**{f.name: given.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        command(**given, **made)

    run.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in spread}
    return run


@dataclass(frozen=True)
class ContractFlags:
    """How problems are asked and responses are read."""

    preset: Annotated[str, Flag(help="Prompt contract: lab, gsm8k, math or aime.")] = "math"
    prompt_template: Annotated[str | None, Flag(help="Prompt with {problem} in it.")] = None
    answer_pattern: Annotated[
        str | None, Flag(help="Regular expression with one group, the answer; its last match counts.")
    ] = None
    answers: Annotated[
        str | None,
        Flag(help="A list as the right answer holds: all, parts of one answer, or any, alternatives. Default: all."),
    ] = None
    system_prompt: Annotated[str | None, Flag(help="System prompt.")] = None
    chat_template: Annotated[
        bool | None, Flag("--chat-template/--no-chat-template", help="Render through the chat template.")
    ] = None
    think: Annotated[str | None, Flag(metavar="auto|yes|no|marks", help=THINK_HELP)] = None
    no_think: Annotated[bool, Flag("--no-think", help="The same as --think no.")] = False
    problem_column: Annotated[str | None, Flag(help="Column of the problem.")] = None
    answer_column: Annotated[str | None, Flag(help="Column of the answer.")] = None
    grader: Annotated[str | None, Flag(help="Your own grader, module:function.")] = None

    def request(self) -> PromptOptions:
        """The same as settings."""
        from lengthwise.config.groups.prompts import PromptOptions

        given = {name: value for name, value in asdict(self).items() if value is not None and name != "no_think"}
        return PromptOptions(**given | {"think": think_mode(self.think, self.no_think)})


@dataclass(frozen=True)
class MachineFlags:
    """What the model runs on."""

    device: Annotated[str, Flag(help="auto, cpu, cuda, cuda:1 ...; one device.")] = "auto"
    dtype: Annotated[str, Flag(help="float32, bfloat16 or float16 for computing.")] = "float32"
    trust_remote_code: Annotated[bool, Flag("--trust-remote-code", help="Run Python code from the folder.")] = False
