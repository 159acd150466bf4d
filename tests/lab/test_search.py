"""The search world: one subset a problem, tries that add up, lengths with a geometric tail, splits for ever."""

from __future__ import annotations

import itertools
import random

import pytest

from lengthwise.errors import InputError
from lengthwise.lab import search
from lengthwise.lab.lessons import search_lesson
from lengthwise.lab.reasoner import build_tokenizer
from lengthwise.lab.search import ANSWER, EOS, MISS, Puzzle


def test_one_token_per_word_and_back():
    tokenizer, rng = build_tokenizer(search.VOCABULARY), random.Random(0)
    for level in range(2, search.MOST_LEVEL + 1):
        puzzle = search.draw(rng, level)
        words = [*puzzle.words, *search.worked_solution(rng, puzzle), EOS]
        assert tokenizer("".join(words))["input_ids"] == [search.VOCABULARY.index(word) for word in words]


def test_a_problem_by_hand():
    puzzle = Puzzle((3, 8, 5, 12), 17)
    assert puzzle.problem == "3,8,5,12=17?" and puzzle.answer == "5+12" and puzzle.level == 4
    shortest = [*search.try_words(puzzle.subset), ANSWER, "5", "+", "12", EOS]
    assert "".join(shortest) == "5=5,12=17A:5+12<eos>" and len(shortest) == puzzle.oracle_tokens == 12
    assert puzzle.row["answer"] == "5+12"


@pytest.mark.parametrize("level", [2, 4, 6])
def test_exactly_one_subset_reaches_the_target(level):
    rng = random.Random(level)
    for _ in range(60):
        puzzle = search.draw(rng, level)
        # by bits, another way than the world's own
        sums = [sum(n for place, n in enumerate(puzzle.numbers) if bits >> place & 1) for bits in range(1, 2**level)]
        assert sums.count(puzzle.target) == 1
        assert sum(puzzle.subset) == puzzle.target and len(set(puzzle.numbers)) == level


def tries_of(words: list[str]) -> list[list[str]]:
    found = [[]]
    for word in words[: words.index(ANSWER)]:
        if word == MISS:
            found.append([])
        else:
            found[-1].append(word)
    return found


def test_a_solution_ends_with_its_first_hit_or_its_last_try():
    rng = random.Random(1)
    for _ in range(200):
        puzzle = search.draw(rng, rng.choice((2, 3, 4)))
        words = search.worked_solution(rng, puzzle, most=6)
        tries = tries_of(words)
        totals = []
        for words_of_try in tries:
            triples = [words_of_try[i : i + 4] for i in range(0, len(words_of_try), 4)]
            numbers = [int(t[0]) for t in triples]
            assert [int(t[2]) for t in triples] == list(itertools.accumulate(numbers))
            assert all(t[1] == "=" for t in triples)
            totals.append(sum(numbers))
        assert all(total != puzzle.target for total in totals[:-1])
        assert totals[-1] == puzzle.target or len(tries) == 6
        assert "".join(words[words.index(ANSWER) + 1 :]) == "+".join(w for w in tries[-1][::4])


def test_the_number_of_tries_is_geometric():
    rng = random.Random(2)
    tries = [len(tries_of(search.worked_solution(rng, search.draw(rng, 3), most=100))) for _ in range(1500)]
    for most in (1, 3, 7, 15):
        chance = 1 - (6 / 7) ** most  # one of the 2^3 - 1 parts hits
        # four standard errors
        assert sum(n <= most for n in tries) / 1500 == pytest.approx(chance, abs=4 * (0.25 / 1500) ** 0.5)
    # a long tail: the longest is many times the median
    assert max(tries) > 5 * sorted(tries)[750]


def test_splits_are_for_ever_and_do_not_overlap():
    sets = {split: set(search.problems(90, split=split, seed=0)) for split in ("train", "validation", "test")}
    assert all(search.split_of(p) == split for split, found in sets.items() for p in found)
    assert not sets["train"] & sets["test"]
    again = search.problems(90, split="test", seed=0)
    assert search.problems(90, split="test", seed=0) == again and len(set(again)) == 90
    assert [p.level for p in again[:6]] == [2, 3, 4, 2, 3, 4]


def test_the_lesson_teaches_train_problems_only():
    for example in itertools.islice(search_lesson().examples(0), 50):
        numbers, _, target = "".join(example.prompt)[:-1].partition("=")
        puzzle = Puzzle(tuple(map(int, numbers.split(","))), int(target))
        assert search.split_of(puzzle) == "train" and all(example.taught)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: search.problems(0, split="test", seed=0), "count"),
        (lambda: search.problems(3, split="test", seed=0, levels=()), "levels"),
        (lambda: search.problems(3, split="test", seed=0, levels=(7,)), "levels"),
        (lambda: search.problems(3000, split="test", seed=0, levels=(2,)), "count"),
    ],
)
def test_bad_input_is_named(call, names):
    with pytest.raises(InputError, match=names):
        call()


def test_the_shipped_guesser_solves_two_numbers_and_sometimes_takes_long():
    from lengthwise.config.groups.sampling import Sampling
    from lengthwise.engine import load_policy
    from lengthwise.generation.sampling import sample_answers
    from lengthwise.grading.problems import prepare
    from lengthwise.grading.prompt_contract import preset, resolve
    from lengthwise.lab.reasoner import shipped_reasoner

    policy = load_policy(shipped_reasoner("search"))
    rows = [p.row for p in search.problems(12, split="test", seed=0, levels=(2,))]
    contract = resolve(preset("lab"), policy.tokenizer)
    problems = prepare(rows, contract, policy.tokenizer, cap=100, positions=512, source="search")
    found = sample_answers(policy, problems, Sampling(cap=100, samples=4, seed=0))
    assert float(found.correct.float().mean()) > 0.75
    lengths = found.num_tokens.float()
    assert lengths.max() >= 3 * lengths.median()
