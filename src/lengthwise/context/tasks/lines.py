"""Line retrieval: many records of a key and a number, and a question about one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from lengthwise.context.lambda_shaped_attention.window_rules import whole
from lengthwise.context.tasks.rows import (
    LEAST_FILLED,
    TaskRow,
    Template,
    check_request,
    count_tokens,
    dice,
    plain,
    too_short,
)
from lengthwise.data import read_rows, require_columns
from lengthwise.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

MOST_NUMBER = 50_000
DEFAULT_LINES = (100, 150, 175, 200, 250, 300, 400, 500, 600, 680, 750, 850, 950, 1100)
DEFAULT_ROWS = 50
BEFORE = (
    "Below are lines to remember. Every line has a name and, after REGISTER_CONTENT, a number. Remember the number of "
    "each line: after the last line you will be asked for one of them.\n\n"
)
AFTER = "\nThat was the last line. What is the number of REGISTER_CONTENT in line {key}? The number is"
_ADJECTIVES = (
    "able ample ancient arctic azure bashful bitter blunt bold brave breezy brief bright brisk broad calm candid "
    "careful cheery chilly civil classic clever coarse cosmic cozy crisp curious dapper daring deep deft dense dim "
    "direct distant dizzy dusty eager early earnest elastic elder exact faint fancy fertile fierce fluffy foggy "
    "formal fragile frank fresh frosty gentle giant glad gleaming golden grand grave hardy hasty hazy hidden hollow "
    "honest humble icy idle jolly keen kind large late lean lively lonely lucid lunar mellow merry mild misty modest "
    "narrow neat nimble noble odd pale plain polite proud quick quiet rapid rare rustic sharp shy silent "
)
_NOUNS = (
    "acorn anchor anvil apple arrow badge bakery barrel basin beacon beetle bell blanket bottle bridge bucket cabin "
    "candle canoe canyon carpet castle cedar cellar chair chimney clock cloud compass copper coral cradle crater "
    "crown desert drum eagle engine falcon feather fence ferry fiddle forest fountain garden glacier goblet hammer "
    "harbor helmet hill island jacket jewel kettle kitten ladder lantern lemon lily lizard magnet maple marble meadow "
    "mirror needle nest oasis orchard otter paddle parrot pebble pepper pillow planet puzzle quarry rabbit raft "
    "ribbon river rocket saddle sailor satchel shovel spoon stable statue tower trumpet tunnel turtle valley velvet "
    "violin wagon walnut window "
)


def line_keys() -> list[str]:
    """Every key of a record, ``adjective-noun``, in a fixed order."""
    return [f"{adjective}-{noun}" for adjective in _ADJECTIVES.split() for noun in _NOUNS.split()]


def record(key: str, number: int) -> str:
    """One line of the text."""
    return f"line {key}: REGISTER_CONTENT is {number}\n"


def lines_rows(
    tokenizer: Tokenizer, *, length: int, rows: int = DEFAULT_ROWS, seed: int = 0, template: Template = plain
) -> list[TaskRow]:
    """Rows of as many records as fit into ``length`` tokens; keys distinct, numbers uniform on 1..50000.

    Raises:
        ConfigError: a number out of range.
        InputError: no record fits, or more would fit than there are keys.
    """
    check_request(length, rows, seed)
    keys = line_keys()
    least = count_tokens(tokenizer, [_prompt([(keys[0], MOST_NUMBER)], 0, template)], special=True)[0]
    if least > length:
        raise too_short(length, least, "lines")
    return [_fitted(tokenizer, length, seed, index, keys, template) for index in range(rows)]


def lines_rows_of(
    tokenizer: Tokenizer, *, lines: int, rows: int = DEFAULT_ROWS, seed: int = 0, template: Template = plain
) -> list[TaskRow]:
    """Rows of exactly ``lines`` records, whatever their tokens; the published counts are `DEFAULT_LINES`.

    Raises:
        ConfigError: a number out of range.
        InputError: more lines than there are keys.
    """
    check_request(whole("lines", lines, 1), rows, seed)
    keys, made = line_keys(), []
    for index in range(rows):
        records, rng = _records(lines, seed, f"n{lines}", index, keys)
        target = rng.randrange(lines)
        made.append((records, target, _prompt(records, target, template)))
    counts = count_tokens(tokenizer, [prompt for _, _, prompt in made], special=True)
    return [_row(*one, count, None, seed) for one, count in zip(made, counts, strict=True)]


def read_longchat(path: str | Path, tokenizer: Tokenizer, *, template: Template = plain) -> list[TaskRow]:
    """The rows of a LongChat lines file: JSONL with prompt, expected_number, random_idx (key, index) and num_lines.

    Raises:
        InputError: a file or row that is not one.
    """
    needed = ("prompt", "expected_number", "random_idx", "num_lines")
    rows = require_columns(read_rows(path), needed, str(path))
    prompts = [template(str(row["prompt"])) for row in rows]
    made = []
    for number, (row, prompt, count) in enumerate(
        zip(rows, prompts, count_tokens(tokenizer, prompts, special=True), strict=True), 1
    ):
        try:
            key, place, lines, answer = _condition(row)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{path}, row {number} is no LongChat row ({error}); give a file of its lines task"
            ) from error
        made.append(TaskRow("lines", prompt, str(answer), count, None, None, place, {"lines": lines, "key": key}))
    return made


def _condition(row: Mapping[str, object]) -> tuple[object, float, int, int]:
    """Key, place among the lines from 0 to 1, lines and answer of a LongChat row; a TypeError or ValueError if none."""
    pair, lines = row["random_idx"], _whole(row["num_lines"])
    if not isinstance(pair, list):
        raise TypeError(f"random_idx is {pair!r}")
    key, index = pair
    return key, _whole(index) / max(1, lines - 1), lines, _whole(row["expected_number"])


def _whole(value: object) -> int:
    if not isinstance(value, (int, float, str)):
        raise TypeError(f"{value!r} is no number")
    return int(value)


def _fitted(
    tokenizer: Tokenizer, length: int, seed: int, index: int, keys: Sequence[str], template: Template
) -> TaskRow:
    least_record = 6
    drawn = min(len(keys), length // least_record + 1)
    records, rng = _records(drawn, seed, length, index, keys)
    share = rng.random()
    bare, *each = count_tokens(tokenizer, [_prompt(records[:1], 0, template), *(record(*one) for one in records[:50])])
    lines, most = max(1, min(drawn, int((0.99 * length - bare) * len(each) / sum(each)))), drawn
    while True:
        target = min(int(share * lines), lines - 1)
        prompt = _prompt(records[:lines], target, template)
        count = count_tokens(tokenizer, [prompt], special=True)[0]
        if count <= length and (count >= LEAST_FILLED * length or lines == most):
            break
        if count > length and lines == 1:
            raise too_short(length, count, "lines")
        most = lines - 1 if count > length else most
        lines = max(1, min(most, lines + (int((0.98 * length - count) * lines / count) or 1)))
    if count < LEAST_FILLED * length and lines == len(keys):
        raise InputError(
            f"length is {length}; it takes more than the {len(keys)} distinct line keys. Give a smaller length"
        )
    return _row(records[:lines], target, prompt, count, length, seed)


def _records(
    lines: int, seed: int, what: object, index: int, keys: Sequence[str]
) -> tuple[list[tuple[str, int]], Random]:
    if lines > len(keys):
        raise InputError(f"lines is {lines}; there are {len(keys)} distinct line keys")
    rng = dice(seed, "lines", what, index)
    return [(key, rng.randint(1, MOST_NUMBER)) for key in rng.sample(keys, lines)], rng


def _prompt(records: Sequence[tuple[str, int]], target: int, template: Template) -> str:
    return template(BEFORE + "".join(record(*one) for one in records) + AFTER.format(key=records[target][0]))


def _row(
    records: Sequence[tuple[str, int]], target: int, prompt: str, count: int, length: int | None, seed: int
) -> TaskRow:
    labels = {"lines": len(records), "key": records[target][0]}
    place = target / max(1, len(records) - 1)
    return TaskRow("lines", prompt, str(records[target][1]), count, length, seed, place, labels)
