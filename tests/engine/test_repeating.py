"""Responses that go round in a circle: what counts as one, that only asked-for stops happen, and how they are told."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

from lengthwise.engine import listening
from lengthwise.engine.backends.transformers_sampler import Sampler
from lengthwise.engine.repeating import EVERY, LONGEST_PIECE, WINDOW, Recent, repeats

CPU = torch.device("cpu")


def circling(piece: list[int], length: int = WINDOW) -> list[int]:
    return (piece * length)[:length]


@pytest.mark.parametrize("period", [1, 2, 7, LONGEST_PIECE])
def test_a_window_of_one_short_piece_repeats(period):
    assert repeats(torch.tensor([circling(list(range(period)))])).tolist() == [True]


@pytest.mark.parametrize(
    "tokens",
    [
        circling(list(range(LONGEST_PIECE + 1))),  # a piece of 65
        [*range(1000, 1001), *circling([1, 2, 3], WINDOW - 1)],  # the first of 256 is another one
        list(range(WINDOW)),
    ],
    ids=["a longer piece", "one token short", "none"],
)
def test_anything_else_does_not(tokens):
    assert repeats(torch.tensor([tokens])).tolist() == [False]


def test_a_response_repeats_only_once_it_is_as_long_as_the_window():
    recent = Recent([[], [9] * WINDOW], CPU)
    seen = [recent.add(torch.tensor([5, 9])).tolist() for _ in range(WINDOW)]
    # the second was whole when the look came first, after 16 steps; the first after 256
    assert next(step + 1 for step, (_, long) in enumerate(seen) if long) == EVERY
    assert [step + 1 for step, (short, _) in enumerate(seen) if short] == [WINDOW]


def test_a_row_that_comes_later_is_looked_at_in_its_own_time():
    recent = Recent([[]], CPU)
    for _ in range(5):
        recent.add(torch.tensor([1]))
    recent.take_in([[9] * WINDOW])
    seen = [recent.add(torch.tensor([step, 9])).tolist() for step in range(EVERY)]
    assert [step + 1 for step, (_, late) in enumerate(seen) if late] == [EVERY]


def fixed(tokens: list[int]) -> Any:
    """A model that writes these tokens over and over, whatever it reads; rows of token 2 end at once."""
    net = tiny.model(spread=0)
    net.config.max_position_embeddings = 2000
    piece = torch.tensor(tokens)
    forward = net.forward

    def said(*args: Any, **named: Any) -> Any:
        out = forward(*args, **named)
        at = named["position_ids"][:, -1]
        out.logits[:, -1] = -30.0
        out.logits[torch.arange(len(at)), -1, piece[at % len(piece)]] = 30.0
        return out

    net.forward = said
    return net


def drawn(net: Any, prompts: list[list[int]], cap: int, **options: Any) -> Any:
    sampler = Sampler(net, eos_ids=tiny.EOS, pad_id=0)
    return sampler.generate(prompts, caps=cap, generator=tiny.generator(), temperature=0.0, **options)


def test_only_where_it_is_asked_for_a_circle_is_cut_and_counts_as_not_finished():
    net, prompts = fixed([3, 4, 5]), [[7, 8], [7, 8, 9, 9]]
    assert drawn(net, prompts, 400).num_tokens.tolist() == [400, 400]
    found = drawn(net, prompts, 400, stop_repeats=True)
    assert found.num_tokens.tolist() == [WINDOW, WINDOW]  # the window is full and looked at after 256 = 16 * 16
    assert found.done.tolist() == [True, True] and found.finished.tolist() == [False, False]
    assert found.cap.tolist() == [400, 400]


def test_a_response_that_does_not_circle_is_the_same_with_the_stop():
    net, prompts = tiny.model(), [[5, 6], [7], [9, 9, 9]]
    a, b = (drawn(net, prompts, 40, stop_repeats=stop) for stop in (False, True))
    assert torch.equal(a.completion_ids, b.completion_ids) and torch.equal(a.logp, b.logp)


def test_a_cut_does_not_depend_on_the_rows_beside_it():
    net = fixed([3, 4, 5])
    alone = drawn(net, [[7, 8]], 300, stop_repeats=True)
    beside = drawn(net, [[9, 9, 9], [7, 8], [6]], 300, stop_repeats=True)
    assert beside.response(1) == alone.response(0)


def test_every_step_is_told_to_who_listens():
    heard: list[listening.Drawn] = []
    with listening.told_to(heard.append):
        found = drawn(tiny.model(), [[5, 6], [7], [9, 9]], 12)
        tokens = int(found.num_tokens.sum())
    drawn(tiny.model(), [[5, 6]], 3)  # outside nobody hears
    assert sum(step.tokens for step in heard) == tokens
    assert sum(step.ended for step in heard) == 3
    assert [step.left for step in heard] == list(range(11, 11 - len(heard), -1))


def test_parts_that_are_still_to_come_count_as_steps():
    heard: list[listening.Drawn] = []
    sampler = Sampler(fixed([3]), eos_ids=tiny.EOS, pad_id=0, max_rows=1)
    with listening.told_to(heard.append), listening.before(100):
        sampler.generate([[5], [6], [7]], caps=[2, 3, 4], generator=tiny.generator(), temperature=0.0)
    # of the first part 1 step after this one, then 3 + 4 of the others, and 100 of somebody else's
    assert [step.left for step in heard] == [108, 107, 106, 105, 104, 103, 102, 101, 100]
