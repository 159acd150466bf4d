"""Where the labels of a plot stand: close to their points, on nothing else, and the same for the same input."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, one edge, right, the other edge: two corners, each coordinate of the first below that of the second."""
DIRECTIONS, STEP, NEAR = 16, 4.0, 12.0
ON_A_LINE, LEADER_ACROSS = 15.0, 12.0
"""What standing on a line, or a leader across something, costs in units of distance."""


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes share more than an edge."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def label_places(
    points: Sequence[Point],
    sizes: Sequence[Point],
    *,
    inside: Box,
    taken: Sequence[Box],
    lines: Sequence[Box] = (),
    reach: float,
) -> list[Box | None]:
    """A box of each size by its point, greedily in the order given; None where nothing is free within `reach`.

    Boxes stay `inside` and off `taken` and one another; they stand on `lines` only where all else is farther away.
    """
    full, found = list(taken), list[Box | None]()
    for point, size in zip(points, sizes, strict=True):
        best, least = None, math.inf
        for ring in range(1, int(reach / STEP) + 1):
            if ring * STEP >= least:
                break
            for turn in range(DIRECTIONS):
                box = _beside(point, size, ring * STEP, math.tau * turn / DIRECTIONS)
                if not _within(box, inside) or any(overlap(box, other) for other in full):
                    continue
                cost = ring * STEP + ON_A_LINE * sum(overlap(box, line) for line in lines)
                cost += LEADER_ACROSS * sum(overlap(dot, other) for dot in _dots(point, box) for other in full)
                if cost < least:
                    best, least = box, cost
        found.append(best)
        full += [] if best is None else [best, *_dots(point, best)]
    return found


def leader(point: Point, box: Box) -> Point | None:
    """Where the line from a point to its label ends; None where the label stands so close that it needs none."""
    end = (min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3]))
    return end if math.dist(point, end) > NEAR else None


def _beside(point: Point, size: Point, away: float, angle: float) -> Box:
    x = point[0] + math.cos(angle) * (away + size[0] / 2)
    y = point[1] + math.sin(angle) * (away + size[1] / 2)
    return (x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)


def _within(box: Box, outer: Box) -> bool:
    return outer[0] <= box[0] and outer[1] <= box[1] and box[2] <= outer[2] and box[3] <= outer[3]


def _dots(point: Point, box: Box) -> list[Box]:
    """Small boxes along the leader, but for its end at the point itself."""
    end = leader(point, box)
    if end is None:
        return []
    count = int(math.dist(point, end) / STEP)
    spots = [(point[0] + (end[0] - point[0]) * k / count, point[1] + (end[1] - point[1]) * k / count)
             for k in range(3, count)]  # fmt: skip
    return [(x - 1, y - 1, x + 1, y + 1) for x, y in spots]
