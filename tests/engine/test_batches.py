from __future__ import annotations

import re

import pytest
import tiny
import torch

from lengthwise.engine.backends.transformers_sampler import Sampler
from lengthwise.engine.batches import (
    Task,
    check_needs,
    collect,
    grade_rollouts,
    micro_batches,
    mini_batches,
    nothing_kept,
    problem_at,
    step_generator,
)
from lengthwise.engine.method import Asked
from lengthwise.errors import ConfigError
from lengthwise.methods import build_method

# reading order


@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_every_epoch_reads_every_problem_once(count):
    epochs = [[problem_at(epoch * count + place, count, 3) for place in range(count)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    if count == 50:
        assert epochs[0] != epochs[1] != epochs[2]
        assert epochs[0] != [problem_at(place, count, 4) for place in range(count)]


def test_an_epoch_is_drawn_once_however_many_rows_it_has(monkeypatch):
    count, drawn, randperm = 200_000, [], torch.randperm

    def counting(*args, **options):
        drawn.append(args[0])
        return randperm(*args, **options)

    monkeypatch.setattr(torch, "randperm", counting)
    start = count - 300
    read = [problem_at(start + place, count, 11) for place in range(600)]
    watched = [problem_at(place, count, 11) for place in range(5)]
    assert drawn == [count] * 2  # the last of one epoch, the first of the next, and a watched set of the first
    # the same draws as ever: committed studies rest on them
    first, second = (randperm(count, generator=step_generator(11, e, 4_001, torch.device("cpu"))) for e in range(2))
    assert read == [*first[-300:].tolist(), *second[:300].tolist()] and watched == first[:5].tolist()


def test_generators_depend_on_seed_step_and_stage_alone():
    cpu = torch.device("cpu")

    def numbers(*key):
        return torch.rand(4, generator=step_generator(*key, cpu)).tolist()

    keys = [(seed, step, stage) for seed in range(3) for step in range(3) for stage in range(3)]
    assert len({tuple(numbers(*key)) for key in keys}) == 27
    assert numbers(5, 6, 7) == numbers(5, 6, 7)


# collecting


def draw(practice, *, method=None, net=None, **options):
    sampler = Sampler(net or tiny.model(), eos_ids=tiny.EOS, pad_id=0)
    settings = {
        "step": 0, "cap": 5, "cursor": 0, "prompts": 4, "group_size": 4, "max_draws": 8, "temperature": 1.0, "seed": 0,
        **options,
    }  # fmt: skip
    return collect(sampler, practice, method or build_method("dler", cap=5), {}, **settings)


def test_dynamic_sampling_refills_to_whole_mixed_groups():
    # half of the problems can never be answered right: their groups must be drawn again
    practice = Task(
        prompts=[[2 + n % 25, 1] for n in range(12)],
        grade=lambda number, tokens: number % 2 == 0 and tokens[0] % 2 == 0,
    )
    found = draw(practice)
    kept, drawn = found.kept, found.drawn
    assert found.draws > 1
    assert len(kept) == 16 and len(kept.group_ids.unique()) == 4
    for group in kept.group_ids.unique():
        rows = kept.group_ids == group
        assert int(rows.sum()) == 4
        assert 0 < int(kept.answer_correct[rows].sum()) < 4
        assert len(kept.problem_ids[rows].unique()) == 1
    # group ids are unique over all draws, and the cursor counts every problem that was asked
    assert found.cursor == len(drawn.group_ids.unique()) == len(drawn) // 4
    assert drawn.problem_ids[::4].tolist() == [problem_at(c, 12, 0) for c in range(found.cursor)]


def test_the_verdict_and_not_the_cut_decides_what_is_mixed():
    # cap 1: nearly everything is cut, so `correct` is mostly False, yet groups are mixed by the answer
    found = draw(tiny.task(), cap=1)
    shares = [
        found.kept.answer_correct[found.kept.group_ids == g].float().mean() for g in found.kept.group_ids.unique()
    ]
    assert all(0 < float(share) < 1 for share in shares)
    assert float(found.kept.correct.float().mean()) < float(found.kept.answer_correct.float().mean())


def test_a_method_that_keeps_everything_draws_once():
    found = draw(tiny.task(), method=build_method("grpo", cap=5))
    assert found.draws == 1 and found.cursor == 4 and len(found.kept) == len(found.drawn) == 16


def test_fewer_groups_than_wanted_are_a_smaller_batch():
    practice = Task(
        prompts=[[2 + n] for n in range(8)], grade=lambda number, tokens: number == 0 and tokens[0] % 2 == 0
    )
    found = draw(practice, max_draws=2, cursor=[problem_at(c, 8, 0) for c in range(8)].index(0))
    assert found.draws == 2 and len(found.kept.group_ids.unique()) in (1, 2)
    assert set(found.kept.problem_ids.tolist()) == {0}


@pytest.mark.parametrize(
    ("grade", "cap", "advice"),
    [
        (lambda number, tokens: False, 5, "use easier problems"),
        (lambda number, tokens: True, 40, "use harder problems"),
        (lambda number, tokens: True, 1, "raise the cap"),
    ],
    ids=["all wrong", "all right", "all cut"],
)
def test_a_batch_with_nothing_mixed_is_empty_and_says_the_way_out(grade, cap, advice):
    found = draw(Task(prompts=[[5], [6], [7]], grade=grade), max_draws=3, cap=cap)
    assert len(found.kept) == 0 and found.draws == 3 and len(found.drawn) == 4 * found.cursor
    assert re.search(rf"kept 0 of {found.cursor} prompts in 3 draws.*at cap {cap} .*{advice}", nothing_kept(found, cap))


def test_a_method_may_ask_a_problem_in_several_ways():
    method = build_method("grpo", cap=5)
    method = type(method)(**{**method.__dict__, "prompts": lambda ask: [Asked([20, *ask("")]), Asked([21, *ask("")])]})
    found = draw(tiny.task(), method=method)
    for group in range(4):
        rows = [r for r in range(16) if int(found.kept.group_ids[r]) == group]
        assert [found.kept.prompt(r)[0] for r in rows] == [20, 20, 21, 21]
        assert len({int(found.kept.problem_ids[r]) for r in rows}) == 1
    with pytest.raises(ConfigError, match="group_size is 3 but method 'grpo' asks each problem in 2 ways"):
        draw(tiny.task(), method=method, group_size=3)


def test_the_world_of_a_task_writes_into_the_rows_of_its_problems():
    def world(owners, generator):
        return lambda row, written: 2 + owners[row] if len(written) == 0 else None

    practice = Task(prompts=tiny.task().prompts, grade=lambda n, tokens: tokens[0] == 2 + n, world=world)
    found = draw(practice, method=build_method("grpo", cap=5))
    assert found.kept.answer_correct.all() and not found.kept.train_mask[:, 0].any()


def test_grading_sees_the_problem_and_the_response():
    made = tiny.rollouts([2, 3, 1], groups=[4, 4, 9])
    seen = []
    graded = grade_rollouts(
        made, Task([[1]], lambda number, tokens: bool(seen.append((number, tokens))) or number == 9)
    )
    assert graded.answer_correct.tolist() == [False, False, True]
    assert seen == [(4, made.response(0)), (4, made.response(1)), (9, made.response(2))]
    asked = []
    whole = Task(
        [[1]], lambda number, tokens: False, grade_all=lambda *batch: asked.append(batch) or [True, False, True]
    )
    assert grade_rollouts(made, whole).answer_correct.tolist() == [True, False, True]
    assert asked == [([4, 4, 9], [made.response(row) for row in range(3)])]


def test_a_task_without_problems_is_refused():
    with pytest.raises(ConfigError, match="prompts is empty"):
        Task([], lambda number, tokens: True)


# mini- and micro-batches


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_mini_batches_cover_all_rows_once_in_whole_groups(count):
    groups = torch.tensor([3, 1, 3, 2, 1, 9, 9, 2, 5, 3])
    parts = mini_batches(groups, count, tiny.generator())
    # five groups: never more mini-batches than groups
    assert len(parts) == min(count, 5)
    assert sorted(torch.cat(parts).tolist()) == list(range(10))
    owners = [set(groups[part].tolist()) for part in parts]
    assert sum(len(o) for o in owners) == len(set().union(*owners)) == 5


def test_mini_batches_are_shuffled_by_the_generator():
    groups = torch.arange(40).repeat_interleave(2)
    one, again, other = (mini_batches(groups, 2, tiny.generator(seed))[0].tolist() for seed in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("limit", [1, 12, 30, 64, 10_000])
def test_micro_batches_cover_all_rows_once_within_the_limit(limit, whole):
    lengths = [7, 1, 4, 9, 2, 2, 8, 3, 5, 6]
    made = tiny.rollouts(lengths, groups=[0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    chosen = torch.tensor([9, 1, 3, 2, 4, 5, 8, 0])
    parts = list(micro_batches(made, chosen, max_tokens=limit, whole_groups=whole))
    assert sorted(torch.cat(parts).tolist()) == sorted(chosen.tolist())
    for part in parts:
        padded = len(part) * max(3 + lengths[row] for row in part.tolist())
        groups = made.group_ids[part]
        single = len(groups.unique()) == 1 if whole else len(part) == 1
        assert padded <= limit or single
    if whole:
        owners = [set(made.group_ids[part].tolist()) for part in parts]
        assert sum(len(o) for o in owners) == len(set().union(*owners)) == 4
    if limit == 10_000:
        assert len(parts) == 1


def test_micro_batches_put_like_lengths_together():
    made = tiny.rollouts([9, 1, 9, 1, 9, 1])
    parts = [part.tolist() for part in micro_batches(made, torch.arange(6), max_tokens=36, whole_groups=False)]
    # prompts have 3 tokens: three short rows fill 3 * 4 = 12, a long one would make it 4 * 12 = 48
    assert parts == [[1, 3, 5], [0, 2, 4]]


def test_no_rows_are_no_micro_batches():
    made = tiny.rollouts([2])
    assert list(micro_batches(made, torch.tensor([], dtype=torch.long), max_tokens=9, whole_groups=True)) == []


def test_words_that_change_no_prompt_are_refused():
    plain = tiny.task()
    deaf = Task(plain.prompts, plain.grade, instruct=lambda problem, words: list(plain.prompts[problem]))
    with pytest.raises(ConfigError, match="'effort' puts .* but that changes no prompt"):
        check_needs(deaf, build_method("effort", cap=6), 4)
