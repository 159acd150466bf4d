"""The reader's world: short stories, lines to look up and a pass key, in a few hundred words of one token each.

The prompts are those of `lengthwise.context.tasks`, whose fixed sentences are one token each, so that a context of a
few hundred tokens holds dozens of records. A number is written in pieces of two digits, the first with its space:
``" 12" "34" "5"``. Bytes stand behind the words: any text can be read, if not well.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, NamedTuple

from lengthwise.context.lambda_shaped_attention.window_rules import whole
from lengthwise.context.tasks import lines, passkey
from lengthwise.lab.words import EOS, PAD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TRAINED_CONTEXT = 256
IGNORED = -100
_KEY, _QUESTION, _RECORD = "\0", "\1", lines.record("a-b", 1)
ASK_LINE, ANSWER_LINE = lines.AFTER.split("{key}")
LINE, IS = _RECORD.split("a-b")[0], _RECORD.split("a-b")[1].removesuffix(" 1\n")
KEY_PARTS = tuple(part.rstrip(" ") for part in passkey.KEY.split("{key}"))
FILLER = tuple(re.findall(r" ?\w+|\.\n|\.", passkey.FILLER))
_VERBS = "sees finds likes knows greets follows helps calls draws paints lifts moves cleans mends guards visits"
VERBS = tuple(_VERBS.split())
EVERY, SOME = 0.7, 10
"""Share of a noun's mentions with the adjective that it keeps through a story; nouns of a story."""


class Taught(NamedTuple):
    """A row of words; `answers` marks those that are learnt."""

    words: list[str]
    answers: list[bool]


def _keys() -> tuple[list[str], list[str]]:
    """Adjectives and nouns of the line keys."""
    pairs = [key.split("-") for key in lines.line_keys()]
    return list(dict.fromkeys(a for a, _ in pairs)), list(dict.fromkeys(n for _, n in pairs))


ADJECTIVES, NOUNS = _keys()


def vocabulary() -> list[str]:
    """Every word, each one token; `PAD` and `EOS` first."""
    digits = [*map(str, range(10)), *(f"{n:02d}" for n in range(100))]
    words = [
        PAD, EOS, lines.BEFORE, LINE, IS, "\n", ASK_LINE, ANSWER_LINE, passkey.TASK, passkey.QUESTION, *KEY_PARTS,
        *FILLER, *digits, *(f" {n}" for n in range(1, 100)), *ADJECTIVES, *(f"-{noun}" for noun in NOUNS),
        *(f" {word}" for word in (*ADJECTIVES, *NOUNS, *VERBS)), " the", "The", " The", " is", ".",
    ]  # fmt: skip
    return list(dict.fromkeys(words))


def number_words(number: int) -> list[str]:
    """A number as the tokenizer reads it after a space: ``12345`` is ``" 12" "34" "5"``."""
    text = str(number)
    return [f" {text[:2]}", *(text[i : i + 2] for i in range(2, len(text), 2))]


def passkey_row(rng: random.Random, length: int) -> Taught:
    """A key told twice between blocks of filler, asked for at the end; the key is learnt from its second mention on."""
    number = number_words(rng.randint(1, passkey.MOST_KEY))
    blocks = max(2, (length - 3 * len(number) - 6) // len(FILLER))
    before = rng.randrange(blocks)
    told = [KEY_PARTS[0], *number, KEY_PARTS[1], *number, KEY_PARTS[2]]
    learnt = [False] * (len(number) + 2) + [True] * len(number) + [False]
    filler = [*FILLER] * before, [*FILLER] * (blocks - before)
    words = [passkey.TASK, *filler[0], *told, *filler[1], passkey.QUESTION, *number, EOS]
    answers = [False] * (1 + len(filler[0])) + learnt + [False] * (len(filler[1]) + 1) + [True] * (len(number) + 1)
    return Taught(words, answers)


def story_words(rng: random.Random, length: int) -> list[str]:
    """Sentences about a few things that mostly keep their adjective and what they do: later words are easier."""
    things = rng.sample(NOUNS, SOME)
    kept = {thing: (rng.choice(ADJECTIVES), rng.choice(VERBS), rng.choice(things)) for thing in things}

    def described(thing: str) -> list[str]:
        adjective = kept[thing][0] if rng.random() < EVERY else rng.choice(ADJECTIVES)
        return [f" {adjective}", f" {thing}"]

    words: list[str] = []
    while len(words) < length:
        thing = things[min(rng.randrange(SOME), rng.randrange(SOME))]
        _, verb, other = kept[thing]
        words.append(" The" if words else "The")
        if rng.random() < 0.3:
            words += [f" {thing}", " is", f" {kept[thing][0]}", "."]
            continue
        if rng.random() > EVERY:
            verb, other = rng.choice(VERBS), rng.choice(things)
        words += [*described(thing), f" {verb}", " the", *described(other), "."]
    return words[:length]


def story(seed: int, words: int) -> str:
    """A story as text, for perplexity and for fine-tuning."""
    whole("words", words, 1)
    return "".join(story_words(random.Random(f"reader/story/{seed}"), words))


WORDS = tuple(vocabulary()[2:])
NUMBERS = tuple(word for word in WORDS if word.strip().isdigit())


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The world's tokenizer: a word is one token, the longest first; bytes for the rest. Loads by `AutoTokenizer`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = vocabulary()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({word: index for index, word in enumerate([PAD, EOS, *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_tokens([AddedToken(word, normalized=False) for word in words[2:] if word not in letters])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, eos_token=EOS, clean_up_tokenization_spaces=False
    )
