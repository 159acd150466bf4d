"""How files/inspect-*/ was made: pip install inspect-ai; python tests/logs/readers/make/inspect_log.py OUT.

The tool's own mock model answers: with text, with reasoning parts, cut by the token limit, and with an error.
"""

from __future__ import annotations

import sys
from pathlib import Path

from inspect_ai import Epochs, Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.log import list_eval_logs, read_eval_log, write_eval_log
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ContentReasoning,
    ContentText,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.scorer import includes, match
from inspect_ai.solver import generate, system_message

LONG = "Let me count the pens one by one and add their prices, so 2 + 2 + 2 + 2 + 2 + 2 = 12. " * 4


def choice(content: str | list, stop: str, tokens: int, thinking: int | None = None) -> ModelOutput:
    message = ChatMessageAssistant(content=content, source="generate")
    usage = ModelUsage(input_tokens=20, output_tokens=tokens, total_tokens=20 + tokens, reasoning_tokens=thinking)
    made = ChatCompletionChoice(message=message, stop_reason=stop)
    return ModelOutput(model="mockllm/model", choices=[made], usage=usage)


def outputs() -> list[ModelOutput]:
    thought = [ContentReasoning(reasoning=LONG), ContentText(text="The answer is 12")]
    return [
        choice("3 + 4 = 7, so the answer is 7", "stop", 14),
        choice(thought, "stop", 110, 100),
        choice("Well, 3 + 4 is", "max_tokens", 6),
        choice("12", "unknown", 2),
        choice([ContentReasoning(reasoning="hm", redacted=False)], "model_length", 3, 3),
        choice(
            [ContentReasoning(reasoning="secret", summary="six times two", redacted=True), ContentText(text="12")],
            "stop",
            50,
            48,
        ),
    ]


def main(out: Path) -> None:
    data = [
        Sample(id="apples", input="Tom has 3 apples and buys 4 more. How many?", target="7", metadata={"level": 1}),
        Sample(id="pens", input="A pen costs 2 dollars. What do 6 pens cost?", target=["12", "twelve"]),
    ]
    solver, scorer = [system_message("Be short."), generate()], [match(numeric=True), includes()]
    task = Task(dataset=data, solver=solver, scorer=scorer, epochs=Epochs(3), name="sums")
    model = get_model("mockllm/model", custom_outputs=outputs())
    evaluate(task, model=model, log_dir=str(out), log_format="eval", display="none", max_samples=1, max_tasks=1)
    for info in list_eval_logs(str(out)):
        write_eval_log(read_eval_log(info), str(Path(out) / "sums.json"), format="json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
