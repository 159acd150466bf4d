"""One response taken apart: where its thinking stands, where the right answer first does, what is counted."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import pytest
from wordlog import EOS, word_tokenizer

from lengthwise.data import Defect
from lengthwise.errors import InputError
from lengthwise.grading.prompt_contract import PromptContract, preset
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.logs.estimated_tokens import pieces
from lengthwise.logs.token_breakdown import (
    AUTO,
    Anatomist,
    Anatomy,
    Body,
    Counter,
    Words,
    dissect,
    load_words,
)

THINKS = PromptContract("auto", think_close="</think>")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return word_tokenizer(tmp_path_factory.mktemp("words"))


def taken(text: str, answer: Any, contract: PromptContract = AUTO) -> Anatomy:
    found = dissect(Body(text, answer), contract, None, None)
    assert isinstance(found, Anatomy)
    return found


@pytest.mark.parametrize(
    ("text", "answer", "stated", "correct"),
    [
        ("2 + 2 = 4.\nThe answer is 5", 4, True, False),
        ("The answer is 5", 4, False, False),
        # Right by algebra only: no statement equals "x+1" as text, but the one that was graded right does.
        ("Then \\boxed{1+x}.", "x+1", True, True),
        ("The answer is 0.50", "1/2", True, True),
        # An unmarked number is read by the grader as a last resort, but is no statement.
        ("there are 4", 4, False, True),
    ],
)
def test_the_right_answer_is_found(text: str, answer: Any, stated: bool, correct: bool) -> None:
    found = taken(text, answer)
    assert (found.right_stated, found.verdict.correct) == (stated, correct)


def test_equal_answers_share_a_vote_and_right_ones_are_one() -> None:
    votes = [
        taken(text, "1/2").vote for text in ("The answer is 0.5", "\\boxed{\\frac12}", "The answer is 3", "**3.0**", "")
    ]
    assert votes[0] == votes[1]
    assert votes[2] == votes[3] != votes[0]
    assert votes[4] is None


def test_empty_and_unclosed() -> None:
    assert taken(" \n", 4, THINKS).closed
    assert not taken("so 4", 4, THINKS).closed
    assert taken("so 4</think>4", 4, THINKS).closed


def test_an_unreadable_reference_is_a_defect() -> None:
    found = dissect(Body("The answer is 4", "twelve"), preset("gsm8k"), None, None)
    assert isinstance(found, Defect)
    assert "wants a number" in found.detail


def test_long_answers_are_kept_short() -> None:
    found = taken("\\boxed{" + "y" * 5000 + "}", "z" * 5000)
    assert len(found.verdict.extracted or "") == 203
    assert len(found.vote or "") == len(found.gold) == 64


@pytest.mark.parametrize(
    ("text", "tokens", "thinking", "to_right", "ended"),
    [
        ("<think> 1 + 1 = 2. ok </think> it is 2", 11, 8, 6, False),
        (f"it is \\boxed{{2}} now {EOS}", 5, 0, 3, True),
        ("<think> 1 + 1 = 2", 6, 6, 6, False),
        ("nothing", 1, 0, None, False),
        ("", 0, 0, None, False),
    ],
)
def test_tokens_by_hand(words: Path, text: str, tokens: int, thinking: int, to_right: int | None, ended: bool) -> None:
    found = Anatomist(words=load_words(words))()(Body(text, 2))
    assert isinstance(found, Anatomy)
    assert (found.tokens, found.thinking, found.to_right, found.ended) == (tokens, thinking, to_right, ended)


def test_the_lab_reasoner_states_its_answer_after_every_pass() -> None:
    # 7 + 5 = 12 ; 12 - 3 = 9 ; are 12 tokens; the 9 is the 11th.
    make = Anatomist(contract=preset("lab"), words=load_words(shipped_reasoner()))
    found = pickle.loads(pickle.dumps(make))()(Body("7+5=12;12-3=9;check:7+5=12;12-3=9;A:9", 9))
    assert isinstance(found, Anatomy)
    assert (found.tokens, found.to_right) == (27, 11)


def test_a_tokenizer_may_bring_truncation_but_nothing_is_cut(words: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    core = Tokenizer.from_file(str(words / "tokenizer.json"))
    core.enable_truncation(3)
    core.enable_padding(length=10)
    word_tokenizer(tmp_path)
    core.save(str(tmp_path / "tokenizer.json"))
    found = Anatomist(words=load_words(tmp_path))()(Body("a b c d e", 2))
    assert isinstance(found, Anatomy)
    assert found.tokens == 5


def test_a_long_text_is_counted_in_pieces(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter(load_words(words))
    rng = random.Random(0)
    for _ in range(300):
        words_of = [
            rng.choice("ab") * rng.randint(1, 5) + rng.choice([" ", "  ", "\n"]) for _ in range(rng.randint(0, 20))
        ]
        text = "".join(words_of) + rng.choice(["", EOS])
        monkeypatch.setattr("lengthwise.logs.token_breakdown.PIECE", 10**6)
        whole = counter(text)
        monkeypatch.setattr("lengthwise.logs.token_breakdown.PIECE", 8)
        assert counter(text) == whole, text
    # Without a space to end at, a piece is as long as it may be.
    assert counter("c" * 20)[0] == [0, 8, 16]


def test_folders_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_words(tmp_path / "nowhere")
    with pytest.raises(InputError, match="tokenizer is"):
        load_words(tmp_path)


def test_pieces_are_counted_quickly_where_re_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, words = random.Random(0), pieces()
    signs = [*"ab Z_019\n\t,.<|>$\\{}½²ⅷ四é−×\u0301\u200b\u00a0\u3000🙂\x1cßאم१", "12345", "word", "\U000e0001"]
    counter = Counter(words)
    texts = ["".join(rng.choices(signs, k=rng.randrange(40))) for _ in range(3000)]
    texts += ["".join(rng.choices(signs[:20], k=60)) for _ in range(200)]
    quick = [counter(text) for text in texts]
    assert 500 < sum(map(words.quick, texts)) < 3000
    monkeypatch.setattr(Words, "quick", lambda self, text: False)
    assert [counter(text) for text in texts] == quick
