"""Thinking budgets that servers keep: each server's own field, and a trial that tells a server that ignores it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from serving import Answer, serving

from lengthwise.config.commands.evaluation import EvaluateSettings
from lengthwise.config.groups.model import EndpointOptions
from lengthwise.config.groups.sampling import Intervention, Sampling, ServerKind
from lengthwise.errors import ConfigError, EndpointError, LengthwiseWarning
from lengthwise.generation.endpoint import Endpoint, joined
from lengthwise.generation.endpoint_sampling import ask_all
from lengthwise.generation.native_budgets import CONTROL_PROBLEM, Control, broken_budget, budget_fields
from lengthwise.generation.response_log import Completion, ResponseLog
from lengthwise.grading.problems import read_questions
from lengthwise.grading.prompt_contract import preset
from lengthwise.runs.compare_records import Named, compare_records
from lengthwise.runs.evaluate import evaluate_model

ROWS = [{"problem": "2+2?", "answer": "4"}, {"problem": "9-1?", "answer": "8"}]


def thinks_for(tokens: int, *, apart: bool = True) -> Answer:
    """A server that thinks for so many tokens, each of ten characters, whatever it is told."""

    def answer(asked: str, body: dict[str, Any]) -> dict[str, Any]:
        thinking = "hmm hmm.. " * tokens
        if apart:
            return {"text": "The answer", "reasoning": thinking, "tokens": tokens + 1, "finish": "stop"}
        return {"text": f"<think>{thinking}</think>", "tokens": tokens + 1, "finish": "stop"}

    return answer


def asked(
    folder: Path,
    answer: Answer,
    *,
    owner: str | None,
    budget: int = 512,
    kind: ServerKind | None = None,
    extra: str = "{}",
) -> tuple[Control | None, list[dict[str, Any]]]:
    """What came of the trial, and the bodies of all requests."""
    questions = read_questions(ROWS, preset("math", think_close=None, think_prefix=""), source="here")
    with serving(answer) as server, ResponseLog(folder / "log.jsonl") as log:
        server.owner = owner
        endpoint = Endpoint(EndpointOptions(endpoint=server.url, concurrency=1, extra_body=extra), "m")
        control = ask_all(
            endpoint, questions, Sampling(cap=2000, seed=None), log,
            intervention=Intervention(native_budget=budget, server_kind=kind), tell=lambda found: None,
            waiting=lambda reason, seconds: None,
        )  # fmt: skip
    return control, [request["body"] for request in server.requests]


@pytest.mark.parametrize(
    ("owner", "kind", "fields"),
    [
        ("vllm", "vllm", {"thinking_token_budget": 512}),
        ("sglang", "sglang", {"custom_params": {"thinking_budget": 512}}),
        ("llamacpp", "llama.cpp", {"thinking_budget_tokens": 512, "reasoning_budget_tokens": 512}),
    ],
)
def test_a_recognised_server_is_tried_once_and_then_asked_in_its_own_words(
    tmp_path: Path, owner: str, kind: ServerKind, fields: dict[str, object]
) -> None:
    control, [trial, *bodies] = asked(tmp_path, thinks_for(128), owner=owner)
    assert trial.items() >= budget_fields(kind, 128).items()
    assert CONTROL_PROBLEM in trial["messages"][0]["content"]
    assert len(bodies) == 2
    assert all(body.items() >= fields.items() for body in bodies)
    assert control is not None
    assert (control.server, control.thinking_tokens, control.counted) == (kind, 128, False)
    assert control.words().endswith("thought about for about 128 tokens")


@pytest.mark.parametrize("apart", [True, False])
def test_a_server_that_passes_over_the_field_is_refused_before_anything_is_drawn(tmp_path: Path, apart: bool) -> None:
    with pytest.raises(EndpointError, match=r"native_budget is not in force.*--reasoning-parser") as refused:
        asked(tmp_path, thinks_for(400, apart=apart), owner="vllm")
    assert "--budget, which needs no server's help" in str(refused.value)
    assert (tmp_path / "log.jsonl").read_text() == ""


def test_a_count_of_none_beside_thinking_is_no_count(tmp_path: Path) -> None:
    def counts_none(asked: str, body: dict[str, Any]) -> dict[str, Any]:  # as vLLM 0.32 does
        return thinks_for(400)(asked, body) | {"reasoning_tokens": 0}

    with pytest.raises(EndpointError, match="native_budget is not in force"):
        asked(tmp_path, counts_none, owner="vllm")


def test_256_tokens_at_a_budget_of_128_are_let_pass_and_257_are_not(tmp_path: Path) -> None:
    assert asked(tmp_path, thinks_for(256), owner="vllm")[0] is not None
    (tmp_path / "more").mkdir()
    with pytest.raises(EndpointError):
        asked(tmp_path / "more", thinks_for(257), owner="vllm")


def test_thinking_that_ends_before_half_of_the_budget_shows_nothing(tmp_path: Path) -> None:
    for tokens, shown in ((63, False), (64, True)):
        (tmp_path / str(tokens)).mkdir()
        control, _ = asked(tmp_path / str(tokens), thinks_for(tokens), owner="vllm")
        assert control is not None
        assert control.shown == shown


def test_a_response_without_thinking_shows_nothing_and_says_so(tmp_path: Path) -> None:
    def silent(asked: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"text": "4", "tokens": 2, "finish": "stop"}

    control, _ = asked(tmp_path, silent, owner="vllm", budget=0)
    assert control is not None
    assert not control.shown
    assert "not known" in control.words()
    assert json.loads(json.dumps(control.to_dict()))["fields"] == {"thinking_token_budget": 128}


def test_an_unknown_server_is_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match=r"owned by 'somebody'\); give --server-kind vllm, sglang or llama.cpp"):
        asked(tmp_path, thinks_for(128), owner="somebody")
    control, [_, *bodies] = asked(tmp_path, thinks_for(128), owner="somebody", kind="sglang")
    assert control is not None
    assert bodies[0]["custom_params"] == {"thinking_budget": 512}


def test_every_request_has_the_extra_fields_and_objects_are_joined(tmp_path: Path) -> None:
    extra = '{"min_p": 0.1, "custom_params": {"other": 1}}'
    _, bodies = asked(tmp_path, thinks_for(9), owner="sglang", extra=extra)
    assert [body["min_p"] for body in bodies] == [0.1] * 3
    assert bodies[1]["custom_params"] == {"other": 1, "thinking_budget": 512}
    assert joined({"a": {"x": 1}}, {"a": {"x": 2, "y": 3}, "b": 4}) == {"a": {"x": 1, "y": 3}, "b": 4}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no JSON"),
        ("[1]", "give a JSON object"),
        ("3", "give a JSON object"),
        ('{"x": NaN}', "NaN is none of JSON's values"),
        ('{"temperature": 0}', "extra_body has temperature, which --temperature decides"),
        ('{"stream": true}', "could not be read as whole"),
    ],
)
def test_extra_fields_that_are_none_or_decided_elsewhere_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        EndpointOptions.from_dict({"endpoint": "http://host", "extra_body": text})


def test_extra_fields_may_be_a_table_of_a_settings_file() -> None:
    given = EndpointOptions.from_dict({"endpoint": "http://host", "extra_body": {"b": [1], "a": None}})
    assert given.extra_body == '{"a": null, "b": [1]}'
    assert EndpointOptions.from_dict(given.to_dict()) == given


def test_responses_tell_of_a_budget_that_was_not_kept() -> None:
    def thinking(tokens: int) -> Completion:
        return Completion("4", 2 * tokens, True, reasoning="h") if tokens else Completion("4", 2, True)

    contract = preset("math", think_close=None, think_prefix="")
    for kept in ([], [0, 24, 48]):
        assert broken_budget(24, [thinking(tokens) for tokens in kept], contract) is None
    said = broken_budget(24, [thinking(tokens) for tokens in (64, 3, 49)], contract)
    assert said is not None and "2 of 3 responses think for more than 48 tokens, the longest for about 64" in said
    # a word or two may close the thinking
    assert broken_budget(0, [thinking(16)], contract) is None and broken_budget(0, [thinking(17)], contract) is not None


def test_an_evaluation_says_that_its_budget_was_not_kept(tmp_path: Path) -> None:
    def ends_early_once(asked: str, body: dict[str, Any]) -> dict[str, Any]:
        return thinks_for(20 if CONTROL_PROBLEM in asked else 100)(asked, body)

    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with serving(ends_early_once) as server, pytest.warns(LengthwiseWarning, match="did not keep native_budget 24"):
        server.owner = "vllm"
        found = evaluate_model(
            EvaluateSettings.from_dict(
                {
                    "model": "m",
                    "endpoint": server.url,
                    "data": str(tmp_path / "rows.jsonl"),
                    "preset": "math",
                    "think": "marks",
                    "cap": 2000,
                    "native_budget": 24,
                    "out": tmp_path / "out",
                }
            )
        )
    assert found.budget_broken in found.notes()
    assert any("2 of 2 responses think for more than 48 tokens" in note for note in found.to_dict()["notes"])


def test_a_native_budget_and_no_thinking_stand_in_one_table_with_the_base(tmp_path: Path) -> None:
    def obeys(asked: str, body: dict[str, Any]) -> dict[str, Any]:
        off = body.get("chat_template_kwargs", {}).get("enable_thinking") is False
        found = thinks_for(0 if off else min(400, body.get("thinking_token_budget", 400)))(asked, body)
        return found | {"text": f"The answer is {'4' if off or '2+2' in asked else '8'}"}

    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    ways: dict[str, dict[str, object]] = {"base": {}, "native": {"native_budget": 128}, "off": {"no_think": True}}
    records = []
    with serving(obeys) as server:
        server.owner = "vllm"
        for name, way in ways.items():
            settings = {"model": "m", "endpoint": server.url, "data": str(tmp_path / "rows.jsonl"), "preset": "math",
                        "think": "marks", "cap": 2000, "out": tmp_path / name}  # fmt: skip
            record = evaluate_model(EvaluateSettings.from_dict(settings | way)).record
            records.append(Named(name, (record,)))
    result = compare_records(records)
    table = {side.name: side.summary for side in result.sides}
    assert [table[name].accuracy for name in ways] == [1.0, 1.0, 0.5]
    assert [table[name].mean_tokens for name in ways] == [401, 129, 1]
