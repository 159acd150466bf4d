"""Who writes the tokens of a command's run: chosen by its settings, its model and what it does with responses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.config.commands.evaluation import EvaluateSettings
from lengthwise.config.groups.model import Writing
from lengthwise.config.groups.sampling import Intervention
from lengthwise.engine.backends.choice import Wanted, choose
from lengthwise.engine.backends.writer import Writer, open_writer
from lengthwise.engine.model_folders import resolve_device
from lengthwise.grading.prompt_contract import PromptContract

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def writer_for(
    asked: Writing,
    folder: Path,
    config: PretrainedConfig,
    contract: PromptContract,
    *,
    device: str,
    dtype: str,
    tokens: int,
    rows: int = 0,
    intervention: Intervention | None = None,
    endless: bool = False,
    trains: bool = False,
    trust_remote_code: bool = False,
) -> Writer:
    """What writes the tokens of a run, not started yet; see `choose` and `open_writer`.

    Raises:
        UnsupportedModelError: vLLM was asked for, and cannot.
        MissingExtraError: it was asked for, and is not installed or cannot be imported.
        ConfigError: a share of a GPU above 1.
    """
    wanted = Wanted(folder, config, resolve_device(device), _writes_in(contract, intervention), endless)
    return open_writer(
        choose(asked.backend, wanted), wanted, dtype=dtype, tokens=tokens, rows=rows, memory=asked.vllm_memory,
        eos_ids=contract.eos_ids, trains=trains, trust_remote_code=trust_remote_code,
    )  # fmt: skip


def evaluation_writer(
    settings: EvaluateSettings,
    folder: Path,
    config: PretrainedConfig,
    contract: PromptContract,
    *,
    dtype: str,
    tokens: int,
) -> Writer:
    """`writer_for` an evaluation by its settings."""
    return writer_for(
        settings.writing, folder, config, contract, device=settings.runtime.device, dtype=dtype, tokens=tokens,
        rows=settings.sampling.sample_rows, intervention=settings.intervention, endless=settings.endless.lambda_,
        trust_remote_code=settings.runtime.trust_remote_code,
    )  # fmt: skip


def _writes_in(contract: PromptContract, intervention: Intervention | None) -> str | None:
    """What writes into responses while they are drawn, as a sentence that goes on with "into responses"."""
    if contract.stop_strings:
        return "stop strings write an end"
    if intervention is not None and (intervention.forces or intervention.short_of is not None):
        options = ("budget", "early_stop", "short_of")
        option = next((name for name in options if getattr(intervention, name) is not None), "budget")
        return f"--{option.replace('_', '-')} writes an end"
    return None
