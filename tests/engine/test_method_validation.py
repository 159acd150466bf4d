"""Every method is rehearsed when it is made: options out of range are refused before anything is sampled."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace

import pytest
import torch

from lengthwise.engine import Method
from lengthwise.engine.method import BarePrompts, ExtraLoss, Observation
from lengthwise.engine.method_validation import rehearse
from lengthwise.errors import ConfigError
from lengthwise.methods import METHODS, build_method


@pytest.mark.parametrize("cap", [2, 9, 32_768])
@pytest.mark.parametrize("name", METHODS)
def test_the_defaults_of_every_method_pass_without_a_warning(name: str, cap: int) -> None:
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_method(name, cap=cap)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("adaptive", "tau", 2.0), ("adaptive", "delta", -1.0), ("adaptive", "rho", 1.0), ("adaptive", "margin", -1.0),
        ("adaptive", "on_all_wrong", "x"), ("adaptive", "switch_loss", "x"), ("alp", "beta", -1.0),
        ("dler", "clip_high", -3.0), ("drpo", "kl_limit", -1.0), ("grpo", "aggregate", "x"),
        ("grpo-lambda", "fraction", 7.0), ("l1-exact", "alpha", -1.0), ("kimi", "weight", -1.0),
        ("laser", "target", -5),
    ],
)  # fmt: skip
def test_an_option_out_of_range_is_refused_when_the_method_is_made(name: str, option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{option} is {value!r}; "):
        build_method(name, cap=9, **{option: value})


def test_a_negative_weight_of_a_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"switch_weight is -1.0; give at least 0"):
        build_method("adaptive", cap=9, switch_weight=-1.0)


def test_every_part_is_called_once_on_mixed_groups() -> None:
    calls: Counter[str] = Counter()

    def counted(name, part):
        def call(*arguments):
            calls[name] += 1
            return part(*arguments)

        return call

    def extra(bare: BarePrompts) -> torch.Tensor:
        assert bare.first_logits.shape == (2, 2) and bare.tokens == (0, 1)
        assert bare.rollouts.group_ids[bare.rows].tolist() == [0, 1]
        return bare.first_logits.sum()

    plain = build_method("adaptive", cap=9)
    assert isinstance(plain, Method)
    names = ("reward", "advantage", "loss", "normaliser")
    parts = {name: counted(name, getattr(plain, name)) for name in names}
    method = replace(
        plain,
        **parts,
        keep=counted("keep", lambda r: torch.ones(len(r), dtype=torch.bool)),
        shared=counted("shared", lambda logp, old, mask: None),
        extra_losses=(ExtraLoss("extra", 1.0, counted("extra", extra), ("a", "b")),),
        update_state=counted("update_state", lambda state, r: state),
        observe=Observation(1, 1, counted("observe", lambda state, r: state)),
    )
    rehearse(method)
    assert calls == dict.fromkeys((*names, "keep", "shared", "extra", "update_state", "observe"), 1)


def test_the_made_up_groups_are_mixed_in_length_correctness_and_mode() -> None:
    seen: list = []
    plain = build_method("grpo", cap=9)
    assert isinstance(plain, Method)
    rehearse(replace(plain, update_state=lambda state, r: seen.append(r) or state))
    (rollouts,) = seen
    for group in (0, 1):
        here = rollouts.select(rollouts.group_ids == group)
        assert len(here) == 8 and here.is_long.sum() == 4
        for mode in (True, False):
            half = here.correct[here.is_long == mode]
            assert half.any() and not half.all()
        assert set(here.num_tokens.tolist()) == {1, 2, 3, 4}
    assert not rollouts.finished.all()
