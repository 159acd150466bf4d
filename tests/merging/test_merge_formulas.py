"""Merging in memory: hand rows of the spec page merging, its edge cases and invariants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lengthwise.errors import ConfigError, InputError, LengthwiseWarning
from lengthwise.merging import (
    dare_merge,
    formulas,
    linear_merge,
    slerp_merge,
    task_arithmetic,
    ties_merge,
    update_selective_merge,
)
from lengthwise.merging.in_memory import merge_in_memory
from lengthwise.merging.kth_largest import TopMask, kth_largest
from lengthwise.merging.merge_methods import METHODS, Dare, TiesAuthors, build_merge

Model = dict[str, torch.Tensor]
BASE = {"w": torch.tensor([1.0, 2, -1, 0])}
FIRST = {"w": torch.tensor([2.0, 1, -1, 4])}  # change [1, -1, 0, 4]
SECOND = {"w": torch.tensor([0.0, 4, -3, 1])}  # change [-1, 2, -2, 1]


def model(seed: int, dtype: torch.dtype = torch.float32) -> Model:
    dice = torch.Generator().manual_seed(seed)
    shapes = {"b.weight": (7, 5), "a.weight": (3, 4, 2), "c": (), "empty": (0, 3), "a.bias": (11,)}
    return {name: torch.randn(shape, generator=dice).to(dtype) for name, shape in shapes.items()}


def near(base: Model, seed: int, spread: float = 0.25) -> Model:
    """The base with changes from a small set, so that magnitudes tie."""
    dice = torch.Generator().manual_seed(1000 + seed)
    return {n: w + (torch.randint(-3, 4, w.shape, generator=dice) * spread).to(w.dtype) for n, w in base.items()}


def assert_bits(left: Model, right: Model) -> None:
    assert list(left) == list(right)
    for name, tensor in left.items():
        other = right[name]
        assert (tensor.dtype, tensor.shape) == (other.dtype, other.shape)
        assert torch.equal(tensor.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8)), name


MERGES: dict[str, Callable[..., Model]] = {
    "task-arithmetic": task_arithmetic,
    "ties": lambda base, models, **options: ties_merge(base, models, density=0.4, **options),
    "dare": lambda base, models, **options: dare_merge(base, models, density=0.4, seed=3, **options),
}


# --- hand rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("merged", "wanted"),
    [
        # (3 * 2 + 0) / 4 = 1.5, (3 * 1 + 4) / 4 = 1.75, (-3 - 3) / 4 = -1.5, (12 + 1) / 4 = 3.25
        pytest.param(lambda: linear_merge([FIRST, SECOND], weights=[3, 1]), [1.5, 1.75, -1.5, 3.25], id="row1-mean"),
        # the same without the division
        pytest.param(
            lambda: linear_merge([FIRST, SECOND], weights=[3, 1], normalize=False), [6, 7, -6, 13], id="row1-sum"
        ),
        # 1 + .5 * 1 - .5 * 1 = 1, 2 - .5 + 1 = 2.5, -1 + 0 - 1 = -2, 0 + 2 + .5 = 2.5
        pytest.param(
            lambda: task_arithmetic(BASE, [FIRST, SECOND], weights=[0.5, 0.5]), [1, 2.5, -2, 2.5], id="row2-weights"
        ),
        # the sums 0, 1, -2, 5, halved
        pytest.param(lambda: task_arithmetic(BASE, [FIRST, SECOND], scale=0.5), [1, 2.5, -2, 2.5], id="row2-scale"),
        # sums 0 (so +1: 1 alone), 1 (+: 2 alone), -2 (-: -2 alone), 5 (+: mean of 4 and 1 = 2.5)
        pytest.param(lambda: ties_merge(BASE, [FIRST, SECOND], density=1), [2, 4, -3, 2.5], id="row3"),
        # weighted sums 1 - 2 = -1 (-: -2 / 2 = -1), 3 (+: 4 / 2 = 2), -4 (-: -4 / 2 = -2), 6 (+: 6 / 3 = 2)
        pytest.param(lambda: ties_merge(BASE, [FIRST, SECOND], density=1, weights=[1, 2]), [0, 4, -3, 2], id="row4"),
        # not divided: 1, 2, -2, 5, halved: .5, 1, -1, 2.5
        pytest.param(
            lambda: ties_merge(BASE, [FIRST, SECOND], density=1, normalize=False, scale=0.5),
            [1.5, 3, -2, 2.5],
            id="row5",
        ),
    ],
)
def test_merging_8_rows_1_to_5(merged: Callable[[], Model], wanted: list[float]) -> None:
    assert merged()["w"].tolist() == wanted


@pytest.mark.parametrize(
    ("density", "wanted"),
    # int(.5 * 4) = 2 kept: 3 and -2; int(.1 * 4) = 0, but at least 1: 3; density 0: none
    [(0.5, [3, 0, 0, -2]), (0.1, [3, 0, 0, 0]), (0, [0, 0, 0, 0])],
)
def test_merging_8_row_6_trim(density: float, wanted: list[float]) -> None:
    change = {"w": torch.tensor([3, -1, 0.5, -2])}
    assert ties_merge({"w": torch.zeros(4)}, [change], density=density, normalize=False)["w"].tolist() == wanted


@pytest.mark.parametrize(
    ("rescale", "wanted"),
    [
        # kept changes 1 and 4, doubled: 1 + 2, 2, -1, 0 + 8
        ("inverse", [3, 2, -1, 8]),
        # sum of sizes 6, kept 5: factor 1.2: 1 + 1.2, 2, -1, 4.8
        ("l1", [2.2, 2, -1, 4.8]),
    ],
)
def test_merging_8_row_7_dare(monkeypatch: pytest.MonkeyPatch, rescale: str, wanted: list[float]) -> None:
    monkeypatch.setattr(formulas, "bernoulli_mask", lambda *_: np.array([True, False, False, True]))
    merged = dare_merge(BASE, [FIRST], density=0.5, seed=0, rescale=rescale)
    torch.testing.assert_close(merged["w"], torch.tensor(wanted, dtype=torch.float32))


@pytest.mark.parametrize(
    ("first", "second", "t", "wanted"),
    [
        # 90 degrees: sin 45 / sin 90 = .707107 each
        pytest.param([1, 0], [0, 1], 0.5, [0.707107, 0.707107], id="row8"),
        # sin 60 = .866025 times 2, sin 30 = .5 times 4
        pytest.param([2, 0], [0, 4], 1 / 3, [1.732051, 2], id="row9"),
        # collinear: .75 * 1 + .25 * 3 = 1.5
        pytest.param([1, 0], [3, 0], 0.25, [1.5, 0], id="row10"),
    ],
)
def test_merging_8_rows_8_to_10_slerp(first: list[float], second: list[float], t: float, wanted: list[float]) -> None:
    one, two = ({"w": torch.tensor(values, dtype=torch.float32)} for values in (first, second))
    torch.testing.assert_close(
        slerp_merge(one, two, t=t)["w"], torch.tensor(wanted, dtype=torch.float32), atol=1e-6, rtol=0
    )


# rows 11 and 12 (update-selective) are in test_weights_selective.py


def test_merging_8_row_13_one_rounding() -> None:
    """1 + .3 * .0078125 + .3 * .0078125 = 1.0046875; halfway is 1.00390625, so up to 1.0078125 (steps of 2^-7)."""
    base, tuned = {"w": torch.tensor([1.0]).bfloat16()}, {"w": torch.tensor([1.0078125]).bfloat16()}
    assert task_arithmetic(base, [tuned, tuned], weights=[0.3, 0.3])["w"].tolist() == [1.0078125]
    stepwise = base["w"] + 0.3 * (tuned["w"] - base["w"])
    assert (stepwise + 0.3 * (tuned["w"] - base["w"])).tolist() == [1.0]


@pytest.mark.parametrize(("weight", "wanted"), [(0.5, 256), (0.51, 258)])
def test_merging_8_row_14_ties_to_even(weight: float, wanted: float) -> None:
    base, tuned = {"w": torch.tensor([256.0]).bfloat16()}, {"w": torch.tensor([258.0]).bfloat16()}
    assert task_arithmetic(base, [tuned], weights=[weight])["w"].tolist() == [wanted]


def test_dler_8_merge_row_is_update_selective() -> None:
    delta = torch.tensor([0.4, -0.1, 0.3, -0.5, 0.05, 0.2, -0.02, 0.01])
    merged = update_selective_merge({"w": torch.zeros(8)}, {"w": delta})["w"]
    torch.testing.assert_close(merged, torch.tensor([0.28, 0, 0, -0.35, 0, 0, 0, 0]))


# --- section 3: as the authors of TIES have it -------------------------------------------------------------------


def test_merging_3_authors_keep_one_more_and_all_ties() -> None:
    # n = 4, density .5: threshold is the value of rank 4 - int(2) = 2 from below: .5, 1, 2, 3 -> 1; kept 3, -1, -2
    change = {"w": torch.tensor([3, -1, 0.5, -2])}
    merged = merge_in_memory(TiesAuthors(density=0.5), {"w": torch.zeros(4)}, [change])
    assert merged["w"].tolist() == [3, -1, 0, -2]


def test_merging_3_authors_zero_sum_takes_the_majority() -> None:
    # sums 0, 1, -2, 5: signs +, -, + sum to +1, so the first takes + : 1 alone; then 2; -2; mean of 4 and 1
    merged = merge_in_memory(TiesAuthors(density=0.999), BASE, [FIRST, SECOND])
    assert merged["w"].tolist() == [2, 4, -3, 2.5]
    # turned round: signs sum to -1, so the first takes - : -1 alone (change of FIRST, negated)
    away = [{"w": 2 * BASE["w"] - model["w"]} for model in (FIRST, SECOND)]
    assert merge_in_memory(TiesAuthors(density=0.999), BASE, away)["w"].tolist() == [0, 0, 1, -2.5]


def naive_authors(changes: torch.Tensor, density: float) -> torch.Tensor:
    """resolve, elect and merge of prateeky2806/ties-merging, written out."""
    size = changes.shape[1]
    values = changes.abs().kthvalue(size - int(size * density), dim=1, keepdim=True).values
    trimmed = changes * (changes.abs() >= values)
    sign = trimmed.sum(0).sign()
    sign[sign == 0] = sign.sum().sign()
    rows = torch.where(sign > 0, trimmed > 0, trimmed < 0)
    chosen = trimmed * rows
    return chosen.sum(0) / (chosen != 0).sum(0).clamp(min=1)


@pytest.mark.parametrize("density", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_authors_against_their_code(density: float, seed: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    changes = torch.randint(-4, 5, (3, 60), generator=dice).float()
    merged = merge_in_memory(TiesAuthors(density=density), {"w": torch.zeros(60)}, [{"w": c} for c in changes])
    torch.testing.assert_close(merged["w"], naive_authors(changes, density))


# --- section 9: edge cases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(
    "merge",
    [
        pytest.param(lambda b, m: task_arithmetic(b, m, weights=[0, 0]), id="all-weights-0"),
        pytest.param(lambda b, m: task_arithmetic(b, m, scale=0), id="task-arithmetic-scale-0"),
        pytest.param(lambda b, m: ties_merge(b, m, density=0.5, scale=0), id="ties-scale-0"),
        pytest.param(lambda b, m: ties_merge(b, m, density=0), id="ties-density-0"),
        pytest.param(lambda b, m: dare_merge(b, m, density=0, seed=1), id="dare-density-0"),
        pytest.param(lambda b, m: dare_merge(b, m, density=0.5, seed=1, scale=0), id="dare-scale-0"),
        pytest.param(lambda b, m: dare_merge(b, m, density=0, seed=1, rescale="l1"), id="dare-l1-density-0"),
        pytest.param(lambda b, m: update_selective_merge(b, m[0], density=0), id="update-selective-density-0"),
        pytest.param(lambda b, m: update_selective_merge(b, m[0], scale=0), id="update-selective-scale-0"),
        pytest.param(lambda b, m: linear_merge([b]), id="linear-one-model"),
        pytest.param(lambda b, m: linear_merge([b], weights=[0.3]), id="linear-one-model-weighted"),
        pytest.param(lambda b, m: slerp_merge(b, m[0], t=0), id="slerp-0"),
        pytest.param(lambda b, m: slerp_merge(m[0], b, t=1), id="slerp-1"),
        pytest.param(lambda b, m: linear_merge([b, b, b], weights=[0.3, 0.3, 0.4]), id="identical-linear"),
        pytest.param(lambda b, m: task_arithmetic(b, [b, b], weights=[0.3, 0.7]), id="identical-task-arithmetic"),
        pytest.param(lambda b, m: ties_merge(b, [b, b], density=0.5), id="identical-ties"),
        pytest.param(lambda b, m: dare_merge(b, [b, b], density=0.5, seed=2), id="identical-dare"),
    ],
)
def test_merging_9_gives_the_base_bit_for_bit(merge: Callable[..., Model], dtype: torch.dtype) -> None:
    base = model(1, dtype)
    base["a.bias"][0] = -0.0
    assert_bits(merge(base, [near(base, 1), near(base, 2)]), base)


@pytest.mark.parametrize("weights", [[1, -1], [0, 0]])
def test_merging_9_linear_weight_sum_0(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="sum to 0"):
        linear_merge([FIRST, SECOND], weights=weights)
    # 2 - 0, 1 - 4, -1 + 3, 4 - 1
    if weights[0]:
        assert linear_merge([FIRST, SECOND], weights=weights, normalize=False)["w"].tolist() == [2, -3, 2, 3]


@pytest.mark.parametrize("t", [-0.1, 1.1, math.nan, math.inf])
def test_merging_9_slerp_t_outside_its_range(t: float) -> None:
    with pytest.raises(ConfigError, match="t is"):
        slerp_merge(FIRST, SECOND, t=t)
    if math.isfinite(t):
        assert torch.isfinite(slerp_merge(FIRST, SECOND, t=t, extrapolate=True)["w"]).all()


def test_merging_9_slerp_needs_two_models() -> None:
    with pytest.raises(ConfigError, match="exactly two"):
        merge_in_memory(build_merge("slerp", t=0.5), BASE, [FIRST, SECOND])


@pytest.mark.parametrize("density", [-0.1, 1.1, 20, math.nan])
@pytest.mark.parametrize("name", ["ties", "dare", "update-selective"])
def test_merging_9_density_outside_its_range(name: str, density: float) -> None:
    options: dict[str, Any] = {"seed": 1} if name == "dare" else {}
    with pytest.raises(ConfigError, match=f"density is {density}"):
        merge_in_memory(build_merge(name, density=density, **options), BASE, [FIRST])


@pytest.mark.parametrize("name", MERGES)
def test_merging_9_empty_and_0d_tensors(name: str) -> None:
    base = {"empty": torch.zeros(0, 3), "scalar": torch.tensor(1.0)}
    tuned = {"empty": torch.zeros(0, 3), "scalar": torch.tensor(3.0)}
    merged = MERGES[name](base, [tuned])
    assert merged["empty"].shape == (0, 3)
    assert merged["scalar"].shape == ()


def test_merging_9_small_tensors() -> None:
    # TIES keeps 1 of 2 entries at density .1; update-selective floor(.1 * 2 + .5) = 0
    base, tuned = {"w": torch.zeros(2)}, {"w": torch.tensor([1.0, 2.0])}
    assert ties_merge(base, [tuned], density=0.1)["w"].tolist() == [0, 2]
    assert update_selective_merge(base, tuned, density=0.1, scale=1.0, scope="tensor")["w"].tolist() == [0, 0]


def test_one_model_normalised_ties_warns() -> None:
    for weight in (0.5, -0.5):
        with pytest.warns(LengthwiseWarning, match="cancels"):
            assert_bits(ties_merge(BASE, [FIRST], density=1, weights=[weight]), ties_merge(BASE, [FIRST], density=1))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_without_a_model_is_refused(name: str) -> None:
    needed: dict[str, Any] = {
        "ties": {"density": 1}, "ties-authors": {"density": 0.5}, "dare": {"density": 1, "seed": 0}, "slerp": {"t": 0},
    }.get(name, {})  # fmt: skip
    method = build_merge(name, **needed)
    if name == "linear":
        return  # one model is its own mean
    with pytest.raises(ConfigError, match="give"):
        merge_in_memory(method, BASE, [])


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("linaer", {}, "method is 'linaer'; choose one of linear, task-arithmetic"),
        ("linear", {"density": 0.5}, r"density is no option of linear; leave it out \(ties, ties-authors, dare"),
        ("ties", {}, "ties needs density"),
        ("dare", {"density": 0.5}, "dare needs seed"),
        ("task-arithmetic", {"weights": (1, 2, 3)}, "weights has 3 numbers for 1 models"),
        ("task-arithmetic", {"weights": (math.nan,)}, "a weight is nan"),
        ("task-arithmetic", {"scale": math.inf}, "scale is inf"),
        ("dare", {"density": 0.5, "seed": 0, "rescale": "l2"}, "rescale is 'l2'; choose one of inverse, l1"),
        ("ties-authors", {"density": 1}, "density is 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        merge_in_memory(build_merge(name, **options), BASE, [FIRST])


def test_overflow_and_nan_are_named() -> None:
    half = {"w": torch.tensor([60000.0]).half()}
    with pytest.raises(InputError, match=r"w overflows torch\.float16"):
        linear_merge([half, half], normalize=False)
    huge = {"w": torch.tensor([3e38]).bfloat16()}
    with pytest.raises(InputError, match=r"w overflows torch\.bfloat16"):
        linear_merge([huge, huge], normalize=False)
    # large and finite is no error, though its square is infinite
    assert linear_merge([huge])["w"].tolist() == huge["w"].tolist()
    for name, merge in MERGES.items():
        with pytest.raises(InputError, match=r"w holds NaN or infinity in models\[1\]"):
            merge(BASE, [FIRST, {"w": torch.tensor([0, math.nan, 0, 0])}])
            pytest.fail(name)


# --- section 10: invariants --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "merge",
    [
        lambda b, m, w: linear_merge(m, weights=w),
        lambda b, m, w: task_arithmetic(b, m, weights=w, scale=0.7),
        lambda b, m, w: ties_merge(b, m, density=0.5, weights=w),
    ],
    ids=["linear", "task-arithmetic", "ties"],
)
def test_merging_10_2_order_of_models(merge: Callable[..., Model]) -> None:
    base = model(7)
    models, weights = [model(seed) for seed in (8, 9, 10)], [0.5, 1.0, 0.3]
    forward = merge(base, models, weights)
    backward = merge(base, models[::-1], weights[::-1])
    # rounding is relative to what is added up, whose size is about 1
    torch.testing.assert_close(forward, backward, rtol=1e-6, atol=1e-6)


def test_merging_10_3_one_model_of_weight_1() -> None:
    base, tuned = model(11), model(12)
    torch.testing.assert_close(task_arithmetic(base, [tuned]), tuned, rtol=0, atol=2**-22)


def test_merging_10_4_density_and_scale_1() -> None:
    base, tuned = model(13), model(14)
    merged = update_selective_merge(base, tuned, density=1, scale=1)
    torch.testing.assert_close(merged, tuned, rtol=0, atol=2**-22)


def test_merging_10_5_one_model_ties_is_update_selective_per_tensor() -> None:
    # 0.5 * 24, * 10, * 36: even sizes, so that int(rho n) = floor(rho n + .5)
    base = {name: torch.zeros(size) for name, size in (("a", 24), ("b", 10), ("c", 36))}
    tuned = near(base, 3)
    ties = ties_merge(base, [tuned], density=0.5, normalize=False, scale=0.7)
    assert_bits(ties, update_selective_merge(base, tuned, density=0.5, scale=0.7, scope="tensor"))


def test_merging_10_6_dare() -> None:
    base, tuned = {"w": torch.zeros(20_000)}, {"w": torch.ones(20_000)}
    first = dare_merge(base, [tuned], density=0.3, seed=5)
    assert_bits(first, dare_merge(base, [tuned], density=0.3, seed=5))
    assert not torch.equal(first["w"], dare_merge(base, [tuned], density=0.3, seed=6)["w"])
    # standard deviation of the share: sqrt(.3 * .7 / 20000) = .00324; four of them
    share = (first["w"] != 0).float().mean().item()
    assert abs(share - 0.3) < 4 * 0.00324
    assert_bits(dare_merge(base, [tuned], density=1, seed=5), task_arithmetic(base, [tuned]))
    change = {"w": torch.randn(20_000, generator=torch.Generator().manual_seed(0))}
    kept = dare_merge(base, [change], density=0.3, seed=5, rescale="l1")["w"].double().abs().sum()
    torch.testing.assert_close(kept, change["w"].double().abs().sum(), rtol=1e-6, atol=0)


def test_merging_10_7_slerp_of_equal_norms_keeps_the_norm() -> None:
    dice = torch.Generator().manual_seed(0)
    one, two = (torch.nn.functional.normalize(torch.randn(300, generator=dice), dim=0) for _ in range(2))
    for t in (0.1, 0.5, 0.8):
        norm = slerp_merge({"w": one}, {"w": two}, t=t)["w"].norm()
        torch.testing.assert_close(norm, torch.tensor(1.0), rtol=1e-6, atol=0)


def test_a_zero_tensor_is_merged_linearly() -> None:
    # no angle: .75 * 0 + .25 * 4
    assert slerp_merge({"w": torch.zeros(2)}, {"w": torch.full((2,), 4.0)}, t=0.25)["w"].tolist() == [1, 1]


def test_resta_is_task_arithmetic() -> None:
    """Aligned A, fine-tuned S, unaligned U, g = .5: S + g (A - U)."""
    aligned, tuned, unaligned = model(20), model(21), model(22)
    merged = task_arithmetic(aligned, [tuned, unaligned], weights=[1, -0.5])
    wanted = {name: tuned[name] + 0.5 * (aligned[name] - unaligned[name]) for name in aligned}
    torch.testing.assert_close(merged, wanted, rtol=1e-5, atol=1e-6)


ALL = {
    "linear": {"weights": (0.5, 0.2, 0.3)},
    "task-arithmetic": {"weights": (0.4, -0.3), "scale": 0.7},
    "ties": {"density": 0.4, "weights": (0.4, 0.7)},
    "ties-authors": {"density": 0.4},
    "dare": {"density": 0.4, "seed": 9, "rescale": "l1"},
    "slerp": {"t": 0.3},
    "update-selective": {"scope": "global"},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_merging_10_1_the_block_size_changes_nothing(name: str, dtype: torch.dtype) -> None:
    base = model(30, dtype)
    others = [near(base, 1), near(base, 2)][: 1 if name in ("slerp", "update-selective") else 2]
    method = build_merge(name, **ALL[name])
    whole = merge_in_memory(method, base, others)
    for elements in (1, 2, 7, 16, 1 << 22):
        assert_bits(merge_in_memory(method, base, others, elements=elements), whole)


def test_mixed_float64_is_computed_in_float64() -> None:
    # 1 + 2^-40 is no float32; the mean with 1 is 1 + 2^-41
    one, two = {"w": torch.tensor([1.0], dtype=torch.float64)}, {"w": torch.tensor([1 + 2**-40], dtype=torch.float64)}
    assert linear_merge([one, two])["w"].item() == 1 + 2**-41


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32])
def test_linear_against_torch(kind: torch.dtype) -> None:
    models = [model(seed, kind) for seed in (40, 41)]
    merged = linear_merge(models, weights=[0.25, 0.75])
    for name in models[0]:
        wanted = (0.25 * models[0][name].float() + 0.75 * models[1][name].float()).to(kind)
        torch.testing.assert_close(merged[name], wanted, rtol=1e-6, atol=1e-6)


# --- the pieces --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("working", [np.float32, np.float64])
@pytest.mark.parametrize("count", [0, 1, 5, 499, 1000])
def test_kth_largest_against_sorting(working: type, count: int) -> None:
    dice = np.random.default_rng(count)
    values = np.abs(dice.integers(-50, 50, 1000) / 8).astype(working)
    values[:3] = [0, 1e-40, 3e38]
    boundary = kth_largest(lambda: iter(np.array_split(values, 7)), count, np.dtype(working))
    if count == 0:
        assert boundary.value == math.inf
        return
    wanted = np.sort(values)[::-1][count - 1]
    assert boundary.value == wanted
    assert boundary.tied == (values == wanted).sum()
    assert (values > wanted).sum() + boundary.kept == count


def test_top_mask_drops_the_first_ties_across_blocks() -> None:
    top = TopMask(2.0, 3, np.dtype(np.float32))
    blocks = [np.array(values, np.float32) for values in ([2, 3, 2], [1, 2], [2, 2])]
    assert [top(block).tolist() for block in blocks] == [[False, True, False], [False, False], [True, True]]


def test_random_bits_depend_on_the_entry_alone() -> None:
    whole = formulas.bernoulli_mask(1, 0, "w", 0, 50, 0.5)
    for start, stop in ((0, 1), (3, 9), (4, 8), (17, 50)):
        assert (formulas.bernoulli_mask(1, 0, "w", start, stop, 0.5) == whole[start:stop]).all()
    for seed, row, name in ((2, 0, "w"), (1, 1, "w"), (1, 0, "v")):
        assert (formulas.bernoulli_mask(seed, row, name, 0, 50, 0.5) != whole).any()
    assert not formulas.bernoulli_mask(1, 0, "w", 0, 50, 0.0).any()
    assert formulas.bernoulli_mask(1, 0, "w", 0, 50, 1.0).all()


def test_dare_masks_of_two_models_differ() -> None:
    base = {"w": torch.zeros(200)}
    ones = {"w": torch.ones(200)}
    both = merge_in_memory(Dare(density=0.5, seed=0, weights=(1.0, 10.0)), base, [ones, ones])["w"]
    assert set(both.tolist()) == {0, 2, 20, 22}
