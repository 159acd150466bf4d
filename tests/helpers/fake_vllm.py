"""A module that stands for vLLM where it is not installed: the parts that we use, over a model of transformers."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

ARCHITECTURES = ("Qwen2ForCausalLM", "LlamaForCausalLM")


@dataclass
class Params:
    """What `SamplingParams` is given."""

    temperature: float
    top_p: float
    max_tokens: int
    stop_token_ids: list[int]
    seed: int | None
    logprobs: int
    ignore_eos: bool
    detokenize: bool
    output_kind: object


@dataclass
class FakeLLM:
    """Writes row by row; `told` has the calls in order. Its head is packed: it changes by the head's own name alone."""

    given: dict[str, Any]
    told: list[str] = field(default_factory=list)
    fails: Exception | None = None

    def __post_init__(self) -> None:
        dtype = getattr(torch, self.given["dtype"])
        self.model = AutoModelForCausalLM.from_pretrained(self.given["model"], dtype=dtype).eval()
        self.head = self.model.get_output_embeddings().weight.detach().clone()
        self.waiting: list[tuple[str, list[int], Params]] = []
        self.llm_engine = SimpleNamespace(
            add_request=self.add_request, has_unfinished_requests=lambda: bool(self.waiting), step=self.step,
            engine_core=SimpleNamespace(shutdown=lambda: self.told.append("shutdown")),
        )  # fmt: skip

    def add_request(self, name: str, prompt: dict[str, list[int]], params: Params) -> None:
        assert len(prompt["prompt_token_ids"]) + params.max_tokens <= self.given["max_model_len"]
        self.waiting.append((name, prompt["prompt_token_ids"], params))

    @torch.no_grad()
    def step(self) -> list[Any]:
        """The last request that waits, whole: answers come in another order than they were asked for."""
        assert not torch.is_autocast_enabled("cpu"), "vLLM computes in its own numbers"
        if self.fails is not None:
            raise self.fails
        name, tokens, params = self.waiting.pop()
        tokens, drawn, logps = list(tokens), [], []
        while len(drawn) < params.max_tokens and not (drawn and drawn[-1] in params.stop_token_ids):
            hidden = self.model.get_decoder()(input_ids=torch.tensor([tokens])).last_hidden_state[0, -1]
            logp = torch.log_softmax((hidden @ self.head.T).float() / (params.temperature or 1.0), -1)
            token = int(logp.argmax() if params.temperature == 0 else torch.multinomial(logp.exp(), 1))
            tokens.append(token)
            drawn.append(token)
            logps.append({token: SimpleNamespace(logprob=float(logp[token]))})
        output = SimpleNamespace(token_ids=drawn, logprobs=logps)
        return [SimpleNamespace(request_id=name, finished=True, outputs=[output])]

    def collective_rpc(self, method: str, *, kwargs: dict[str, Iterator[tuple[str, Tensor]]]) -> None:
        assert method == "reload_weights"
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, tensor in kwargs["weights_iterator"]:
                if name == "lm_head.weight":
                    self.head = tensor.clone()
                if name in own:
                    assert tensor.dtype == own[name].dtype
                    own[name].copy_(tensor)
        self.told.append("weights")

    def reset_prefix_cache(self) -> None:
        self.told.append("forget")

    def sleep(self, level: int) -> None:
        self.told.append(f"sleep {level}")

    def wake_up(self, tags: Sequence[str]) -> None:
        self.told.append(f"wake {','.join(tags)}")


@contextmanager
def installed(*, architectures: Iterable[str] = ARCHITECTURES) -> Iterator[list[FakeLLM]]:
    """Within it `import vllm` gives the fake; the list fills with what was started."""
    started: list[FakeLLM] = []

    def start(**given: Any) -> FakeLLM:
        started.append(FakeLLM(given))
        torch.set_num_threads = lambda count: None  # as vLLM does on a CPU
        torch.manual_seed(given["seed"])
        return started[-1]

    names = ("vllm", "vllm.sampling_params", "vllm.distributed", "vllm.distributed.parallel_state")
    modules = {name: ModuleType(name) for name in names}
    modules["vllm"].__dict__.update(
        LLM=start, SamplingParams=Params,
        ModelRegistry=SimpleNamespace(get_supported_archs=lambda: list(architectures)),
        __spec__=SimpleNamespace(origin="fake", name="vllm"), __version__="0",
    )  # fmt: skip
    modules["vllm.sampling_params"].__dict__.update(RequestOutputKind=SimpleNamespace(FINAL_ONLY=2))
    modules["vllm.distributed.parallel_state"].__dict__.update(cleanup_dist_env_and_memory=lambda: None)
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(modules)
    try:
        yield started
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
