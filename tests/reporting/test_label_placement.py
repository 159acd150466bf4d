"""Labels of a plot: on nothing else, close to their points, the same for the same input."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from lengthwise.reporting.label_placement import Box, label_places, leader, overlap

INSIDE = (0.0, 0.0, 900.0, 500.0)


def around(point: tuple[float, float]) -> Box:
    return (point[0] - 7, point[1] - 7, point[0] + 7, point[1] + 7)


@pytest.mark.parametrize("spread", [10.0, 60.0, 300.0])
def test_labels_stand_on_nothing_however_close_the_points(spread: float) -> None:
    rng = random.Random(0)
    points = [(700 + spread * rng.random(), 100 + spread * rng.random()) for _ in range(15)]
    sizes = [(rng.uniform(30, 150), 12.0) for _ in points]
    marks = [around(point) for point in points]
    found = label_places(points, sizes, inside=INSIDE, taken=marks, reach=400)
    boxes = [box for box in found if box is not None]
    assert len(boxes) == 15
    assert not any(overlap(a, b) for a, b in combinations(boxes, 2))
    assert not any(overlap(box, mark) for box in boxes for mark in marks)
    for box, size in zip(boxes, sizes, strict=True):
        assert (box[2] - box[0], box[3] - box[1]) == pytest.approx(size)
        assert box[0] >= 0 and box[2] <= 900 and box[1] >= 0 and box[3] <= 500
    assert found == label_places(points, sizes, inside=INSIDE, taken=marks, reach=400)


def test_a_lone_label_stands_right_of_its_point_and_off_lines_where_it_can() -> None:
    point, size = (400.0, 200.0), (80.0, 12.0)
    (plain,) = label_places([point], [size], inside=INSIDE, taken=[around(point)], reach=90)
    assert plain is not None and plain[0] > 407 and plain[1] < 200 < plain[3]
    assert leader(point, plain) is None
    across = (300.0, 199.0, 500.0, 201.0)
    (moved,) = label_places([point], [size], inside=INSIDE, taken=[around(point)], lines=[across], reach=90)
    assert moved is not None and not overlap(moved, across)
    # At the right edge there is no room on the right.
    edge = (895.0, 200.0)
    (left,) = label_places([edge], [size], inside=INSIDE, taken=[around(edge)], reach=90)
    assert left is not None and left[2] <= 900


def test_what_finds_no_place_within_reach_has_none_and_far_ones_get_a_line() -> None:
    point = (400.0, 200.0)
    wall = (300.0, 100.0, 500.0, 300.0)
    assert label_places([point], [(80, 12)], inside=INSIDE, taken=[wall], reach=60) == [None]
    (far,) = label_places([point], [(80, 12)], inside=INSIDE, taken=[wall], reach=400)
    assert far is not None
    end = leader(point, far)
    assert end is not None
    assert far[0] <= end[0] <= far[2] and far[1] <= end[1] <= far[3]
