"""Whatever stands in a row where something else should: a row is read or left out with a reason, and nothing breaks."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from lengthwise.data import Defect
from lengthwise.errors import LengthwiseError
from lengthwise.logs.readers import LogRow, recognise

ODD: list[Any] = [
    None, 0, -1, 1.5, True, "", "x", "7", [], {}, [None], [[]], [{}], {"x": 1}, {"0": {}}, float("nan"), float("inf"),
    10**400, "attachment://x", "\ud83d",
]  # fmt: skip

USAGE = {"completion_tokens": 9, "output_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 3}}
CHOICE = {"message": {"role": "assistant", "content": "7", "reasoning": "so"}, "finish_reason": "stop"}
PARTS = [{"type": "reasoning", "reasoning": "so", "redacted": True, "summary": "s"}, {"type": "text", "text": "7"}]
OF_PARTS = {"choices": [{"message": {"content": PARTS}, "stop_reason": "stop"}], "usage": USAGE}
ASKED = [{"role": "user", "content": "3+4?"}]
RICH: dict[str, dict[str, Any]] = {
    "evalscope": {"index": 0, "model": "m", "model_output": OF_PARTS, "messages": ASKED, "target": ["7", "8"],
                  "sample_score": {"score": {"value": {"acc": 1.0}, "prediction": "7"}, "group_id": 0}},
    "lighteval": {"doc": {"query": "q", "choices": ["7"], "gold_index": [0], "id": "1", "task_name": "t|0",
                          "generation_size": 9}, "metric": {"em": 1},
                  "model_response": {"text": ["7", "8"], "output_tokens": [[1], [2]], "reasonings": ["so", None]}},
    "lm-eval": {"doc_id": 0, "doc": {"question": "q"}, "target": "7", "arguments": {"gen_args_0": {"arg_0": "q"}},
                "resps": [["7"]], "filter": "none", "metrics": ["acc"], "acc": 1.0},
    "nemo-rl": {"content": ["<|im_start|>assistant\n7"], "rewards": [1.0], "idx": 0, "token_loss_mask": [[0, 1]]},
    "openai-batch": {"custom_id": "a", "response": {"status_code": 200, "body": {"choices": [CHOICE], "usage": USAGE}},
                     "error": None},
    "openai-chat": {"messages": ASKED, "answer": 7, "problem_id": 1, "response": {"choices": [CHOICE], "usage": USAGE}},
    "opencompass": {"origin_prompt": [{"role": "HUMAN", "prompt": "q"}], "prediction": ["7"], "gold": ["7"],
                    "res_length": [3]},
    "openr1": {"problem": "q", "generations": ["7", "8"], "finish_reasons": ["stop", None], "correct": [True, False],
               "answer": "7", "uuid": "u", "level": 3},
    "sglang": {"text": "7", "question": "q", "meta_info": {"finish_reason": {"type": "stop"}, "completion_tokens": 3}},
    "trl": {"step": 1, "prompt": ASKED, "completion": [CHOICE["message"]], "advantage": 0.0, "right": 1.0},
    "verl": {"input": "q", "output": "7", "gts": "7", "score": 1.0, "step": 1, "acc": True},
    "flat": {"response": "7", "prediction": "7", "answer": "7", "gold": 7, "usage": USAGE, "reasoning": "so",
             "problem": "q", "prompt": ASKED, "id": 3, "sample": 1, "finished": True, "finish_reason": "stop"},
    "inspect": {"id": 1, "epoch": 1, "input": ASKED, "target": ["7", "8"], "output": OF_PARTS, "error": None,
                "scores": {"match": {"value": "C"}}, "attachments": {"x": "y"}, "messages": ASKED},
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value inside of a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inside for place in places(one, (*path, key)))]


def changed(row: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    row = copy.deepcopy(row)
    for _ in range(1 + rng.randrange(3)):
        *way, last = rng.choice(places(row)[1:] or [("x",)])
        inner: Any = row
        for key in way:
            inner = inner[key]
        if isinstance(inner, dict) and rng.random() < 0.3:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(rng.choice(ODD))
    return row


@pytest.mark.parametrize("name", RICH)
def test_nothing_breaks(tmp_path: Path, name: str) -> None:
    rng = random.Random(name)
    for attempt in range(15):
        rows = [changed(RICH[name], rng) for _ in range(2)]
        path = tmp_path / f"{attempt}.jsonl"
        whole = {"eval": {"task": "t"}, "plan": {}, "samples": rows}
        path.write_text(json.dumps(whole) if name == "inspect" else "".join(json.dumps(row) + "\n" for row in rows))
        try:
            items = [item for _, item in recognise(path).rows()]
        except LengthwiseError as error:
            assert "\n" not in str(error)
            continue
        for item in items:
            assert isinstance(item, LogRow | Defect)
            if isinstance(item, LogRow):
                check(item)


def check(row: LogRow) -> None:
    """All values are of the kinds that a row promises."""
    for text in (row.response, row.reasoning, row.problem, row.problem_id, row.category, row.finish_reason):
        assert text is None or isinstance(text, str)
    for count in (row.num_tokens, row.reasoning_tokens, row.shared_tokens):
        assert count is None or (isinstance(count, int) and count >= 0)
    assert isinstance(row.response, str) and isinstance(row.sample, int | str | None)
    assert all(isinstance(one, float) for one in row.verdicts.values())
