"""Everything that is wrong with a merge, found from headers and settings before a byte is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from lengthwise.config.commands import MergeSettings
from lengthwise.config.groups.weights import MergedTensors
from lengthwise.errors import ConfigError, LengthwiseError
from lengthwise.files import read_json
from lengthwise.merging.merge_methods import Merge, build_merge
from lengthwise.merging.tied_heads import settle_heads
from lengthwise.output_paths import check_replacement, real
from lengthwise.safetensors_io.dtypes import FLOATING
from lengthwise.safetensors_io.reader import FolderSource, open_folder, verify_checksums
from lengthwise.safetensors_io.tensor_compatibility import Finding, mismatches
from lengthwise.safetensors_io.tensor_sources import TensorInfo
from lengthwise.safetensors_io.tokenizer_compatibility import tokenizer_findings, vocabulary

MEANINGFUL = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon",
    "rope_theta", "rope_scaling", "rope_parameters", "sliding_window", "tie_word_embeddings", "vocab_size",
    "num_experts", "num_experts_per_tok", "num_local_experts", "attention_bias", "logit_scale",
    "final_logit_softcapping", "attn_logit_softcapping",
)  # fmt: skip
"""Settings that change what the same weights compute."""
SIZES = ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
"""Settings that the shapes of the weights have to fit."""
IGNORED = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache", "architectures")
_MARGIN = 16 * 2**20
"""Bytes beside the weights: settings, tokenizer, report."""


@dataclass(frozen=True)
class Plan:
    """What a preflight found, and, where nothing forbids it, what the merge will read and write.

    ``folders``: the base, or the model that takes its place, then the others.
    """

    method: Merge
    folders: tuple[Path, ...]
    findings: tuple[Finding, ...]
    sources: tuple[FolderSource, ...] = ()
    chosen: frozenset[str] = frozenset()
    outputs: Mapping[str, TensorInfo] = field(default_factory=dict)
    config_changes: Mapping[str, object] = field(default_factory=dict)

    @property
    def errors(self) -> list[str]:
        """What forbids the merge."""
        return [finding.text for finding in self.findings if not finding.warning]

    @property
    def warnings(self) -> list[str]:
        """What is worth a look."""
        return [finding.text for finding in self.findings if finding.warning]

    @property
    def nbytes(self) -> int:
        """Bytes of weights to write."""
        return sum(info.nbytes for info in self.outputs.values())


def preflight(settings: MergeSettings, *, locate: Callable[[str], Path] = Path) -> Plan:
    """Compare the folders of a merge; all findings together, nothing is written.

    Headers, settings and tokenizers are compared; data is read only to check known checksums and to compare a head
    that is to be dropped. The method's own options are checked too. ``locate`` says where a model that is named lies.

    Raises:
        ConfigError: options of the method that are out of range, or a base that it needs or does not take.
    """
    method = build_merge(settings.merging.method, **settings.merging.options())
    _check_base(method, settings.base)
    folders = tuple(map(locate, (*([] if settings.base is None else [settings.base]), *settings.models)))
    method.check(len(folders))
    findings, sources = _opened(settings, folders)
    if any(not finding.warning for finding in findings):
        return Plan(method, folders, tuple(findings))
    asked, base, others = settings.tensors, sources[0], sources[1:]
    settled, changes = settle_heads(sources, asked.head)
    findings += settled
    for other in others:
        findings += mismatches(base, other, allow_mixed_dtype=asked.mixed_dtype)
        findings += _vocabulary_rows(base, other)
        findings += _settings(base, other, heads_settled=asked.head is not None)
        findings += tokenizer_findings(base.path, other.path)
    chosen = _chosen(base, asked, findings)
    outputs = {name: _output(name, info, chosen, asked.out_dtype) for name, info in base.infos.items()}
    changes |= _dtype_change(asked.out_dtype, base.config)
    findings += _disk_space(settings.out, sum(info.nbytes for info in outputs.values()))
    return Plan(method, folders, tuple(findings), tuple(sources), chosen, outputs, changes)


def _check_base(method: Merge, base: str | None) -> None:
    if method.needs_base and base is None:
        raise ConfigError(f"{method.name} needs a base; give the model that the others were made from")
    if not method.needs_base and base is not None:
        raise ConfigError(f"{method.name} takes no base; give all its models alike")


def _opened(settings: MergeSettings, folders: Sequence[Path]) -> tuple[list[Finding], list[FolderSource]]:
    findings: list[Finding] = []
    sources = []
    for folder in folders:
        try:
            source = open_folder(folder, label=str(folder))
            verify_checksums(source)
            sources.append(source)
        except LengthwiseError as error:
            # collected, so that one report names them all
            findings.append(Finding("folder", str(error)))
    try:
        check_replacement(settings.out, overwrite=settings.overwrite, inputs=folders)
    except LengthwiseError as error:
        findings.append(Finding("folder", str(error)))
    if settings.tensors.files_from is not None:
        findings += _files_findings(settings.tensors.files_from, sources[0] if sources else None)
    findings += [
        Finding("folder", f"no config.json in {source.label}; give a Hugging Face model folder")
        for source in sources
        if not source.config
    ]
    findings += [
        Finding("quantised", f"{source.label} is quantised (its config says so); dequantise it before merging")
        for source in sources
        if "quantization_config" in source.config
    ]
    return findings, sources


def _files_findings(folder: Path, base: FolderSource | None) -> Iterator[Finding]:
    """What forbids to copy a folder's settings: they have to be a model's, and of one with the weights' sizes."""
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else None
    if not isinstance(config, dict) or "model_type" not in config:
        yield Finding("folder", f"files_from is {str(folder)!r}: no model's config.json there; give a model's folder")
        return
    for key in SIZES if base is not None else ():
        if base is not None and key in base.config and base.config[key] != config.get(key):
            yield Finding(
                "config",
                f"files_from is {str(folder)!r}, whose config says {key} {config.get(key)}, but the weights have "
                f"{base.config[key]}; give a folder of the same sizes",
            )
            return


def _vocabulary_rows(base: FolderSource, other: FolderSource) -> Iterator[Finding]:
    sizes = base.config.get("vocab_size"), other.config.get("vocab_size")
    if sizes[0] != sizes[1]:
        tokens = [len(vocabulary(source.path) or ()) or "unknown" for source in (base, other)]
        yield Finding(
            "vocabulary",
            f"vocabulary rows differ: {sizes[0]} in {base.label} (its tokenizer has {tokens[0]} tokens), {sizes[1]} "
            f"in {other.label} ({tokens[1]}); nothing is cut off silently: resize one model's embeddings first",
        )


def _settings(base: FolderSource, other: FolderSource, *, heads_settled: bool) -> Iterator[Finding]:
    ours, theirs = _with_theta(base.config), _with_theta(other.config)
    shared = (ours.keys() & theirs.keys()) - {*IGNORED, "vocab_size"}
    if heads_settled:
        shared -= {"tie_word_embeddings"}
    for key in sorted(key for key in shared if ours[key] != theirs[key]):
        meaning = key in MEANINGFUL
        yield Finding(
            "config",
            f"{key} is {ours[key]} in {base.label} but {theirs[key]} in {other.label}"
            + ("; such models do not compute alike" if meaning else "; the output gets one of them"),
            warning=not meaning,
        )


def _with_theta(config: Mapping[str, object]) -> Mapping[str, object]:
    """The settings with the rotary base where older folders have it, so that old and new ones can be compared."""
    rope = config.get("rope_parameters")
    theta = rope.get("rope_theta") if isinstance(rope, dict) else None
    return config if theta is None else {"rope_theta": theta, **config}


def _chosen(base: FolderSource, asked: MergedTensors, findings: list[Finding]) -> frozenset[str]:
    def matching(pattern: str) -> set[str]:
        names = {name for name in base.infos if fnmatchcase(name, pattern)}
        if not names:
            first = ", ".join(list(base.infos)[:3])
            findings.append(Finding("pattern", f"the pattern {pattern!r} matches no tensor; the base has {first}, ..."))
        return names

    included = set[str]().union(*map(matching, asked.include)) if asked.include else set(base.infos)
    chosen = included.difference(*map(matching, asked.exclude))
    if not chosen and included:
        findings.append(Finding("pattern", "include and exclude leave no tensor to merge; widen them"))
    return frozenset(chosen)


def _output(name: str, info: TensorInfo, chosen: frozenset[str], out_dtype: str | None) -> TensorInfo:
    if out_dtype is None or not info.dtype.floating or name not in chosen:
        return info
    return TensorInfo(info.shape, FLOATING[out_dtype])


def _dtype_change(out_dtype: str | None, config: Mapping[str, object]) -> dict[str, object]:
    if out_dtype is None:
        return {}
    return {"torch_dtype" if "torch_dtype" in config else "dtype": out_dtype}


def _disk_space(out: Path, needed: int) -> Iterator[Finding]:
    place = next(folder for folder in real(out).parents if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed + _MARGIN:
        yield Finding(
            "disk",
            f"{place} has {free / 2**20:.0f} MiB free, the output needs {(needed + _MARGIN) / 2**20:.0f}; free some "
            "space or give another out",
        )


def summary_lines(plan: Plan, out: Path) -> list[str]:
    """What a dry run says where nothing forbids the merge."""
    base, others = plan.sources[0], plan.sources[1:]
    floats = sum(info.size for name, info in plan.outputs.items() if name in plan.chosen and info.dtype.floating)
    kinds = ", ".join(sorted({str(info.dtype).removeprefix("torch.") for info in plan.outputs.values()}))
    return [
        f"base {base.label}, with {', '.join(other.label for other in others) or 'nothing else'}",
        f"{len(plan.chosen)} of {len(plan.outputs)} tensors, {floats} numbers, {kinds}; {plan.nbytes / 2**20:.1f} MiB "
        f"to write to {out}",
        "names, shapes, formats, vocabulary, heads and settings fit",
    ]
