"""Metrics of a run: whole lines only, cut back to the checkpoint, mirrored as events."""

from __future__ import annotations

import errno
import json

import pytest

from lengthwise.engine.metrics_log import EVENTS, METRICS, RunLog, read_metrics


def row(step, **more):
    return {"step": step, "loss": step / 7, "warnings": [], **more}


def write(folder, steps, *, after=0):
    log = RunLog(folder, step=after)
    for step in steps:
        log.write(row(step))
    log.close()


def test_rows_come_back_bit_for_bit(tmp_path):
    write(tmp_path, [1, 2, 3])
    assert read_metrics(tmp_path) == [row(1), row(2), row(3)]


def test_no_run_has_no_metrics(tmp_path):
    assert read_metrics(tmp_path) == []


def test_steps_after_the_checkpoint_are_dropped(tmp_path):
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [3, 4, 5], after=2)
    assert [r["step"] for r in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    assert list(tmp_path.glob(f"{EVENTS}/events.*"))
    assert len(list(tmp_path.glob(f"{EVENTS}/events.*"))) == 1


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_line_is_left_out_and_overwritten(tmp_path, cut):
    write(tmp_path, [1, 2, 3])
    path = tmp_path / METRICS
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_metrics(tmp_path) == [row(1), row(2)]
    write(tmp_path, [3], after=2)
    assert read_metrics(tmp_path) == [row(1), row(2), row(3)]


def test_nan_is_refused_before_a_byte_is_written(tmp_path):
    log = RunLog(tmp_path, step=0)
    log.write(row(1))
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.write(row(2, entropy=float("nan")))
    log.close()
    assert read_metrics(tmp_path) == [row(1)]
    assert all(json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines())


def test_numbers_are_mirrored_as_events(tmp_path):
    seen = []
    log = RunLog(tmp_path, step=0)
    log.writer.write_event = seen.append
    log.write(row(4, tokens=3))
    log.close()
    values = [(value.tag, value.simple_value, event.step) for event in seen for value in event.summary.value]
    assert values == [("train/loss", pytest.approx(4 / 7), 4), ("train/tokens", 3, 4)]


def test_a_disk_that_fills_under_the_events_is_an_error_and_no_hang(tmp_path):
    # tensorboardX's own writer is a thread: it dies of this, and a queue of ten entries then waits for it for ever
    log = RunLog(tmp_path, step=0)
    log.writer.flush = full
    with pytest.raises(OSError, match="No space left"):
        for step in range(1, 20):
            log.write(row(step))


def full():
    raise OSError(errno.ENOSPC, "No space left on device")
