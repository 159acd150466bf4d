"""Grade what a server has answered already: its log of requests and responses, and a file of right answers.

    python examples/grade_server_logs.py

A line of such a log holds one request and the chat completion that came back, as proxies in front of vLLM, SGLang or
a hosted API keep them; it knows no right answers. For yours:

    lengthwise grade requests.jsonl --answers answers.jsonl --tokenizer MODEL

Expect about 76 % right at 79 tokens a response, of which 58 % come after the right answer, in a quarter of a minute.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lengthwise.config.commands import EvaluateSettings, GradeSettings
from lengthwise.logs.log_grading import grade_log
from lengthwise.logs.log_numbers import GradeSummary
from lengthwise.reporting.grade_report import text_page
from lengthwise.runs import evaluate_model


def logged(row: dict[str, object]) -> dict[str, object]:
    """A response of the lab's reasoner as a line of a server's log."""
    return {
        "request": {"model": "chains", "messages": [{"role": "user", "content": row["problem"]}]},
        "response": {
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": row["response"]},
                    "finish_reason": "stop" if row["finished"] else "length",
                }
            ],
            "usage": {"completion_tokens": row["num_tokens"]},
        },
    }


def write(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    """Make a log, grade it, and say what it says."""
    folder = Path(tempfile.mkdtemp(prefix="server-logs-"))
    evaluate_model(
        EvaluateSettings.from_dict(
            {"model": "lab:chains", "data": "lab:chains", "preset": "lab", "cap": 260, "limit": 150, "samples": 2,
             "out": str(folder / "drawn")}
        )
    )  # fmt: skip
    rows = [json.loads(line) for line in (folder / "drawn" / "responses.jsonl").read_text().splitlines()]
    write(folder / "requests.jsonl", map(logged, rows))
    answers = {row["problem"]: row["answer"] for row in rows}
    write(folder / "answers.jsonl", ({"problem": problem, "answer": answers[problem]} for problem in answers))

    found = grade_log(
        GradeSettings.from_dict(
            {"log": [str(folder / "requests.jsonl")], "answers": str(folder / "answers.jsonl"), "preset": "lab",
             "cap": 260, "tokenizer": "lab:chains"}
        )
    )  # fmt: skip
    assert isinstance(found, GradeSummary), "there are right answers"
    print(*text_page(found), sep="\n")


if __name__ == "__main__":
    main()
