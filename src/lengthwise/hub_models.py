"""Models by their name on a hub: `organisation/name` becomes a folder of the hub's cache on this machine."""

from __future__ import annotations

import re
from pathlib import Path

from lengthwise.errors import InputError

TOKENIZER_PATTERNS = (
    "*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "vocab.*", "merges.txt", "additional_chat_templates/*",
)  # fmt: skip
MODEL_PATTERNS = (*TOKENIZER_PATTERNS, "*.safetensors")
CODE = "*.py"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_name(text: str) -> bool:
    """Whether a text may name a model of a hub: two words with a slash, and neither is a folder or file here."""
    return _NAME.fullmatch(text) is not None and not Path(text).exists() and not Path(text).parent.exists()


def hub_folder(text: str, *, name: str = "model", weights: bool = True, trust_remote_code: bool = False) -> str:
    """A folder with what a hub has under a name; any other text as it is. ``name`` is what errors call it.

    What is in the cache is not downloaded again. Pickled weights never are, and code only where it is trusted.
    ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME`` and ``HF_HUB_OFFLINE`` are heeded.

    Raises:
        InputError: the hub has no such model, does not give it, or cannot be reached.
    """
    if not is_hub_name(text):
        return text
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    patterns = [*(MODEL_PATTERNS if weights else TOKENIZER_PATTERNS), *([CODE] if trust_remote_code else [])]
    begins = f"{name} is {text!r}: no such folder, and"
    try:
        return snapshot_download(text, allow_patterns=patterns)
    except GatedRepoError as error:
        raise InputError(
            f"{begins} the hub gives the model of that name only to those who were let in; ask on its page, then set "
            "HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(f"{begins} the hub has no model of that name (a private one needs HF_TOKEN)") from error
    except HFValidationError as error:
        raise InputError(
            f"{begins} it is no name of a hub's model; give a local folder, or ORGANIZATION/NAME"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(
            f"{begins} the hub cannot be reached for a model of that name, nor is it in the cache ({why}); give a "
            "local folder, or see to the network (HF_ENDPOINT, HF_HUB_OFFLINE)"
        ) from error
