"""`lengthwise generate` and the loops below it: chunks, streams, constant memory, Ctrl-C, one-line errors."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lambda_tools import model, tokens
from transformers import DynamicCache
from typer.testing import CliRunner

from lengthwise.cli import app, main
from lengthwise.context import lambda_attention
from lengthwise.context.lambda_shaped_attention.streaming import TextStream, read, write
from lengthwise.errors import InputError
from lengthwise.lab.reasoner import shipped_reasoner

RUN = [sys.executable, "-c", "from lengthwise.cli import main; main()", "generate"]


@pytest.fixture(scope="module")
def net():
    return model()


def written(net: Any, ids: list[int], cache: Any, *, chunk: int = 7, seed: int = 0, **options: Any) -> list[int]:
    logits = read(net, ids, cache=cache, chunk=chunk, on_read=lambda count: None)
    generator = torch.Generator().manual_seed(seed)
    return list(write(net, logits, cache=cache, generator=generator, **{"eos_ids": (), "max_tokens": 30, **options}))


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
def test_reading_in_chunks_and_writing_equals_generate(net, chunk):
    ids = tokens(50, rows=1)
    with lambda_attention(net, n_global=3, window=8) as reader:
        wanted = net.generate(ids, max_new_tokens=30, do_sample=False, eos_token_id=None)[0, 50:].tolist()
        assert written(net, ids[0].tolist(), reader.new_cache(), chunk=chunk) == wanted


def test_what_is_read_is_told(net):
    counts: list[int] = []
    read(net, tokens(20, rows=1)[0].tolist(), cache=DynamicCache(), chunk=8, on_read=counts.append)
    assert counts == [8, 8, 4]


def test_writing_ends_with_eos_or_at_the_bound(net):
    ids = tokens(20, rows=1)[0].tolist()
    free = written(net, ids, DynamicCache())
    stop = next(token for token in free if free.index(token) > 3)
    assert written(net, ids, DynamicCache(), eos_ids=(stop,)) == free[: free.index(stop) + 1]
    assert written(net, ids, DynamicCache(), max_tokens=1) == free[:1]
    # 0: no bound; EOS alone ends it.
    assert written(net, ids, DynamicCache(), eos_ids=(stop,), max_tokens=0) == free[: free.index(stop) + 1]


def test_sampling_follows_its_seed_and_top_p(net):
    ids = tokens(20, rows=1)[0].tolist()
    draws = [written(net, ids, DynamicCache(), temperature=1.0, seed=seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    # A mass of next to nothing leaves the likeliest token alone.
    assert written(net, ids, DynamicCache(), temperature=1.0, top_p=1e-6) == written(net, ids, DynamicCache())


def test_no_prompt_and_broken_weights_are_input_errors(net):
    with pytest.raises(InputError, match="no tokens"):
        read(net, [], cache=DynamicCache(), on_read=lambda count: None)
    with pytest.raises(InputError, match="NaN"):
        list(write(net, torch.full((60,), torch.nan), cache=DynamicCache(), eos_ids=(), generator=torch.Generator()))


class Bytes:
    """A tokenizer of single bytes."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


def test_text_comes_whole_whatever_its_tokens():
    text = "naïve 日本語 🙂, end" * 5
    stream = TextStream(Bytes())
    shown = [stream.push(byte) for byte in text.encode()]
    assert "".join(shown) + stream.finish() == text
    assert not any("\N{REPLACEMENT CHARACTER}" in part for part in shown)
    assert len(stream._ids) < 20  # constant memory


def test_bytes_that_are_no_text_do_not_wait_for_ever():
    stream = TextStream(Bytes())
    shown = [stream.push(0xFF) for _ in range(40)]
    assert "\N{REPLACEMENT CHARACTER}" in "".join(shown)


# --- the command


def run(*arguments: object, **options: Any) -> Any:
    return CliRunner().invoke(app, ["generate", str(shipped_reasoner()), *map(str, arguments)], **options)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text("7+12+3+4?" * 300)  # 2400 tokens for a model that was trained to 512
    return path


def test_a_book_is_read_in_constant_memory(book):
    done = run("--lambda", "--window", 128, "--prompt-file", book, "--cap", 9, "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["prompt_tokens"] == 2400
    assert result["new_tokens"] <= 9
    # The shipped reasoner: D = 4 layers, H_kv = 4, d = 32, so 2 * 4 * 4 * 32 * 4 = 4096 bytes a column.
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(shipped_reasoner())
    column = (
        2 * config.num_hidden_layers * config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    )
    assert result["cache_bytes"] == column * 4 * (10 + 127)
    assert len(done.stderr.strip()) == 0


def test_streamed_text_equals_the_whole(book):
    common = ("--lambda", "--prompt-file", book, "--cap", 20, "--temperature", 1)
    streamed, whole = run(*common, "--stream"), run(*common, "--json")
    assert streamed.exit_code == whole.exit_code == 0, streamed.stderr + whole.stderr
    assert streamed.stdout == json.loads(whole.stdout)["text"] + "\n"
    assert "read 2400 tokens" in streamed.stderr


def test_the_prompt_may_come_from_standard_input():
    by_flag, by_pipe = run("--prompt", "7+12?"), run("--prompt-file", "-", input="7+12?")
    assert by_flag.exit_code == by_pipe.exit_code == 0, by_flag.stderr + by_pipe.stderr
    assert by_flag.stdout == by_pipe.stdout
    assert by_flag.stdout.strip()


def test_streaming_rule_by_name():
    done = run("--lambda", "--lambda-rule", "streaming", "--window", 32, "--prompt", "7+12?", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["finished"] is True


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped reasoner with an EOS that is never the likeliest token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("endless")
    net, words = (kind.from_pretrained(shipped_reasoner()) for kind in (AutoModelForCausalLM, AutoTokenizer))
    with torch.no_grad():
        net.get_output_embeddings().weight[words.eos_token_id] = 0
    net.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def test_ctrl_c_is_clean(endless):
    command = [*RUN, str(endless), "--lambda", "--window", "32", "--prompt", "7+12?", "--cap", "0"]
    process = subprocess.Popen([*command, "--stream"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.read(400)  # more than the window, and it writes on
    process.send_signal(signal.SIGINT)
    out, complaint = process.communicate(timeout=60)
    assert len(first) == 400
    assert process.returncode == 130
    assert "Traceback" not in complaint
    assert complaint.strip().endswith("stopped by Ctrl-C")
    assert out.endswith("\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--prompt or with --prompt-file"),
        (["--prompt", "1+1?", "--prompt-file", "x"], "one of them"),
        (["--prompt-file", "nowhere.txt"], "No such file"),
        (["--prompt", ""], "no tokens|empty"),
        (["--prompt", "1+1?", "--window", "64"], "without --lambda"),
        (["--prompt", "1+1?", "--lambda", "--window", "0"], "window is 0"),
        (["--prompt", "1+1?", "--lambda", "--lambda-rule", "lamda"], "choose lambda or streaming"),
        (["--prompt", "1+1?", "--cap", "600"], "reads 512 in all; give --lambda"),
        (["--prompt", "1+1?", "--cap", "0"], "no bound on new tokens"),
        (["--prompt", "1+1?", "--temperature", "-1"], "temperature is -1"),
        (["--prompt", "1+1?", "--prefill-chunk", "0"], "prefill_chunk is 0"),
        (["--prompt", "1+1?", "--chat-template"], "chat template"),
        (["--prompt", "1+1?", "--stream", "--json"], "give one of them"),
        (["--prompt", "1+1?", "--device", "cuda:77"], "does not have"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, says, monkeypatch, capsys):
    import re

    monkeypatch.setattr(sys, "argv", ["lengthwise", "generate", str(shipped_reasoner()), *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    complaint = capsys.readouterr().err
    assert stopped.value.code == 2, complaint
    assert re.search(says, complaint), complaint
    assert len(complaint.strip().splitlines()) == 1, complaint


def test_a_file_that_is_no_text_is_refused(tmp_path, monkeypatch, capsys):
    path = tmp_path / "book.bin"
    path.write_bytes(b"\xff\xfe\x00")
    monkeypatch.setattr(
        sys, "argv", ["lengthwise", "generate", str(shipped_reasoner()), "--prompt-file", str(path), "--lambda"]
    )
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "not UTF-8 text" in capsys.readouterr().err
