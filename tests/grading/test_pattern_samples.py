"""Texts made from an answer pattern: each is read as the answer, whatever the expression is built of."""

from __future__ import annotations

import re

import pytest

from lengthwise.grading.pattern_samples import texts_with

READABLE = [
    (r"A:(\d+)", "12", "A:12"),
    (r"(?i)ANSWER\s*[:=]\s*(.+)", "3", "ANSWER:3"),
    (r"\*\*Answer\*\*: \$?(.+?)\$?$", "5", "**Answer**: 5"),
    (r"(?<=Result: )(\d+)", "7", "Result: 7"),
    (r"Answer: (\d+)(?=\.)", "5", "Answer: 5."),
    (r"Result (?:is|was) (\d+)\.?", "9", "Result is 9"),
    (r"^ANSWER: (.+)$", "x=1", "ANSWER: x=1"),
    (r"\\boxed\{(.*?)\}", r"\frac12", r"\boxed{\frac12}"),
    (r"(\d+) (?:\1) end", "8", "8 8 end"),
    (r"[^a-z\n]{2}\W(?P<answer>\w+)(?!\?)", "ab", None),
    (r"(?x) answer \s = \s (\d+) # the answer", "4", "answer = 4"),
    (r"(?>answer)=(\d++)", "3", "answer=3"),
    (r"(?:so )*(?:the answer is )+(\d+)", "3", "the answer is 3"),
    (r".{3000}(\d)", "3", "x" * 3000 + "3"),
    (r"\banswer\b\W+(\w+)\b", "z", None),
    (r"(?:Answer: (\d+))?", "6", "Answer: 6"),
    (r"(?s).*Final:(?:\s|:)*([-+]?\d+(?:\.\d+)?)", "-3.5", "Final:-3.5"),
]


@pytest.mark.parametrize(("pattern", "answer", "text"), READABLE)
def test_the_first_text_is_plain_and_is_read_as_the_answer(pattern, answer, text):
    found = next(texts_with(answer, pattern))
    assert text is None or found == text
    assert [match[1] for match in re.finditer(pattern, found) if match[1]][-1] == answer


@pytest.mark.parametrize(
    ("pattern", "answer"), [(r"option ([A-E])", "12"), (r"(\d+)", "pi"), (r"(?!)(\d+)", "1"), (r"x{20000}(.)", "1")]
)
def test_where_none_can_be_made_there_is_none(pattern, answer):
    assert list(texts_with(answer, pattern)) == []
