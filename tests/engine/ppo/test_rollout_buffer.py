"""The pool: who goes on, in which order, and that nothing is lost, doubled or changed by a checkpoint."""

from __future__ import annotations

import json
import math
import random

import pytest
import tiny
import torch
import windows

from lengthwise.engine.ppo.rollout_buffer import Pool, Response, as_rollouts, padded


class Source:
    """Responses of known lengths, begun in order until there are no more."""

    def __init__(self, lengths, cap):
        self.lengths, self.cap, self.begun = lengths, cap, 0

    def begin(self, count):
        first, self.begun = self.begun, min(len(self.lengths), self.begun + count)
        return [Response(serial=n, problem=n, group=n, cap=self.cap, prompt=[1]) for n in range(first, self.begun)]

    def write(self, response, window):
        """One window of it; a length above the cap never ends by itself."""
        target = self.lengths[response.serial]
        response.start = len(response.tokens)
        end = min(response.start + window, response.cap, target)
        response.tokens += list(range(response.start, end))
        response.finished = end == target


def iterations(lengths, *, window, cap, slots):
    """The batches until everything is done: for each response its serial and whether it is done by then."""
    pool, source, seen = Pool(), Source(lengths, cap), []
    while batch := pool.take(slots, source.begin):
        for one in batch:
            source.write(one, window)
        seen.append([(one.serial, one.done, one.start, len(one.tokens)) for one in batch])
        pool.requeue(batch)
    return seen


def test_t_ppo_row_pool_of_nine_responses():
    # W = 4, Lmax = 12, B = 3. d would write 14 and is done at the cap of 12 after three windows.
    lengths = {"a": 3, "b": 9, "c": 4, "d": 14, "e": 2, "f": 6, "g": 5, "h": 1, "i": 2}
    seen = iterations(list(lengths.values()), window=4, cap=12, slots=3)
    names = ["".join("abcdefghi"[serial] for serial, *_ in batch) for batch in seen]
    assert names == ["abc", "bde", "bdf", "dfg", "ghi"]
    ended = ["".join("abcdefghi"[serial] for serial, done, *_ in batch if done) for batch in seen]
    assert ended == ["ac", "e", "b", "df", "ghi"]


@pytest.mark.parametrize("seed", range(40))
def test_t_ppo_invariant_5_nothing_is_lost_or_doubled(seed):
    dice = random.Random(seed)
    window, cap, slots = dice.randint(1, 7), dice.randint(1, 20), dice.randint(1, 8)
    lengths = [dice.randint(1, 25) for _ in range(dice.randint(1, 40))]
    seen = iterations(lengths, window=window, cap=cap, slots=slots)
    written = dict.fromkeys(range(len(lengths)), 0)
    rounds = dict.fromkeys(written, 0)
    for batch in seen:
        assert len({serial for serial, *_ in batch}) == len(batch) <= slots
        for serial, done, start, end in batch:
            # the window begins where the one before ended, and only a window that is full goes on
            assert start == written[serial] and 1 <= end - start <= window
            assert done or end - start == window
            written[serial], rounds[serial] = end, rounds[serial] + 1
    assert written == {serial: min(length, cap) for serial, length in enumerate(lengths)}
    assert max(rounds.values()) <= math.ceil(cap / window)
    # B is constant until the prompts are exhausted, then the pool drains
    sizes = [len(batch) for batch in seen]
    first_short = next((i for i, size in enumerate(sizes) if size < slots), len(sizes))
    assert sizes[:first_short] == [slots] * first_short
    assert sizes[first_short:] == sorted(sizes[first_short:], reverse=True)


def test_those_that_wait_come_first_in_their_order_and_new_ones_only_fill_free_slots():
    waiting = [Response(serial=n, problem=0, group=0, cap=9, prompt=[1]) for n in range(4)]
    pool, asked = Pool(waiting), []

    def begin(count):
        asked.append(count)
        return [Response(serial=9, problem=0, group=0, cap=9, prompt=[1])] * count

    assert [one.serial for one in pool.take(3, begin)] == [0, 1, 2]
    # fewer slots than wait: nobody is dropped, and who is put back stands behind
    pool.requeue(waiting[:2])
    assert [one.serial for one in pool.take(4, begin)] == [3, 0, 1, 9]
    assert asked == [0, 1]


def test_a_pool_survives_json_to_the_last_bit():
    one = windows.response(3, 4, 4, finished=False, values=[0.0] * 4)
    dice = torch.randn(8, generator=tiny.generator())
    one.logps, one.values = dice.tolist(), (dice / 3).tolist()
    pool = Pool([one, windows.response(4, 0, 4, finished=False)])
    again = Pool.from_state(json.loads(json.dumps(pool.state)))
    assert again.waiting == pool.waiting
    assert torch.tensor(again.waiting[0].logps, dtype=torch.float32).equal(dice)


def test_what_was_written_before_a_window_is_context():
    batch = [windows.response(0, 4, 2, finished=True), windows.response(1, 0, 3, finished=False)]
    whole = as_rollouts(batch, pad_id=0, device="cpu")
    assert whole.num_tokens.tolist() == [6, 3]
    assert [whole.response(row) for row in (0, 1)] == [one.tokens for one in batch]
    assert [whole.prompt(row) for row in (0, 1)] == [one.prompt for one in batch]
    assert whole.finished.tolist() == whole.done.tolist() == [True, False]
    window = as_rollouts(batch, pad_id=0, device="cpu", first=[one.start for one in batch])
    assert window.num_tokens.tolist() == [2, 3]
    assert window.prompt(0) == batch[0].prompt + batch[0].tokens[:4]
    assert window.response(0) == batch[0].tokens[4:]
    assert window.train_mask.equal(window.mask)


def test_responses_without_a_token_are_rollouts_too():
    empty = [Response(serial=n, problem=n, group=n, cap=5, prompt=[1, 2]) for n in range(2)]
    made = as_rollouts(empty, pad_id=0, device="cpu")
    assert made.mask.shape == (2, 0)
    assert not made.done.any()
    assert padded([[], [True]], torch.bool, "cpu").tolist() == [[False], [True]]
