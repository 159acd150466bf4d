"""Loading a causal language model from a Hugging Face folder, and saving one as an ordinary folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lengthwise.errors import ConfigError, InputError, MissingExtraError
from lengthwise.files import write_folder

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LORA_TARGETS = "all-linear"


@dataclass(frozen=True)
class Policy:
    """A loaded model with its tokenizer; `compute` makes the context (autocast or nothing) it runs in.

    `endless`: the model is under an attention that reads without end, and takes no padding (see `Sampler`).
    """

    model: Any
    tokenizer: Any
    folder: Path
    lora_rank: int
    compute: Callable[[], AbstractContextManager[Any]]
    endless: bool = False

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.model.device)

    @property
    def pad_id(self) -> int:
        """A token id that may stand in padding; any valid id does, masks decide."""
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0


def resolve_device(device: str) -> torch.device:
    """One device from its name; "auto" takes CUDA where there is one.

    Raises:
        ConfigError: not a device of this machine, or more than one asked for.
    """
    if "," in device or device in ("all", "cuda:all"):
        raise ConfigError(
            f"device is {device!r}; the engine runs on one device. For more, run the same objectives inside TRL "
            "(accelerate) or verl; see docs/scale.md"
        )
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device is {device!r}, which this machine does not have; use 'auto' or 'cpu'") from error
    return wanted


def read_config(folder: str | Path) -> Any:
    """The model's config; no weights are read.

    Raises:
        InputError: no such folder, or no config.json in it.
    """
    from transformers import AutoConfig

    path = check_folder(folder)
    return AutoConfig.from_pretrained(path)


def check_folder(folder: str | Path) -> Path:
    """The path of a Hugging Face folder that is there and has a config.json."""
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"model is {str(folder)!r}: no such folder; give a local Hugging Face folder")
    if not (path / "config.json").is_file():
        raise InputError(f"model is {str(folder)!r}: no config.json in it; give a Hugging Face model folder")
    if not (path / "model.safetensors").is_file() and not (path / "model.safetensors.index.json").is_file():
        raise InputError(
            f"model is {str(folder)!r}: no model.safetensors in it; pickled weights are not read. Convert them with "
            "transformers: model.save_pretrained(folder)"
        )
    return path


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer of a Hugging Face folder."""
    from transformers import AutoTokenizer

    path = check_folder(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"model is {str(folder)!r}: its tokenizer cannot be loaded ({reason})") from error
    # Where a folder has no vocabulary, transformers makes up a tokenizer that turns every text into nothing.
    if set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
        raise InputError(
            f"model is {str(folder)!r}: its tokenizer has no words; copy the model's tokenizer files there"
        )
    return tokenizer


def load_policy(
    folder: str | Path,
    *,
    device: str = "auto",
    dtype: str = "float32",
    lora_rank: int = 0,
    gradient_checkpointing: bool = False,
    trust_remote_code: bool = False,
) -> Policy:
    """Load a model for sampling and training on one device.

    Trained weights are always float32. With `dtype` bfloat16 or float16 computing runs under autocast; with LoRA
    (`lora_rank` above 0, extra `trl`) the frozen base is held in that dtype too. Dropout is switched off: a
    policy must score its own samples as it drew them.

    Raises:
        InputError: no such folder, or weights that transformers cannot load.
        ConfigError: unknown dtype or device, or a rank below 0.
        MissingExtraError: LoRA without peft.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; choose one of {', '.join(DTYPES)}")
    if lora_rank < 0:
        raise ConfigError(f"lora is {lora_rank}; give 0 (all weights) or a rank of at least 1")
    where, path = resolve_device(device), check_folder(folder)
    stored = DTYPES[dtype] if lora_rank else torch.float32
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=stored, trust_remote_code=trust_remote_code, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"model is {str(folder)!r}: transformers cannot load it ({reason})") from error
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    if lora_rank:
        model = _with_lora(model, lora_rank)
    model.to(where)
    model.eval()
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if lora_rank:
            model.enable_input_require_grads()
        # transformers checkpoints in training mode only; with dropout off the numbers are those of eval mode.
        model.train()
    compute: Callable[[], AbstractContextManager[Any]] = nullcontext
    if dtype != "float32":
        compute = partial(torch.autocast, where.type, dtype=DTYPES[dtype])
    return Policy(model, load_tokenizer(folder), path, lora_rank, compute)


def _with_lora(model: Any, rank: int) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtraError('LoRA needs peft; install it with: pip install "lengthwise[trl]"') from error
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LORA_TARGETS, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted


def save_policy(policy: Policy, folder: Path) -> None:
    """Save as an ordinary Hugging Face folder, whole or not at all; LoRA weights are merged in.

    A copy of the adapter lies beside it under ``adapter`` when there is one.
    """

    def fill(partial_folder: Path) -> None:
        model = policy.model
        if policy.lora_rank:
            model.save_pretrained(partial_folder / "adapter")
            model = model.merge_and_unload()
        model.save_pretrained(partial_folder)
        policy.tokenizer.save_pretrained(partial_folder)

    write_folder(folder, fill)


def weights_sha(model: Any) -> str:
    """SHA-256 over all parameters in name order: the identity of a model's weights."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
