"""The page and the pictures of Lambda attention's study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from studies.figures import panels
from studies.page import Claim, Page, Picture, Section, Table, listed, same_plan, verdict
from studies.summary import Numbers, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEEDS = (0, 1, 2)
NAMES = {
    "full": "full attention",
    "lambda": "Lambda",
    "lambda_top_k": "Lambda, top-k",
    "no_start_tokens": "no start tokens",
    "streaming": "StreamingLLM",
}
WINDOW, FAR = 224, 512
"""Distances up to the first lie within the window with room to spare, from the second on beyond it."""


def of(summary: Summary, kind: str) -> list[Numbers]:
    """A kind's runs, in the order of seeds."""
    return [summary.runs[f"{kind}-{seed}"] for seed in SEEDS]


# ------------------------------------------------------------------------------------------------ what is stated


def between(run: Numbers, side: str, first: int, last: int) -> float:
    """Mean loss of the positions first .. last of a side, from the parts that lie between them."""
    total, count = 0.0, 0
    for span, loss in run["loss_by_position"][side].items():
        a, b = map(int, span.split("-"))
        if first <= a and b <= last:
            total, count = total + loss * (b - a + 1), count + b - a + 1
    return total / count


def share(run: Numbers, context: str, side: str, keep: Callable[[int], bool]) -> float:
    """Mean share of questions answered at the distances that are kept."""
    return fmean(value for distance, value in run["answered"][context][side].items() if keep(int(distance)))


def near(run: Numbers, context: str, side: str) -> float:
    return share(run, context, side, lambda distance: distance <= WINDOW)


def far(run: Numbers, side: str) -> float:
    return share(run, "long_context", side, lambda distance: distance >= FAR)


def late(run: Numbers, side: str) -> float:
    return between(run, side, 2048, 4095) / between(run, side, 128, 255)


def unevenness(run: Numbers) -> float:
    losses = run["loss_per_100k"]
    return max(abs(loss / fmean(losses) - 1) for loss in losses)


STATED: dict[str, tuple[str, Callable[[Numbers], float]]] = {
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


def seen(stated: Numbers, values: Sequence[float]) -> bool:
    """Whether the statement's bounds hold for every seed."""
    low, high = stated.get("at_least", float("-inf")), stated.get("at_most", float("inf"))
    return all(low <= value <= high for value in values)


def wanted(stated: Numbers) -> str:
    if stated.get("at_least") == stated.get("at_most"):
        return f"{stated['at_most']:g}"
    bounds = {"at_least": "at least", "at_most": "at most"}
    return ", ".join(f"{word} {stated[key]:g}" for key, word in bounds.items() if key in stated)


def claims(summary: Summary) -> dict[str, list[Claim]]:
    registered = summary.plan["statements"]
    assert registered.keys() == STATED.keys(), "every registered statement is computed, and no other"
    found = []
    for name, stated in registered.items():
        kind, value = STATED[name]
        values = [value(run) for run in of(summary, kind)]
        found.append(Claim(stated["says"], listed(values, ".4g"), verdict(seen(stated, values)), wanted(stated)))
    return {"": found}


# ------------------------------------------------------------------------------------------------ the page


def registered(summary: Summary) -> list[str]:
    setting = summary.plan["setting"]
    told = f"{setting['models'][0].upper()}{setting['models'][1:]}. Text: {setting['text']}. Lines: {setting['lines']}."
    return [f"{told} Seen: it holds for every seed. Measured: by seed. {same_plan(summary)}"]


def sections(summary: Summary) -> list[Section]:
    text, stream, lines = (of(summary, kind) for kind in ("text", "stream", "lines"))
    forgotten = (
        "Questions answered right in %, by how many tokens ago the answer stood, in 4,096 tokens; chance is 1.6."
    )
    return [
        Section("Loss by position", ["Nats a byte, means over seeds.", loss_by_position(text), million(stream)]),
        Section("What is forgotten", [forgotten, answers(lines)]),
    ]


PARTS = ("128-255", "320-383", "512-767", "1024-1535", "3072-4095")


def loss_by_position(runs: list[Numbers]) -> Table:
    sides = list(runs[0]["loss_by_position"])
    rows = []
    for span in PARTS:
        means = (fmean(run["loss_by_position"][side][span] for run in runs) for side in sides)
        rows.append([span.replace("-", " to "), *(f"{mean:.3f}" for mean in means)])
    return Table(["positions", *(NAMES[side] for side in sides)], rows)


def million(runs: list[Numbers]) -> str:
    """A million tokens in chunks of 2,048, with the cache carried along."""
    spread = listed((100 * unevenness(run) for run in runs), ".0f")
    [(size, formula)] = {(run["cache_bytes"], run["formula_bytes"]) for run in runs}
    first, last = (fmean(run["memory_mib"][at] for run in runs) for at in (0, -1))
    return (
        "A million tokens in chunks of 2,048, the evicting cache carried along: the mean loss of a hundred thousand "
        f"lies at most {spread} % (by seed) from that of all, memory goes from {first:.1f} to {last:.1f} MiB, and the "
        f"cache has {size:,} bytes, as the formula says ({formula:,}). What it costs in time and memory: "
        "[benchmarks](benchmarks.md#lambda-attention)."
    )


def answers(runs: list[Numbers]) -> Table:
    found = [run["answered"]["long_context"] for run in runs]
    distances = list(found[0]["full"])
    rows = [
        [NAMES[side], *(f"{100 * fmean(one[side][d] for one in found):.0f}" for d in distances)] for side in found[0]
    ]
    return Table(["", *distances], rows)


def findings(summary: Summary) -> list[str]:
    text, lines = of(summary, "text"), of(summary, "lines")
    return [
        f"Lambda attention keeps the loss flat sixteen times beyond the trained length "
        f"({listed(map(by_lambda, text), '.3f')} of that within it, by seed), where full attention's grows to "
        f"{fmean(late(run, 'full') for run in text):.1f} times. What has left the window is forgotten: "
        f"{100 * fmean(far(run, 'lambda') for run in lines):.1f} % of far questions are answered, with top-k "
        f"{100 * fmean(far(run, 'lambda_top_k') for run in lines):.0f} %. Start tokens made no difference to these "
        "models."
    ]


def by_lambda(run: Numbers) -> float:
    return late(run, "lambda")


# ------------------------------------------------------------------------------------------------ pictures


def draw_losses(summary: Summary) -> Figure:
    runs = of(summary, "text")
    figure, axes = panels(1, (7, 4))
    for side in runs[0]["loss_by_position"]:
        spans = [tuple(map(int, span.split("-"))) for span in runs[0]["loss_by_position"][side]]
        losses = [fmean(run["loss_by_position"][side][f"{a}-{b}"] for run in runs) for a, b in spans]
        axes.plot([(a + b) / 2 for a, b in spans], losses, marker="o", markersize=3, label=NAMES[side])
    axes.set(xscale="log", xlabel="position (trained to 256)", ylabel="loss, nats a byte")
    return finish(figure, axes)


def draw_answers(summary: Summary) -> Figure:
    found = [run["answered"]["long_context"] for run in of(summary, "lines")]
    figure, axes = panels(1, (7, 4))
    for side in found[0]:
        points = [(int(d), 100 * fmean(one[side][d] for one in found)) for d in found[0][side]]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=NAMES[side])
    axes.set(xscale="log", xlabel="tokens since the answer (window 256)", ylabel="answered right, %")
    return finish(figure, axes)


def finish(figure: Figure, axes: Axes) -> Figure:
    axes.axvline(256, color="grey", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.tight_layout()
    return figure


PAGE = Page(
    study="lambda_attention",
    file="study-lambda.md",
    title="reading beyond the trained length, and what is forgotten",
    question="Beyond the trained length, what does Lambda attention keep, and what does it forget?",
    registered=registered,
    claims=claims,
    findings=findings,
    limits=["Tiny models trained at 256 tokens: what the attention does, not how well a large model reads."],
    sections=sections,
    pictures=[
        Picture("lambda-loss.png", "Loss by position", draw_losses),
        Picture("lambda-forgets.png", "Answers by distance", draw_answers),
    ],
)
