"""Position schemes as `evaluate-context` is given them."""

from __future__ import annotations

from lengthwise.context.positions.scheme_config import SCHEMES, Scheme, check_reach
from lengthwise.errors import ConfigError

AS_IS, LAMBDA = "as-is", "lambda"


def parse_scheme(text: str) -> tuple[str, float]:
    """``as-is``, ``lambda`` or ``NAME:FACTOR`` as (name, factor).

    Raises:
        ConfigError: anything else.
    """
    name, _, factor = text.partition(":")
    try:
        found = (name, float(factor) if factor else 1.0)
    except ValueError as error:
        raise ConfigError(f"scheme is {text!r}; write for example linear:4") from error
    if name not in (AS_IS, LAMBDA, *SCHEMES):
        raise ConfigError(f"scheme is {text!r}; choose {AS_IS}, {LAMBDA}, or NAME:FACTOR of {', '.join(SCHEMES)}")
    if name in SCHEMES:
        check_reach(Scheme(*found))
    elif factor:
        raise ConfigError(f"scheme is {text!r}, but {name} takes no factor; write {name}")
    return found
