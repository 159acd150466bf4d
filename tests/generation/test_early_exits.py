"""Early stops that ask the model itself: where they look, what they count, and that the model goes on undisturbed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from lengthwise.config.groups.sampling import Intervention, Sampling
from lengthwise.engine import Policy, load_policy
from lengthwise.errors import ConfigError
from lengthwise.generation.early_exits import Exit
from lengthwise.generation.response_log import Completion
from lengthwise.generation.sampling import complete
from lengthwise.grading.problems import Problems
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.runs.chains_demo import chain_problems, measured_chains

CAP = 260


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(shipped_reasoner(), device="cpu")


@pytest.fixture(scope="module")
def problems() -> Problems:
    return chain_problems(measured_chains(3), shipped_reasoner())


def drawn(policy: Policy, problems: Problems, **options: object) -> list[Completion]:
    return complete(policy, problems, Sampling(cap=CAP), intervention=Intervention.from_dict(options))


def test_what_never_settles_is_drawn_as_without_a_stop_and_its_trials_are_counted(
    policy: Policy, problems: Problems
) -> None:
    plain = complete(policy, problems, Sampling(cap=CAP))
    eat = drawn(policy, problems, early_stop="eat", exit_warm_up=200)
    assert [(one.text, one.num_tokens, one.forced) for one in eat] == [
        (one.text, one.num_tokens, False) for one in plain
    ]
    # One look at every ";" before the answer.
    looks = [one.text.partition("A:")[0].count(";") for one in plain]
    assert [(one.spent_tokens or 0) - one.num_tokens for one in eat] == looks


def test_entropy_stops_at_the_step_that_the_formula_names(policy: Policy, problems: Problems) -> None:
    # A threshold above any variance stops at the first paragraph from the warm-up on, counted from 0.
    for one in drawn(policy, problems, early_stop="eat", exit_warm_up=1, exit_threshold=1e6):
        assert one.forced
        assert one.text.partition("A:")[0].count(";") == 2
        assert one.spent_tokens == one.num_tokens + 2


def test_a_sure_trial_ends_the_thinking_at_the_switch_word(policy: Policy, problems: Problems) -> None:
    # Any confidence above nothing: the first "check:" of a response ends it. Its trial is an answer and EOS.
    sure = drawn(policy, problems, early_stop="deer", exit_threshold=1e-9)
    assert any(one.forced for one in sure)
    for one in sure:
        assert one.text.count("check:") <= 1
        if one.forced:
            assert one.text.partition("check:")[2].startswith("A:")
            assert (one.spent_tokens or 0) - one.num_tokens == 2


def test_a_trial_that_is_not_sure_lets_the_model_go_on(policy: Policy, problems: Problems) -> None:
    plain = complete(policy, problems, Sampling(cap=CAP))
    unsure = drawn(policy, problems, early_stop="deer", exit_threshold=0.999999999)
    assert [one.text for one in unsure if not one.forced] == [
        other.text for one, other in zip(unsure, plain, strict=True) if not one.forced
    ]
    assert any((one.spent_tokens or 0) > one.num_tokens for one in unsure)


def test_a_trial_is_of_the_thinking_without_the_switch_word(policy: Policy, problems: Problems) -> None:
    read: list[list[int]] = []

    class Noting(Exit):
        def _trial(self, context: list[int]) -> list[float]:
            read.append(context)
            return super()._trial(context)

    word, asks = problems.token_id("check:"), [problems.token_id("A:")]
    asked = Intervention(early_stop="deer")
    leave = Noting(policy, problems, asked, asks, 1, CAP)
    written = problems.tokenizer("1+1=2;")["input_ids"]
    assert not leave(0, written)
    with policy.compute(), torch.no_grad():
        leave(0, [*written, word])
    assert read == [[*problems.prompts[0], *written, *asks]]


def test_what_has_begun_its_answer_or_has_no_room_is_left_alone(policy: Policy, problems: Problems) -> None:
    def looks(written: Sequence[int], cap: int) -> int:
        leave = Exit(policy, problems, Intervention(early_stop="eat"), [problems.token_id("A:")], 1, cap)
        with policy.compute(), torch.no_grad():
            leave(0, written)
        return leave.trial_tokens[0]

    step = problems.tokenizer("1+1=2;")["input_ids"]
    assert looks(step, CAP) == 1
    assert looks([*problems.tokenizer("A:2")["input_ids"], *step], CAP) == 0
    assert looks(step, len(step) + 20) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"early_stop": "agree", "exit_threshold": 0.5}, "exit_threshold belongs to early_stop eat or deer"),
        ({"early_stop": "deer", "exit_warm_up": 3}, "exit_warm_up belongs to early_stop eat"),
        ({"early_stop": "deer", "exit_threshold": 1.5}, "a confidence is below 1"),
    ],
)
def test_options_of_the_other_stop_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Intervention.from_dict(options)


def test_the_record_says_what_stopped_it() -> None:
    assert Intervention(early_stop="eat").context() == {
        "early_stop": "eat", "answer_tokens": 256, "exit_threshold": 2.0**-10, "exit_warm_up": 25
    }  # fmt: skip
    assert Intervention(early_stop="deer", exit_threshold=0.9).context() == {
        "early_stop": "deer", "answer_tokens": 256, "exit_threshold": 0.9
    }  # fmt: skip
    assert Intervention(native_budget=0).context() == {"native_budget": 0}
