"""Output heads that share the embedding's weights: what a merge must settle before it begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lengthwise.safetensors_io.reader import FolderSource
from lengthwise.safetensors_io.tensor_compatibility import Finding

EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight", "tok_embeddings.weight")
HEADS = ("lm_head.weight", "embed_out.weight")
_CHUNK = 1 << 20


def settle_heads(sources: Sequence[FolderSource], head: str | None) -> tuple[list[Finding], dict[str, object]]:
    """Bring the models' heads in line as asked, and say what stays unsettled and which settings change.

    Nothing is to be done where no file holds a head, or all do and none is tied. Else ``head`` decides: ``untie``
    gives a model without a head its embedding as one, and the output is untied; ``drop`` leaves heads out that equal
    the embedding bit for bit.
    """
    names = {name for source in sources for name in source.infos if name.endswith(HEADS)}
    if len(names) != 1:
        return _unneeded(head), {}
    name = names.pop()
    having = [source for source in sources if name in source.infos]
    tied = [source for source in having if source.config.get("tie_word_embeddings") is True]
    if len(having) == len(sources) and not tied:
        return _unneeded(head), {}
    if head is None:
        text = f"{name} is in {', '.join(source.label for source in having)} only"
        if len(having) == len(sources):
            text = f"{name} is stored in {tied[0].label}, whose config ties it to the embedding"
        text += "; untie the output (head=untie), or drop heads that equal the embedding (head=drop)"
        return [Finding("head", text)], {}
    embedding = {id(source): next((n for n in source.infos if n.endswith(EMBEDDINGS)), None) for source in sources}
    lost = [source.label for source in sources if embedding[id(source)] is None]
    if lost:
        return [Finding("head", f"no embedding was found in {', '.join(lost)}; its head cannot be settled")], {}
    findings = []
    for source in sources:
        twin = embedding[id(source)]
        assert twin is not None
        if head == "untie" and name not in source.infos:
            source.infos = {**source.infos, name: source.infos[twin]}
            source.places = {**source.places, name: source.places[twin]}
        elif head == "drop" and name in source.infos:
            if not _equal(source, name, twin):
                findings.append(Finding("head", f"{name} differs from {twin} in {source.label}; use head=untie"))
            source.infos = {key: info for key, info in source.infos.items() if key != name}
    return findings, {"tie_word_embeddings": head == "drop"}


def _unneeded(head: str | None) -> list[Finding]:
    if head is None:
        return []
    return [Finding("head", f"head is {head!r}, but the models' heads are all alike; leave it out")]


def _equal(source: FolderSource, name: str, twin: str) -> bool:
    if source.infos[name] != source.infos[twin]:
        return False
    size = source.infos[name].size
    return all(
        np.array_equal(source.read(name, start, min(size, start + _CHUNK)),
                       source.read(twin, start, min(size, start + _CHUNK)))
        for start in range(0, size, _CHUNK)
    )  # fmt: skip
