"""Antidote's arithmetic: hand rows of the spec page antidote, its edge cases and invariants."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from lengthwise.errors import ConfigError, InputError, LengthwiseWarning, ShapeError
from lengthwise.repair import activation_scores, repair, top_mask, weight_scores
from lengthwise.repair.antidote import removed_count
from lengthwise.repair.layer_activity import Activity, target_layers

# the page's example: one layer, two sequences
WEIGHT = torch.tensor([[4, -1, 3, 0.5], [1, 1, -1, 1], [0, -2, 0, 5]])
ALIGNED = torch.tensor([[4, -1, 1, 0.5], [0, 1, -1, 1], [0, -2, 0, 4]])
FIRST = torch.tensor([[1.0, 2, 0, 2], [1, 2, 0, 0]])
SECOND = torch.tensor([[0.0, 0, 1, 0], [2, 4, 0, 0], [0, 0, 0, 0]])
MEAN = torch.tensor([3, 12, 0.5, 2])


class Layer(nn.Module):
    """One linear layer that reads rows of a table, so that tokens stand for the page's inputs."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table
        self.linear = nn.Linear(4, 3, bias=False)
        self.linear.weight.data = WEIGHT.clone()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.linear(self.table[input_ids])


def example(counted: Tensor | None = None) -> Activity:
    """The page's two sequences in one batch, the first padded."""
    table = torch.cat([FIRST, SECOND, torch.full((1, 4), 77.0)])
    batch = {
        "input_ids": torch.tensor([[0, 1, 5], [2, 3, 4]]),
        "attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]]),
    }
    if counted is not None:
        batch["counted"] = counted
    return activation_scores(Layer(table), [batch])["linear.weight"]


def positions(mask: Tensor) -> list[list[int]]:
    return [row.nonzero().flatten().tolist() for row in mask]


# --- section 8: hand rows ----------------------------------------------------------------------------------------


def test_antidote_8_row_1_statistics() -> None:
    # q: 1 + 1 + 4 = 6, 4 + 4 + 16 = 24, 1, 4; divided by two sequences
    found = example()
    assert found.squares.tolist() == [6, 24, 1, 4]
    assert found.mean.tolist() == [3, 12, 0.5, 2]
    assert (found.sequences, found.tokens) == (2, 5)


def test_antidote_8_rows_2_and_3_scores() -> None:
    # roots 1.732051, 3.464102, .707107, 1.414214 times |W|
    wanted = [
        [6.928203, 3.464102, 2.121320, 0.707107],
        [1.732051, 3.464102, 0.707107, 1.414214],
        [0, 6.928203, 0, 7.071068],
    ]
    torch.testing.assert_close(weight_scores(WEIGHT, MEAN), torch.tensor(wanted), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        pytest.param({"count": 1}, [[0], [1], [3]], id="row4"),
        pytest.param({"count": 2}, [[0, 1], [0, 1], [1, 3]], id="row5"),
        pytest.param({"count": 3, "scope": "tensor"}, [[0], [], [1, 3]], id="row6"),
    ],
)
def test_antidote_8_rows_4_to_6_masks(options: dict[str, Any], wanted: list[list[int]]) -> None:
    assert positions(top_mask(weight_scores(WEIGHT, MEAN), **options)) == wanted


def test_antidote_8_row_7_zero() -> None:
    mask = top_mask(weight_scores(WEIGHT, MEAN), count=1)
    assert repair(WEIGHT, mask).tolist() == [[0, -1, 3, 0.5], [1, 0, -1, 1], [0, -2, 0, 0]]


def test_antidote_8_row_8_magnitude() -> None:
    mask = top_mask(weight_scores(WEIGHT, None), count=1)
    # row 1 is a four-way tie: the last goes
    assert positions(mask) == [[0], [3], [3]]
    scored = top_mask(weight_scores(WEIGHT, MEAN), count=1)
    # both remove (0,0) and (2,3); either removes four entries
    assert int((mask & scored).sum()) / int((mask | scored).sum()) == 0.5


def test_antidote_8_rows_9_and_10_difference_and_reset() -> None:
    # differences 2 at (0,2), 1 at (1,0) and (2,3): 2 * .707107, 1 * 1.732051, 1 * 1.414214
    scores = weight_scores(WEIGHT, MEAN, reference=ALIGNED)
    wanted = torch.zeros(3, 4)
    wanted[0, 2], wanted[1, 0], wanted[2, 3] = 1.414214, 1.732051, 1.414214
    torch.testing.assert_close(scores, wanted, atol=1e-6, rtol=0)
    assert torch.equal(repair(WEIGHT, top_mask(scores, count=1), mode="reset", reference=ALIGNED), ALIGNED)


def test_antidote_8_row_11_tokens_that_count() -> None:
    # FIRST[1], SECOND[0], SECOND[1]: 1 + 4 = 5, 4 + 16 = 20, 1, 0; halved
    found = example(torch.tensor([[0, 1, 0], [1, 1, 0]]))
    assert found.mean.tolist() == [2.5, 10, 0.5, 0]
    assert found.tokens == 3


@pytest.mark.parametrize(
    ("size", "fraction", "official", "nearest"),
    [
        # 10 - int(10 * .0999..) = 10; 4096 - int(4095.96) = 1; 256 - int(243.2) = 13; 256 - int(230.4) = 26;
        # 4096 - int(3686.4) = 410; 8 - int(7.6) = 1
        (10, 0.9, 10, 9), (4096, 1e-5, 1, 0), (256, 0.05, 13, 13), (256, 0.1, 26, 26), (4096, 0.1, 410, 410),
        (8, 0.05, 1, 0),
    ],
)  # fmt: skip
def test_antidote_8_row_12_counts(size: int, fraction: float, official: int, nearest: int) -> None:
    assert removed_count(size, fraction, "official") == official
    assert removed_count(size, fraction) == nearest


# --- section 9: edge cases ---------------------------------------------------------------------------------------

SCORES = torch.rand(5, 8, generator=torch.Generator().manual_seed(0))
SEVERAL = {"b": SCORES, "a": torch.rand(3, 4, generator=torch.Generator().manual_seed(1))}


@pytest.mark.parametrize("scope", ["row", "tensor", "global"])
def test_nothing_and_everything(scope: str) -> None:
    for options in ({"fraction": 0.0}, {"count": 0}):
        none = top_mask(SEVERAL, scope=scope, **options)
        for name in SEVERAL:
            assert not none[name].any()
            assert torch.equal(repair(SEVERAL[name], none[name]), SEVERAL[name])
    assert all(mask.all() for mask in top_mask(SEVERAL, fraction=1.0, scope=scope).values())


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan, 5])
def test_a_fraction_outside_its_range(fraction: float) -> None:
    with pytest.raises(ConfigError, match=f"fraction is {fraction}"):
        top_mask(SCORES, fraction=fraction)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"count": 9}, "count is 9 but a group has 8 entries"),
        ({"count": -1}, "count is -1"),
        ({"scope": "layer"}, "scope is 'layer'; choose one of row, tensor, global"),
        ({"rule": "up"}, "rule is 'up'; choose one of nearest, official"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        top_mask(SCORES, **options)


def test_a_fraction_that_removes_nothing_warns() -> None:
    # the smallest that rounds to 1 of 8 is .5 / 8 = .0625
    with pytest.warns(LengthwiseWarning, match=r"fraction 0.05 removes nothing from groups of 8.*0.0625"):
        assert not top_mask(SCORES, fraction=0.05).any()


def test_no_rows_and_no_tokens_are_errors() -> None:
    for batches in ([], [{"input_ids": torch.zeros(1, 2, dtype=torch.long), "attention_mask": torch.zeros(1, 2)}]):
        with pytest.raises(InputError, match="no token of the calibration rows counts"):
            activation_scores(Layer(FIRST), batches)


def test_numbers_that_are_not_finite_are_named() -> None:
    batch = {"input_ids": torch.tensor([[0]]), "attention_mask": torch.tensor([[1]])}
    with pytest.raises(InputError, match="the input of linear is not finite"):
        activation_scores(Layer(torch.full((1, 4), torch.inf)), [batch])
    with pytest.raises(InputError, match="NaN or infinity"):
        weight_scores(torch.full((2, 2), torch.nan), None)


@pytest.mark.parametrize("odd", [math.nan, -1.0])
def test_scores_that_cannot_be_ranked_are_refused(odd):
    scores = torch.tensor([[1.0, odd, 0.0]])
    with pytest.raises(InputError, match="scores holds NaN or a negative score"):
        top_mask(scores, fraction=0.5)
    with pytest.raises(InputError, match="one holds NaN or a negative score"):
        top_mask({"one": scores, "two": scores.abs()}, fraction=0.5)


def test_layers_that_are_never_called_are_listed() -> None:
    layer = Layer(FIRST)
    layer.spare = nn.Linear(2, 2)
    batch = {"input_ids": torch.tensor([[0]]), "attention_mask": torch.tensor([[1]])}
    with pytest.raises(InputError, match="1 target layers were never called: spare"):
        activation_scores(layer, [batch])
    activation_scores(layer, [batch], targets=["linear"])


def test_a_layer_that_does_not_see_every_token_is_named() -> None:
    class Last(Layer):
        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return self.linear(self.table[input_ids[:, -1]])

    batch = {"input_ids": torch.tensor([[0, 1]]), "attention_mask": torch.tensor([[1, 1]])}
    with pytest.raises(InputError, match="linear got 1 inputs for 2 tokens"):
        activation_scores(Last(FIRST), [batch])


def test_a_dead_input_goes_last() -> None:
    scores = weight_scores(WEIGHT, torch.tensor([1.0, 0.0, 1.0, 1.0]))
    assert not scores[:, 1].any()
    for count in (1, 2):
        assert not top_mask(scores[:2], count=count)[:, 1].any()


def test_a_row_without_scores_loses_its_last_columns() -> None:
    assert positions(top_mask(torch.zeros(2, 4), count=2)) == [[2, 3], [2, 3]]


def test_shapes_that_differ_are_named() -> None:
    with pytest.raises(ShapeError, match=r"activity has shape \(3,\) but weight \(3, 4\)"):
        weight_scores(WEIGHT, torch.ones(3))
    with pytest.raises(ShapeError, match=r"reference has shape \(4, 3\) but weight \(3, 4\)"):
        weight_scores(WEIGHT, MEAN, reference=ALIGNED.T)
    with pytest.raises(ShapeError, match=r"mask has shape \(4, 3\) but weight \(3, 4\)"):
        repair(WEIGHT, torch.zeros(4, 3, dtype=torch.bool))
    with pytest.raises(ShapeError, match=r"reference has shape \(4, 3\)"):
        repair(WEIGHT, torch.zeros(3, 4, dtype=torch.bool), mode="reset", reference=ALIGNED.T)
    with pytest.raises(ShapeError, match="exclude has shape"):
        top_mask(SCORES, fraction=0.5, exclude=torch.zeros(8, 5, dtype=torch.bool))
    with pytest.raises(ShapeError, match=r"mask is torch\.float32; pass bool"):
        repair(WEIGHT, torch.zeros(3, 4))
    with pytest.raises(ShapeError, match=r"weight is torch\.int8"):
        weight_scores(torch.zeros(2, 2, dtype=torch.int8), None)


def test_modes_and_references_that_do_not_fit() -> None:
    mask = torch.zeros(3, 4, dtype=torch.bool)
    with pytest.raises(ConfigError, match="reference is missing"):
        repair(WEIGHT, mask, mode="reset")
    with pytest.raises(ConfigError, match="reference is given"):
        repair(WEIGHT, mask, reference=ALIGNED)
    with pytest.raises(ConfigError, match="mode is 'drop'; choose one of zero, reset, scale"):
        repair(WEIGHT, mask, mode="drop")
    with pytest.raises(ConfigError, match="factor is nan"):
        repair(WEIGHT, mask, mode="scale", factor=math.nan)


def test_a_quantised_layer_is_refused() -> None:
    layer = Layer(FIRST)
    layer.linear.weight = nn.Parameter(torch.zeros(3, 4, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(InputError, match=r"linear is quantised \(torch\.uint8\)"):
        target_layers(layer, ["*"])


def test_padding_changes_nothing() -> None:
    net = tiny.model(spread=0)
    rows = [[3, 4, 5, 6], [7, 8], [9, 10, 11]]

    def batch(group: list[list[int]], side: str) -> dict[str, Tensor]:
        width = max(map(len, group))
        padded = [([0] * (width - len(r)) + r if side == "left" else r + [0] * (width - len(r))) for r in group]
        ids = torch.tensor(padded)
        return {"input_ids": ids, "attention_mask": (ids != 0).long()}

    alone = activation_scores(net, [batch([row], "right") for row in rows])
    padded = activation_scores(net, [batch(rows, "right")])
    for name, found in alone.items():
        assert (found.sequences, found.tokens) == (padded[name].sequences, padded[name].tokens) == (3, 9)
        torch.testing.assert_close(padded[name].squares, found.squares, rtol=1e-4, atol=1e-6)


def test_shared_weights_are_scored_once() -> None:
    class Twice(Layer):
        def __init__(self) -> None:
            super().__init__(FIRST)
            self.again = nn.Linear(4, 3, bias=False)
            self.again.weight = self.linear.weight

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return self.linear(self.table[input_ids]) + self.again(2 * self.table[input_ids])

    batch = {"input_ids": torch.tensor([[0, 1]]), "attention_mask": torch.tensor([[1, 1]])}
    found = activation_scores(Twice(), [batch])
    assert list(found) == ["linear.weight"]
    # (1 + 1, 4 + 4, 0, 4 + 0) once, and four times that for the doubled input
    assert found["linear.weight"].squares.tolist() == [10, 40, 0, 20]
    assert found["linear.weight"].modules == ("linear", "again")


def test_targets_by_pattern_and_by_name() -> None:
    net = tiny.model()
    every = target_layers(net, ["*"])
    assert "lm_head" not in every
    assert len(every) == 2 * 7
    assert list(target_layers(net, ["q_proj", "*.v_proj"])) == [
        f"model.layers.{layer}.self_attn.{part}_proj" for layer in (0, 1) for part in "qv"
    ]
    assert list(target_layers(net, ["lm_head"])) == ["lm_head"]
    with pytest.raises(InputError, match="the target 'qkv' matches no linear layer; the model has model.layers.0"):
        target_layers(net, ["qkv"])


@pytest.mark.parametrize("family", ["gpt_neox", "gemma2", "llama"])
def test_any_decoder_of_linear_layers(family: str) -> None:
    batch = {"input_ids": torch.tensor([[3, 4, 5]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    found = activation_scores(tiny.model(family), [batch])
    assert all(activity.tokens == 3 and (activity.squares > 0).any() for activity in found.values())
    # a fused qkv is one layer
    assert family != "gpt_neox" or "gpt_neox.layers.0.attention.query_key_value.weight" in found


# --- section 10: invariants --------------------------------------------------------------------------------------


def rows_of(net: nn.Module, ids: list[list[int]]) -> dict[str, Activity]:
    tensor = torch.tensor(ids)
    return activation_scores(net, [{"input_ids": tensor, "attention_mask": torch.ones_like(tensor)}])


def test_antidote_10_1_parts_add_up_in_any_order() -> None:
    net = tiny.model(spread=0)
    ids = [[3, 4, 5], [6, 7, 8], [9, 10, 11], [12, 13, 14]]
    whole = rows_of(net, ids)
    for name, activity in whole.items():
        parts = rows_of(net, ids[3:])[name] + rows_of(net, ids[:3])[name]
        torch.testing.assert_close(parts.squares, activity.squares, rtol=1e-6, atol=1e-7)
        assert (parts.sequences, parts.tokens) == (activity.sequences, activity.tokens)


def test_antidote_10_2_scaling() -> None:
    scores = weight_scores(WEIGHT, MEAN)
    torch.testing.assert_close(weight_scores(WEIGHT, 9 * MEAN), 3 * scores)
    for scope in ("row", "tensor"):
        assert torch.equal(top_mask(9 * scores, count=2, scope=scope), top_mask(scores, count=2, scope=scope))
    scaled = WEIGHT * torch.tensor([[2.0], [1.0], [8.0]])
    assert torch.equal(top_mask(weight_scores(scaled, MEAN), count=1), top_mask(scores, count=1))


def test_antidote_10_3_constant_inputs_give_the_magnitude_mask() -> None:
    assert torch.equal(
        top_mask(weight_scores(WEIGHT, torch.full((4,), 5.0)), count=1), top_mask(weight_scores(WEIGHT, None), count=1)
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 3, 5])
def test_antidote_10_4_counts_are_exact(count: int) -> None:
    tied = (SCORES * 3).floor()
    assert (top_mask(tied, count=count).sum(1) == count).all()
    assert top_mask(tied, count=count, scope="tensor").sum() == count
    both = top_mask({"b": tied, "a": tied[:2]}, count=count, scope="global")
    assert sum(int(mask.sum()) for mask in both.values()) == count


def test_global_masks_against_sorting() -> None:
    tied = {name: (scores * 4).floor() for name, scores in SEVERAL.items()}
    entries = [
        (value, name, place) for name in sorted(tied) for place, value in enumerate(tied[name].flatten().tolist())
    ]
    for count in (0, 1, 7, 20, 52):
        removed = {(name, place) for _, name, place in sorted(entries)[len(entries) - count :]}
        masks = top_mask(tied, count=count, scope="global")
        found = {(name, place) for name in tied for place in masks[name].flatten().nonzero().flatten().tolist()}
        assert found == removed


def test_antidote_10_5_top_and_bottom_are_complements() -> None:
    for scope in ("row", "tensor"):
        size = 8 if scope == "row" else 40
        top = top_mask(SCORES, count=3, scope=scope)
        bottom = top_mask(2 - SCORES, count=size - 3, scope=scope)
        assert torch.equal(top, ~bottom)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_antidote_10_6_twice_is_once_and_the_rest_keeps_its_bits(kind: torch.dtype) -> None:
    weight, aligned = torch.randn(6, 9).to(kind), torch.randn(6, 9).to(kind)
    mask = top_mask(weight_scores(weight, None), fraction=0.3)
    for mode, reference in (("zero", None), ("reset", aligned)):
        once = repair(weight, mask, mode=mode, reference=reference)
        assert torch.equal(repair(once, mask, mode=mode, reference=reference), once)
        assert torch.equal(once[~mask], weight[~mask])
        assert once.dtype == kind
    halved = repair(weight, mask, mode="scale", factor=0.5)
    assert torch.equal(halved, torch.where(mask, weight / 2, weight))


@pytest.mark.parametrize("scope", ["row", "tensor", "global"])
def test_antidote_10_7_masks_are_nested(scope: str) -> None:
    tied = {name: (scores * 3).floor() for name, scores in SEVERAL.items()}
    masks = [top_mask(tied, fraction=d, scope=scope) for d in (0.2, 0.4, 0.8)]
    for smaller, larger in itertools.pairwise(masks):
        assert all((larger[name] | ~smaller[name]).all() for name in tied)


def test_antidote_10_9_reset_to_itself_changes_nothing() -> None:
    for count in range(5):
        mask = top_mask(weight_scores(WEIGHT, MEAN), count=count)
        assert torch.equal(repair(WEIGHT, mask, mode="reset", reference=WEIGHT), WEIGHT)


def test_antidote_10_10_the_model_is_left_as_it_was() -> None:
    net = tiny.model().train()
    net.model.layers[0].eval()
    net.config.use_cache = True
    rows_of(net, [[3, 4, 5]])
    assert net.training
    assert not net.model.layers[0].training
    assert net.config.use_cache is True
    assert not any(module._forward_pre_hooks for module in net.modules())
    with pytest.raises(InputError):
        activation_scores(net, [])
    assert net.training
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_antidote_10_12_permuted_inputs_permute_scores_and_masks() -> None:
    order = torch.tensor([2, 0, 3, 1])
    scores, moved = weight_scores(WEIGHT, MEAN), weight_scores(WEIGHT[:, order], MEAN[order])
    assert torch.equal(moved, scores[:, order])
    assert torch.equal(top_mask(moved[[0, 2]], count=1), top_mask(scores[[0, 2]], count=1)[:, order])


def test_excluded_entries_are_never_removed() -> None:
    scores = weight_scores(WEIGHT, MEAN)
    exclude = torch.zeros(3, 4, dtype=torch.bool)
    exclude[0, 0] = exclude[2, 3] = True
    # fill: the next largest of the row goes in their place; else fewer go
    assert positions(top_mask(scores, count=1, exclude=exclude)) == [[1], [1], [1]]
    assert positions(top_mask(scores, count=1, exclude=exclude, fill=False)) == [[], [1], []]
    # of all: (2,3), (0,0), (2,1) are largest; without the excluded ones (2,1), then the tie (0,1), (1,1): the later
    assert positions(top_mask(scores, count=2, scope="tensor", exclude=exclude)) == [[], [1], [1]]
    several = top_mask({"w": scores}, count=2, scope="global", exclude={"w": exclude})
    assert positions(several["w"]) == [[], [1], [1]]
    several = top_mask({"w": scores}, count=3, scope="global", exclude={"w": exclude}, fill=False)
    assert positions(several["w"]) == [[], [], [1]]
    # fewer are left than asked for
    assert (top_mask(scores, count=4, exclude=exclude) == ~exclude).all()
