"""Rows that the reader is taught, drawn many at a time: ids and labels [B, n] of one kind and length."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lengthwise.context.tasks import lines
from lengthwise.lab import reader
from lengthwise.lab.words import EOS

IGNORED = -100
STORIES, STORY_WORDS = 1000, 1024
"""A dealer writes so many stories of so many words, and deals parts of them."""
LAYOUTS = 4
"""Rows of a batch share so many patterns of where records and questions stand; words differ from row to row."""


class Dealer:
    """Endless rows of a seed; every kind of `kinds` has a method of its own."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"reader/teach/{seed}")
        self._dice = torch.Generator().manual_seed(seed)
        self._id = reader.build_tokenizer().get_vocab()
        self._pools = {name: torch.tensor([self._id[word] for word in words]) for name, words in _POOLS.items()}
        self._stories = torch.zeros(0, 0, dtype=torch.long)
        self.kinds: Mapping[str, Callable[[int, int], tuple[Tensor, Tensor]]] = {
            "lines": self.lines, "passkey": self.passkey, "story": self.story, "repeated": self.repeated
        }  # fmt: skip

    def deal(self, mix: Mapping[str, float], rows: int, length: int) -> tuple[Tensor, Tensor]:
        """Rows of several kinds, in the shares of `mix` on average."""
        drawn = self._rng.choices(list(mix), list(mix.values()), k=rows)
        parts = [self.kinds[kind](drawn.count(kind), length) for kind in sorted(set(drawn))]
        return torch.cat([ids for ids, _ in parts]), torch.cat([labels for _, labels in parts])

    def lines(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        """Records and then questions about several of them; the answers are learnt.

        Few questions are as frequent as many, so that near and far records are asked for. A line break ends the last
        number, so that an answer that must go on does not go on with digits.
        """
        parts = [self._lines(rows // LAYOUTS + (rows % LAYOUTS > part), length) for part in range(LAYOUTS)]
        return torch.cat([ids for ids, _ in parts]), torch.cat([labels for _, labels in parts])

    def _lines(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        """Rows of one pattern. Each word of it is a column of a table with a row of words for each row."""
        asked = self._rng.randint(1, max(1, (length - 18) // 15))
        digits = self._digits(length, asked)
        columns: list[Tensor] = list(self._keys(rows, len(digits)).unbind(1))

        def column(pool: str) -> int:
            columns.append(self._draw(pool, (rows,)))
            return len(columns) - 1

        def word(text: str) -> int:
            columns.append(torch.full((rows,), self._id[text]))
            return len(columns) - 1

        before, line, told, end, ask, answer, last = map(
            word, (lines.BEFORE, reader.LINE, reader.IS, "\n", reader.ASK_LINE, reader.ANSWER_LINE, EOS)
        )
        pattern, learnt, records = [before], [False], []
        for place, count in enumerate(digits):
            key, number = [2 * place, 2 * place + 1], [column(pool) for pool in _pieces(count)]
            records.append((key, number))
            pattern += [line, *key, told, *number, end]
        learnt += [False] * (len(pattern) - 1)
        for key, number in self._rng.choices(records, k=asked):
            pattern += [ask, *key, answer, *number]
            learnt += [False] * 4 + [True] * len(number)
        ids = torch.stack([*columns], 1)[:, [*pattern, end, last][:length]]
        return _padded(ids, torch.tensor([*learnt, True, True][:length]), length)

    def _keys(self, rows: int, records: int) -> Tensor:
        """Adjective, noun, adjective, .. of the records, [rows, 2 records]; no key twice.

        Every second pattern takes them from few adjectives and nouns, so that one word of a key does not tell it.
        """
        words = self._pools["adjectives"], self._pools["nouns"]
        few = math.ceil(math.sqrt(2 * records)) + 1 if self._rng.random() < 0.5 else len(words[0])
        picked = [pool[torch.randperm(len(pool), generator=self._dice)[:few]] for pool in words]
        pairs = torch.rand(rows, len(picked[0]) * len(picked[1]), generator=self._dice).topk(records).indices
        both = picked[0][pairs // len(picked[1])], picked[1][pairs % len(picked[1])]
        return torch.stack(both, 2).flatten(1)

    def _digits(self, length: int, asked: int) -> list[int]:
        """Digits of each record's number, as uniform numbers up to 50,000 have them; records fill the length."""
        held = max(1, (length - 3 - 7 * asked) // 8)
        return [len(str(self._rng.randint(1, lines.MOST_NUMBER))) for _ in range(held)]

    def passkey(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        """See `reader.passkey_row`."""
        made = [reader.passkey_row(self._rng, length) for _ in range(rows)]
        ids, labels = torch.zeros(rows, length, dtype=torch.long), torch.full((rows, length), IGNORED)
        for row, (words, answers) in enumerate(made):
            found = torch.tensor([self._id[word] for word in words[:length]])
            ids[row, : len(found)] = found
            labels[row, : len(found)] = found.masked_fill(~torch.tensor(answers[:length]), IGNORED)
        return ids, labels

    def story(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        """Parts of stories, half of them from their beginning; all is learnt."""
        if not len(self._stories):
            words = [reader.story_words(self._rng, STORY_WORDS) for _ in range(STORIES)]
            self._stories = torch.tensor([[self._id[word] for word in one] for one in words])
        which = torch.randint(STORIES, (rows, 1), generator=self._dice)
        start = torch.randint(STORY_WORDS - length + 1, (rows, 1), generator=self._dice)
        start *= torch.randint(2, (rows, 1), generator=self._dice)
        ids = self._stories[which, start + torch.arange(length)]
        return ids, ids.clone()

    def repeated(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        """A stretch of random words over and over, learnt from its second time on: it teaches looking back early.

        Half of the rows are made of the pieces of numbers alone: few words that come often are learnt first.
        """
        longest = max(5, length // 4)
        period = torch.randint(4, longest, (rows, 1), generator=self._dice)
        stretch = torch.cat(
            [self._draw("numbers", (rows // 2, longest)), self._draw("words", (rows - rows // 2, longest))]
        )
        places = torch.arange(length)[None]
        ids = stretch.gather(1, places % period)
        return ids, ids.masked_fill(places < period, IGNORED)

    def _draw(self, pool: str, shape: tuple[int, ...]) -> Tensor:
        words = self._pools[pool]
        return words[torch.randint(len(words), shape, generator=self._dice)]


def _pieces(digits: int) -> list[str]:
    """Pools of a number's pieces."""
    first = "digit first" if digits == 1 else "two digits first"
    return [first, *["two digits"] * (digits // 2 - 1), *["digit"] * (digits % 2 if digits > 1 else 0)]


def _padded(ids: Tensor, learnt: Tensor, length: int) -> tuple[Tensor, Tensor]:
    labels = ids.masked_fill(~learnt, IGNORED)
    pad = (0, length - ids.shape[1])
    return torch.nn.functional.pad(ids, pad), torch.nn.functional.pad(labels, pad, value=IGNORED)


_TENS = [f"{n:02d}" for n in range(100)]
_POOLS: dict[str, list[str]] = {
    "adjectives": reader.ADJECTIVES,
    "nouns": [f"-{noun}" for noun in reader.NOUNS],
    "digit first": [f" {n}" for n in range(1, 10)],
    "two digits first": [f" {n}" for n in range(10, 100)],
    "two digits": _TENS,
    "digit": [*map(str, range(10))],
    "numbers": list(reader.NUMBERS),
    "words": list(reader.WORDS),
}
