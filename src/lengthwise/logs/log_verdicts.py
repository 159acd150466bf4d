"""The log's own verdicts: which of several is meant, and how far they agree with ours."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lengthwise.logs.log_numbers import Agreement
from lengthwise.logs.readers.names import VERDICT

HINTS = ("acc", "correct", "match", "right")
"""What the names of verdicts on correctness have in them, beside rewards for form and length."""
PLAIN = (0.0, 1.0, -1.0)
"""Values of a verdict that was not shaped into a reward."""
_BOTH, _LOG_ALONE, _OURS_ALONE, _SHAPED = "both ", "right by the log alone ", "right by ours alone ", "shaped "


@dataclass(frozen=True, slots=True)
class LogVerdict:
    """What a log says of a response: under which name, the value, and whether that means right."""

    name: str
    value: float
    right: bool


def log_verdict(verdicts: Mapping[str, float], named: str | None, right_from: float) -> LogVerdict | None:
    """The verdict under the name that was given, else the one that is called as a verdict is; None where there is none.

    ``right_from``: the value from which on it means right.
    """
    name = _usual(verdicts) if named is None else named
    value = None if name is None else verdicts.get(name)
    return None if name is None or value is None else LogVerdict(name, value, value >= right_from)


def _usual(verdicts: Mapping[str, float]) -> str | None:
    """lm-eval has the filter behind a comma. Of several that are called otherwise none is taken at a guess."""
    if len(verdicts) < 2:
        return next(iter(verdicts), None)
    for known in VERDICT:
        for name in verdicts:
            if name.partition(",")[0] == known:
                return name
    hinted = [name for name in verdicts if any(hint in name.casefold() for hint in HINTS)]
    return hinted[0] if len(hinted) == 1 else None


def tally_verdicts(facts: Tally[str], given: LogVerdict, ours: bool | None) -> None:
    """Count a verdict of the log beside ours, None where there is none."""
    facts[_SHAPED + given.name] += given.value not in PLAIN
    if ours is not None:
        facts[_BOTH + given.name] += 1
        facts[_LOG_ALONE + given.name] += given.right and not ours
        facts[_OURS_ALONE + given.name] += ours and not given.right


def agreements(facts: Tally[str]) -> list[Agreement]:
    """For each of the log's verdicts beside which ours stand: responses, and those that one side alone has right."""
    names = [name.removeprefix(_BOTH) for name in facts if name.startswith(_BOTH)]
    return [
        Agreement(name, facts[_BOTH + name], facts[_LOG_ALONE + name], facts[_OURS_ALONE + name])
        for name in sorted(names)
    ]


def verdict_notes(facts: Tally[str], right_from: float) -> Iterator[str]:
    """How far the verdicts agree, and which are no plain ones."""
    for name in sorted(name.removeprefix(_BOTH) for name in facts if name.startswith(_BOTH)):
        both, log_alone, ours_alone = (facts[kind + name] for kind in (_BOTH, _LOG_ALONE, _OURS_ALONE))
        share = 1 - (log_alone + ours_alone) / both
        differ = f" ({log_alone} right by the log alone, {ours_alone} by ours alone; --disagreements FILE lists them)"
        yield f"the log's own verdict {name} and ours agree on {share:.1%} of {both} responses" + (
            differ if log_alone + ours_alone else ""
        )
    for name in sorted(name.removeprefix(_SHAPED) for name in facts if name.startswith(_SHAPED) and facts[name]):
        yield (
            f"{name} is neither 0 nor 1 in {facts[_SHAPED + name]} responses, as a shaped reward is; from "
            f"{right_from:g} on it means right (--right-from)"
        )
