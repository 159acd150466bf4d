"""One rich row of each format of logs that is read: what tests and harnesses make wrong."""

from __future__ import annotations

from typing import Any

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
"""Format -> a row with everything in it that its reader looks at."""
