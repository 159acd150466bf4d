"""Loading a causal language model from a Hugging Face folder, and saving one as an ordinary folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lengthwise.engine.liger_kernels import check_liger, put_liger
from lengthwise.errors import ConfigError, TrainingError
from lengthwise.files import write_folder
from lengthwise.optional_imports import importing
from lengthwise.pretrained import (
    check_folder,
    check_vocabulary,
    folder_dtype,
    load_model,
    load_tokenizer,
    save_tokenizer,
)

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from lengthwise.engine.backends.protocol import Backend

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO = "auto"
"""A dtype: the folder's own."""
LORA_TARGETS = "all-linear"


@dataclass(frozen=True)
class Policy:
    """A loaded model with its tokenizer; `compute` makes the context (autocast or nothing) it runs in.

    `endless`: the model is under an attention that reads without end, and takes no padding (see `Sampler`). `dtype` is
    what it computes in. `trust_remote_code`: code of its folder may run. `backend` writes its
    tokens; None where it does so itself.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    folder: Path
    lora_rank: int
    compute: Callable[[], AbstractContextManager[object]]
    endless: bool = False
    dtype: str = "float32"
    trust_remote_code: bool = False
    backend: Backend | None = None

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
            "(accelerate) or verl; see docs/more-devices.md"
        )
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device is {device!r}, which this machine does not have; use 'auto' or 'cpu'") from error
    return wanted


def check_dtype(dtype: str) -> None:
    """Refuse what is neither "auto" nor one of `DTYPES`.

    Raises:
        ConfigError: naming the choices.
    """
    if dtype not in (AUTO, *DTYPES):
        raise ConfigError(f"dtype is {dtype!r}; choose one of {AUTO}, {', '.join(DTYPES)}")


def resolve_dtype(folder: str | Path, dtype: str) -> str:
    """A name of `DTYPES`: the one given, or for "auto" the folder's own; float32 where it has another than these.

    Raises:
        ConfigError: an unknown dtype.
    """
    check_dtype(dtype)
    if dtype != AUTO:
        return dtype
    own = folder_dtype(check_folder(folder))
    return own if own in DTYPES else "float32"


def dtype_words(folder: str | Path, dtype: str) -> str:
    """Which dtype `resolve_dtype` takes, and for "auto" why, in words."""
    taken = resolve_dtype(folder, dtype)
    if dtype != AUTO:
        return taken
    own = folder_dtype(check_folder(folder))
    return f"{taken}, the folder's own" if own == taken else f"{taken}, since nothing is computed in the folder's {own}"


def load_policy(
    folder: str | Path,
    *,
    device: str = "auto",
    dtype: str = "float32",
    lora_rank: int = 0,
    gradient_checkpointing: bool = False,
    trust_remote_code: bool = False,
    frozen: bool = False,
    liger: bool = False,
    seed: int = 0,
) -> Policy:
    """Load a model for sampling and training on one device.

    Trained weights are always float32. With `dtype` bfloat16 or float16 computing runs under autocast; with LoRA
    (`lora_rank` above 0, extra `trl`) the frozen base is held in that dtype too, and with `frozen`, for a model that
    only answers, all weights are. `dtype` "auto" is the folder's own; `Policy.dtype` says which was taken. Dropout is
    switched off: a policy must score its own samples as it drew them. An adapter is drawn from `seed`, and from nothing
    else. `liger`: its kernels for norms and MLPs, see `liger_kernels`.

    Raises:
        InputError: no such folder, weights that transformers cannot load, or a tokenizer with ids beyond them.
        ConfigError: unknown dtype or device, a rank below 0, LoRA on frozen weights, or what Liger cannot run.
        MissingExtraError: LoRA without peft, or Liger's kernels without liger-kernel.
    """
    if lora_rank < 0:
        raise ConfigError(f"lora is {lora_rank}; give 0 (all weights) or a rank of at least 1")
    if lora_rank and frozen:
        raise ConfigError(f"lora is {lora_rank}, but the weights are frozen; give one of them")
    where, path, taken = resolve_device(device), check_folder(folder), resolve_dtype(folder, dtype)
    if liger:
        check_liger(where)
    held = DTYPES[taken] if lora_rank or frozen else torch.float32
    model = load_model(path, dtype=held, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(path, trust_remote_code=trust_remote_code)
    check_vocabulary(model, tokenizer, str(folder))
    _without_dropout(model)
    if liger:
        put_liger(model)
    if lora_rank:
        model = _with_lora(model, lora_rank, seed)
    model.to(where)
    model.eval()
    if frozen:
        model.requires_grad_(False)
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if lora_rank:
            model.enable_input_require_grads()
        # transformers checkpoints in training mode only. Nothing but the checkpointed modules is in it: positions that
        # a scheme draws while training, or a router's noise, would score a sample otherwise than it was drawn.
        for module in model.modules():
            module.training = bool(getattr(module, "gradient_checkpointing", False))
    compute: Callable[[], AbstractContextManager[object]] = nullcontext
    if taken != "float32" and not frozen:
        compute = partial(torch.autocast, where.type, dtype=DTYPES[taken])
    return Policy(
        model, tokenizer, path, lora_rank, compute, dtype=taken, trust_remote_code=trust_remote_code
    )  # fmt: skip


def _without_dropout(model: PreTrainedModel) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def _with_lora(model: PreTrainedModel, rank: int, seed: int) -> PeftModel:
    with importing("LoRA", "peft", "trl"):
        from peft import LoraConfig, get_peft_model

        from lengthwise.engine.lora_layers import hasten
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LORA_TARGETS, task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):  # peft draws from the global generator, and weights are on the CPU here
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    hasten(adapted)
    return adapted


def save_policy(policy: Policy, folder: Path) -> None:
    """Save as an ordinary Hugging Face folder, whole or not at all; LoRA weights are merged in.

    The tokenizer's files are those of the folder that the policy came from, byte for byte, unless the tokenizer was
    changed since. A copy of the adapter lies beside it under ``adapter`` when there is one.

    Raises:
        TrainingError: a weight that was trained is NaN or infinite.
    """
    broken = [name for name, p in policy.model.named_parameters() if p.requires_grad and not p.isfinite().all()]
    if broken:
        raise TrainingError(
            f"training left NaN or infinity in {len(broken)} weights, first {broken[0]}, so nothing is saved; lower "
            "the learning rate, or train in float32"
        )

    def fill(partial_folder: Path) -> None:
        model = policy.model
        if policy.lora_rank:
            model.save_pretrained(partial_folder / "adapter")
            model = model.merge_and_unload()
        model.save_pretrained(partial_folder)
        save_tokenizer(
            policy.tokenizer, policy.folder, partial_folder, trust_remote_code=policy.trust_remote_code
        )  # fmt: skip

    write_folder(folder, fill)


def weights_sha(model: PreTrainedModel) -> str:
    """SHA-256 over all parameters in name order: the identity of a model's weights."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
