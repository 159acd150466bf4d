"""What a record refuses: texts that are not one per problem, a context without a cap or that is no JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from lengthwise.errors import InputError
from lengthwise.json_types import JsonObject


def checked_texts(values: object, name: str, problems: int) -> list[str]:
    """One text per problem, or raise."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not all(isinstance(v, str) for v in values):
        raise InputError(f"{name} is {values!r}; give one text per problem")
    if len(values) != problems:
        raise InputError(f"{name} has {len(values)} entries for {problems} problems; give one each")
    return list(values)


def checked_context(context: object, longest: int) -> JsonObject:
    """A context as JSON gives it back, with a cap that no response exceeds, or raise."""
    if not isinstance(context, Mapping):
        raise InputError(f"context is {context!r}; give a mapping with the cap and all else the numbers depend on")
    if "cap" not in context:
        raise InputError("context has no 'cap'; a length without its cap cannot be compared with any other")
    try:
        # What JSON gives back, so that a loaded record equals the saved one.
        kept: JsonObject = json.loads(json.dumps(dict(context), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"context cannot be written as JSON ({error}); use text, numbers and lists") from error
    cap = kept["cap"]
    if isinstance(cap, bool) or not isinstance(cap, int) or cap < 1:
        raise InputError(f"context has the cap {cap!r}; give a whole number of tokens, at least 1")
    if isinstance(kept.get("recut_from", cap), bool) or not isinstance(kept.get("recut_from", cap), int):
        raise InputError(f"context has {kept['recut_from']!r} as recut_from; give the cap that the responses had")
    if longest > cap:
        raise InputError(f"num_tokens holds {longest} but the cap is {cap}; give the cap they had")
    return kept
