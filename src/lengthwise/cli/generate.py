"""`lengthwise generate`: read a text of any length and write on, in constant memory with --lambda."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import typer

from lengthwise.cli._console import complain, err, print_json, write
from lengthwise.cli._progress import Work, working
from lengthwise.config.commands.context import GenerateSettings

if TYPE_CHECKING:
    from lengthwise.runs.generate import Generated, Listener


def generate(settings: GenerateSettings) -> None:
    """Write on, and show the text as it comes, at the end, or in one object."""
    from transformers.utils import logging

    from lengthwise.runs.generate import generate as write_on
    from lengthwise.runs.generate import prompt_text

    logging.disable_progress_bar()
    with _progress(settings.stream) as listener:
        found = write_on(settings, prompt_text(settings), listener=listener)
    if settings.json_:
        print_json(found.to_dict())
    else:
        write("\n" if settings.stream else found.text + "\n")
        complain(f"{_summary(found)}; computed in {found.computed_in}", style="dim")
    if found.stopped:
        complain("stopped by Ctrl-C", style="yellow")
        raise typer.Exit(130)


@contextmanager
def _progress(stream: bool) -> Iterator[Listener]:
    """A listener that streams the text where it is to be, and shows how far reading and writing are.

    While tokens are written nothing is shown on a terminal but the text itself.
    """
    with ExitStack() as shown:
        work: Work | None = None

        def listen(event: str, facts: Mapping[str, Any]) -> None:
            nonlocal work
            if event in ("reading", "writing"):
                shown.close()
                work = shown.enter_context(working()) if event == "reading" or not err.is_terminal else None
            if event == "text" and stream:
                write(facts["text"])
            if work is not None and event in ("reading", "writing"):
                work.phase(event, facts["of"], quiet=True)
            elif work is not None:
                work.at(facts["tokens"])

        yield listen


def _summary(found: Generated) -> str:
    rate = found.new_tokens / found.write_seconds if found.write_seconds else 0.0
    return (
        f"read {found.prompt_tokens} tokens in {found.read_seconds:.1f} s, wrote {found.new_tokens} "
        f"({rate:.1f} a second); the cache holds {found.cache_bytes / 2**20:.1f} MiB"
    )
