"""The lab's studies.

python -m studies run NAME           make its runs; raw results lie under runs/studies/NAME
python -m studies condense NAME      write its summary from the raw results
python -m studies build [--check]    write all pages and pictures of studies and benchmarks, or say which are stale
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import page as benchmarks
from studies import summary
from studies.figures import is_stale, write
from studies.page import DOCS, IMAGES, page_of, text_of


def main() -> None:
    asked = parser().parse_args()
    {"run": run, "condense": condense, "build": build}[asked.verb](asked)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m studies", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = found.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("run", help="make the runs of a study; what is there is not made again")
    one.add_argument("study", choices=(*summary.STUDIES, *summary.UNDER_WAY))
    one.add_argument("--list", action="store_true", help="name the runs, and say which are there")
    one.add_argument("--only", default="", help="only runs whose names hold one of these texts, with commas")
    one.add_argument("--part", default="1/1", help="i/n: every n-th run, beginning with the i-th")
    one.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    one.add_argument("--threads", type=int, default=1, help="CPU threads")
    one.add_argument("--wait", type=float, default=0, help="seconds to wait for a result that a run needs")
    one.add_argument("--stop-after", type=float, default=float("inf"), help="seconds after which no run is begun")
    one.add_argument("--commit", help="the commit of this tree, where it is no git checkout")
    told = "an option of the study; other sizes are no result"
    one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=told)
    one.add_argument("--raw", type=Path, help="folder of the raw results; default runs/studies/STUDY")
    one = verbs.add_parser("condense", help="write a study's summary from the raw results of its runs")
    one.add_argument("study", choices=(*summary.STUDIES, *summary.UNDER_WAY))
    one.add_argument("--raw", type=Path, help="folder of the raw results; default runs/studies/STUDY")
    one.add_argument("--partial", action="store_true", help="also where results are missing that the summary has")
    one = verbs.add_parser("build", help="write the pages and pictures that are stale")
    one.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page or a picture is stale")
    return found


def run(asked: argparse.Namespace) -> None:
    from studies.running import Choice, Place, make_all

    study = import_module(f"studies.{asked.study}.run")
    options = chosen(getattr(study, "OPTIONS", {}), asked.set)
    place = Place(asked.raw or summary.RAW / asked.study, asked.device, asked.threads, options)
    part, parts = (int(number) for number in asked.part.split("/"))
    if not 1 <= part <= parts:
        sys.exit(f"--part is {asked.part}; give i/n with i from 1 to n")
    only = [text for text in asked.only.split(",") if text]
    choice = Choice(only, (part, parts), asked.wait, asked.stop_after, asked.commit)
    if asked.list:
        for one in choice.of(study.runs()):
            print(f"{'there' if place.path(one.name).is_file() else 'open '} {one.name}")
        return
    sys.exit(1 if make_all(study.runs(), place, choice) else 0)


def chosen(defaults: dict[str, Any], given: list[str]) -> dict[str, Any]:
    """A study's options with those of the command line, each of its default's type."""
    found = dict(defaults)
    for text in given:
        name, _, value = text.partition("=")
        if name not in defaults:
            sys.exit(f"--set {text}: there is no option {name!r}; there are {', '.join(defaults) or 'none'}")
        found[name] = type(defaults[name])(value)
    return found


def condense(asked: argparse.Namespace) -> None:
    raw = summary.read_raw(asked.raw or summary.RAW / asked.study)
    known = summary.load(asked.study).runs if asked.study in summary.STUDIES else ()
    missing = [name for name in known if name not in raw]
    if missing and not asked.partial:
        sys.exit(
            f"{len(missing)} results that the summary has are missing, first {missing[0]}; make them, or --partial"
        )
    summary.write(summary.condensed(asked.study, raw), summary.path_of(asked.study))


def build(asked: argparse.Namespace) -> None:
    pages = {page_of(study).file: text_of(study) for study in summary.STUDIES} | {benchmarks.FILE: benchmarks.text()}
    there = {name: (DOCS / name).read_text(encoding="utf-8") for name in pages if (DOCS / name).is_file()}
    stale = [name for name, text in pages.items() if there.get(name) != text]
    known = [(summary.load(study), picture) for study in summary.STUDIES for picture in page_of(study).pictures]
    old = [(found, picture) for found, picture in known if is_stale(picture, found, IMAGES / picture.file)]
    if asked.check:
        if stale or old:
            names = [f"docs/{name}" for name in stale] + [f"docs/img/{picture.file}" for _, picture in old]
            sys.exit(f"stale: {', '.join(names)}; run python -m studies build")
        return
    for name in stale:
        (DOCS / name).write_text(pages[name], encoding="utf-8")
    for found, picture in old:
        write(picture, found, IMAGES / picture.file)


if __name__ == "__main__":
    main()
