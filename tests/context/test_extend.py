"""`lengthwise extend`: a folder that carries its scheme, whole or absent; copies, links, old configs, fine-tuning."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from context_words import extended, tiny_folder
from transformers import AutoConfig, AutoModelForCausalLM
from typer.testing import CliRunner

from lengthwise.cli import app, main
from lengthwise.config.groups.context import FineTuning
from lengthwise.context.positions.extend_folder import changed_json
from lengthwise.context.positions.finetuning import Lesson, chunked_documents
from lengthwise.context.positions.scheme_config import SCHEMES, SHIPPED, Scheme, extend
from lengthwise.errors import CheckpointError, ConfigError, InputError, UnsupportedModelError

IDS = torch.randint(1, 250, (1, 100), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models") / "model")


@torch.no_grad()
def logits(folder: Path) -> torch.Tensor:
    return AutoModelForCausalLM.from_pretrained(folder).eval()(IDS).logits


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_folder_is_the_model_under_the_scheme(scheme: str, folder: Path, tmp_path: Path) -> None:
    report = extended(folder, tmp_path / "out", Scheme(scheme, 3.0))
    wanted = extend(AutoModelForCausalLM.from_pretrained(folder).eval(), scheme, factor=3.0)
    with torch.no_grad():
        torch.testing.assert_close(logits(tmp_path / "out"), wanted(IDS).logits)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert (report["loads"] == "anywhere") is (scheme in SHIPPED)
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"scheme {scheme}, factor 3" in card.replace("\n", " ") and "not trained under it" in card
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.name.startswith(".")) == []


def test_a_second_scheme_starts_from_the_trained_model(folder: Path, tmp_path: Path) -> None:
    extended(folder, tmp_path / "a", Scheme("yarn", 4.0))
    extended(tmp_path / "a", tmp_path / "b", Scheme("ntk", 2.0))
    extended(folder, tmp_path / "c", Scheme("ntk", 2.0))
    assert torch.equal(logits(tmp_path / "b"), logits(tmp_path / "c"))
    assert AutoConfig.from_pretrained(tmp_path / "b").max_position_embeddings == 128


def test_linear_keeps_the_trained_context_for_servers_that_multiply_it(folder: Path, tmp_path: Path) -> None:
    extended(folder, tmp_path / "out", Scheme("linear", 4.0))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["rope_parameters"] == {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    assert config["max_position_embeddings"] == 64


def test_a_config_of_transformers_4_keeps_its_style() -> None:
    old = {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": None, "max_position_embeddings": 64,
           "hidden_size": 32, "num_attention_heads": 4}  # fmt: skip
    config = AutoConfig.for_model(**dict(old))
    found = changed_json(old, Scheme("linear", 4.0).changes(config))
    assert found["rope_theta"] == 5e5 and "rope_parameters" not in found
    assert found["rope_scaling"] == {"type": "linear", "rope_type": "linear", "factor": 4.0}
    ntk = changed_json(old, Scheme("ntk", 4.0).changes(config))
    assert ntk["rope_scaling"] is None and ntk["rope_theta"] == pytest.approx(5e5 * 4 ** (8 / 6))


def test_links_share_the_weights_and_copy_the_rest(folder: Path, tmp_path: Path) -> None:
    extended(folder, tmp_path / "out", Scheme("linear", 2.0), link=True)
    for name, same in (("model.safetensors", True), ("tokenizer.json", False), ("config.json", False)):
        assert (tmp_path / "out" / name).samefile(folder / name) is same
    assert json.loads((folder / "config.json").read_text())["rope_parameters"]["rope_type"] == "default"


def test_eval_factor_is_written_and_both_are_told(folder: Path, tmp_path: Path) -> None:
    def train(start: Path, out: Path) -> dict[str, object]:
        net = AutoModelForCausalLM.from_pretrained(start)
        assert net.config.rope_parameters["factor"] == 4.0
        net.save_pretrained(out)
        return {}

    report = extended(folder, tmp_path / "out", Scheme("linear", 4.0), eval_factor=8.0, train=train)
    assert (report["trained_factor"], report["factor"]) == (4.0, 8.0)
    assert AutoConfig.from_pretrained(tmp_path / "out").rope_parameters["factor"] == 8.0
    assert "factor 8 (trained with factor 4)" in (tmp_path / "out" / "README.md").read_text()
    # the trained factor stays known when the folder is extended again
    again = extended(tmp_path / "out", tmp_path / "again", Scheme("linear", 6.0))
    assert (again["trained_factor"], again["factor"]) == (4.0, 6.0)


def test_a_failure_leaves_nothing_behind(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    (tmp_path / "out" / "kept").write_text("whole")
    monkeypatch.setattr("lengthwise.context.positions.extend_folder.shutil.copyfile", full)
    with pytest.raises(CheckpointError, match="no space left"):
        extended(folder, tmp_path / "out", Scheme("linear", 2.0), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and (tmp_path / "out" / "kept").is_file()


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for out, says in ((tmp_path / "there", "exists"), (folder, "is one of the inputs")):
        with pytest.raises(InputError, match=says):
            extended(folder, out, Scheme("linear", 2.0))
    with pytest.raises(InputError, match="no config.json"):
        extended(tmp_path / "nowhere", tmp_path / "out", Scheme("linear", 2.0))
    with pytest.raises(ConfigError, match="link"):
        extended(folder, tmp_path / "out", Scheme("linear", 2.0), link=True, train=lambda a, b: {})
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UnsupportedModelError, match="no rotary positions"):
        extended(tmp_path / "gpt2", tmp_path / "out", Scheme("linear", 2.0))
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(InputError, match="no weights in it"):
        extended(tmp_path / "bare", tmp_path / "out", Scheme("linear", 2.0))
    for scheme in (Scheme("linear"), Scheme("yarn"), Scheme("power", 1.0, (("power", 0),))):
        with pytest.raises(ConfigError, match="factor 1 changes nothing"):
            extended(folder, tmp_path / "out", scheme)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("no model")
    with pytest.raises(InputError, match="holds no model, so it is not replaced"):
        extended(folder, tmp_path / "mine", Scheme("linear", 2.0), overwrite=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("scheme", "option", "says"),
    [
        ("yarn", {"beta_fast": "x"}, "option beta_fast is 'x'"),
        ("yarn", {"beta_fast": float("nan")}, "option beta_fast is nan"),
        ("yarn", {"beta_slow": -1}, "option beta_slow is -1"),
        ("yarn", {"truncate": 1}, "option truncate is 1; give true or false"),
        ("llama3", {"low_freq_factor": 0}, "low_freq_factor is 0; give a finite number above 0"),
        ("llama3", {"low_freq_factor": 4}, "the second has to be larger"),
        ("longrope", {"long_factor": 3}, "option long_factor is 3; give a list"),
        ("longrope", {"long_factor": [1.0, "x"]}, "an entry of long_factor is 'x'"),
        ("longrope", {"long_factor": [1.0, 2.0, 3.0]}, "option long_factor has 3 numbers"),
    ],
    ids=lambda value: str(value),
)
def test_an_option_that_transformers_would_stumble_over_is_named(folder, tmp_path, scheme, option, says) -> None:
    with pytest.raises(ConfigError, match=says):
        extended(folder, tmp_path / "out", Scheme(scheme, 2.0, tuple(option.items())))
    assert not (tmp_path / "out").exists()


def test_documents_are_chunked_with_half_overlap(tmp_path: Path, folder: Path) -> None:
    from context_words import byte_tokenizer

    file = tmp_path / "docs.jsonl"
    file.write_text('{"text": "abcdefghij"}\n{"text": "xyz"}\n')
    rows = chunked_documents(Lesson(str(file), 4, FineTuning()), byte_tokenizer())
    texts = [byte_tokenizer().decode(row["input_ids"]) for row in rows]
    # N = 10: starts 0, 2, 4, 6; N = 3: start 0, its padding is left to the collator
    assert texts == ["abcd", "cdef", "efgh", "ghij", "xyz"]
    for bad in ({"chunk": 5}, {"lr": 0.0}, {"micro_batch_rows": 3}, {"dtype": "int8"}, {"steps": -1}):
        with pytest.raises(ConfigError):
            FineTuning(**bad)


def test_training_without_trl_names_the_extra(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    (tmp_path / "docs.jsonl").write_text('{"text": "alpha"}\n')
    data = str(tmp_path / "docs.jsonl")
    arguments = ["extend", str(folder), "--scheme", "linear", "--factor", "2", "--out", str(tmp_path / "out")]
    arguments += ["--data", data]
    monkeypatch.setattr(sys, "argv", ["lengthwise", *arguments])
    with pytest.raises(SystemExit):
        main()
    assert 'pip install "lengthwise[trl]"' in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_training_under_trl(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    file = tmp_path / "docs.jsonl"
    file.write_text(json.dumps({"text": "alpha beta gamma delta " * 20}) + "\n")
    arguments = ["extend", str(folder), "--scheme", "xpos", "--factor", "2", "--out", str(tmp_path / "out"), "--data",
                 str(file), "--steps", "3", "--batch-rows", "2", "--micro-batch-rows", "1", "--warmup-steps", "0", "--json"]  # fmt: skip  # noqa: E501
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["trained_factor"] == 2.0
    config = AutoConfig.from_pretrained(tmp_path / "out")
    # three steps from 8192 on: the last one ran at 8192 - 2 * 8
    assert config.rope_parameters["xpos_scale_base"] == 8176.0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() != (folder / "model.safetensors").read_bytes()
    assert not list((tmp_path / "out").glob(".partial*"))


def test_lora_is_merged_and_refused_where_projections_are_missing(tmp_path: Path, folder: Path) -> None:
    pytest.importorskip("trl")
    from context_words import byte_tokenizer
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from lengthwise.context.positions.finetuning import finetune

    file = tmp_path / "docs.jsonl"
    file.write_text(json.dumps({"text": "alpha beta gamma delta " * 10}) + "\n")
    how = FineTuning(steps=2, batch_rows=1, micro_batch_rows=1, warmup_steps=0, lr=1e-2, lora=2)
    asked = Lesson(str(file), 64, how)
    extended(folder, tmp_path / "start", Scheme("linear", 2.0))
    assert finetune(tmp_path / "start", tmp_path / "out", asked) == {}
    # the tokenizer got a padding token for the trainer; its files are the model's own
    names = ("tokenizer.json", "tokenizer_config.json")
    assert all((tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes() for name in names)
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert not [name for name, _ in trained.named_parameters() if "lora" in name]
    assert not torch.equal(logits(tmp_path / "out"), logits(tmp_path / "start"))
    config = GPTNeoXConfig(vocab_size=257, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                           num_attention_heads=2, max_position_embeddings=64)  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(tmp_path / "neox")
    byte_tokenizer().save_pretrained(tmp_path / "neox")
    with pytest.raises(ConfigError, match="has no q_proj"):
        finetune(tmp_path / "neox", tmp_path / "never", asked)
    for weights in (tmp_path / "start").glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(InputError, match="no file named model.safetensors"):
        finetune(tmp_path / "start", tmp_path / "never", asked)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scheme", "liner"], "choose one of linear"),
        (["--scheme", "linear", "--factor", "0.5"], "factor is 0.5"),
        (["--scheme", "yarn", "--option", "beta_fast"], "NAME=JSON"),
        (["--scheme", "yarn", "--option", "beta_fats=1"], "'beta_fats'"),
        (["--scheme", "truncated", "--truncate-length", "-1"], "truncate_length is -1"),
    ],
)
def test_bad_flags_are_one_line(
    folder: Path, tmp_path: Path, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["lengthwise", "extend", str(folder), "--out", str(tmp_path / "out"), *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    complaint = capsys.readouterr().err
    assert stopped.value.code == 2 and says in complaint and len(complaint.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_is_a_config_that_makes_the_same_folder(folder: Path, tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    given = ["--scheme", "yarn", "--factor", "3.3", "--option", "beta_fast=16", "--option", "truncate=false"]
    assert CliRunner().invoke(app, ["extend", str(folder), *given, "--out", one]).exit_code == 0
    assert CliRunner().invoke(app, ["extend", "--config", one, "--out", two]).exit_code == 0
    for name in ("config.json", "model.safetensors", "lengthwise.json", "README.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_the_command_prints_one_json_object(folder: Path, tmp_path: Path) -> None:
    arguments = ["extend", str(folder), "--scheme", "power", "--power", "0.1", "--out", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["rope_parameters"]["power"] == 0.1 and found["loads"] == "after `import lengthwise.context`"
