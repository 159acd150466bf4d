"""What must not be in a report: a request to anybody, or markup that came out of its data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

MARK = "fuzzmark"
"""A word in everything hostile; as a tag, an attribute or a script it has escaped."""
HOSTILE = (
    "<script>fuzzmark()</script>", "<img src=x onerror=fuzzmark()>", '"><svg/onload=fuzzmark()>', "'><fuzzmark>",
    "<fuzzmark>",
    "</style><fuzzmark>", "</script><script>fuzzmark()</script>", "</pre></td></table><fuzzmark x=1>", "--><fuzzmark>",
    "]]><fuzzmark>", "&lt;fuzzmark&gt;", "&#60;fuzzmark&#62;", "\x00<fuzzmark>", '" fuzzmark="1', "' fuzzmark='1",
    "` fuzzmark=`1",
    '<a href="javascript:fuzzmark()">x</a>', "<iframe srcdoc='<script>fuzzmark()</script>'>",
    "<style>@import '//fuzzmark'</style>",
    "<base href=//fuzzmark>", "<meta http-equiv=refresh content='0;url=//fuzzmark'>", "{{ fuzzmark }}",
    "{% raw %}<fuzzmark>",
    "<!--<fuzzmark", "<fuzzmark/", "<math><mtext><fuzzmark>", "<svg><title><fuzzmark>", "%3Cfuzzmark%3E",
    "\\u003cfuzzmark\\u003e",
    "<\ufefffuzzmark>", "<<fuzzmark>>", "<object data=//fuzzmark>", "<form action=//fuzzmark>", "\u2028<fuzzmark>",
    "+ADw-fuzzmark+AD4-",
)  # fmt: skip
_ASKS = {"src", "srcset", "poster", "data", "background", "action", "formaction", "xlink:href", "manifest", "ping"}
"""Attributes at which a browser asks for something at once; ``href`` only does of a ``link``."""


class Page(HTMLParser):
    """A page read as a browser reads it; `problems` are what is wrong with it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.problems += _of_tag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script" and MARK in data:
            self.problems.append(f"the data got into a script: {_near(data)}")
        if self._inside == "style" and (MARK in data or re.search(r"@import|url\(\s*['\"]?(?!data:|#)", data)):
            self.problems.append(f"a style asks for something: {data[:80]!r}")

    def handle_comment(self, data: str) -> None:
        if MARK in data:
            self.problems.append(f"the data got into a comment: {_near(data)}")


def _of_tag(tag: str, attrs: list[tuple[str, str | None]]) -> Iterator[str]:
    if MARK in tag or tag in ("base", "iframe", "object", "embed", "frame"):
        yield f"a tag <{tag}> {attrs!r:.100}"
    for name, value in attrs:
        text = (value or "").strip().lower()
        asks = name in _ASKS or (tag in ("link", "use", "image") and name == "href")
        if asks and not text.startswith(("data:", "#")):
            yield f"<{tag} {name}={text[:80]!r}> asks for something"
        if MARK in name or (name.startswith("on") and MARK in text) or text.startswith(("javascript:", "vbscript:")):
            yield f"<{tag} {name}={text[:80]!r}> came out of the data"
        if name == "style" and ("url(" in text or "expression" in text):
            yield f"<{tag} style={text[:80]!r}> asks for something"
        if (tag, name, text) == ("meta", "http-equiv", "refresh"):
            yield "the page leads elsewhere"


def _near(text: str) -> str:
    at = text.index(MARK)
    return repr(text[max(0, at - 40) : at + 40])
