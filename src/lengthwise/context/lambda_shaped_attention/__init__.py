"""Lambda-shaped attention (LM-Infinite): its rules, its evicting cache, and how a loaded model is given both."""

from lengthwise.context.lambda_shaped_attention.evicting_cache import LambdaCache as LambdaCache
from lengthwise.context.lambda_shaped_attention.patching import LambdaAttention as LambdaAttention
from lengthwise.context.lambda_shaped_attention.patching import lambda_attention as lambda_attention
from lengthwise.context.lambda_shaped_attention.window_rules import Rule as Rule
from lengthwise.context.lambda_shaped_attention.window_rules import TopK as TopK

__all__ = ["LambdaAttention", "LambdaCache", "Rule", "TopK", "lambda_attention"]
