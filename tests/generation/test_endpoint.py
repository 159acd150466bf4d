"""A server of the OpenAI protocol with every fault: what is asked, what is read, what is tried again, what is not."""

from __future__ import annotations

import email.utils
import json
import time
from pathlib import Path
from typing import Any

import pytest
from serving import Serving, serving, worked

from lengthwise.config.groups.model import EndpointOptions
from lengthwise.config.groups.sampling import Intervention, Sampling
from lengthwise.errors import ConfigError, EndpointError
from lengthwise.generation import endpoint as endpoints
from lengthwise.generation.endpoint import Endpoint, Reply, parse_reply, retry_after
from lengthwise.generation.endpoint_sampling import ask_all
from lengthwise.generation.free_baselines import BREVITY, asking
from lengthwise.generation.response_log import ResponseLog
from lengthwise.grading.problems import Questions, prepare, read_questions
from lengthwise.grading.prompt_contract import preset, resolve
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.pretrained import load_tokenizer

ROWS = [{"problem": "7+5-3?", "answer": "9"}, {"problem": "2+2?", "answer": "4"}, {"problem": "9-1?", "answer": "8"}]
CHAT = {"chat_template": True}


def lab_questions(rows: Any = ROWS, **changes: Any) -> Questions:
    return read_questions(rows, preset("lab", **changes), source="here")


def lab_problems(rows: Any = ROWS, **changes: Any) -> Questions:
    tokenizer = load_tokenizer(shipped_reasoner())
    contract = resolve(preset("lab", **changes), tokenizer)
    return prepare(rows, contract, tokenizer, cap=100, positions=None, source="here")


def endpoint(url: str, model: str = "m", **options: Any) -> Endpoint:
    return Endpoint(EndpointOptions(endpoint=url, **options), model)


def ask(
    folder: Path,
    server: Serving | str,
    questions: Questions | None = None,
    *,
    intervention: Intervention | None = None,
    sampling: Sampling | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """The rows of the log after asking, in order of problem and sample."""
    url = server if isinstance(server, str) else server.url
    asked = endpoint(url, "some-model", **{"concurrency": 1, "retries": 4, **options})
    waits: list[tuple[str, float]] = []
    with ResponseLog(folder / "responses.jsonl") as log:
        ask_all(
            asked, lab_questions() if questions is None else questions, sampling or Sampling(cap=100, seed=None), log,
            intervention=intervention or Intervention(), tell=lambda found: None,
            waiting=lambda reason, seconds: waits.append((reason, seconds)),
        )  # fmt: skip
    return read(folder)


def read(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
    return sorted(rows, key=lambda row: (row["problem"], row["sample"]))


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "FIRST_WAIT", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


# ---- what is asked ------------------------------------------------------------------------------------------


def test_a_plain_prompt_goes_to_completions_and_a_chat_to_chat_completions(tmp_path: Path) -> None:
    with serving() as server:
        rows = ask(tmp_path, server)
        ask_chat = lab_questions(system_prompt="Be right.", template="{problem}", **CHAT)
        (tmp_path / "chat").mkdir()
        ask(tmp_path / "chat", server, ask_chat)
    plain, chat = server.requests[0], server.requests[3]
    assert plain["path"] == "/v1/completions"
    assert plain["body"] == {
        "model": "some-model", "max_tokens": 100, "temperature": 1.0, "top_p": 1.0, "prompt": "7+5-3?"
    }  # fmt: skip
    assert chat["path"] == "/v1/chat/completions"
    assert chat["body"]["messages"] == [
        {"role": "system", "content": "Be right."},
        {"role": "user", "content": "7+5-3?"},
    ]
    assert [row["response"] for row in rows] == ["2+2=4;check:2+2=4;A:4", "7+5=12;12-3=9;check:7+5=12;12-3=9;A:9",
                                                 "9-1=8;check:9-1=8;A:8"]  # fmt: skip
    assert [row["num_tokens"] for row in rows] == [16, 28, 16]
    assert all(row["finished"] for row in rows)


def test_seeds_differ_by_problem_and_sample_and_repeat(tmp_path: Path) -> None:
    with serving() as server:
        ask(tmp_path, server, sampling=Sampling(cap=50, temperature=0.6, top_p=0.95, samples=2, seed=3))
        (tmp_path / "again").mkdir()
        ask(tmp_path / "again", server, sampling=Sampling(cap=50, temperature=0.6, top_p=0.95, samples=2, seed=3))
    seeds = [request["body"]["seed"] for request in server.requests]
    assert len(set(seeds[:6])) == 6
    assert seeds[:6] == seeds[6:]
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert server.requests[0]["body"]["top_p"] == 0.95


def test_stop_strings_are_sent(tmp_path: Path) -> None:
    with serving() as server:
        ask(tmp_path, server, lab_questions(stop_strings=("STOP",)))
    assert server.requests[0]["body"]["stop"] == ["STOP"]


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1"),
        ("https://host/api/v2", "https://host/api/v2"),
    ],
)
def test_the_path_is_v1_unless_the_url_has_one(url: str, base: str) -> None:
    assert endpoint(url).base == base


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "localhost:8000"}, "write for example http"),
        ({"url": "http://me:secret@host"}, "environment variable"),
        ({"url": "http://host/v1?key=secret"}, "environment variable"),
        ({"url": "ftp://host"}, "write for example http"),
        ({"model": ""}, "name it as the server knows it"),
        ({"api_key_env": "NO_SUCH_KEY"}, "not set"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"timeout": 0.0}, "timeout is 0"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_endpoint_is_refused_without_repeating_a_secret(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        endpoint(**{"url": "http://host", **options})
    assert "secret" not in str(refused.value)


def test_the_key_comes_from_the_environment_and_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret\n")
    with serving() as server:
        ask(tmp_path, server, api_key_env="MY_KEY")
    assert server.requests[0]["headers"]["Authorization"] == "Bearer sk-very-secret"
    assert "very-secret" not in (tmp_path / "responses.jsonl").read_text()
    assert "very-secret" not in repr(endpoint(server.url, api_key_env="MY_KEY"))


def test_without_a_key_no_authorization_is_sent(tmp_path: Path) -> None:
    with serving() as server:
        ask(tmp_path, server)
    assert "Authorization" not in server.requests[0]["headers"]


def test_a_server_that_repeats_the_key_in_its_complaint_is_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "out of")
    with serving(faults=["401"]) as server, pytest.raises(EndpointError, match=r"HTTP 401 \*\*\* luck"):
        ask(tmp_path, server)


# ---- what is read -------------------------------------------------------------------------------------------


def reply(said: dict[str, Any], finish: str | None = "stop", usage: Any = None) -> dict[str, Any]:
    return {"choices": [{"message": said, "finish_reason": finish}], "usage": usage}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (reply({"content": "A:1"}, usage={"completion_tokens": 3}), Reply("A:1", None, 3, True)),
        (reply({"content": "A:1"}, "length"), Reply("A:1", None, None, False)),
        (reply({"content": "A:1"}, None), Reply("A:1", None, None, False)),
        (reply({"content": "1", "reasoning_content": "2-1"}), Reply("1", "2-1", None, True)),
        (reply({"content": "1", "reasoning": "2-1"}), Reply("1", "2-1", None, True)),
        (reply({"content": None, "reasoning_content": "2-"}, "length"), Reply("", "2-", None, False)),
        ({"choices": [{"text": "A:1", "finish_reason": "stop"}]}, Reply("A:1", None, None, True)),
    ],
)
def test_a_reply_is_read(body: dict[str, Any], found: Reply) -> None:
    assert parse_reply(body) == found


@pytest.mark.parametrize(
    "body",
    [
        {}, {"choices": []}, [], None, 3, {"choices": [{"finish_reason": "stop"}]},
        reply({"content": 3}), reply({"content": "1"}, usage={"completion_tokens": "3"}),
        {"choices": [{"text": "no finish_reason"}]},
    ],
)  # fmt: skip
def test_what_is_no_completion_is_an_error(body: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, IndexError)):
        parse_reply(body)


def test_thinking_given_apart_stays_apart(tmp_path: Path) -> None:
    def thinks(asked: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"text": "The answer is 4.", "reasoning": "2+2=4", "tokens": 9, "finish": "stop"}

    with serving(thinks) as server:
        [row] = ask(tmp_path, server, lab_questions(ROWS[1:2], **CHAT))
    assert (row["response"], row["reasoning"]) == ("The answer is 4.", "2+2=4")


def test_without_usage_tokens_are_counted_by_the_tokenizer_or_asked_for(tmp_path: Path) -> None:
    def silent(asked: str, body: dict[str, Any]) -> dict[str, Any]:
        return worked(asked, body) | {"tokens": None}

    with serving(silent) as server:
        # 2+2=4;check:2+2=4;A:4 has 6 + 1 + 6 + 2 tokens, and an EOS that the text does not show.
        assert [row["num_tokens"] for row in ask(tmp_path, server, lab_problems())] == [16, 28, 16]
        (tmp_path / "bare").mkdir()
        with pytest.raises(EndpointError, match="--tokenizer FOLDER"):
            ask(tmp_path / "bare", server)


# ---- faults -------------------------------------------------------------------------------------------------

FAULTS = ["500", "503", "429", "429 0.05", "drop", "half", "garbage", "empty"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_may_pass_is_tried_again(tmp_path: Path, fault: str) -> None:
    with serving(faults=[fault, fault]) as server:
        rows = ask(tmp_path, server)
    assert len(rows) == 3
    assert len(server.requests) == 5
    assert rows[1]["response"] == worked("7+5-3?", {})["text"]


def test_a_reply_that_is_sent_twice_answers_no_other_problem(tmp_path: Path) -> None:
    with serving(faults=["twice"] * 3) as server:
        rows = ask(tmp_path, server, concurrency=1)
    assert len(rows) == len(server.requests) == 3
    assert all(row["response"] == worked(row["problem"], {})["text"] for row in rows)


def test_a_mix_of_faults_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    rows = [chain.row for chain in chains.problems(30, split="test", seed=0, levels=(2, 3, 4))]
    faults = [fault for _ in range(12) for fault in (*FAULTS, None, "slow" if _ < 2 else None)]
    with serving(faults=faults) as server:
        found = ask(
            tmp_path, server, lab_questions(rows), sampling=Sampling(cap=100, samples=3), concurrency=12, retries=30,
            timeout=0.8,
        )  # fmt: skip
    keys = [(row["problem_id"], row["sample"]) for row in found]
    assert len(set(keys)) == len(keys) == 90
    assert all(row["response"] == worked(row["problem"], {})["text"] for row in found)
    assert 2 <= server.most <= 12


@pytest.mark.parametrize("status", ["400", "401", "403", "404", "422", "301"])
def test_a_refusal_is_one_clear_line_at_once(tmp_path: Path, status: str) -> None:
    with serving(faults=[None, status]) as server, pytest.raises(EndpointError, match=f"HTTP {status} out of luck"):
        ask(tmp_path, server)
    assert len(server.requests) == 2
    assert len(read(tmp_path)) == 1  # what was drawn before stays


def test_a_server_that_stays_down_is_given_up_with_the_way_out(tmp_path: Path) -> None:
    with serving(faults=["500"] * 9) as server, pytest.raises(EndpointError, match="no response after 5 tries") as up:
        ask(tmp_path, server)
    assert "same command again" in str(up.value)
    assert len(server.requests) == 5
    with pytest.raises(EndpointError, match="ConnectError"):
        ask(tmp_path, "http://127.0.0.1:9", retries=1)


def test_waits_grow_and_heed_retry_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "FIRST_WAIT", 0.01)
    waits: list[float] = []
    with serving(faults=["500", "500", "500", "429 0.3"]) as server, ResponseLog(tmp_path / "r.jsonl") as log:
        ask_all(
            endpoint(server.url, concurrency=1), lab_questions(), Sampling(cap=100), log,
            intervention=Intervention(), tell=lambda found: None, waiting=lambda reason, seconds: waits.append(seconds),
        )  # fmt: skip
    # Half to all of 0.01, 0.02, 0.04; then as long as it was asked to.
    for wait, most in zip(waits, (0.01, 0.02, 0.04), strict=False):
        assert most / 2 <= wait <= most
    assert waits[3] == 0.3


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after(None) == 0.0
    assert retry_after("2.5") == 2.5
    assert retry_after("-3") == 0.0
    assert retry_after("soon") == 0.0
    assert retry_after(email.utils.formatdate(time.time() + 30, usegmt=True)) == pytest.approx(30, abs=2)


def test_a_log_is_continued_with_what_it_lacks(tmp_path: Path) -> None:
    with serving(faults=[None, "404"]) as server:
        with pytest.raises(EndpointError):
            ask(tmp_path, server)
        first = (tmp_path / "responses.jsonl").read_text()
        rows = ask(tmp_path, server)
    assert len(rows) == 3
    assert (tmp_path / "responses.jsonl").read_text().startswith(first)
    assert len(server.requests) == 4  # one before, the refusal, and the two that lacked


# ---- interventions ------------------------------------------------------------------------------------------


def cutting(asked: str, body: dict[str, Any]) -> dict[str, Any]:
    """Continues the worked answer of the problem that the prompt begins with; a word of the lab is a token."""
    tokenizer = load_tokenizer(shipped_reasoner())
    problem, written = asked.split("?")
    if written.endswith("=A:"):  # it was interrupted
        return {"text": "7", "tokens": 2, "finish": "stop"}
    rest = worked(problem + "?", {})["text"].removeprefix(written)
    ids = tokenizer(rest)["input_ids"]
    whole = len(ids) + 1 <= body["max_tokens"]
    kept = len(ids) if whole else body["max_tokens"]
    return {"text": tokenizer.decode(ids[:kept]), "tokens": kept + whole, "finish": "stop" if whole else "length"}


def test_a_budget_cuts_the_thinking_and_asks_for_the_answer(tmp_path: Path) -> None:
    with serving(cutting) as server:
        rows = ask(tmp_path, server, lab_problems(), intervention=Intervention(budget=10, answer_tokens=5))
    # 7+5=12;12-3= are 10 tokens, A: one more, 7 and EOS two: 13.
    forced = next(row for row in rows if row["problem"] == "7+5-3?")
    assert (forced["response"], forced["num_tokens"], forced["finished"]) == ("7+5=12;12-3=A:7", 13, True)
    assert forced["forced"] is True
    bodies = [request["body"] for request in server.requests if request["body"]["prompt"].startswith("7+5-3?")]
    assert [(body["prompt"], body["max_tokens"]) for body in bodies] == [("7+5-3?", 10), ("7+5-3?7+5=12;12-3=A:", 5)]


def test_a_response_that_has_begun_its_answer_goes_on_to_the_cap(tmp_path: Path) -> None:
    # 2+2=4;check:2+2=4;A:4 and EOS: after 14 tokens the A: stands there.
    with serving(cutting) as server:
        rows = ask(tmp_path, server, lab_problems(), intervention=Intervention(budget=14))
    short = next(row for row in rows if row["problem"] == "2+2?")
    assert (short["response"], short["num_tokens"]) == (worked("2+2?", {})["text"], 16)
    assert "forced" not in short
    [_, rest] = [r["body"] for r in server.requests if r["body"]["prompt"].startswith("2+2?")]
    assert (rest["prompt"], rest["max_tokens"]) == ("2+2?2+2=4;check:2+2=4;A:", 86)


def test_early_stop_ends_the_thinking_where_an_answer_is_confirmed(tmp_path: Path) -> None:
    def thrice(asked: str, body: dict[str, Any]) -> dict[str, Any]:
        if asked.endswith("A:"):
            return {"text": "4", "tokens": 2, "finish": "stop"}
        text = "2+2=4;check:2+2=4;check:2+2=4;A:4"
        return {"text": text, "tokens": 23, "finish": "stop"}

    with serving(thrice) as server:
        [row] = ask(tmp_path, server, lab_problems(ROWS[1:2]), intervention=Intervention(early_stop="agree"))
    # 2+2=4;check:2+2=4 is 5 + 1 + 1 + 5 = 12 tokens; then A:, 4 and EOS.
    assert (row["response"], row["num_tokens"], row["forced"]) == ("2+2=4;check:2+2=4A:4", 15, True)


def test_early_stop_leaves_alone_what_answers_by_itself(tmp_path: Path) -> None:
    with serving() as server:
        [row] = ask(tmp_path, server, lab_problems(ROWS[1:2]), intervention=Intervention(early_stop="agree"))
    assert row["response"] == worked("2+2?", {})["text"]
    assert "forced" not in row
    assert len(server.requests) == 1


def test_short_of_takes_the_first_to_finish_and_counts_what_all_spent(tmp_path: Path) -> None:
    drawn = iter([("a", 30, "stop"), ("b", 12, "stop"), ("c", 9, "length")])

    def drafts(asked: str, body: dict[str, Any]) -> dict[str, Any]:
        text, tokens, finish = next(drawn)
        return {"text": text, "tokens": tokens, "finish": finish}

    with serving(drafts) as server:
        [row] = ask(tmp_path, server, lab_questions(ROWS[:1]), intervention=Intervention(short_of=3))
    # 12 is the fewest of those that finished; until then the three spend 12 + 12 + 9.
    assert (row["response"], row["num_tokens"], row["spent_tokens"]) == ("b", 12, 33)


def test_concise_asks_for_brevity_and_keeps_the_names_of_the_problems(tmp_path: Path) -> None:
    contract = preset("gsm8k")
    rows = [{"question": "How many?", "answer": "#### 4"}]
    plain = read_questions(rows, contract, source="here")
    brief = read_questions(rows, contract, source="here", asking=asking(Intervention(concise=True), contract))
    assert brief.ids == plain.ids
    assert brief.contract.fingerprint() == plain.contract.fingerprint()
    with serving() as server:
        server.answer = lambda asked, body: {"text": "</think>4", "tokens": 2, "finish": "stop"}
        ask(tmp_path, server, brief, intervention=Intervention(concise=True))
    assert server.requests[0]["body"]["messages"][0]["content"] == plain.asked[0] + BREVITY
