"""The lab's studies.

python -m studies condense NAME      write a study's summary from the raw results of its runs
python -m studies draw [NAME]        draw its pictures from the summary
python -m studies build [--check]    write all pages of studies and benchmarks, or say which are stale
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import page as benchmarks
from studies import summary
from studies.page import DOCS, IMAGES, page_of, text_of


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m studies", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("condense", help="write a study's summary from the raw results of its runs")
    one.add_argument("study", choices=summary.STUDIES)
    one.add_argument("--raw", type=Path, help="folder of the raw results; default runs/studies/STUDY")
    one = verbs.add_parser("draw", help="draw the pictures of a study, or of all")
    one.add_argument("study", nargs="?", choices=summary.STUDIES)
    one = verbs.add_parser("build", help="write the pages")
    one.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page is stale")
    asked = parser.parse_args()
    {"condense": condense, "draw": draw, "build": build}[asked.verb](asked)


def condense(asked: argparse.Namespace) -> None:
    raw = summary.read_raw(asked.raw or summary.RAW / asked.study)
    summary.write(summary.condensed(asked.study, raw), summary.path_of(asked.study))


def draw(asked: argparse.Namespace) -> None:
    for study in [asked.study] if asked.study else summary.STUDIES:
        for picture in page_of(study).pictures:
            picture.draw(summary.load(study), IMAGES / picture.file)


def build(asked: argparse.Namespace) -> None:
    pages = {page_of(study).file: text_of(study) for study in summary.STUDIES} | {benchmarks.FILE: benchmarks.text()}
    there = {name: (DOCS / name).read_text(encoding="utf-8") for name in pages if (DOCS / name).is_file()}
    stale = [name for name, text in pages.items() if there.get(name) != text]
    if asked.check:
        if stale:
            sys.exit(f"stale: docs/{', docs/'.join(stale)}; run python -m studies build")
        return
    for name in stale:
        (DOCS / name).write_text(pages[name], encoding="utf-8")


if __name__ == "__main__":
    main()
