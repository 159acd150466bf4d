"""The benchmark page's part on extending folders and building long prompts, from its raw JSON."""

from __future__ import annotations

import json
from pathlib import Path

RESULT = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "extend_cost.json"
TASKS = ("lines", "passkey", "freeform-qa", "altered-qa")


def lines() -> list[str]:
    """The section, heading first."""
    head = ["", "## Extending a folder, and building long prompts", ""]
    if not RESULT.is_file():
        return [*head, "Not measured yet."]
    found = json.loads(RESULT.read_text())
    extend, tasks = found["extend"], found["tasks"]
    seconds = extend["seconds"]
    return [
        *head,
        f"`{' '.join(found['command'])}` at `{found['git']['commit'][:12]}`, {found['machine']['usable_cpus']} cores.",
        "",
        f"A folder with {extend['mib']} MiB of weights: a synced copy takes {seconds['copy']:.2f} s, `extend` "
        f"{seconds['extend']:.2f} s ({extend['times_of_copying']:.2f} times; bound: 1.2), with `--link` "
        f"{seconds['link']:.3f} s.",
        "",
        f"| {tasks['rows']:,} rows of {tasks['length']:,} tokens (bound: 60 s) | seconds | mean tokens |",
        "|---|---|---|",
        *(f"| {name} | {tasks[name]['seconds']:.1f} | {tasks[name]['mean_tokens']:,.0f} |" for name in TASKS),
    ]
