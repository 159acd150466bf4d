"""Folders as transformers reads them: whose code runs, which files are kept, which dtype and which ids are there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from context_words import tiny_folder
from remote import change, with_code
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from lengthwise.cli import main
from lengthwise.config.commands import MergeSettings
from lengthwise.engine.model_folders import dtype_words, load_policy, resolve_dtype, save_policy
from lengthwise.errors import ConfigError, InputError
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.merging.merge_plan import preflight
from lengthwise.pretrained import (
    TOKENIZER_FILES,
    copy_tokenizer,
    empty_model,
    load_model,
    load_tokenizer,
    read_config,
    save_tokenizer,
)


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers copies code that it runs; here into the test's own folder."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = [chain.row for chain in chains.problems(40, split="test", seed=0, levels=(2,))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[str]]:
    """Exit code of a command, and its lines on stderr."""
    monkeypatch.setattr(sys, "argv", ["lengthwise", *map(str, words)])
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0), capsys.readouterr().err.strip().splitlines()
    return 0, capsys.readouterr().err.strip().splitlines()


def commands(model: Path, data: Path, out: Path) -> dict[str, list[object]]:
    """Every command that loads a model or a tokenizer of one, small."""
    log = out.parent / "log.jsonl"
    rows = [{"prompt": f"{n}+1?", "response": "2", "harmful": True} for n in range(8)]
    (out.parent / "harmful.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    log.write_text(json.dumps({"response": "A: 7", "answer": "7"}) + "\n")
    lab = ["--data", data, "--preset", "lab", "--out", out]
    return {
        "evaluate": ["evaluate", model, *lab, "--cap", "4"],
        "evaluate-context": ["evaluate-context", model, "--lengths", "400", "--limit", "1", "--tasks", "passkey",
                             "--out", out],
        "generate": ["generate", model, "--prompt", "1+1?", "--cap", "2"],
        "shorten": ["shorten", model, *lab, "--cap", "8", "--steps", "1"],
        "shorten --dry-run": ["shorten", model, *lab, "--cap", "8", "--dry-run"],
        "compare --dry-run": ["compare", model, *lab, "--methods", "grpo", "--dry-run"],
        "extend": ["extend", model, "--scheme", "yarn", "--factor", "2", "--out", out],
        "repair": ["repair", model, "--harmful", out.parent / "harmful.jsonl", "--out", out],
        "export trl": ["export", "trl", model, *lab, "--cap", "8"],
        "grade": ["grade", log, "--tokenizer", model, "--preset", "lab"],
    }  # fmt: skip


ALL = ["evaluate", "evaluate-context", "generate", "shorten", "shorten --dry-run", "compare --dry-run", "extend",
       "repair", "export trl", "grade"]  # fmt: skip


@pytest.mark.parametrize("command", ALL)
def test_code_in_a_folder_does_not_run_unasked(tmp_path, data, monkeypatch, capsys, command):
    model = with_code(tmp_path / "model", tmp_path / "canary")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    capsys.readouterr()
    code, lines = said(monkeypatch, capsys, *commands(model, data, tmp_path / "out")[command])
    assert code == 2, lines
    assert "give --trust-remote-code" in lines[-1] and lines[:-1] in ([], ["scoring on 8 harmful rows"])
    assert not (tmp_path / "canary").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [name for name in ALL if name not in ("shorten", "compare --dry-run")])
def test_code_in_a_folder_runs_where_it_is_trusted(tmp_path, data, monkeypatch, capsys, command):
    model = with_code(tmp_path / "model", tmp_path / "canary")
    words = commands(model, data, tmp_path / "out")[command]
    code, lines = said(monkeypatch, capsys, *words, "--trust-remote-code")
    assert code == 0, lines
    assert (tmp_path / "canary").exists()


def test_code_that_is_not_needed_is_left_alone(tmp_path):
    folder = with_code(tmp_path / "model", tmp_path / "canary", kind="llama")
    change(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    policy = load_policy(folder, device="cpu")
    empty_model(read_config(folder))
    assert type(policy.model).__name__ == "LlamaForCausalLM" and not (tmp_path / "canary").exists()


def test_what_trusted_code_raises_is_one_error(tmp_path):
    folder = with_code(tmp_path / "model", tmp_path / "canary")
    (folder / "own.py").write_text("raise SyntaxError('no such luck')\n")
    for load in (read_config, load_tokenizer, lambda f, **o: load_model(f, dtype=torch.float32, **o)):
        with pytest.raises(InputError, match="no such luck"):
            load(folder, trust_remote_code=True)


def test_a_trained_model_keeps_its_code_and_its_tokenizer(tmp_path):
    folder = with_code(tmp_path / "model", tmp_path / "canary")
    policy = load_policy(folder, device="cpu", trust_remote_code=True)
    save_policy(policy, tmp_path / "out")
    again = load_policy(tmp_path / "out", device="cpu", trust_remote_code=True)
    assert type(again.model).__name__ == "OwnModel" and type(again.tokenizer).__name__ == "OwnTokenizer"


def bytes_of(folder: Path) -> dict[str, bytes]:
    found = {file for pattern in TOKENIZER_FILES for file in folder.glob(pattern) if file.is_file()}
    return {str(file.relative_to(folder)): file.read_bytes() for file in found}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The shipped reasoner with tokenizer files as a hub's folder may have them: spaces, keys that nobody knows."""
    folder = tmp_path / "base"
    copy_tokenizer(shipped_reasoner(), folder)
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        (folder / name).write_bytes((shipped_reasoner() / name).read_bytes())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({"whose": "ours", **settings}, indent=7))
    (folder / "special_tokens_map.json").write_text('{"eos_token":   "<eos>"}')
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").write_text("{{ messages }}")
    return folder


def test_a_saved_policy_has_its_base_s_own_tokenizer_files(tmp_path, base):
    policy = load_policy(base, device="cpu")
    policy.tokenizer.model_max_length = 7  # what generate and evaluate-context set is no change of the tokenizer
    policy.tokenizer(["1+1?", "1?"], padding=True, truncation=True, max_length=4)
    save_policy(policy, tmp_path / "out")
    assert bytes_of(tmp_path / "out") == bytes_of(base) and "special_tokens_map.json" in bytes_of(base)


def test_merging_a_trained_model_with_its_base_has_nothing_to_warn_of(tmp_path, base):
    config = json.loads((base / "config.json").read_text())  # in the style of transformers 4
    config |= {"rope_theta": config.pop("rope_parameters")["rope_theta"], "torch_dtype": config.pop("dtype")}
    (base / "config.json").write_text(json.dumps(config))
    save_policy(load_policy(base, device="cpu"), tmp_path / "trained")
    asked = {"method": "update-selective", "base": str(base), "models": (str(tmp_path / "trained"),)}
    plan = preflight(MergeSettings.from_dict({**asked, "out": tmp_path / "merged"}))
    assert (plan.errors, plan.warnings) == ([], [])


@pytest.mark.parametrize(
    "alter",
    [
        lambda words: words.add_tokens(["<new>"]),
        lambda words: setattr(words, "chat_template", "{{ messages[0]['content'] }}"),
        lambda words: setattr(words, "pad_token", words.convert_ids_to_tokens(9)),
    ],
    ids=["a token", "a template", "a special token"],
)
def test_a_tokenizer_that_was_changed_is_saved_as_it_is(tmp_path, base, alter):
    tokenizer = load_tokenizer(base)
    alter(tokenizer)
    (tmp_path / "out").mkdir()
    save_tokenizer(tokenizer, base, tmp_path / "out")
    assert bytes_of(tmp_path / "out") != bytes_of(base)
    again = load_tokenizer(tmp_path / "out")
    assert (len(again), again.chat_template, again.pad_token) == (
        len(tokenizer),
        tokenizer.chat_template,
        tokenizer.pad_token,
    )


# Dtype: the config's word (of transformers 4 or 5, or of its text part), else what most numbers in the files are.
@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "float16"}, "float16"),
        ({"text_config": {"torch_dtype": "torch.bfloat16"}}, "bfloat16"),
        ({}, "bfloat16"),
        ({"dtype": "float64"}, "float32"),
    ],
)
def test_auto_is_the_folder_s_own_dtype(tmp_path, fields, wanted):
    (tmp_path / "config.json").write_text(json.dumps(fields))
    save_file(
        {"a": torch.zeros(9, dtype=torch.bfloat16), "b": torch.zeros(2), "c": torch.zeros(99, dtype=torch.int64)},
        tmp_path / "model.safetensors",
    )
    assert resolve_dtype(tmp_path, "auto") == wanted
    assert resolve_dtype(tmp_path, "float16") == "float16"
    assert (dtype_words(tmp_path, "auto") == f"{wanted}, the folder's own") == (fields != {"dtype": "float64"})
    with pytest.raises(ConfigError, match="choose one of auto, float32"):
        resolve_dtype(tmp_path, "int8")


def in_bfloat16(base: Path) -> Path:
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(base)
    return base


def test_a_model_that_only_answers_is_held_in_its_own_dtype(base):
    policy = load_policy(in_bfloat16(base), device="cpu", dtype="auto", frozen=True)
    assert {p.dtype for p in policy.model.parameters()} == {torch.bfloat16} and policy.dtype == "bfloat16"
    assert not any(p.requires_grad for p in policy.model.parameters())
    trained = load_policy(base, device="cpu", dtype="auto")
    assert {p.dtype for p in trained.model.parameters()} == {torch.float32} and trained.dtype == "bfloat16"
    with pytest.raises(ConfigError, match="the weights are frozen"):
        load_policy(base, device="cpu", lora_rank=2, frozen=True)


@pytest.mark.parametrize("command", ["evaluate", "evaluate-context", "generate"])
@pytest.mark.parametrize(("flags", "wanted"), [([], "bfloat16, the folder's own"), (["--dtype", "float32"], "float32")])
def test_commands_that_only_answer_take_the_folder_s_dtype_and_say_so(
    small, tmp_path, data, monkeypatch, command, flags, wanted
):
    seen: list[Any] = []
    import lengthwise.pretrained as pretrained

    monkeypatch.setattr("lengthwise.engine.model_folders.load_model", lambda *a, **o: (
        seen.append(o["dtype"]), pretrained.load_model(*a, **o))[1])  # fmt: skip
    words = commands(in_bfloat16(small), data, tmp_path / "out")[command]
    from typer.testing import CliRunner

    from lengthwise.cli import app

    found = CliRunner().invoke(app, [*map(str, words), *flags])
    assert found.exit_code == 0, found.output
    assert seen == [torch.bfloat16 if not flags else torch.float32]
    assert f"computed in {wanted}" in found.output


def with_token(folder: Path, text: str, number: int, *, special: bool = True, **fields: object) -> Path:
    """The tokenizer of a folder with one more added token."""
    words = json.loads((folder / "tokenizer.json").read_text())
    token = {"id": number, "content": text, "special": special, "normalized": False}
    words["added_tokens"].append(token | dict.fromkeys(("single_word", "lstrip", "rstrip"), False))
    (folder / "tokenizer.json").write_text(json.dumps(words))
    change(folder / "tokenizer_config.json", **fields)
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A byte model: ids 0 to 256, an embedding for each."""
    folder = tiny_folder(tmp_path / "small")
    change(folder / "config.json", max_position_embeddings=1024)
    return folder


@pytest.mark.parametrize(
    "command", ["evaluate", "evaluate-context", "generate", "shorten", "shorten --dry-run", "compare --dry-run",
                "repair", "export trl"]
)  # fmt: skip
def test_a_tokenizer_with_ids_beyond_the_embedding_is_one_line(tmp_path, data, monkeypatch, capsys, command):
    small = tiny_folder(tmp_path / "small", vocabulary=200)
    change(small / "config.json", max_position_embeddings=1024)
    capsys.readouterr()
    code, lines = said(monkeypatch, capsys, *commands(small, data, tmp_path / "out")[command])
    assert code == 2, lines
    assert "its embedding has 200 rows" in lines[-1] and "it has id 200" in lines[-1] and "and 56 more" in lines[-1]
    assert not any(line.startswith("Traceback") for line in lines) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("special", "fields"), [(False, {}), (True, {"pad_token": "<new>"})], ids=["a word of texts", "padding"]
)
def test_an_added_token_that_is_needed_is_refused_at_once(small, special, fields):
    with_token(small, "<new>", 257, special=special, **fields)
    with pytest.raises(InputError, match=r"257 rows.*it has id 257 \('<new>'\) beyond them"):
        load_policy(small, device="cpu")


def test_an_added_token_that_never_comes_needs_no_embedding(small):
    # Gemma 3 270M: the tokenizer has an image token 262144, the embedding 262144 rows.
    policy = load_policy(with_token(small, "<image>", 257), device="cpu")
    policy.model(input_ids=torch.tensor([[9, 256]]))
    with pytest.raises(InputError, match=r"a text here needs its id 257 \('<image>'\)"):
        policy.model(input_ids=torch.tensor([[9, 257]]))


def test_a_tokenizer_that_fits_costs_nothing(small):
    assert not load_policy(small, device="cpu").model.get_input_embeddings()._forward_pre_hooks
