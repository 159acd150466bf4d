"""vLLM in our own process: started, asked for tokens, given weights, put to sleep and ended.

In our process it has no processes that could outlive it, and weights are handed over without a copy between processes.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from lengthwise.errors import BackendError
from lengthwise.optional_imports import importing

WHO = "--backend vllm"
ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
"""What has to be so: no process beside ours."""
UNLESS_SET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
"""What the user may have set otherwise. By default vLLM tells its makers of every start."""
GIB = 2**30
WAY_OUT = "give --backend transformers to do without it"
GOES_ON = f"the same command goes on from what is finished; or {WAY_OUT}"


@dataclass(frozen=True)
class Serving:
    """What vLLM is started on: a model's folder on a device, computing in `dtype`.

    `positions` bounds a prompt and its response together, `rows` those in flight. `cache_bytes` is the size of the
    cache of keys and values on a CPU; on a GPU `share` of its memory holds weights and cache. `sleeps`: its memory is
    given back while nothing is written.
    """

    folder: Path
    device: torch.device
    dtype: str
    positions: int
    rows: int
    seed: int = 0
    cache_bytes: int | None = None
    share: float | None = None
    sleeps: bool = False
    trust_remote_code: bool = False

    def arguments(self) -> dict[str, object]:
        """The arguments of `vllm.LLM`."""
        own: dict[str, object] = {"kv_cache_memory_bytes": self.cache_bytes, "enforce_eager": True}
        if self.device.type != "cpu":
            own = {"gpu_memory_utilization": self.share, "enable_sleep_mode": self.sleeps}
        return {
            "model": str(self.folder),
            "dtype": self.dtype,
            "seed": self.seed,
            "max_model_len": self.positions,
            "max_num_seqs": self.rows,
            "enable_prefix_caching": True,
            "logprobs_mode": "processed_logprobs",  # under the temperature, as rollouts have them
            "skip_tokenizer_init": True,
            "use_tqdm_on_load": False,
            "disable_log_stats": True,
            "trust_remote_code": self.trust_remote_code,
            **own,
        }


@dataclass(frozen=True)
class Asked:
    """One row to continue: its tokens so far, and how at most `room` more are drawn; `seed` where it has its own."""

    tokens: Sequence[int]
    room: int
    seed: int | None = None


@dataclass(frozen=True)
class Answer:
    """The tokens of a row, the one that ended it included, and the log-probability of each."""

    row: int
    tokens: list[int]
    logps: list[float]


class _Logprob(Protocol):
    logprob: float


class _Completion(Protocol):
    token_ids: Sequence[int]
    logprobs: Sequence[Mapping[int, _Logprob]]


class _Output(Protocol):
    request_id: str
    finished: bool
    outputs: Sequence[_Completion]


class _Core(Protocol):
    def shutdown(self) -> None: ...


class _Engine(Protocol):
    engine_core: _Core

    def add_request(self, request_id: str, prompt: Mapping[str, object], params: object) -> object: ...
    def has_unfinished_requests(self) -> bool: ...
    def step(self) -> Sequence[_Output]: ...


class _LLM(Protocol):
    llm_engine: _Engine

    def collective_rpc(self, method: str, *, kwargs: Mapping[str, object]) -> object: ...
    def reset_prefix_cache(self) -> object: ...
    def sleep(self, level: int) -> object: ...
    def wake_up(self, tags: list[str]) -> object: ...


class _Makes(Protocol):
    def __call__(self, **options: object) -> object: ...


class _Vllm(Protocol):
    """The module, as far as it is used here."""

    LLM: _Makes
    SamplingParams: _Makes


def import_vllm(who: str = WHO) -> _Vllm:
    """The module, told to stay in our process.

    Raises:
        MissingExtraError: it is not installed, or cannot be imported.
    """
    os.environ.update(ENVIRONMENT)
    for name, value in UNLESS_SET.items():
        os.environ.setdefault(name, value)
    with importing(who, "vllm", "vllm"), _our_own_settings():
        return cast(_Vllm, importlib.import_module("vllm"))


class VllmEngine:
    """A started vLLM. One at a time in a process.

    Raises:
        BackendError: it cannot be started, or stopped while it was at work; the message has the reason and the way out.
    """

    def __init__(self, serving: Serving) -> None:
        self.serving, self.asleep = serving, False
        self._vllm = import_vllm()
        self._requests = 0
        with _told("could not be started", f"{WAY_OUT}, or another --vllm-memory"), _our_own_settings():
            self._llm = cast(_LLM, self._vllm.LLM(**serving.arguments()))

    def write(
        self, asked: Sequence[Asked], *, temperature: float, top_p: float, stop_ids: Sequence[int]
    ) -> Iterator[Answer]:
        """Draw the rest of every row; a row comes back as soon as it ends."""
        with _told("stopped while it wrote tokens"), self._undisturbed():
            engine, first = self._llm.llm_engine, self._requests
            self._requests += len(asked)
            for row, one in enumerate(asked):
                params = self._params(one, temperature, top_p, stop_ids)
                engine.add_request(str(first + row), {"prompt_token_ids": list(one.tokens)}, params)
            while engine.has_unfinished_requests():
                for output in engine.step():
                    if output.finished:
                        yield _answer(int(output.request_id) - first, output.outputs[0])

    def _params(self, one: Asked, temperature: float, top_p: float, stop_ids: Sequence[int]) -> object:
        with importing(WHO, "vllm", "vllm"):
            from vllm.sampling_params import RequestOutputKind

        return self._vllm.SamplingParams(
            temperature=temperature, top_p=top_p, max_tokens=one.room, stop_token_ids=list(stop_ids), seed=one.seed,
            logprobs=0, ignore_eos=True, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY,
        )  # fmt: skip

    def load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Write from now on with these weights, named as a checkpoint names them; what is cached of the old is gone."""
        with _told("did not take the weights"), self._undisturbed():
            if self.asleep:
                self._llm.wake_up(["weights"])
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
            if self.asleep:
                self._llm.wake_up(["kv_cache"])
            self._llm.reset_prefix_cache()
        self.asleep = False

    def sleep(self) -> None:
        """Give the memory back until the next weights; only on a GPU."""
        if not self.serving.sleeps or self.asleep:
            return
        with _told("could not be put to sleep"), self._undisturbed():
            self._llm.sleep(2)  # weights are handed over anew
        self.asleep = True

    def close(self) -> None:
        """End it and give back what it holds."""
        with importing(WHO, "vllm", "vllm"):
            from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        cleanup_dist_env_and_memory()
        gc.collect()

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Autocast is for the model that learns; vLLM computes in its own numbers."""
        with torch.no_grad(), torch.autocast(self.serving.device.type, enabled=False):
            yield


def _answer(row: int, found: _Completion) -> Answer:
    tokens = list(found.token_ids)
    logps = [place[token].logprob for token, place in zip(tokens, found.logprobs, strict=True)]
    return Answer(row, tokens, logps)


@contextmanager
def _told(what: str, way_out: str = GOES_ON) -> Iterator[None]:
    """Tell in one line what vLLM raises: it may be anything."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise BackendError(f"vLLM {what}: {type(error).__name__}: {reason}; {way_out}") from error


@contextmanager
def _our_own_settings() -> Iterator[None]:
    """Keep what is the process's and not vLLM's: threads, random numbers, and who listens to warnings.

    On a CPU it takes one thread for all of torch, and puts a function that does nothing into `torch.set_num_threads`.
    """
    setter, threads, states = torch.set_num_threads, torch.get_num_threads(), (random.getstate(), np.random.get_state())
    root = logging.getLogger().level
    with torch.random.fork_rng():
        try:
            yield
        finally:
            vars(torch)["set_num_threads"] = setter
            setter(threads)
            random.setstate(states[0])
            np.random.set_state(states[1])
            logging.getLogger().setLevel(root)
