"""Our own sampler under every intervention, on the lab's model; parts, records and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lengthwise.config.groups.sampling import Intervention, Sampling
from lengthwise.engine import Policy, load_policy
from lengthwise.errors import ConfigError
from lengthwise.generation.response_log import Completion, ResponseLog
from lengthwise.generation.sampling import (
    check_forcing,
    complete,
    complete_all,
    context_of,
    evaluate,
    source_name,
)
from lengthwise.grading.problems import Problems
from lengthwise.grading.prompt_contract import preset
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.runs.chains_demo import chain_problems, measured_chains

CAP = 260


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(shipped_reasoner(), device="cpu")


@pytest.fixture(scope="module")
def problems() -> Problems:
    return chain_problems(measured_chains(12), shipped_reasoner())


@pytest.fixture(scope="module")
def plain(policy: Policy, problems: Problems) -> list[Completion]:
    return complete(policy, problems, Sampling(cap=CAP))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cap": 0}, "cap is 0"),
        ({"cap": 5, "temperature": -1.0}, "temperature is -1"),
        ({"cap": 5, "temperature": float("nan")}, "temperature is nan"),
        ({"cap": 5, "top_p": 0.0}, "top_p is 0"),
        ({"cap": 5, "top_p": 1.5}, "top_p is 1.5"),
        ({"cap": 5, "samples": 0}, "samples is 0"),
    ],
)
def test_bad_sampling_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Sampling(**options)


def tokens(problems: Problems, text: str) -> int:
    return len(problems.tokenizer(text, add_special_tokens=False)["input_ids"])


def counts_hold(problems: Problems, found: Sequence[Completion]) -> None:
    for one in found:
        assert one.num_tokens == tokens(problems, one.text) + one.finished, one


def test_completions_say_what_rollouts_do(policy: Policy, problems: Problems, plain: list[Completion]) -> None:
    record, rollouts = evaluate(policy, problems, Sampling(cap=CAP), name="x", data="lab:chains")
    assert [one.num_tokens for one in plain] == rollouts.num_tokens.tolist()
    assert [one.finished for one in plain] == rollouts.finished.tolist()
    assert record.context["template"] == problems.contract.fingerprint()
    assert record.context["intervention"] is None
    counts_hold(problems, plain)


def test_a_budget_forces_the_answer_of_those_that_are_still_thinking(
    policy: Policy, problems: Problems, plain: list[Completion]
) -> None:
    found = complete(policy, problems, Sampling(cap=CAP), intervention=Intervention(budget=50, answer_tokens=4))
    counts_hold(problems, found)
    assert {one.forced for one in found} == {True, False}
    for one in found:
        if one.forced:
            thinking, _, answer = one.text.partition("A:")
            assert tokens(problems, thinking) == 50
            assert tokens(problems, answer) + one.finished <= 4
        else:
            assert one.num_tokens <= 50 or "A:" in one.text
    # Draws are those of the plain run until the first is forced.
    assert any(one.text == base.text for one, base in zip(found, plain, strict=True))


def test_an_answer_that_does_not_end_is_cut_and_not_finished(policy: Policy, problems: Problems) -> None:
    found = complete(policy, problems, Sampling(cap=CAP), intervention=Intervention(budget=3, answer_tokens=1))
    counts_hold(problems, found)
    cut = [one for one in found if not one.finished]
    # 3 of thinking, A: and one token of an answer that takes two, with its EOS.
    assert cut
    assert all(one.num_tokens == 5 for one in cut)


def test_early_stop_forces_only_what_has_confirmed_an_answer(policy: Policy, problems: Problems) -> None:
    found = complete(policy, problems, Sampling(cap=CAP), intervention=Intervention(early_stop="agree"))
    counts_hold(problems, found)
    forced = [one for one in found if one.forced]
    assert forced
    for one in forced:
        passes = one.text.partition("A:")[0].split("check:")
        results = [part.rstrip(";").rpartition("=")[2] for part in passes[:-1]]
        assert results[-1] in results[:-1]
        assert len(set(results[:-1])) == len(results[:-1]), "it would have stopped before"


def test_short_of_is_shorter_and_says_what_all_spent(
    policy: Policy, problems: Problems, plain: list[Completion]
) -> None:
    found = complete(policy, problems, Sampling(cap=CAP), intervention=Intervention(short_of=4))
    counts_hold(problems, found)
    assert sum(one.num_tokens for one in found) < sum(one.num_tokens for one in plain)
    for one in found:
        assert one.spent_tokens == 4 * one.num_tokens  # written side by side, no sibling ends before the first


def test_greedy_siblings_are_one_response_written_m_times(policy: Policy, problems: Problems) -> None:
    some, greedy = problems.part(0, 4), Sampling(cap=CAP, temperature=0.0)
    plain = complete(policy, some, greedy)
    found = complete(policy, some, greedy, intervention=Intervention(short_of=2))
    assert [one.text for one in found] == [one.text for one in plain]


def test_siblings_that_are_not_in_flight_together_give_the_same_account(policy: Policy, problems: Problems) -> None:
    found = complete(policy, problems, Sampling(cap=60, sample_rows=2), intervention=Intervention(short_of=3))
    for one in found:
        assert one.spent_tokens is not None
        assert one.num_tokens <= one.spent_tokens <= 3 * one.num_tokens


@pytest.mark.parametrize(
    ("intervention", "cap", "says"),
    [
        (Intervention(budget=99), 100, "budget is 99, and 1 tokens ask for the answer, but the cap is 100"),
        (Intervention(budget=98), 100, None),
        (Intervention(early_stop="agree"), 2, None),
        (Intervention(short_of=2), 1, None),
    ],
)
def test_a_budget_needs_room_for_an_answer(
    problems: Problems, intervention: Intervention, cap: int, says: str | None
) -> None:
    if says is None:
        check_forcing(problems, Sampling(cap=cap), intervention)
        return
    with pytest.raises(ConfigError, match=says):
        check_forcing(problems, Sampling(cap=cap), intervention)


def log_of(
    path: Path, policy: Policy, problems: Problems, intervention: Intervention, parts: list[int] | None = None
) -> bytes:
    with ResponseLog(path) as log:
        complete_all(
            policy, problems, Sampling(cap=80, samples=2, seed=5, sample_rows=8), log, intervention=intervention,
            tell=lambda found: parts.append(len(found)) if parts is not None else None,
        )  # fmt: skip
    return path.read_bytes()


@pytest.mark.parametrize("options", [{}, {"budget": 20}, {"early_stop": "agree"}, {"short_of": 2}], ids=str)
def test_a_log_cut_anywhere_is_continued_to_the_same_bytes(
    tmp_path: Path, policy: Policy, problems: Problems, options: dict[str, Any]
) -> None:
    some, intervention = problems.part(0, 10), Intervention(**options)
    whole = log_of(tmp_path / "whole.jsonl", policy, some, intervention)
    assert len(whole.splitlines()) == 20
    path = tmp_path / "cut.jsonl"
    for share in (0.0, 0.31, 0.62, 0.99, 1.0):
        path.write_bytes(whole[: int(share * len(whole))])
        parts: list[int] = []
        assert log_of(path, policy, some, intervention, parts) == whole
        assert (parts == []) == (share == 1.0)


def test_parts_draw_on_their_own(policy: Policy, problems: Problems, tmp_path: Path) -> None:
    twins = [dataclasses.replace(problems.part(0, 1), ids=[name]) for name in ("a", "b")]
    first, second = (complete(policy, some, Sampling(cap=CAP), part=n)[0] for n, some in enumerate(twins))
    assert first != second
    assert complete(policy, twins[1], Sampling(cap=CAP), part=1)[0] == second


def test_data_is_called_by_its_file_and_not_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text("{}")
    assert source_name(str(tmp_path / "test.jsonl")) == "test.jsonl"
    assert source_name("openai/gsm8k:main:test") == "openai/gsm8k:main:test"


def test_a_context_holds_all_that_must_agree() -> None:
    from lengthwise.grading.problems import read_questions
    from lengthwise.statistics.records import MUST_AGREE

    questions = read_questions([{"problem": "1+1?", "answer": 2}], preset("lab"), source="here")
    context = context_of(questions, Sampling(cap=5), model="m", data="d", grader="g", tokenizer="t")
    assert set(MUST_AGREE) <= context.keys()
