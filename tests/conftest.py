from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Consoles take the width that they find when they are made; a process that runs tests beside another is given one.
os.environ.pop("COLUMNS", None)

import ipaddress

import pytest
import tiny
import torch

from lengthwise.engine.backends.transformers_sampler import Sampler


def no_network(event: str, args: tuple[object, ...]) -> None:
    """Loopback and sockets of this machine are all that a test may ask; nothing takes the guard away again."""
    if event == "socket.getaddrinfo" and not is_here(args[0]):
        raise AssertionError(f"a test asks for the address of {args[0]!r}")
    if event == "socket.connect" and isinstance(args[1], tuple) and not is_here(args[1][0]):
        raise AssertionError(f"a test connects to {args[1]!r}")


def is_here(host: object) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    try:
        return name in (None, "", "localhost") or ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        return False


sys.addaudithook(no_network)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    # the same number of threads in every process: sums, and so trained weights, depend on it
    torch.set_num_threads(1)


@pytest.fixture
def net():
    return tiny.model()


@pytest.fixture
def sampler(net):
    return Sampler(net, eos_ids=tiny.EOS, pad_id=0)


@pytest.fixture(autouse=True)
def own_modules_are_forgotten(tmp_path_factory):
    """Python that one test wrote as ``mine.py`` is not what the next one's ``mine`` means."""
    written, before = str(tmp_path_factory.getbasetemp()), set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(written):
            del sys.modules[name]
