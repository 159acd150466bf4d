"""One log in many forms and formats, none of which may change what is read of it."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORDS = ("so", "7", "\\boxed{12}", "wait,", "ü", "🙂", '"', "a,b", "\n", "</think>", "{", "##")
Rows = list[dict[str, Any]]


def made(seed: int) -> Rows:
    """Flat rows: some problems with some samples each, all columns filled."""
    rng = random.Random(seed)

    def words(most: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(1 + rng.randrange(most))) + " end"

    rows = []
    for problem in range(2 + rng.randrange(5)):
        for sample in range(1 + rng.randrange(4)):
            tokens = rng.randrange(2, 500)
            rows.append(
                {"problem_id": f"p{problem}", "problem": f"{problem}+1?", "answer": f"{problem + 1}", "sample": sample,
                 "response": words(30), "reasoning": words(20), "num_tokens": tokens, "reasoning_tokens": tokens // 2,
                 "finish_reason": rng.choice(["stop", "length", "content_filter", "odd"])}
            )  # fmt: skip
    return rows


def lines(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---- one log, many forms ---------------------------------------------------------------------------------------


def as_list(folder: Path, rows: Rows) -> Path:
    path = folder / "log.json"
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False))
    return path


def as_data(folder: Path, rows: Rows) -> Path:
    path = folder / "log.json"
    path.write_text(json.dumps({"model": "m", "rows": rows, "end": None}))
    return path


def as_csv(folder: Path, rows: Rows) -> Path:
    path = folder / "log.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_parquet(folder: Path, rows: Rows) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(rows), folder / "log.parquet")
    return folder / "log.parquet"


def as_gzip(folder: Path, rows: Rows) -> Path:
    path = folder / "log.jsonl.gz"
    path.write_bytes(gzip.compress(lines(folder / "log.txt", rows).read_bytes()))
    return path


def reordered(folder: Path, rows: Rows) -> Path:
    return lines(folder / "log.jsonl", random.Random(1).sample(rows, len(rows)))


def split(folder: Path, rows: Rows) -> Path:
    for part in range(3):
        if rows[part::3]:
            lines(folder / "parts" / f"{part}.jsonl", rows[part::3])
    return folder / "parts"


def shuffled_columns(folder: Path, rows: Rows) -> Path:
    names = random.Random(2).sample(list(rows[0]), len(rows[0]))
    return lines(folder / "log.jsonl", [{name: row[name] for name in names} | {"extra": [1]} for row in rows])


RENAMED = {
    "problem_id": "doc_id",
    "problem": "question",
    "answer": "ground_truth",
    "sample": "epoch",
    "response": "completion",
    "reasoning": "reasoning_content",
    "num_tokens": "completion_tokens",
    "reasoning_tokens": "thinking_tokens",
    "finish_reason": "stop_reason",
}


def renamed(folder: Path, rows: Rows) -> Path:
    return lines(folder / "log.jsonl", [{RENAMED[name]: value for name, value in row.items()} for row in rows])


FORMS = [as_list, as_data, as_csv, as_parquet, as_gzip, reordered, split, shuffled_columns, renamed]


# ---- one log, many formats ----


def as_chat(row: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": row["response"], "reasoning": row["reasoning"]}
    usage = {"completion_tokens": row["num_tokens"]}
    usage["completion_tokens_details"] = {"reasoning_tokens": row["reasoning_tokens"]}
    choice = {"index": 0, "message": message, "finish_reason": row["finish_reason"]}
    known = {name: row[name] for name in ("problem_id", "answer", "sample")}
    asked = [{"role": "user", "content": row["problem"]}]
    return known | {"messages": asked, "response": {"id": "x", "choices": [choice], "usage": usage}}


def as_inspect(folder: Path, rows: Rows) -> Path:
    def sample(row: dict[str, Any]) -> dict[str, Any]:
        parts = [{"type": "reasoning", "reasoning": row["reasoning"]}, {"type": "text", "text": row["response"]}]
        usage = {"output_tokens": row["num_tokens"], "reasoning_tokens": row["reasoning_tokens"]}
        choice = {"message": {"content": parts}, "stop_reason": row["finish_reason"]}
        return {"id": row["problem_id"], "epoch": row["sample"], "input": row["problem"], "target": row["answer"],
                "output": {"choices": [choice], "usage": usage}}  # fmt: skip

    path = folder / "log.json"
    path.write_text(json.dumps({"eval": {"task": ""}, "plan": {}, "samples": [sample(row) for row in rows]}))
    return path


def as_evalscope(folder: Path, rows: Rows) -> Path:
    predictions, reviews = [], []
    for index, row in enumerate(rows):
        parts = [{"type": "reasoning", "reasoning": row["reasoning"]}, {"type": "text", "text": row["response"]}]
        usage = {"output_tokens": row["num_tokens"], "reasoning_tokens": row["reasoning_tokens"]}
        output = {"choices": [{"message": {"content": parts}, "stop_reason": row["finish_reason"]}], "usage": usage}
        asked = [{"role": "user", "content": row["problem"]}]
        predictions.append({"index": index, "model": "m", "model_output": output, "messages": asked})
        score = {"score": {"value": {}}, "group_id": row["problem_id"], "generation_index": row["sample"]}
        reviews.append({"index": index, "target": [row["answer"]], "sample_score": score})
    lines(folder / "reviews" / "log.jsonl", reviews)
    return lines(folder / "predictions" / "log.jsonl", predictions)


def chats(folder: Path, rows: Rows) -> Path:
    return lines(folder / "log.jsonl", [as_chat(row) for row in rows])


CONVERSIONS: list[Callable[[Path, Rows], Path]] = [chats, as_inspect, as_evalscope]


# ---- formats that say less: what each says of a row, and how it says it ----

Part = tuple[tuple[str, ...], Callable[[Path, Rows], Path]]


def as_batch(folder: Path, rows: Rows) -> Path:
    """A request has an id of its own, so each is a problem."""
    made = []
    for row in rows:
        body = as_chat(row | {"sample": 0, "problem": ""})["response"]
        made.append({"custom_id": row["problem_id"], "answer": row["answer"], "error": None,
                     "response": {"status_code": 200, "body": body}})  # fmt: skip
    return lines(folder / "batch.jsonl", made)


def as_sglang(folder: Path, rows: Rows) -> Path:
    counts = {"num_tokens": "completion_tokens", "reasoning_tokens": "reasoning_tokens"}
    made = [
        {name: row[name] for name in ("problem_id", "problem", "answer", "sample")}
        | {"text": row["response"], "meta_info": {"finish_reason": {"type": row["finish_reason"]}}
           | {theirs: row[ours] for ours, theirs in counts.items()}}
        for row in rows
    ]  # fmt: skip
    return lines(folder / "log.jsonl", made)


def by_problem(rows: Rows) -> list[Rows]:
    return [[row for row in rows if row["problem_id"] == name] for name in {row["problem_id"]: None for row in rows}]


def as_lm_eval(folder: Path, rows: Rows) -> Path:
    made = [
        {"doc_id": of[0]["problem_id"], "doc": {"question": of[0]["problem"]}, "target": of[0]["answer"],
         "arguments": [[of[0]["problem"], {}]], "resps": [[row["response"] for row in of]], "filter": name}
        for of in by_problem(rows) for name in ("none", "strict")
    ]  # fmt: skip
    return lines(folder / "log.jsonl", made)


def as_openr1(folder: Path, rows: Rows) -> Path:
    made = [
        {name: of[0][name] for name in ("problem_id", "problem", "answer")}
        | {"generations": [row["response"] for row in of], "finish_reasons": [row["finish_reason"] for row in of],
           "num_tokens": [row["num_tokens"] for row in of]}
        for of in by_problem(rows)
    ]  # fmt: skip
    return lines(folder / "log.jsonl", made)


def as_opencompass(folder: Path, rows: Rows) -> Path:
    made = {
        str(number): {"origin_prompt": [{"role": "HUMAN", "prompt": row["problem"]}], "prediction": row["response"],
                      "gold": row["answer"], "res_length": row["num_tokens"]}
        for number, row in enumerate(rows)
    }  # fmt: skip
    (folder / "sums.json").write_text(json.dumps(made))
    return folder / "sums.json"


def as_verl(folder: Path, rows: Rows) -> Path:
    names = {"problem": "input", "response": "output", "answer": "gts", "score": "score"}
    return lines(folder / "1.jsonl", [{names[name]: row[name] for name in names} | {"step": 1} for row in rows])


def as_nemo_rl(folder: Path, rows: Rows) -> Path:
    made = []
    for number, row in enumerate(rows):
        turns = [{"role": "user", "content": row["problem"]}, {"role": "assistant", "content": row["response"]}]
        mask = [0, 0] + [1] * row["num_tokens"]
        made.append({"idx": number, "content": turns, "rewards": row["score"], "token_loss_mask": mask})
    return lines(folder / "train_data_step1.jsonl", made)


PARTS: list[Part] = [
    (("problem_id", "answer", "response", "reasoning", "num_tokens", "reasoning_tokens", "finish_reason"), as_batch),
    (("problem_id", "problem", "answer", "sample", "response", "num_tokens", "reasoning_tokens", "finish_reason"),
     as_sglang),
    (("problem_id", "problem", "answer", "sample", "response"), as_lm_eval),
    (("problem_id", "problem", "answer", "sample", "response", "num_tokens", "finish_reason"), as_openr1),
    (("problem", "answer", "response", "num_tokens"), as_opencompass),
    (("problem", "answer", "response", "score"), as_verl),
    (("problem", "response", "score", "num_tokens"), as_nemo_rl),
]  # fmt: skip
