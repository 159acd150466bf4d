"""Worker processes: whatever a payload does, the others get their results, and nothing hangs or is left over."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from pathlib import Path

import isolated_work as work
import psutil
import pytest

from lengthwise.errors import ConfigError, InputError
from lengthwise.grading.graders import STOPPED, Verdict
from lengthwise.grading.prompt_contract import preset
from lengthwise.grading.worker_pool import IsolatedPool, Known, SafeGrader, Stopped, make_grader


@pytest.fixture(autouse=True)
def nothing_left_over():
    before = set(psutil.Process().children(recursive=True))
    yield
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


# ---- results ------------------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_payloads():
    with IsolatedPool(work.squares) as pool:
        assert list(pool.map(range(3000))) == [number * number for number in range(3000)]
        assert list(pool.map([])) == []
        assert list(pool.map([7])) == [49]


def test_an_endless_iterable_streams_with_bounded_look_ahead():
    endless = itertools.count()
    with IsolatedPool(work.squares) as pool:
        assert list(itertools.islice(pool.map(endless), 2000)) == [number * number for number in range(2000)]
        assert next(endless) < 2000 + 1200
        assert list(pool.map([3])) == [9]  # a map that was broken off leaves nothing behind


def test_large_payloads_pass():
    text = "\0x" * 5_000_000
    with IsolatedPool(work.misbehaviour) as pool:
        assert list(pool.map([text, "\ud800", text])) == [text, "\ud800", text]


def test_a_pool_works_in_a_thread_that_ends_before_the_next():
    found = []
    pool = IsolatedPool(work.squares)
    for payload in (2, 3):
        thread = threading.Thread(target=lambda payload=payload: found.extend(pool.map([payload])))
        thread.start()
        thread.join()
    pool.close()
    assert found == [4, 9]


def test_workers_are_bare_but_see_the_surroundings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with IsolatedPool(work.loaded, workers=1) as pool:
        assert list(pool.map(["lengthwise", "torch", "transformers", "pytest"])) == [True, False, False, False]
    with IsolatedPool(partial(make_grader, preset("math")), workers=1) as pool:
        assert next(iter(pool.map([("</think>$x+y$", "y+x")])))
    with IsolatedPool(work.environment, workers=1) as pool:
        assert list(pool.map(["OMP_NUM_THREADS"])) == [("1", str(tmp_path))]


def test_grading_imports_no_torch():
    code = "import sys; from lengthwise.grading import worker_pool; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# ---- what goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", work.WAYS)
def test_a_payload_over_its_bounds_is_stopped_and_nothing_else_is_lost(how):
    payloads = [f"row {number}" for number in range(40)]
    payloads[3] = payloads[20] = how
    with IsolatedPool(work.misbehaviour, seconds=1.0, memory_mib=256) as pool:
        results = list(pool.map(payloads))
    reason = {"memory": "memory", "exit": "died", "kill": "died"}.get(how, "time")
    assert results[3] == results[20] == Stopped(reason)
    assert [r for r in results if not isinstance(r, Stopped)] == [p for p in payloads if p != how]


def test_workers_killed_from_outside_in_mid_stream_lose_nothing():
    killed, results = set(), []
    with IsolatedPool(work.slow_pids) as pool:
        for number, pid in pool.map(range(120)):
            results.append(number)
            if number % 40 == 10:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
    assert results == list(range(120))
    assert len(killed) == 3


def test_an_idle_worker_that_was_killed_is_replaced():
    with IsolatedPool(work.slow_pids, workers=1) as pool:
        [(_, first)] = pool.map([0])
        os.kill(first, signal.SIGKILL)
        [(_, second)] = pool.map([1])
    assert first != second


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("config", ConfigError, "told by the function"),
        ("key", KeyError, "mine"),
        ("odd", InputError, "OddError: 1 and 2"),
    ],
)
def test_an_error_of_the_function_is_raised_in_its_turn(how, error, message):
    with IsolatedPool(work.misbehaviour) as pool:
        results = pool.map(["a", "b", how, "c"])
        assert [next(results), next(results)] == ["a", "b"]
        with pytest.raises(error, match=message) as caught:
            next(results)
        assert "in misbehave" in "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
        assert list(pool.map(["d"])) == ["d"]


def test_a_function_that_cannot_be_made():
    with IsolatedPool(work.broken) as pool, pytest.raises(ConfigError, match="cannot be made"):
        list(pool.map([1]))
    with IsolatedPool(work.deadly) as pool, pytest.raises(ConfigError, match=r"end while they start \(died\)"):
        list(pool.map([1]))
    with pytest.raises(ConfigError, match="cannot be sent to a process .* pass a function of a module"):
        IsolatedPool(lambda: work.square)


@pytest.mark.parametrize(
    "bounds", [{"workers": 0}, {"seconds": 0}, {"seconds": float("nan")}, {"seconds": float("inf")}, {"memory_mib": 0}]
)
def test_impossible_bounds_are_refused(bounds):
    with pytest.raises(ConfigError, match="must be positive and finite"):
        IsolatedPool(work.squares, **bounds)


def test_one_map_at_a_time():
    with IsolatedPool(work.squares) as pool:
        results = pool.map(range(10))
        assert next(results) == 0
        with pytest.raises(InputError, match="in the middle of another map"):
            next(pool.map([1]))
        assert list(results) == [number * number for number in range(1, 10)]


def test_a_slow_reader_of_results_costs_no_payload_its_time():
    with IsolatedPool(work.slow_pids, seconds=1.0) as pool:
        for place, (number, _) in enumerate(pool.map(range(30))):
            assert number == place
            time.sleep(1.3 if place < 2 else 0)


# ---- scripts ------------------------------------------------------------------------------------------------


def script(tmp_path: Path, body: str) -> subprocess.Popen[str]:
    """Start a script that has no `if __name__ == "__main__"`."""
    (tmp_path / "script.py").write_text(textwrap.dedent(body))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def gone(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_a_script_needs_no_guard_and_its_stdout_is_its_own(tmp_path):
    done = script(
        tmp_path,
        """
        import isolated_work
        from lengthwise.grading.worker_pool import IsolatedPool
        with IsolatedPool(isolated_work.printers, workers=1) as pool:
            print(list(pool.map(["from the worker"])))
        """,
    )
    out, err = done.communicate(timeout=60)
    assert (done.returncode, out) == (0, "[None]\n")
    assert err == "from make\nfrom the worker\n"


SPINNING = """
import isolated_work
from lengthwise.grading.worker_pool import IsolatedPool
with IsolatedPool(isolated_work.pids_then_spin, workers=1, seconds={seconds}) as pool:
    for pid in pool.map(["pid", {how!r}]):
        print(pid, flush=True)
"""


@pytest.mark.parametrize(("how", "seconds"), [("sleep", 300), ("spin", 300), ("one long sum", 1)])
def test_workers_end_when_their_parent_is_killed(tmp_path, how, seconds):
    # "one long sum" lets no thread of the worker run; its processor time is up after a few seconds
    parent = script(tmp_path, SPINNING.format(how=how, seconds=seconds))
    pid = int(parent.stdout.readline())
    time.sleep(0.3)
    parent.kill()
    parent.communicate()
    assert gone(pid, seconds=10 + 2 * (os.cpu_count() or 1))


def test_ctrl_c_ends_everything_at_once(tmp_path):
    parent = script(tmp_path, SPINNING.format(how="spin", seconds=300))
    pid = int(parent.stdout.readline())
    time.sleep(0.3)
    parent.send_signal(signal.SIGINT)
    _, err = parent.communicate(timeout=20)
    assert gone(pid, seconds=5)
    assert err.strip().endswith("KeyboardInterrupt")
    assert err.count("Traceback") == 1  # the parent's; workers say nothing


# ---- graders ------------------------------------------------------------------------------------------------

MATH = preset("math", think_prefix="", think_close=None)
HOSTILE = {
    "power": r"\boxed{9**9**9**9}",
    "latex tower": r"\boxed{9^{9^{9^{9^{9}}}}}",
    "tower of brackets": r"\boxed{{9^9}^{{9^9}^{9^9}}}",
    "powers of powers": r"\boxed{((9^{9999})^{9999})^{9999}}",
    "factorials": r"\boxed{((((9!)!)!)!)!}",
    "factorials apart": r"\boxed{(999!)^{999!}}",
    "equation": r"\boxed{(x^5+y^5+z^5+w^5+xyzw-1)^7=0}",
    "expansion": r"\boxed{(a+b+c+d+e+f+g+h)^{999}}",
    "matrix": r"\boxed{\begin{pmatrix}" + "1&" * 50_000 + r"\end{pmatrix}}",
    "matrix power": r"\boxed{\begin{pmatrix}a&b&c\\d&e&f\\g&h&i\end{pmatrix}^{99}}",
    "brackets": r"\boxed{" + "(" * 100_000 + "}",
    "brackets, closed": r"\boxed{" + "(" * 50_000 + "5" + ")" * 50_000 + "}",
    "braces": "{" * 100_000,
    "boxes": r"\boxed{" * 15_000,
    "roots": r"\boxed{" + r"\sqrt{2+" * 30 + "2" + "}" * 30 + "}",
    "long": "x" * 10_000_000,
    "long answer": r"\boxed{" + "1" * 10_000_000 + "}",
    "NUL": "\\boxed{\0}",
    "surrogate": "\\boxed{\ud800}",
    "sum": r"\boxed{\sum_{n=1}^{10^{10}} \frac{1}{n}}",
    "binomial": r"\boxed{\binom{10^9}{10^8}}",
    "modulus": r"\boxed{7^{7^{7^7}} \bmod 10}",
}


EQUATION = "x^5+y^5+z^5+w^5+xyzw=1"  # computer algebra does not find the solutions that the hostile one has, too


@pytest.mark.slow
def test_hostile_responses_are_stopped_or_wrong_and_the_others_unharmed():
    good = [(rf"so \boxed{{{number}}}", str(number)) for number in range(100)]
    payloads = list(good)
    for place, response in enumerate(HOSTILE.values()):
        payloads.insert(4 * place, (response, EQUATION if response == HOSTILE["equation"] else "5"))
    with IsolatedPool(partial(make_grader, MATH), seconds=1.0) as pool:
        verdicts = list(pool.map(payloads))
    hostile = verdicts[: 4 * len(HOSTILE) : 4]
    assert {name for name, v in zip(HOSTILE, hostile, strict=True) if not isinstance(v, Stopped) and v.correct} == set()
    others = [v for p, v in zip(payloads, verdicts, strict=True) if p in good]
    assert others == [Verdict(True, answer, "boxed") for _, answer in good]


def test_a_safe_grader_counts_what_it_stops_and_goes_on():
    backtracks = preset("math", think_prefix="", think_close=None, answer_pattern=r"((?:a+)+b|x\+y|5)")
    grader = SafeGrader(backtracks, seconds=1.0)
    assert grader("x+y", "y+x").correct
    assert grader("a" * 40, "5") == Verdict(False, None, STOPPED)
    assert grader("x+y", "y+x").correct
    assert grader.timeouts == 1
    with pytest.raises(InputError, match="which holds no answer"):
        grader("5", "")
    grader.close()
    assert grader("5", 5).correct  # a closed one starts again
    grader.close()


def test_threads_take_turns_with_a_safe_grader():
    grader, found = SafeGrader(MATH), []
    threads = [
        threading.Thread(target=lambda n=n: found.append(grader(rf"\boxed{{{n}+x}}", f"x+{n}"))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    grader.close()
    assert len(found) == 8
    assert all(found)


def test_the_lab_is_graded_in_this_process():
    before, grader = set(psutil.Process().children()), SafeGrader(preset("lab"))
    assert grader("A: 12", "12").correct
    assert set(psutil.Process().children()) <= before
    with_pattern = SafeGrader(preset("lab", answer_pattern="((?:a+)+)b"), seconds=0.5)
    assert with_pattern("a" * 40, "12").how == STOPPED  # a pattern that backtracks for ever
    with_pattern.close()


OWN = """
import isolated_work

def grade(response, answer):
    print("chatter")
    if response in (*isolated_work.WAYS, "key"):
        isolated_work.misbehave(response)
    return response == answer

def text(response, answer):
    return "yes"
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_isolated_grader.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return "own_isolated_grader"


def test_a_grader_of_ones_own_cannot_harm_the_rest(own):
    responses = ["right", *work.WAYS, "wrong", "right"]
    with IsolatedPool(partial(make_grader, MATH, f"{own}:grade"), seconds=1.0, memory_mib=512) as pool:
        verdicts = list(pool.map((response, "right") for response in responses))
    assert all(isinstance(verdict, Stopped) for verdict in verdicts[1:-2])
    assert [bool(verdict) for verdict in (verdicts[0], *verdicts[-2:])] == [True, False, True]


def test_errors_of_a_grader_of_ones_own_are_not_hidden(own, capfd):
    grader = SafeGrader(preset("lab"), grader=f"{own}:grade")
    assert grader("a", "a") == Verdict(True, None, f"{own}:grade")
    with pytest.raises(InputError, match=r"raised KeyError: 'mine' \(.*isolated_work.py, line \d+\)"):
        grader("key", "a")
    grader.close()
    assert capfd.readouterr().out == ""
    for name, message in (("text", "must return True or False"), ("texd", "unknown function 'texd'")):
        bad = SafeGrader(MATH, grader=f"{own}:{name}")
        with pytest.raises(InputError, match=message):
            bad("a", "a")
        bad.close()


def test_known_results_keep_their_turn_and_start_no_worker():
    with IsolatedPool(work.squares) as pool:
        assert list(pool.map(Known(number) for number in range(3000))) == list(range(3000))
        started = psutil.Process().children(recursive=True)  # an older test's may still be waiting to be reaped
        assert all(child.status() == psutil.STATUS_ZOMBIE for child in started)
        mixed = [number if number % 7 else Known(-number) for number in range(3000)]
        wanted = [number * number if number % 7 else -number for number in range(3000)]
        assert list(pool.map(mixed)) == wanted
