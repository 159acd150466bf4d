"""How files/evalscope-1.14.1/ was made: pip install evalscope==1.14.1.

Usage, from the repository's root: python tests/logs/readers/make/evalscope_predictions.py OUT. evalscope's own mock
model answers three problems of its gsm8k task, two samples each, with thinking apart in one of them.
"""

from __future__ import annotations

import sys

from evalscope import TaskConfig, run_task
from evalscope.api.messages import ChatMessageAssistant, ContentReasoning, ContentText
from evalscope.api.model import ChatCompletionChoice, ModelOutput, ModelUsage


def output(content: object, stop: str, tokens: int, thought: int | None = None) -> ModelOutput:
    message = ChatMessageAssistant(content=content, model="mock", source="generate")
    usage = ModelUsage(input_tokens=20, output_tokens=tokens, total_tokens=20 + tokens, reasoning_tokens=thought)
    return ModelOutput(model="mock", choices=[ChatCompletionChoice(message=message, stop_reason=stop)], usage=usage)


def outputs() -> list[ModelOutput]:
    apart = [ContentReasoning(reasoning="3 and 4 more make 7."), ContentText(text="ANSWER: 7")]
    return [
        output(apart, "stop", 16, 10),
        output("3 + 4 = 8\nANSWER: 8", "stop", 12),
        output("12 - 5 = 7\nANSWER: 7", "stop", 12),
        output("Well, 12 less", "max_tokens", 5),
        output("<think>6 times 2</think>ANSWER: 12", "stop", 14),
        output("", "unknown", 0),
    ]


def main(out: str) -> None:
    run_task(
        TaskConfig(
            model="mock", eval_type="mock_llm", model_args={"custom_outputs": outputs()}, datasets=["gsm8k"],
            dataset_args={"gsm8k": {"local_path": "tests/logs/readers/make/problems", "few_shot_num": 0}},
            repeats=2, work_dir=out, no_timestamp=True, eval_batch_size=1,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
