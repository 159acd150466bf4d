"""What extending a folder and building long-context tasks cost.

Wanted: extending takes at most 1.2 times a synced copy of the same files, and with links next to nothing; 1,000 rows
of 16k tokens take at most 60 s for every task. Times are medians, after imports and with the files in the page cache.

    python benchmarks/extend_cost.py --text FILE --json benchmarks/results/extend_cost.json

The tokenizer is a byte-level BPE of 8,000 tokens trained on the text, or the one of --tokenizer.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _bench import RESULTS, facts, write_json

MOST_TIMES_COPY, MOST_SECONDS = 1.2, 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="a text file, for filler and for the tokenizer")
    parser.add_argument("--tokenizer", help="folder of a tokenizer")
    parser.add_argument("--mib", type=int, default=1024, help="size of the weights that are copied")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--length", type=int, default=16_384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, default=RESULTS / "extend_cost.json")
    arguments = parser.parse_args()
    result = {
        **facts("lengthwise", "transformers", "tokenizers"),
        "extend": _extending(arguments),
        "tasks": _tasks(arguments),
    }
    write_json(arguments.json, result)
    print(json.dumps({key: result[key] for key in ("extend", "tasks")}, indent=1))


def _extending(arguments: argparse.Namespace) -> dict[str, Any]:
    from lengthwise.config.commands import ExtendSettings
    from lengthwise.context.positions.extend_folder import extend_folder

    with tempfile.TemporaryDirectory(prefix="extend-") as place:
        root = Path(place)
        source = _model_folder(root / "model", arguments.mib)
        given = {"model": str(source), "scheme": "linear", "factor": 4.0, "out": root / "out"}
        settings = {link: ExtendSettings.from_dict({**given, "link": link}) for link in (False, True)}
        extend_folder(settings[True])  # imports
        seconds: dict[str, list[float]] = {"copy": [], "extend": [], "link": []}
        for _ in range(arguments.repeats):
            shutil.rmtree(root / "out")
            seconds["copy"].append(_timed(lambda: _synced_copy(source, root / "out")))
            for name, link in (("extend", False), ("link", True)):
                shutil.rmtree(root / "out")
                seconds[name].append(_timed(functools.partial(extend_folder, settings[link])))
    medians = {name: round(statistics.median(values), 4) for name, values in seconds.items()}
    times = statistics.median(e / c for e, c in zip(seconds["extend"], seconds["copy"], strict=True))
    return {
        "mib": arguments.mib, "seconds": medians, "runs": seconds, "times_of_copying": round(times, 3),
        "passed": times <= MOST_TIMES_COPY,
    }  # fmt: skip


def _model_folder(folder: Path, mib: int) -> Path:
    """A Llama config, and weights of random bytes of the wanted size in two files; nothing reads them."""
    from transformers import LlamaConfig

    LlamaConfig(num_hidden_layers=2).save_pretrained(folder)
    for number in range(2):
        with (folder / f"model-{number}.safetensors").open("wb") as file:
            for _ in range(mib // 2):
                file.write(os.urandom(1 << 20))
    return folder


def _synced_copy(source: Path, target: Path) -> None:
    target.mkdir()
    for file in source.iterdir():
        shutil.copyfile(file, target / file.name)
        with (target / file.name).open("rb") as copied:
            os.fsync(copied.fileno())


def _tasks(arguments: argparse.Namespace) -> dict[str, Any]:
    from lengthwise.context.tasks import altered_rows, freeform_rows, lines_rows, passkey_rows

    text = arguments.text.read_text(encoding="utf-8")
    tokenizer = _tokenizer(arguments.tokenizer, text)
    rows, length = arguments.rows, arguments.length
    words, numbers = _sources(text, numbers=False), _sources(text, numbers=True)
    makers: dict[str, Callable[[], list[Any]]] = {
        "lines": lambda: lines_rows(tokenizer, length=length, rows=rows),
        "passkey": lambda: passkey_rows(tokenizer, length=length, rows=rows),
        "freeform-qa": lambda: freeform_rows(words, tokenizer, length=length, rows=rows).rows,
        "altered-qa": lambda: altered_rows(numbers, tokenizer, length=length, rows=rows).rows,
    }
    found: dict[str, Any] = {"rows": rows, "length": length, "vocabulary": len(tokenizer)}
    for name, make in makers.items():
        begun = time.perf_counter()
        made = make()
        seconds = time.perf_counter() - begun
        if len(made) != rows:
            raise SystemExit(f"{name} gave {len(made)} rows of {rows}")
        found[name] = {
            "seconds": round(seconds, 2),
            "mean_tokens": round(statistics.fmean(row.tokens for row in made), 1),
            "short": sum(row.short for row in made),
            "passed": seconds * 1000 / rows <= MOST_SECONDS,
        }
    return found


def _tokenizer(folder: str | None, text: str) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if folder is not None:
        return AutoTokenizer.from_pretrained(folder)
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.train_from_iterator(
        [text], trainers.BpeTrainer(vocab_size=8000, special_tokens=["<end>"], show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


def _sources(text: str, *, numbers: bool) -> list[Any]:
    """Documents of 4,000 characters, each with a sentence that answers a question."""
    from lengthwise.context.tasks.qa import Source

    made = []
    for index, start in enumerate(range(0, len(text) - 4000, 4000)):
        answer = str(70_001 + 13 * index) if numbers else f"Zed{index}burg"
        half, rest = text[start : start + 2000], text[start + 2000 : start + 4000]
        document = f"{half}. The prize of house {index} went to {answer}. {rest}"
        made.append(Source(document, f"What did the prize of house {index} go to?", answer))
    return made


def _timed(what: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
