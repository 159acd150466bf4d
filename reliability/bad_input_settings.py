"""Settings made wrong: YAML and JSON files for every command, and every flag with every kind of value."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
from pathlib import Path
from typing import cast

import yaml

from lengthwise.cli import COMMANDS, main
from lengthwise.config.commands import COMMANDS as SETTINGS
from lengthwise.json_types import JsonObject, JsonValue
from reliability._batches import INSIDE, OUT, Case, command, run
from reliability._harness import Ask, Tally, harness
from reliability._mutations import NAMES, ODD_NUMBERS, ODD_TEXTS, changed_bytes, changed_value

BASES: dict[str, tuple[str, ...]] = {
    "grade": ("log.jsonl",),
    "evaluate": ("lab:chains", "--data", "rows.jsonl", "--preset", "lab", "--cap", "40", "--out", "new"),
    "demo": ("--out", "new"),
    "shorten": ("lab:chains", "--data", "rows.jsonl", "--preset", "lab", "--cap", "40", "--out", "new"),
    "compare": ("lab:chains", "--methods", "grpo", "--data", "rows.jsonl", "--preset", "lab", "--out", "new"),
    "methods": ("dler",),
    "generate": ("lab:chains", "--prompt", "7+5?"),
    "extend": ("lab:reader", "--scheme", "linear", "--factor", "2", "--out", "new"),
    "evaluate-context": ("lab:reader", "--lengths", "48", "--tasks", "lines", "--out", "new"),
    "merge": ("lab:terse", "--base", "lab:chains", "--method", "task-arithmetic", "--out", "new"),
    "repair": ("lab:chains", "--harmful", "harmful.jsonl", "--out", "new"),
    "export": ("trl", "lab:chains", "--data", "rows.jsonl", "--preset", "lab", "--cap", "40", "--out", "new"),
    "report": ("run",),
    "compare-records": ("a=record.json", "b=other.json"),
    "doctor": (),
}
YAML_PIECES = (
    b"&a [*a]", b"*a", b"!!python/object/apply:os.system ['touch x']", b"!!binary aGk=", b"<<: {a: 1}", b"? a\n: b",
    b"---\n", b"...\n", b"%YAML 1.1\n", b"key: |\n  text", b"\t", b"'", b'"\\x', b"{a: [}", b"!!timestamp 2001-01-01",
    b"0o17", b"1_000", b".inf", b"2001-12-14", b"yes", b"1:30", b"\xc2\x85", b"\xef\xbf\xbe", b"\xed\xa0\xbd",
)  # fmt: skip


@harness("bad-settings", "Bad input", "settings files of every command, and every flag with odd values", cases=4000)
def bad_settings(ask: Ask) -> Tally:
    """Files and flags are read, checked and shown (``--print-config``); no command begins its work."""
    return run("bad_input_settings", ask)


@functools.cache
def sound(name: str) -> str:
    """All settings of a command as the file that it shows itself."""
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([name, *BASES[name], "--print-config"])
    shown.flush()
    return shown.buffer.getvalue().decode()


def make(rng: random.Random, place: Path) -> Case:
    """A settings file or a few flags."""
    name = rng.choice(list(COMMANDS))
    return _file(rng, place, name) if rng.random() < 0.5 else _flags(rng, name)


def _file(rng: random.Random, place: Path, name: str) -> Case:
    folder = place / INSIDE / rng.choice(NAMES)
    path = folder.with_name(folder.name + rng.choice([".yaml", ".yml", ".json", ".json", ""]))
    if rng.random() < 0.1:  # a run's folder
        folder.mkdir()
        path = folder / "config.json"
    path.write_bytes(_text(rng, name, path.suffix == ".json"))
    given = path.parent if path.name == "config.json" and rng.random() < 0.5 else path
    words = BASES[name] if rng.random() < 0.5 else ()
    return Case(f"{name} --config", command(name, *words, "--config", os.path.relpath(given, place), "--print-config"))


def _text(rng: random.Random, name: str, as_json: bool) -> bytes:
    table = cast("JsonObject", yaml.safe_load(sound(name)))
    if rng.random() < 0.6:
        found = changed_value(table if rng.random() < 0.7 else {"command": name, "settings": table}, rng)
        text = json.dumps(found)
        if not as_json and rng.random() < 0.7 and len(text) < 100_000:
            with contextlib.suppress(RecursionError):  # lists that lie too deep for it stay JSON, which is YAML
                text = yaml.safe_dump(found, allow_unicode=True)
        data = text.encode("utf-8", "surrogatepass")
    else:
        data = (json.dumps(table, indent=1) if as_json else sound(name)).encode()
    if rng.random() < 0.3:
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice(YAML_PIECES) + data[at:]
    return changed_bytes(data, rng) if rng.random() < 0.4 else data


def _flags(rng: random.Random, name: str) -> Case:
    """A command line with odd words in it, or with flags left without theirs."""
    words = list(BASES[name])
    entries = list(SETTINGS[name].entries().values())
    for entry in rng.sample(entries, min(len(entries), 1 + rng.randrange(3))):
        value = _word(rng)
        if not entry.facts.positional:
            words += [entry.flag] if rng.random() < 0.1 else [entry.flag, value]
        elif words:
            words[0] = value
    if rng.random() < 0.1:
        words.insert(rng.randrange(len(words) + 1), _word(rng))
    out = [OUT if word == "new" else word for word in words]
    return Case(f"{name} with flags", command(name, *out, "--print-config"))


def _word(rng: random.Random) -> str:
    value: JsonValue = rng.choice([*ODD_TEXTS, *ODD_NUMBERS, *NAMES, "1,2", "a=1", "1e-9", "0", "7", "a:b", "1-2"])
    return value if isinstance(value, str) else f"{value!r:.300}"
