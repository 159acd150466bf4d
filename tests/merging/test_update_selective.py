"""Update-selective merging in memory: hand rows of the spec pages dler and merging, invariants, edge cases."""

from __future__ import annotations

import math

import pytest
import torch

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.merging import update_selective_merge

Model = dict[str, torch.Tensor]


def random_models(seed: int, dtype: torch.dtype = torch.float32) -> tuple[Model, Model]:
    make = torch.Generator().manual_seed(seed)
    shapes = {"b.weight": (7, 5), "a.weight": (3, 4, 2), "c": (), "empty": (0, 3), "a.bias": (11,)}
    base = {name: torch.randn(shape, generator=make).to(dtype) for name, shape in shapes.items()}
    # deltas from a small set, so that the boundary is a tie
    tuned = {name: w + (torch.randint(-3, 4, w.shape, generator=make) / 4).to(dtype) for name, w in base.items()}
    return base, tuned


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def assert_same_bits(left: Model, right: Model) -> None:
    assert list(left) == list(right)
    for name in left:
        assert left[name].dtype == right[name].dtype
        assert left[name].shape == right[name].shape
        assert torch.equal(bits(left[name]), bits(right[name])), name


def naive_merge(base: Model, tuned: Model, density: float, scale: float, scope: str) -> dict[str, list[float]]:
    """Sort every (|delta|, name, position), keep from the end, entry by entry."""
    merged = {name: w.double().flatten().tolist() for name, w in base.items()}
    groups = [sorted(base)] if scope == "global" else [[name] for name in base]
    for group in groups:
        entries = []
        for rank, name in enumerate(sorted(group)):
            deltas = (tuned[name].float() - base[name].float()).flatten().tolist()
            entries += [(abs(d), rank, position, name, d) for position, d in enumerate(deltas)]
        count = math.floor(density * len(entries) + 0.5)
        for _, _, position, name, d in sorted(entries)[len(entries) - count :]:
            merged[name][position] += scale * d
    return merged


# base 0 and 1; deltas a [8, -6, .5, .25], b [1, .5, 0, .25]
BASE = {"a": torch.zeros(4), "b": torch.ones(4)}
TUNED = {"a": torch.tensor([8, -6, 0.5, 0.25]), "b": torch.tensor([2, 1.5, 1, 1.25])}


@pytest.mark.parametrize(
    ("scope", "a", "b"),
    [
        # k = floor(.25 * 8 + .5) = 2: 8 and -6; .7 * 8 = 5.6, .7 * -6 = -4.2
        pytest.param("global", [5.6, -4.2, 0, 0], [1, 1, 1, 1], id="merging-8-row11"),
        # k = floor(.25 * 4 + .5) = 1 each: 8 and 1; .7 * 8 = 5.6, 1 + .7 * 1 = 1.7
        pytest.param("tensor", [5.6, 0, 0, 0], [1.7, 1, 1, 1], id="merging-8-row12"),
    ],
)
def test_hand_rows_of_merging(scope: str, a: list[float], b: list[float]) -> None:
    merged = update_selective_merge(BASE, TUNED, density=0.25, scale=0.7, scope=scope)
    torch.testing.assert_close(merged, {"a": torch.tensor(a).float(), "b": torch.tensor(b).float()})


def test_dler_8_merge_row() -> None:
    """k = floor(.25 * 8 + .5) = 2 keeps -.5 and .4; .7 * .4 = .28, .7 * -.5 = -.35."""
    delta = torch.tensor([0.4, -0.1, 0.3, -0.5, 0.05, 0.2, -0.02, 0.01])
    merged = update_selective_merge({"w": torch.zeros(8)}, {"w": delta})
    torch.testing.assert_close(merged["w"], torch.tensor([0.28, 0, 0, -0.35, 0, 0, 0, 0]))


@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("density", [0.0, 0.01, 0.1, 0.25, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_against_a_loop(scope: str, density: float, seed: int) -> None:
    base, tuned = random_models(seed)
    merged = update_selective_merge(base, tuned, density=density, scale=0.7, scope=scope)
    expected = naive_merge(base, tuned, density, 0.7, scope)
    for name in base:
        values = torch.tensor(expected[name], dtype=torch.float32).view(base[name].shape)
        torch.testing.assert_close(merged[name], values)


def test_ties_keep_the_later_entry_of_the_later_name_first() -> None:
    # all |delta| are 1; names sorted: a, b. k = floor(.5 * 5 + .5) = 3: all of b, then the last of a
    base = {"b": torch.zeros(2), "a": torch.zeros(3)}
    tuned = {"b": torch.tensor([1.0, -1]), "a": torch.tensor([1.0, -1, 1])}
    merged = update_selective_merge(base, tuned, density=0.5, scale=1.0)
    assert list(merged) == ["b", "a"]
    assert merged["b"].tolist() == [1, -1]
    assert merged["a"].tolist() == [0, 0, 1]


def test_ties_are_row_major() -> None:
    # k = floor(.5 * 4 + .5) = 2, the last two in row-major order: the second row, also of a transposed view
    base, tuned = torch.zeros(2, 2), torch.ones(2, 2).t()
    merged = update_selective_merge({"w": base.t()}, {"w": tuned}, density=0.5, scale=1.0)
    assert merged["w"].tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("options", [{"scale": 0.0}, {"density": 0.0}, {"density": 0}, {"scale": -0.0}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_zero_density_or_scale_gives_the_base_bit_for_bit(options: dict[str, float], dtype: torch.dtype) -> None:
    base, tuned = random_models(1, dtype)
    base["a.bias"][0] = -0.0
    assert_same_bits(update_selective_merge(base, tuned, **options), base)


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_identical_models_give_the_base_bit_for_bit(scope: str) -> None:
    base, _ = random_models(2, torch.bfloat16)
    base["a.bias"][3] = -0.0
    assert_same_bits(update_selective_merge(base, base, density=1.0, scale=1.0, scope=scope), base)


def test_density_and_scale_of_one_give_the_tuned_model_within_rounding() -> None:
    base, tuned = random_models(3)
    torch.testing.assert_close(update_selective_merge(base, tuned, density=1.0, scale=1.0), tuned)


def test_density_of_one_is_interpolation() -> None:
    base, tuned = random_models(4)
    merged = update_selective_merge(base, tuned, density=1.0, scale=0.3)
    torch.testing.assert_close(merged, {name: 0.7 * base[name] + 0.3 * tuned[name] for name in base})


def test_kept_entries_are_the_largest_keep_their_sign_and_their_size() -> None:
    make = torch.Generator().manual_seed(5)
    base = {"w": torch.zeros(100), "v": torch.zeros(50)}
    tuned = {"w": torch.randn(100, generator=make), "v": torch.randn(50, generator=make) / 4}
    merged = update_selective_merge(base, tuned, density=0.25, scale=0.7)
    change = torch.cat([merged["w"], merged["v"]])
    delta = torch.cat([tuned["w"], tuned["v"]])
    kept = change != 0
    assert int(kept.sum()) == 38  # floor(.25 * 150 + .5) = floor(38.0)
    assert delta[kept].abs().min() >= delta[~kept].abs().max()
    torch.testing.assert_close(change[kept], 0.7 * delta[kept])


def test_one_rounding_in_low_precision() -> None:
    # bfloat16 around 256 has steps of 2: 256 + .5 * 2 = 257 is a tie and goes to even, 256; 256 + .51 * 2 to 258
    base, tuned = {"w": torch.tensor([256.0]).bfloat16()}, {"w": torch.tensor([258.0]).bfloat16()}
    assert update_selective_merge(base, tuned, density=1.0, scale=0.5)["w"].tolist() == [256]
    assert update_selective_merge(base, tuned, density=1.0, scale=0.51)["w"].tolist() == [258]


def test_small_tensor_may_keep_nothing_and_a_scalar_is_a_group_of_one() -> None:
    base = {"one": torch.tensor(0.0), "none": torch.zeros(0)}
    tuned = {"one": torch.tensor(4.0), "none": torch.zeros(0)}
    # floor(.25 * 1 + .5) = 0, floor(.5 * 1 + .5) = 1
    assert update_selective_merge(base, tuned, density=0.25, scope="tensor")["one"].item() == 0
    merged = update_selective_merge(base, tuned, density=0.5, scale=0.5, scope="tensor")
    assert merged["one"].item() == 2
    assert merged["none"].shape == (0,)
    assert update_selective_merge({}, {}) == {}


def test_float64_beside_float32_keeps_exactly_k() -> None:
    # 1 and 1 + 1e-12 are one float32 but two float64 numbers: only the larger is kept
    base = {"a": torch.zeros(1, dtype=torch.float64), "b": torch.zeros(1)}
    tuned = {"a": torch.tensor([1 + 1e-12], dtype=torch.float64), "b": torch.ones(1)}
    merged = update_selective_merge(base, tuned, density=0.5, scale=1.0)
    assert merged["a"].item() == 1 + 1e-12
    assert merged["b"].item() == 0


def test_integers_are_copied_and_inputs_are_left_alone() -> None:
    base = {"steps": torch.tensor([3]), "w": torch.zeros(4)}
    tuned = {"steps": torch.tensor([3]), "w": torch.ones(4)}
    merged = update_selective_merge(base, tuned, density=1.0)
    assert merged["steps"].tolist() == [3]
    merged["w"].add_(1)
    merged["steps"].add_(1)
    assert base["w"].tolist() == [0] * 4
    assert base["steps"].tolist() == [3]


@pytest.mark.parametrize("density", [-0.1, 1.1, 25, math.nan, "0.25", None])
def test_density_outside_its_range_is_refused(density: object) -> None:
    with pytest.raises(ConfigError, match="density"):
        update_selective_merge(BASE, TUNED, density=density)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [math.nan, math.inf, "1", None])
def test_scale_that_is_not_finite_is_refused(scale: object) -> None:
    with pytest.raises(ConfigError, match="scale"):
        update_selective_merge(BASE, TUNED, scale=scale)  # type: ignore[arg-type]


def test_unknown_scope_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="scope is 'layer'; choose one of global, tensor"):
        update_selective_merge(BASE, TUNED, scope="layer")


def test_models_that_do_not_match_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="missing b; extra c"):
        update_selective_merge(BASE, {"a": TUNED["a"], "c": TUNED["b"]})
    with pytest.raises(ShapeError, match=r"b has shape \(4,\) in base but \(5,\) in tuned"):
        update_selective_merge(BASE, {**TUNED, "b": torch.ones(5)})
    with pytest.raises(ShapeError, match=r"b is torch\.float32 in base but torch\.bfloat16"):
        update_selective_merge(BASE, {**TUNED, "b": torch.ones(4, dtype=torch.bfloat16)})


def test_values_that_cannot_be_merged_are_refused_by_name() -> None:
    for bad, model in ((math.nan, "tuned"), (math.inf, "tuned"), (math.nan, "base")):
        broken = {"a": torch.tensor([bad, 0, 0, 0]), "b": torch.ones(4)}
        pair = (BASE, broken) if model == "tuned" else (broken, TUNED)
        with pytest.raises(InputError, match=f"a holds NaN or infinity in {model}"):
            update_selective_merge(*pair)
    with pytest.raises(InputError, match=r"steps is torch\.int64 and differs"):
        update_selective_merge({"steps": torch.tensor([3])}, {"steps": torch.tensor([4])})
    eighth = {"w": torch.ones(2).to(torch.float8_e4m3fn)}
    with pytest.raises(InputError, match="plain float"):
        update_selective_merge(eighth, eighth)


def test_overflow_by_the_cast_is_refused() -> None:
    # 60000 + 2 * 1000 = 62000 fits float16 (at most 65504), 60000 + 9 * 1000 does not
    base, tuned = {"w": torch.tensor([60000.0]).half()}, {"w": torch.tensor([61000.0]).half()}
    update_selective_merge(base, tuned, density=1.0, scale=2.0)
    with pytest.raises(InputError, match="w overflows"):
        update_selective_merge(base, tuned, density=1.0, scale=9.0)
