"""Functions for worker processes, in a light module of their own, so that workers start quickly."""

from __future__ import annotations

import os
import signal
import sys
import time

from lengthwise.errors import ConfigError

WAYS = ("sleep", "spin", "one long sum", "memory", "exit", "kill")


class OddError(Exception):
    """Cannot be rebuilt from its arguments, as pickle would."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def squares():
    return square


def square(number):
    return number * number


def misbehaviour():
    return misbehave


def misbehave(how):
    """Never gives a result where `how` names a way; others are given back."""
    if how == "sleep":
        time.sleep(3600)
    elif how == "spin":
        while True:
            pass
    elif how == "one long sum":
        return 9**9**9**9  # one operation that never lets another thread, or a signal handler, run
    elif how == "memory":
        kept = []
        while True:
            kept.append(bytearray(50_000_000))
    elif how == "exit":
        os._exit(0)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "config":
        raise ConfigError("told by the function")
    elif how == "key":
        raise KeyError("mine")
    elif how == "odd":
        raise OddError(1, 2)
    return how


def slow_pids():
    return slow_pid


def slow_pid(number):
    time.sleep(0.02)
    return number, os.getpid()


def pids_then_spin():
    return pid_then_spin


def pid_then_spin(how):
    return os.getpid() if how == "pid" else misbehave(how)


def loaded():
    return sys.modules.__contains__


def printers():
    sys.stdout.write("from make\n")
    return print


def environment():
    return lambda name: (os.environ.get(name), os.getcwd())


def broken():
    raise ConfigError("cannot be made")


def deadly():
    os._exit(3)
