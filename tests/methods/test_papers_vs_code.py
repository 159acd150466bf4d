"""The page of differences between papers and code: whole tables, sourced sections, an honest list of what is here."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch

import lengthwise.cli
import lengthwise.context
import lengthwise.merging
import lengthwise.objectives
import lengthwise.repair
import lengthwise.statistics.metrics
import lengthwise.statistics.outside_scores
import lengthwise.statistics.tradeoff_scores
from lengthwise.config.groups.training import Training
from lengthwise.errors import ConfigError
from lengthwise.methods import METHODS, build_method
from lengthwise.objectives import (
    batch_normalised,
    clipped_surrogate,
    group_normalised,
    kl_penalty,
    leave_one_out,
    reference_ratio,
)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "papers-vs-code.md").read_text(encoding="utf-8")
SECTIONS = {
    "What all methods share": ("2402.03300", "2503.20783", "verl-project/verl", "verl 0.4.1 to 0.9.1"),
    "DLER": ("2510.15110", "NVlabs/DLER @ea7d4f7b"),
    "DRPO and DisCO": ("2510.04474", "2505.12366", "Optimization-AI/DRPO @405f7026", "Optimization-AI/DisCO @bd2b0781"),
    "Ada-R1": ("2504.21659", "StarDewXXX/AdaR1"),
    "T-PPO": ("2506.15050", "HanlinDu/verl", "*(unverified)*"),
    "GRPO-lambda": ("2505.18086", "No official code", "*(unverified)*"),
    "SIRI": ("2509.25176", "No code was available"),
    "Adaptive Deep Reasoning": ("2505.20101", "No official code", "not the authors'"),
    "Other length rewards": ("2503.04697", "cmu-l3/l1", "hkust-nlp/Laser", "huggingface/open-r1", "volcengine/verl"),
    "Antidote": ("2408.09600", "git-disl/Antidote @26e2ade2"),
    "Giraffe": ("2308.10882", "abacusai/Long-Context"),
    "LM-Infinite": ("2308.16137", "Glaciohound/LM-Infinite"),
    "Weight merging": ("2306.01708", "prateeky2806/ties-merging @44e7891f", "arcee-ai/mergekit 0.1.5"),
}


def lines(name: str) -> str:
    return PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]


def section(name: str) -> str:
    """A section's words, whatever the lines that they stand on."""
    return " ".join(lines(name).split())


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_names_its_paper_and_its_code(name):
    for source in SECTIONS[name]:
        assert source in section(name), source


def test_every_row_of_a_table_has_all_its_cells():
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.M):
        rows = table.strip().split("\n")
        assert len({row.count("|") for row in rows}) == 1, rows[0]


def test_what_is_called_here_is_here():
    here = [
        lengthwise.context,
        lengthwise.objectives,
        lengthwise.merging,
        lengthwise.repair,
        lengthwise.statistics.metrics,
        lengthwise.statistics.outside_scores,
        lengthwise.statistics.tradeoff_scores,
    ]
    commands = {command.name for command in lengthwise.cli.app.registered_commands}
    for row in lines("What is in the package").strip().split("\n")[2:]:
        system, built = (cell.strip() for cell in row.strip("|").split("|"))
        assert built, f"{system}: say what there is"
        for name in re.findall(r"`(\w+)`", built):
            assert any(hasattr(module, name) for module in here), f"{name} is called built in papers-vs-code.md"
        assert set(re.findall(r"--method ([\w-]+)", built)) <= METHODS.keys()
        assert set(re.findall(r"`lengthwise ([\w-]+)", built)) <= commands
    said = section("What is in the package")
    assert all(name in said for name in ("Giraffe", "LM-Infinite", "Antidote"))


# ----------------------------------------------------------------------- what the page says of ours, by hand


def test_k3_is_not_clamped_where_verl_clamps_it():
    # d = -3: exp(3) - 1 - 3 = 16.0855, and its slope by log pi is 1 - exp(3) = -19.0855, not 0.
    logp = torch.tensor([[-4.0]], dtype=torch.double, requires_grad=True)
    value = kl_penalty(logp, torch.tensor([[-1.0]], dtype=torch.double), torch.tensor([[True]]), kind="k3")
    assert float(value.detach()) == pytest.approx(16.0855, abs=1e-4)
    assert float(torch.autograd.grad(value, logp)[0]) == pytest.approx(-19.0855, abs=1e-4)
    assert "At d = −3 the estimate is 16.09" in section("What all methods share")


def test_the_constant_norm_divides_by_rows_and_cap():
    logp = torch.zeros(2, 3, requires_grad=True)
    given = {"aggregate": "seq-mean-token-sum-norm", "max_tokens": 10}
    mask = torch.tensor([[True] * 3, [True, True, False]])
    # Five tokens of advantage 1 and ratio 1: -5 / (2 rows * 10); twice the rows give the same.
    loss, _ = clipped_surrogate(logp, logp.detach(), torch.ones(2), mask, **given)
    twice, _ = clipped_surrogate(logp.repeat(2, 1), torch.zeros(4, 3), torch.ones(4), mask.repeat(2, 1), **given)
    assert float(loss.detach()) == float(twice.detach()) == pytest.approx(-0.25)


def test_a_group_of_one_has_advantage_0_in_every_advantage():
    rewards, alone = torch.tensor([1.0, 0.0]), torch.tensor([0, 1])
    for advantage in (group_normalised, partial(group_normalised, divide_by_std=False), leave_one_out):
        assert advantage(rewards, alone).tolist() == [0.0, 0.0]
    assert batch_normalised(rewards, alone, torch.ones(2, 3) > 0).abs().max() == 0
    with pytest.raises(ConfigError, match="group_size is 1; give at least 2"):
        Training(steps=1, group_size=1)


def test_o1_pruner_is_clipped_and_then_standardised_by_the_sample():
    # Reference 600 tokens and accuracy .5, lambda 2: 100 right tokens give 6, clipped 4; 600 right ones give 1; 1200
    # wrong ones -1.5. Mean 3.5 / 3; sample deviation of (4, 1, -1.5) 2.7538.
    found = reference_ratio(
        torch.tensor([True, True, False]), torch.tensor([100, 600, 1200]), torch.full((3,), 600.0),
        torch.full((3,), 0.5), clip=(-2, 4), standardise=True,
    )  # fmt: skip
    assert found.tolist() == pytest.approx([(x - 3.5 / 3) / 2.7538 for x in (4, 1, -1.5)], abs=1e-4)


def test_siri_pays_finished_answers_only():
    rollouts = tiny.rollouts([3, 3, 3], correct=[True, True, False], finished=[True, False, True])
    assert build_method("siri", cap=3, shortest=2).reward(rollouts, {}).tolist() == [1.0, 0.0, 0.0]
    assert "finished answers only" in section("SIRI")
