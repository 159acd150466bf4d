"""Read more tokens than a model was trained on: position schemes, Lambda-shaped attention and its evicting cache.

Importing it makes the position schemes known to transformers.
"""

from importlib import metadata

LEAST_TRANSFORMERS = (5, 5)


def _check_transformers(version: str) -> None:
    """Refuse a transformers without the mask and attention registries that this package plugs into."""
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST_TRANSFORMERS:
        raise ImportError(f"lengthwise.context needs transformers 5.5 or newer; found {version}. Upgrade transformers")


_check_transformers(metadata.version("transformers"))

from lengthwise.context.lambda_shaped_attention.evicting_cache import LambdaCache as LambdaCache  # noqa: E402
from lengthwise.context.lambda_shaped_attention.patching import LambdaAttention as LambdaAttention  # noqa: E402
from lengthwise.context.lambda_shaped_attention.patching import lambda_attention as lambda_attention  # noqa: E402
from lengthwise.context.lambda_shaped_attention.window_rules import Rule as Rule  # noqa: E402
from lengthwise.context.lambda_shaped_attention.window_rules import TopK as TopK  # noqa: E402
from lengthwise.context.positions.scheme_config import extend as extend  # noqa: E402
from lengthwise.context.positions.schemes import linear_inv_freq as linear_inv_freq  # noqa: E402
from lengthwise.context.positions.schemes import power_inv_freq as power_inv_freq  # noqa: E402
from lengthwise.context.positions.schemes import randomised_positions as randomised_positions  # noqa: E402
from lengthwise.context.positions.schemes import truncated_inv_freq as truncated_inv_freq  # noqa: E402
from lengthwise.context.positions.schemes import xpos_decay as xpos_decay  # noqa: E402

__all__ = [
    "LambdaAttention", "LambdaCache", "Rule", "TopK", "extend", "lambda_attention", "linear_inv_freq",
    "power_inv_freq", "randomised_positions", "truncated_inv_freq", "xpos_decay",
]  # fmt: skip
