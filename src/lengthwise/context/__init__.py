"""Read more tokens than a model was trained on: Lambda-shaped attention and its evicting cache."""

from importlib import metadata

LEAST_TRANSFORMERS = (5, 5)


def _check_transformers(version: str) -> None:
    """Refuse a transformers without the mask and attention registries that this package plugs into."""
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST_TRANSFORMERS:
        raise ImportError(f"lengthwise.context needs transformers 5.5 or newer; found {version}. Upgrade transformers")


_check_transformers(metadata.version("transformers"))

from lengthwise.context.cache import LambdaCache as LambdaCache  # noqa: E402
from lengthwise.context.lambda_attention import LambdaAttention as LambdaAttention  # noqa: E402
from lengthwise.context.lambda_attention import lambda_attention as lambda_attention  # noqa: E402
from lengthwise.context.rules import Rule as Rule  # noqa: E402
from lengthwise.context.rules import TopK as TopK  # noqa: E402

__all__ = ["LambdaAttention", "LambdaCache", "Rule", "TopK", "lambda_attention"]
