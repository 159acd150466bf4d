"""The page of Lambda attention's study, from raw JSON and from what was registered before the runs.

`make_tables.py` writes the page; ``python scripts/lambda_page.py`` draws its pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import lambda_cost_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "context_studies"
REGISTERED = ROOT / "benchmarks" / "context_studies" / "expected.json"
IMAGES = ROOT / "docs" / "img"
SEEDS, KINDS = (0, 1, 2), ("text", "stream", "lines")
NAMES = {
    "full": "full attention",
    "lambda": "Lambda",
    "lambda_top_k": "Lambda, top-k",
    "no_start_tokens": "no start tokens",
    "streaming": "StreamingLLM",
}
WINDOW, FAR = 224, 512
"""Distances up to the first lie within the window with room to spare, from the second on beyond it."""
Runs = dict[str, list[dict[str, Any]]]


def load() -> Runs:
    """Runs by kind, in the order of seeds; only kinds of which all seeds are there."""
    found: Runs = {}
    for kind in KINDS:
        paths = [RESULTS / f"{kind}-{seed}.json" for seed in SEEDS]
        if all(path.is_file() for path in paths):
            found[kind] = [json.loads(path.read_text()) for path in paths]
    return found


# ------------------------------------------------------------------------------------------------ what is stated


def between(run: dict[str, Any], side: str, first: int, last: int) -> float:
    """Mean loss of the positions first .. last of a side, from the parts that lie between them."""
    total, count = 0.0, 0
    for span, loss in run["loss_by_position"][side].items():
        a, b = map(int, span.split("-"))
        if first <= a and b <= last:
            total, count = total + loss * (b - a + 1), count + b - a + 1
    return total / count


def share(run: dict[str, Any], context: str, side: str, keep: Callable[[int], bool]) -> float:
    """Mean share of questions answered at the distances that are kept."""
    return fmean(value for distance, value in run["answered"][context][side].items() if keep(int(distance)))


def near(run: dict[str, Any], context: str, side: str) -> float:
    return share(run, context, side, lambda distance: distance <= WINDOW)


def far(run: dict[str, Any], side: str) -> float:
    return share(run, "long_context", side, lambda distance: distance >= FAR)


def late(run: dict[str, Any], side: str) -> float:
    return between(run, side, 2048, 4095) / between(run, side, 128, 255)


def unevenness(run: dict[str, Any]) -> float:
    losses = run["loss_per_100k"]
    return max(abs(loss / fmean(losses) - 1) for loss in losses)


STATED: dict[str, tuple[str, Callable[[dict[str, Any]], float]]] = {
    "flat": ("text", lambda run: late(run, "lambda")),
    "explodes": ("text", lambda run: late(run, "full")),
    "start_tokens_matter": (
        "text",
        lambda run: between(run, "no_start_tokens", 512, 4095) / between(run, "lambda", 512, 4095),
    ),
    "million_flat": ("stream", unevenness),
    "million_memory": ("stream", lambda run: run["memory_mib"][-1] - run["memory_mib"][0]),
    "cache_bytes": ("stream", lambda run: run["cache_bytes"] - run["formula_bytes"]),
    "learnt": ("lines", lambda run: near(run, "short_context", "full")),
    "within_the_window": (
        "lines",
        lambda run: near(run, "long_context", "lambda") / max(near(run, "short_context", "full"), 1e-9),
    ),
    "full_fails": (
        "lines",
        lambda run: near(run, "long_context", "full") / max(near(run, "short_context", "full"), 1e-9),
    ),
    "forgets": ("lines", lambda run: far(run, "lambda")),
    "top_k_recovers": ("lines", lambda run: far(run, "lambda_top_k") - far(run, "lambda")),
    "streaming_forgets": ("lines", lambda run: far(run, "streaming")),
}
"""How each registered statement is computed from one seed's run of a kind."""


def seen(stated: dict[str, Any], values: Sequence[float]) -> bool:
    """Whether the statement's bounds hold for every seed."""
    low, high = stated.get("at_least", float("-inf")), stated.get("at_most", float("inf"))
    return all(low <= value <= high for value in values)


def verdicts(runs: Runs) -> list[str]:
    registered = json.loads(REGISTERED.read_text())["statements"]
    assert registered.keys() == STATED.keys(), "every registered statement is computed, and no other"
    lines = ["| what was registered | wanted | seed 0 | seed 1 | seed 2 | |", "|---|---|---|---|---|---|"]
    for name, stated in registered.items():
        kind, value = STATED[name]
        bounds = {"at_least": "at least", "at_most": "at most"}
        exact = stated.get("at_least") == stated.get("at_most")
        wanted = ", ".join(f"{word} {stated[key]:g}" for key, word in bounds.items() if key in stated)
        wanted = f"{stated['at_most']:g}" if exact else wanted
        if kind not in runs:
            lines.append(f"| {stated['says']} | {wanted} | | | | not run |")
            continue
        values = [value(run) for run in runs[kind]]
        cells = " | ".join(f"{v:.4g}" for v in values)
        lines.append(f"| {stated['says']} | {wanted} | {cells} | {'seen' if seen(stated, values) else 'not seen'} |")
    return lines


# ------------------------------------------------------------------------------------------------ the page


def page() -> str:
    runs = load()
    lines = [
        "# Study: reading beyond the trained length, and what is forgotten",
        "",
        "Generated by `scripts/make_tables.py` from `benchmarks/results/context_studies/` and",
        "`benchmarks/context_studies/expected.json`, which was committed before the runs; do not edit. Made by",
        "`benchmarks/context_studies/text.py` and `lines.py`. The models are tiny and were trained at 256 tokens: this",
        "shows what the attention does, not how well a large model reads.",
        "",
        *setting(),
        "",
        "## Seen and not seen",
        "",
        "A statement is seen if it holds for every seed.",
        "",
        *verdicts(runs),
    ]
    parts = (("text", loss_by_position), ("stream", million), ("lines", answers))
    for kind, part in parts:
        if kind in runs:
            lines += ["", *part(runs[kind])]
    lines += ["", "## Cost", "", *lambda_cost_table.against_wanted(), "", *provenance(runs)]
    return "\n".join(lines) + "\n"


def setting() -> list[str]:
    registered = json.loads(REGISTERED.read_text())["setting"]
    return [f"- {name.replace('_', ' ')}: {text}" for name, text in registered.items()]


def loss_by_position(runs: list[dict[str, Any]]) -> list[str]:
    sides = list(runs[0]["loss_by_position"])
    lines = [
        "## Loss by position",
        "",
        "Nats a byte, means over seeds; trained at 256 tokens.",
        "",
        "![Loss by position](img/lambda-loss.png)",
        "",
        f"| positions | {' | '.join(NAMES[side] for side in sides)} |",
        "|" + "---|" * (len(sides) + 1),
    ]
    for span in runs[0]["loss_by_position"]["full"]:
        means = (fmean(run["loss_by_position"][side][span] for run in runs) for side in sides)
        lines.append(f"| {span.replace('-', ' to ')} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    return lines


def million(runs: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## A million tokens in chunks",
        "",
        "Lambda, the evicting cache carried from chunk to chunk of 2,048 tokens.",
        "",
        "| seed | loss of each hundred thousand | MiB after the first | after the last | cache, bytes | formula |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        losses = ", ".join(f"{loss:.3f}" for loss in run["loss_per_100k"])
        first, last = run["memory_mib"][0], run["memory_mib"][-1]
        lines.append(
            f"| {run['seed']} | {losses} | {first:.1f} | {last:.1f} | {run['cache_bytes']:,} | "
            f"{run['formula_bytes']:,} |"
        )
    return lines + resident()


def resident() -> list[str]:
    """What a process on the CPU held meanwhile; memory does not depend on what the weights have learnt."""
    path = RESULTS / "resident.json"
    if not path.is_file():
        return []
    found = json.loads(path.read_text())
    held = ", ".join(f"{mib:.1f}" for mib in found["memory_mib"])
    return [
        "",
        f"On a CPU, with weights of {found['steps']} steps: MiB resident after each hundred thousand of "
        f"{found['tokens']:,} tokens: {held}.",
    ]


def answers(runs: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## What is forgotten",
        "",
        "Share of questions answered right in %, by how many tokens ago the answer stood; means over seeds, chance is "
        "1.6.",
        "",
        "![Answers by distance](img/lambda-forgets.png)",
    ]
    for context, title in (("long_context", "In 4,096 tokens"), ("short_context", "In 256 tokens")):
        found = [run["answered"][context] for run in runs]
        distances = list(found[0]["full"])
        lines += ["", f"| {title} | {' | '.join(distances)} |", "|" + "---|" * (len(distances) + 1)]
        for side in found[0]:
            cells = " | ".join(f"{100 * fmean(one[side][d] for one in found):.0f}" for d in distances)
            lines.append(f"| {NAMES[side]} | {cells} |")
    return lines


def provenance(runs: Runs) -> list[str]:
    sha = hashlib.sha256(REGISTERED.read_bytes()).hexdigest()
    lines = ["## How it was run", "", "A + marks a working copy with changes beside that commit.", ""]
    for kind, found in runs.items():
        for run in found:
            commit = run["commit"][:12] + "+" * run["commit"].endswith("+")
            same = "" if run["expected_sha256"] == sha else "; under another registration"
            lines.append(
                f"- {kind}, seed {run['seed']}: `{run['command']}` at `{commit}`, {run['device']}, torch "
                f"{run['torch']}, transformers {run['transformers']}{same}"
            )
    return lines if runs else ["Not run yet."]


# ------------------------------------------------------------------------------------------------ pictures


def draw() -> None:
    """The two pictures, where their runs are there."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    runs = load()
    IMAGES.mkdir(parents=True, exist_ok=True)
    if "text" in runs:
        _, axes = plt.subplots(figsize=(7, 4))
        for side in runs["text"][0]["loss_by_position"]:
            spans = [tuple(map(int, span.split("-"))) for span in runs["text"][0]["loss_by_position"][side]]
            losses = [fmean(run["loss_by_position"][side][f"{a}-{b}"] for run in runs["text"]) for a, b in spans]
            axes.plot([(a + b) / 2 for a, b in spans], losses, marker="o", markersize=3, label=NAMES[side])
        axes.axvline(256, color="grey", linewidth=0.8)
        axes.set(xscale="log", xlabel="position (trained to 256)", ylabel="loss, nats a byte")
        finish(axes, "lambda-loss.png")
    if "lines" in runs:
        _, axes = plt.subplots(figsize=(7, 4))
        found = [run["answered"]["long_context"] for run in runs["lines"]]
        for side in found[0]:
            points = [(int(d), 100 * fmean(one[side][d] for one in found)) for d in found[0][side]]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=NAMES[side])
        axes.axvline(256, color="grey", linewidth=0.8)
        axes.set(xscale="log", xlabel="tokens since the answer (window 256)", ylabel="answered right, %")
        finish(axes, "lambda-forgets.png")


def finish(axes: Any, name: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    axes.figure.tight_layout()
    axes.figure.savefig(IMAGES / name, dpi=110)


if __name__ == "__main__":
    draw()
