"""The page of differences between papers and code: whole tables, sourced sections, an honest list of what is here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lengthwise.context
import lengthwise.evaluation.scores
import lengthwise.objectives
import lengthwise.weights
from lengthwise.methods import METHODS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "papers-vs-code.md").read_text(encoding="utf-8")
SECTIONS = {
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


def section(name: str) -> str:
    return PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_names_its_paper_and_its_code(name):
    for source in SECTIONS[name]:
        assert source in section(name), source


def test_every_row_of_a_table_has_all_its_cells():
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.M):
        rows = table.strip().split("\n")
        assert len({row.count("|") for row in rows}) == 1, rows[0]


def test_what_is_called_here_is_here_and_what_is_missing_is_missing():
    here = [lengthwise.context, lengthwise.objectives, lengthwise.weights, lengthwise.evaluation.scores]
    for row in section("What is in the package").split("\n|")[3:]:
        _, built, missing = (cell.strip() for cell in row.strip("|\n").split("|")[:3])
        for name in re.findall(r"`(\w+)`", built):
            assert any(hasattr(module, name) for module in here), f"{name} is called built in papers-vs-code.md"
        assert set(re.findall(r"--method ([\w-]+)", built)) <= METHODS.keys()
        already = set(re.findall(r"--method ([\w-]+)", missing)) & METHODS.keys()
        assert not already, f"{already} is built: say so in the table of docs/papers-vs-code.md"
