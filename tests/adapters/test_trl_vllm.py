"""vLLM in TRL's process on a CPU takes the policy's weights by the call that works there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lengthwise.adapters.trl_vllm import mend_hand_over
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.pretrained import load_model

CPU = torch.device("cpu")


@pytest.fixture
def generation() -> Any:
    taken: dict[str, torch.Tensor] = {}
    resets: list[int] = []

    def rpc(method: str, *, kwargs: Any) -> None:
        assert method == "reload_weights"
        taken.update(kwargs["weights_iterator"])

    engine = SimpleNamespace(model_config=SimpleNamespace(dtype=torch.bfloat16))
    llm = SimpleNamespace(llm_engine=engine, collective_rpc=rpc, reset_prefix_cache=lambda: resets.append(len(taken)))
    return SimpleNamespace(mode="colocate", llm=llm, sync_weights=None, taken=taken, resets=resets)


def test_all_weights_are_handed_over_as_they_are_now_and_what_was_cached_is_forgotten(generation: Any) -> None:
    net = load_model(shipped_reasoner(), dtype=torch.float32)
    mend_hand_over(generation, net, CPU)
    with torch.no_grad():
        net.model.norm.weight.fill_(3.0)
    generation.sync_weights()
    assert set(generation.taken) == {name for name, _ in net.named_parameters()} | {"lm_head.weight"}  # a tied head
    assert torch.equal(generation.taken["lm_head.weight"], generation.taken["model.embed_tokens.weight"])
    assert generation.taken["model.norm.weight"].eq(3.0).all()
    assert {weight.dtype for weight in generation.taken.values()} == {torch.bfloat16}
    assert generation.resets == [len(generation.taken)]


def test_on_a_gpu_and_with_a_server_trl_s_own_hand_over_stays(generation: Any) -> None:
    net = load_model(shipped_reasoner(), dtype=torch.float32)
    mend_hand_over(generation, net, torch.device("cuda"))
    generation.mode = "server"
    mend_hand_over(generation, net, CPU)
    assert generation.sync_weights is None
