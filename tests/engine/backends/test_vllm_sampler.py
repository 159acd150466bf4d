"""The vLLM backend over a module that stands for vLLM; the real one is tested by scripts/test_vllm.sh."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_vllm
import pytest
import tiny
import torch

from lengthwise.config.groups.model import Writing
from lengthwise.engine import Sampler, Scorer
from lengthwise.engine.backends.choice import Choice, Wanted, choose
from lengthwise.engine.backends.protocol import Backend, prove
from lengthwise.engine.backends.vllm_engine import Serving
from lengthwise.engine.backends.vllm_sampler import Served, VllmSampler, circle_after
from lengthwise.engine.backends.vllm_weights import served_weights
from lengthwise.engine.backends.writer import SPARE, open_writer
from lengthwise.engine.repeating import Recent
from lengthwise.engine.trainer import PROOF
from lengthwise.errors import BackendError, ConfigError, InputError, MissingExtraError, UnsupportedModelError

PROMPTS = [[2, 1], [3, 4, 1], [5, 1]]


def saved(folder: Path, *, tied: bool = False) -> Any:
    net = tiny.model()
    net.config.tie_word_embeddings = tied
    if tied:
        net.tie_weights()
    net.save_pretrained(folder)
    return net


@pytest.fixture()
def started() -> Iterator[list[fake_vllm.FakeLLM]]:
    with fake_vllm.installed() as made:
        yield made


def sampler(net: Any, folder: Path, **changes: Any) -> VllmSampler:
    given: dict[str, Any] = {"positions": 64, "rows": 8, "cache_bytes": 1} | changes
    serving = Serving(folder, torch.device("cpu"), "float32", **given)
    return VllmSampler(net, Served(serving), eos_ids=tiny.EOS, pad_id=0, as_in_folder=True)


def test_rows_keep_their_caps_their_places_and_their_log_probabilities(tmp_path, started) -> None:
    net = saved(tmp_path)
    threads = torch.get_num_threads()
    backend: Backend = sampler(net, tmp_path)
    drawn = backend.generate(PROMPTS, caps=[3, 9, 5], generator=tiny.generator(), temperature=0.7)
    assert [drawn.prompt(row) for row in range(3)] == PROMPTS
    assert (drawn.num_tokens <= torch.tensor([3, 9, 5])).all()
    assert drawn.finished.tolist() == [drawn.response(row)[-1] in tiny.EOS for row in range(3)]
    for row, prompt in enumerate(PROMPTS):
        wanted = tiny.plain_logp(net, prompt, drawn.response(row), temperature=0.7)
        assert torch.allclose(drawn.logp[row, : len(wanted)], wanted, atol=1e-5)
    # vLLM puts a function of its own in the place of torch's; ours is back.
    assert torch.get_num_threads() == threads
    torch.set_num_threads(threads)
    assert torch.get_num_threads() == threads and started[0].given["max_num_seqs"] == 8


def test_a_seed_gives_the_same_tokens_and_none_of_the_process_s_numbers_are_drawn(tmp_path, started) -> None:
    backend = sampler(saved(tmp_path), tmp_path)
    before = torch.get_rng_state()
    first, second = (backend.generate(PROMPTS, caps=9, generator=tiny.generator(3)) for _ in range(2))
    other = backend.generate(PROMPTS, caps=9, generator=tiny.generator(4))
    assert first.completion_ids.tolist() == second.completion_ids.tolist() != other.completion_ids.tolist()
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_not_finished_is_resumed_up_to_new_caps(tmp_path, started) -> None:
    net = saved(tmp_path)
    ours, theirs = Sampler(net, eos_ids=tiny.EOS, pad_id=0), sampler(net, tmp_path)
    for backend in (ours, theirs):
        start = backend.generate(PROMPTS, caps=2, generator=tiny.generator(), temperature=0.0)
        rest = backend.resume(start, caps=8, generator=tiny.generator(), temperature=0.0, policy_version=1)
        whole = backend.generate(PROMPTS, caps=8, generator=tiny.generator(), temperature=0.0)
        assert rest.completion_ids.tolist() == whole.completion_ids.tolist()
        assert rest.policy_version[0, 0] == 0 and rest.cap.tolist() == [8] * 3
    found = [b.generate(PROMPTS, caps=8, generator=tiny.generator(), temperature=0.0) for b in (ours, theirs)]
    assert found[0].completion_ids.tolist() == found[1].completion_ids.tolist()


@pytest.mark.parametrize("tied", [False, True])
def test_the_proof_hands_changed_weights_over_and_restores_them(tmp_path, started, tied: bool) -> None:
    net = saved(tmp_path, tied=tied)
    before = {name: value.clone() for name, value in net.named_parameters()}
    found = prove(sampler(net, tmp_path), Scorer(net), PROMPTS, temperature=1.0)
    assert found.changed_gap is not None and found.changed_gap < 1e-4 < 0.01 < (found.moved or 0)
    assert all(torch.equal(value, before[name]) for name, value in net.named_parameters())
    assert started[0].told == ["weights", "forget"] * 2


def test_a_head_that_stays_behind_is_found_by_the_proof(tmp_path, started) -> None:
    net = saved(tmp_path, tied=True)
    backend = sampler(net, tmp_path)
    backend.tied = None  # as if only the embedding were handed over
    with pytest.raises(UnsupportedModelError, match="after weights were handed over log-probabilities that differ"):
        prove(backend, Scorer(net), PROMPTS, temperature=1.0)


def test_a_trainer_sleeps_while_it_learns_and_writes_with_every_step_s_weights(tmp_path, started) -> None:
    net = saved(tmp_path / "model")
    backend = sampler(net, tmp_path / "model", sleeps=True)
    made = tiny.trainer(tmp_path / "run", net=net, steps=2, backend=backend)
    made.prove(why="it was asked for")
    assert json.loads((tmp_path / "run" / PROOF).read_text())["why"] == "it was asked for"
    del started[0].told[:]
    made.train()
    step = ["sleep 2", "wake weights", "weights", "wake kv_cache", "forget"]
    assert started[0].told == step * 2
    learnt = dict(net.named_parameters())
    assert all(torch.equal(value, learnt[name]) for name, value in started[0].model.named_parameters())


def test_adapters_are_merged_under_the_folder_s_names() -> None:
    base, down, up = torch.randn(4, 3), torch.randn(2, 3), torch.randn(4, 2)
    stem = "base_model.model.model.layers.0.q_proj"
    given = {
        "base_model.model.model.embed_tokens.weight": torch.ones(5, 3),
        f"{stem}.base_layer.weight": base.bfloat16(), f"{stem}.base_layer.bias": torch.ones(4),
        f"{stem}.lora_A.default.weight": down, f"{stem}.lora_B.default.weight": up,
    }  # fmt: skip
    tied = ("model.embed_tokens.weight", "lm_head.weight")
    found = dict(served_weights(given.items(), dtype=torch.float32, scaling=2.0, tied=tied))
    assert set(found) == {*tied, "model.layers.0.q_proj.weight", "model.layers.0.q_proj.bias"}
    assert torch.allclose(found["model.layers.0.q_proj.weight"], base.bfloat16().float() + 2 * up @ down)


def test_circles_are_cut_where_the_reference_cuts_them() -> None:
    for response in ([7, 8, 9] * 200, [*range(40), *([5] * 400)], list(range(600))):
        recent, wanted = Recent([[]], torch.device("cpu")), None
        for place, token in enumerate(response, 1):
            if recent.add(torch.tensor([token]))[0]:
                wanted = place
                break
        assert circle_after([], response, finished=False) == wanted
    # A response that ends by itself in that very token is finished.
    assert circle_after([], [5] * 256, finished=True) is None and circle_after([], [5] * 256, finished=False) == 256
    assert circle_after([5] * 250, [5] * 16, finished=False) == 16


def test_what_it_cannot_do_is_refused_with_the_other_backend_s_name(tmp_path, started) -> None:
    backend = sampler(saved(tmp_path), tmp_path)
    with pytest.raises(UnsupportedModelError, match="write into a response .* give --backend transformers"):
        backend.generate(PROMPTS, caps=4, generator=tiny.generator(), world=lambda row, written: None)
    with pytest.raises(InputError, match="the model allows 64 positions"):
        backend.generate(PROMPTS, caps=63, generator=tiny.generator())


def test_a_vllm_that_dies_is_one_line_with_what_to_do(tmp_path, started) -> None:
    backend = sampler(saved(tmp_path), tmp_path)
    backend.generate(PROMPTS, caps=2, generator=tiny.generator())
    started[0].fails = RuntimeError("EngineCore\n encountered an issue")
    with pytest.raises(BackendError, match="^vLLM stopped while it wrote tokens: RuntimeError: EngineCore enc") as told:
        backend.generate(PROMPTS, caps=2, generator=tiny.generator())
    assert "the same command goes on" in str(told.value) and "--backend transformers" in str(told.value)
    backend.close()
    assert started[0].told[-1] == "shutdown"
    with pytest.raises(BackendError, match="was ended"):
        backend.generate(PROMPTS, caps=2, generator=tiny.generator())


def wanted(folder: Path, **changes: Any) -> Wanted:
    return dataclasses.replace(Wanted(folder, tiny.model().config, torch.device("cpu")), **changes)


def test_auto_takes_vllm_where_it_can_and_says_why_not_elsewhere(tmp_path, started) -> None:
    config = tiny.model().config
    config.architectures = ["Qwen2ForCausalLM"]
    config.hidden_size, config.num_attention_heads = 128, 4
    large = wanted(tmp_path, config=config)  # without weights in the folder nothing is known to be small
    assert choose("auto", large) == Choice("vllm", "it is installed and serves this model")
    reasons = {
        "the model has": wanted(saved_folder(tmp_path / "small")),
        "stop strings write an end into responses": dataclasses.replace(large, writes_in="stop strings write an end"),
        "under Lambda attention": dataclasses.replace(large, endless=True),
        "the device is 'cuda:1'": dataclasses.replace(large, device=torch.device("cuda:1")),
    }
    for reason, case in reasons.items():
        found = choose("auto", case)
        assert found.name == "transformers" and reason in found.why
        if reason != "the model has":
            with pytest.raises(UnsupportedModelError, match=r"backend is 'vllm', but .*; give --backend transformers"):
                choose("vllm", case)
    config.hidden_size = 32
    with pytest.raises(UnsupportedModelError, match="heads have 8 dimensions"):
        choose("vllm", large)
    with fake_vllm.installed(architectures=["Other"]):
        assert "a Qwen2ForCausalLM, which the installed vLLM does not serve" in choose("auto", large).why
    assert choose("transformers", large).line == "tokens are written by transformers: it was asked for"


def saved_folder(folder: Path) -> Path:
    saved(folder)
    return folder


def test_without_vllm_the_extra_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)
    with pytest.raises(MissingExtraError, match=r'pip install "lengthwise\[vllm\]"'):
        choose("vllm", wanted(tmp_path))


def test_the_cache_on_a_cpu_is_what_the_rows_need_and_on_a_gpu_a_share(tmp_path) -> None:
    case = wanted(tmp_path)
    options: dict[str, Any] = {"dtype": "float32", "tokens": 20, "rows": 4, "eos_ids": [1], "trains": True}
    choice = Choice("vllm", "")
    opened = open_writer(choice, case, memory=None, **options)
    assert opened.served is not None
    # 2 layers, keys and values, 2 heads of 8, 4 bytes; the config's 64 positions bound a row, 256 are spare
    assert opened.served.serving.cache_bytes == 4 * 2 * 2 * 2 * 8 * 4 * (min(20 + SPARE, 64) + 256)
    assert open_writer(choice, case, memory=0.5, **options).served.serving.cache_bytes == 2**29  # type: ignore[union-attr]
    gpu = dataclasses.replace(case, device=torch.device("cuda"))
    serving = open_writer(choice, gpu, memory=None, **options).served.serving  # type: ignore[union-attr]
    assert serving.arguments()["gpu_memory_utilization"] == 0.3 and serving.arguments()["enable_sleep_mode"]
    with pytest.raises(ConfigError, match="vllm_memory is 4, but on a GPU it is a share"):
        open_writer(choice, gpu, memory=4.0, **options)
    with pytest.raises(ConfigError, match="vllm_memory is 2, but backend is 'transformers'"):
        Writing(backend="transformers", vllm_memory=2.0)
