"""Passkey retrieval: a number told once, twice over, in a text that repeats itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lengthwise.context.tasks.rows import TaskRow, Template, check_request, count_tokens, dice, plain, too_short
from lengthwise.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

MOST_KEY = 9_999_999
DEFAULT_LENGTHS = tuple(range(2048, 16_384 + 1, 2048))
TASK = "A pass key is hidden in a lot of unimportant text. Find it and remember it; I will ask for it at the end.\n"
FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
KEY = "The pass key is {key}. Remember it: {key} is the pass key.\n"
QUESTION = "What is the pass key? The pass key is"


def passkey_rows(
    tokenizer: Tokenizer,
    *,
    length: int,
    rows: int = 50,
    seed: int = 0,
    first_half: bool = False,
    template: Template = plain,
) -> list[TaskRow]:
    """K blocks of filler with the key before block j, K as large as ``length`` tokens allow and at least 2.

    Key uniform on 1..9,999,999, then j uniform on 0..K-1 (``first_half``: 0..floor(K/2)-1), from one generator per
    length. Differs from the authors' code (LM-Infinite, arXiv 2308.16137): the budget counts the task sentence, the
    question and the template in full.

    Raises:
        ConfigError: a number out of range.
        InputError: a length in which no two blocks fit.
    """
    check_request(length, rows, seed)
    block = count_tokens(tokenizer, [FILLER])[0]
    if not block:
        raise InputError(
            "the tokenizer has no token for a plain English sentence, so no text of a length can be made; "
            "take the model's own tokenizer"
        )
    rng, made = dice(seed, "passkey", length), []
    for _ in range(rows):
        key = rng.randint(1, MOST_KEY)
        fixed = count_tokens(tokenizer, [_prompt(key, 0, 0, template)], special=True)[0]
        blocks = (length - fixed) // block
        if blocks < 2:
            raise too_short(length, fixed + 2 * block, "passkey")
        before = rng.randrange(blocks // 2 if first_half else blocks)
        prompt = _prompt(key, blocks, before, template)
        count = count_tokens(tokenizer, [prompt], special=True)[0]
        while count > length:  # a tokenizer that splits the joined text otherwise
            blocks -= 1 + (count - length) // block
            if blocks < 2:
                raise too_short(length, fixed + 2 * block, "passkey")
            before = min(before, blocks - 1)
            prompt = _prompt(key, blocks, before, template)
            count = count_tokens(tokenizer, [prompt], special=True)[0]
        labels = {"blocks": blocks, "before": before}
        made.append(TaskRow("passkey", prompt, str(key), count, length, seed, before / (blocks - 1), labels))
    return made


def _prompt(key: int, blocks: int, before: int, template: Template) -> str:
    return template(TASK + FILLER * before + KEY.format(key=key) + FILLER * (blocks - before) + QUESTION)
