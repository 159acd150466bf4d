"""Texts of the reader's world: ``python -m lengthwise.lab.reader_texts --out FOLDER``.

``documents.jsonl`` to fine-tune on (lines, pass keys and stories, each of ``--words`` words), and ``story.txt``, held
out, for perplexity.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Annotated

import typer

from lengthwise.files import atomic_write_text
from lengthwise.lab import reader
from lengthwise.lab.reader_lesson import FURTHER
from lengthwise.lab.reader_rows import Dealer

DOCUMENTS, STORY = "documents.jsonl", "story.txt"


def documents(count: int, words: int, seed: int) -> list[str]:
    """Documents of at most so many words, kinds in the shares of a fine-tuning."""
    tokenizer, dealer = reader.build_tokenizer(), Dealer(seed)
    made, _ = dealer.deal(FURTHER, count, words)
    texts = [tokenizer.decode(ids[ids != tokenizer.pad_token_id]) for ids in made]
    random.Random(seed).shuffle(texts)
    return texts


def main(
    out: Annotated[Path, typer.Option(help="Folder to write into.")],
    count: Annotated[int, typer.Option(min=1, help="Documents.")] = 2000,
    words: Annotated[int, typer.Option(min=64, max=1024, help="Words of a document.")] = 512,
    story_words: Annotated[int, typer.Option(min=2, help="Words of the story.")] = 40_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the documents.")] = 0,
) -> None:
    """Write documents to fine-tune on and a story to measure perplexity on."""
    out.mkdir(parents=True, exist_ok=True)
    rows = (json.dumps({"text": text}) + "\n" for text in documents(count, words, seed))
    atomic_write_text(out / DOCUMENTS, "".join(rows))
    stories = (reader.story(seed * 1000 + part, 1024) for part in range(-(-story_words // 1024)))
    atomic_write_text(out / STORY, " ".join(stories))
    typer.echo(f"wrote {out / DOCUMENTS} and {out / STORY}")


if __name__ == "__main__":
    typer.run(main)
