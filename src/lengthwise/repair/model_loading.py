"""Loading a model, or an adapter on its base, for one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lengthwise.errors import InputError
from lengthwise.files import read_json_object
from lengthwise.optional_imports import importing
from lengthwise.pretrained import check_vocabulary, load_model, load_tokenizer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer


@dataclass(frozen=True)
class Loaded:
    """A model with its tokenizer.

    ``file_name`` gives the name that a parameter has in the folder's files; ``files`` is the folder of the model's
    settings, the base's for an adapter.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    file_name: Callable[[str], str]
    files: Path

    @property
    def pad_id(self) -> int:
        """A token id that may stand in padding; any valid id does, masks decide."""
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0


def load_calibrated(
    folder: Path, *, adapter: bool, base: Path | None, device: torch.device, dtype: str, trust_remote_code: bool = False
) -> Loaded:
    """Load a causal language model and its tokenizer; an adapter is put on its base, not merged into it.

    Raises:
        InputError: transformers or peft cannot load it, an adapter's base is no local folder, or a tokenizer has ids
            beyond the embedding.
        MissingExtraError: an adapter without peft.
    """
    where = _base_folder(folder, base) if adapter else folder
    model = load_model(where, dtype=dtype, trust_remote_code=trust_remote_code)
    if adapter:
        model = _with_adapter(model, folder)
    has_own = (folder / "tokenizer_config.json").is_file()
    tokenizer = load_tokenizer(folder if has_own else where, trust_remote_code=trust_remote_code)
    check_vocabulary(model, tokenizer, str(folder))
    model.to(device)
    # peft names a factor after the adapter that is loaded; its files leave that out
    named = (lambda name: name.replace(".default.", ".")) if adapter else (lambda name: name)
    return Loaded(model, tokenizer, named, where)


def _base_folder(folder: Path, base: Path | None) -> Path:
    named = base or Path(str(read_json_object(folder / "adapter_config.json").get("base_model_name_or_path")))
    if not (named / "config.json").is_file():
        raise InputError(
            f"the base of the adapter {folder} is {str(named)!r}, which is no model folder; give its folder as base"
        )
    return named


def _with_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    with importing("a LoRA adapter", "peft", "trl"):
        from peft import PeftModel
    try:
        return PeftModel.from_pretrained(model, str(folder))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{folder}: peft cannot load the adapter ({str(error).strip().splitlines()[0]}); "
            "see that it was made for this base"
        ) from error
