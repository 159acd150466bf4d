"""What shortens responses while they are written: the rules on text, and the worlds on tokens, by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from lengthwise.config.groups.sampling import Intervention
from lengthwise.engine.backends.transformers_sampler import World
from lengthwise.errors import ConfigError
from lengthwise.generation.free_baselines import (
    Agreed,
    FirstOfGroup,
    ForcedEnding,
    answer_begins,
    asking,
    budget_spent,
    confirmed_at,
    ending,
    first_to_finish,
)
from lengthwise.grading.prompt_contract import preset

EOS = 99
LAB, GSM8K = preset("lab"), preset("gsm8k")
DIRECT = preset("gsm8k", think_prefix="", think_close=None)


# ---- the value ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"budget": 0}, "budget is 0"),
        ({"budget": -5}, "budget is -5"),
        ({"early_stop": "always"}, "early_stop is 'always'"),
        ({"short_of": 1}, "at least 2"),
        ({"short_of": 0}, "at least 2"),
        ({"budget": 8, "concise": True}, "budget and concise exclude each other"),
        ({"budget": 8, "early_stop": "agree"}, "budget and early_stop exclude"),
        ({"short_of": 4, "concise": True}, "short_of and concise exclude"),
        ({"answer_tokens": 5}, "answer_tokens belongs to budget or early_stop"),
        ({"short_of": 2, "answer_prompt": "A"}, "answer_prompt belongs to"),
        ({"budget": 8, "answer_tokens": 0}, "answer_tokens is 0"),
    ],
)
def test_a_bad_intervention_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Intervention(**options)


def test_what_is_written_into_a_record() -> None:
    assert Intervention().context() is None
    assert Intervention(budget=512).context() == {"budget": 512, "answer_tokens": 256}
    assert Intervention(short_of=4).context() == {"short_of": 4}
    assert Intervention(concise=True).context() == {"concise": True}
    assert Intervention(early_stop="agree", answer_tokens=9, answer_prompt="So: ").context() == {
        "early_stop": "agree", "answer_tokens": 9, "answer_prompt": "So: "
    }  # fmt: skip


def test_how_the_answer_is_asked_for() -> None:
    budget = Intervention(budget=8)
    assert ending(budget, LAB) == "A:"
    assert ending(budget, GSM8K) == "</think>\n\nThe final answer is \\boxed{"
    assert ending(budget, DIRECT) == "\n\nThe final answer is \\boxed{"
    assert ending(Intervention(budget=8, answer_prompt="\nResult: "), GSM8K) == "</think>\nResult: "
    own = preset("math", answer_pattern="Result: (.+)")
    with pytest.raises(ConfigError, match="--answer-prompt"):
        ending(budget, own)
    assert ending(Intervention(budget=8, answer_prompt="\nResult: "), own) == "</think>\nResult: "


def test_brevity_cannot_be_asked_for_in_the_labs_vocabulary() -> None:
    with pytest.raises(ConfigError, match="vocabulary has none"):
        asking(Intervention(concise=True), LAB)
    assert asking(Intervention(budget=8), LAB) is LAB


# ---- where the answer begins, and where it is confirmed -----------------------------------------------------


@pytest.mark.parametrize(
    ("text", "contract", "place"),
    [
        ("7+5=12;", LAB, None),
        ("7+5=12;A:12", LAB, 7),
        ("hm", GSM8K, None),
        ("hm</think>18", GSM8K, 2),
        ("The answer is 18.", DIRECT, None),
    ],
)
def test_where_the_answer_begins(text: str, contract: Any, place: int | None) -> None:
    assert answer_begins(text, contract) == place


TWICE = "So the answer is 18. Let me check. Yes, the answer is 18. Good."


@pytest.mark.parametrize(
    ("text", "contract", "confirmed"),
    [
        ("", GSM8K, None),
        ("the answer is 18. ", GSM8K, None),
        (TWICE, GSM8K, "the answer is 18. Let me check. Yes, the answer is 18"),
        ("the answer is 18. No, the answer is 20. Good.", GSM8K, None),
        ("the answer is 18. No, the answer is 20. So the answer is 18. ok", GSM8K, "the answer is 18"),
        # Equal as numbers, however they are written.
        ("the answer is 1,000. Check: \\boxed{1000.0}", GSM8K, "\\boxed{1000.0}"),
        # An equation confirms an answer, and the other way round; two equations are an intermediate result.
        ("9 * 2 = 18.\nThe answer is 18.\nok", GSM8K, "The answer is 18"),
        ("The answer is 18.\nCheck: 9 * 2 = 18.\nok", GSM8K, "9 * 2 = 18"),
        ("16 - 7 = 9.\nAgain: 16 - 7 = 9.\nok", GSM8K, None),
        # What stands at the very end may go on: 18 may become 18.5.
        ("The answer is 18.\nYes, the answer is 18", GSM8K, None),
        ("The answer is 18.\nYes, the answer is 18.", GSM8K, None),
        ("The answer is 18.\nYes, the answer is 18.5", GSM8K, None),
        ("The answer is 18.\nYes, \\boxed{18}", GSM8K, "\\boxed{18}"),
        # In the lab every pass states an answer; a pass ends where the next one or the answer begins.
        ("7+5=12;12-3=9;check:7+5=12;12-3=9;", LAB, None),
        ("7+5=12;12-3=9;check:7+5=12;12-3=9;check:", LAB, "7+5=12;12-3=9;check:7+5=12;12-3=9"),
        ("7+5=12;12-3=8;check:7+5=12;12-3=9;check:", LAB, None),
        ("7+5=12;12-3=9;check:7+5=12;12-3=8;check:7+5=12;12-3=9;check:", LAB, "=9"),
    ],
)  # fmt: skip
def test_a_confirmed_answer_is_one_that_stands_there_twice(text: str, contract: Any, confirmed: str | None) -> None:
    place = confirmed_at(text, contract)
    assert (place is None) == (confirmed is None)
    if place is not None and confirmed is not None:
        assert text[:place].rstrip(".").endswith(confirmed)


# ---- worlds -------------------------------------------------------------------------------------------------


def write(world: World, streams: Sequence[Sequence[int]], cap: int) -> list[list[int]]:
    """What the sampler does: all rows in step, each on its own stream, the world before the model."""
    written: list[list[int]] = [[] for _ in streams]
    active = list(range(len(streams)))
    while active:
        chosen = {row: world(row, written[row]) for row in active}
        for row in active:
            own = streams[row][len(written[row])]
            written[row].append(own if chosen[row] is None else int(chosen[row]))  # type: ignore[arg-type]
        active = [row for row in active if written[row][-1] != EOS and len(written[row]) < cap]
    return written


def at(place: int) -> Callable[[int, Sequence[int]], bool]:
    return lambda row, written: len(written) == place


def forced(due: Any, *, answer_tokens: int = 3, otherwise: World | None = None) -> ForcedEnding:
    return ForcedEnding(due, [50, 51], answer_tokens=answer_tokens, eos_id=EOS, otherwise=otherwise)


def test_an_ending_is_written_once_and_the_answer_follows() -> None:
    world = forced(at(2))
    assert write(world, [[1, 2, 3, 4, 5, EOS]], 10) == [[1, 2, 50, 51, 5, EOS]]
    assert world.started == {0: 2}
    assert world.cut == set()


def test_an_answer_is_cut_after_its_tokens_by_an_eos_that_is_none_of_them() -> None:
    # 2 thinking + 2 ending + 3 answer tokens, and the EOS that cuts.
    world = forced(at(2))
    assert write(world, [[1] * 20], 20) == [[1, 1, 50, 51, 1, 1, 1, EOS]]
    assert world.cut == {0}


def test_an_answer_that_ends_with_its_last_token_is_not_cut() -> None:
    world = forced(at(2))
    assert write(world, [[1, 1, 1, 1, 7, 8, EOS, 1]], 20) == [[1, 1, 50, 51, 7, 8, EOS]]
    assert world.cut == set()


def test_a_response_that_ends_before_is_left_alone_and_rows_do_not_mix() -> None:
    world = forced(at(4))
    streams = [[1, EOS], [2] * 9, [3, 3, 3, EOS]]
    assert write(world, streams, 9) == [[1, EOS], [2, 2, 2, 2, 50, 51, 2, 2, 2], [3, 3, 3, EOS]]
    assert world.started == {1: 4}


def test_the_cap_ends_an_ending_too() -> None:
    world = forced(at(2))
    assert write(world, [[1] * 9], 3) == [[1, 1, 50]]
    assert world.cut == set()


def test_what_else_writes_is_heard_before_and_after_the_ending() -> None:
    stop = lambda row, written: EOS if written[-1:] == [7] else None  # noqa: E731
    assert write(forced(at(5), otherwise=stop), [[1, 7, 1, 1, 1, 1]], 9) == [[1, 7, EOS]]
    assert write(forced(at(1), otherwise=stop), [[1, 1, 1, 7, 1, 1]], 9) == [[1, 50, 51, 7, EOS]]


WORDS = {1: "2", 2: "+2", 3: "=4", 4: ";", 5: "check:", 6: "A:", 7: "4"}


def spelled(tokens: Sequence[int]) -> str:
    return "".join(WORDS.get(token, "") for token in tokens)


def test_a_budget_is_due_at_its_token_unless_the_answer_has_begun() -> None:
    due = budget_spent(4, spelled, LAB)
    assert not due(0, [1, 2, 3])
    assert due(0, [1, 2, 3, 4])
    assert not due(0, [1, 2, 3, 4, 1])
    assert not due(0, [1, 2, 3, 6])


def test_agreement_is_due_when_the_third_pass_begins() -> None:
    due = Agreed(spelled, LAB)
    tokens = [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]
    assert [due(0, tokens[:n]) for n in range(len(tokens))].index(True) == 10
    # The model answers by itself after two passes: there is nothing to force.
    due = Agreed(spelled, LAB)
    own = [1, 2, 3, 4, 5, 1, 2, 3, 4, 6, 7]
    assert not any(due(0, own[:n]) for n in range(len(own) + 1))


def test_long_responses_are_read_less_often_and_no_row_waits_for_another() -> None:
    read: list[int] = []

    def reading(tokens: Sequence[int]) -> str:
        read.append(len(tokens))
        return ""

    due = Agreed(reading, LAB)
    for length in range(8000):
        due(0, [1] * length)
    assert read[:256] == list(range(1, 257))
    # From 256 on each reading is at most a sixty-fourth later: 64 * ln(8000 / 256) is about 220 more,
    # and rounding down makes it more.
    assert all(later - earlier <= max(1, earlier // 64 + 1) for earlier, later in pairwise(read))
    assert len(read) < 650
    before = len(read)
    due(1, [1])
    assert len(read) == before + 1


@pytest.mark.parametrize("size", [2, 3])
def test_siblings_stop_soon_after_the_first_to_finish(size: int) -> None:
    world = FirstOfGroup(size, eos_id=EOS, otherwise=None)
    streams = [[1] * 30, [1, 1, 1, EOS], [1] * 30][:size] + [[2] * 30] * size
    written = write(world, streams, 30)
    assert written[1] == [1, 1, 1, EOS]
    for row in {0, size - 1} - {1}:
        assert 4 < len(written[row]) <= 6
    assert [len(row) for row in written[size:]] == [30] * size  # the other group goes on
    assert world.stopped == {0, *range(2, size)}


def test_a_group_of_which_none_finishes_goes_to_the_cap() -> None:
    world = FirstOfGroup(2, eos_id=EOS, otherwise=None)
    assert [len(row) for row in write(world, [[1] * 9, [1] * 9], 6)] == [6, 6]
    assert world.stopped == set()


@pytest.mark.parametrize(
    ("num_tokens", "finished", "found"),
    [
        ([30, 12, 9], [True, True, False], (1, 12 + 12 + 9)),
        ([12, 12], [True, True], (0, 24)),
        ([20, 20], [False, False], (0, 40)),
        ([5], [True], (0, 5)),
        ([50, 40, 30, 20], [True, False, False, False], (0, 50 + 40 + 30 + 20)),
    ],
)
def test_the_first_to_finish_and_what_all_spend_until_then(
    num_tokens: list[int], finished: list[bool], found: tuple[int, int]
) -> None:
    assert first_to_finish(num_tokens, finished) == found
