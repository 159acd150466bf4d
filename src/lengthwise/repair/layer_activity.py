"""How active the inputs of a model's linear layers are on given rows: one forward pass with hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from lengthwise.errors import InputError


@dataclass
class Activity:
    """Sums over a layer's input: ``squares`` q [in] float32, and how many sequences and tokens they are over.

    q_j = Σ_n Σ_{t counts} X_n[t, j]². Parts of a calibration set add up. ``modules`` are the layers that share the
    weight, the first of which names it.
    """

    squares: Tensor
    sequences: int
    tokens: int
    modules: tuple[str, ...] = ()

    @property
    def mean(self) -> Tensor:
        """s = q / N [in]: per sequence, not per token."""
        return self.squares / max(1, self.sequences)

    def __add__(self, other: Activity) -> Activity:
        return Activity(
            self.squares + other.squares,
            self.sequences + other.sequences,
            self.tokens + other.tokens,
            self.modules or other.modules,
        )


def activation_scores(
    model: nn.Module, batches: Iterable[Mapping[str, Tensor]], *, targets: Sequence[str] = ("*",)
) -> dict[str, Activity]:
    """Run the model over the batches and sum up what its linear layers get to see.

    The first half of Antidote's score (arXiv 2408.09600), which is Wanda's (arXiv 2306.11695). One forward pass a
    batch, no gradients; the memory is one float32 vector per layer.

    Args:
        model: any module whose linear layers are `torch.nn.Linear`; called with ``input_ids`` and ``attention_mask``.
        batches: ``input_ids`` [B, T], ``attention_mask`` [B, T], and, where not all of its tokens count,
            ``counted`` [B, T]. What is not attended to never counts.
        targets: name patterns of the layers, or last parts of names (``q_proj``); by default all but the output
            head, which counts where it is named without a wildcard.

    Returns:
        One `Activity` per weight by its parameter's name (``….q_proj.weight``); layers that share a weight are summed
        under the name of the first. The model is left as it was: no hooks, the same mode and ``use_cache``.

    Raises:
        InputError: patterns that match no layer, a quantised layer, one that holds NaN or infinity, no rows, no
            token that counts, a layer that was never called, that does not get one input per token, or whose input was
            not finite.
    """
    layers = target_layers(model, targets)
    for name, layer in layers.items():
        if not torch.isfinite(layer.weight).all():
            raise InputError(f"{name}.weight holds NaN or infinity; load it in float32, or leave it out")
    sums = {name: Activity(torch.zeros(_width(layer)), 0, 0) for name, layer in layers.items()}
    watch = _Watch(sums)
    with _as_it_was(model), torch.inference_mode():
        hooks = [layer.register_forward_pre_hook(watch.hook(name)) for name, layer in layers.items()]
        try:
            for batch in batches:
                attended = batch["attention_mask"].bool()
                watch.start(batch.get("counted", attended).bool() & attended)
                model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        finally:
            for hook in hooks:
                hook.remove()
            watch.forget()
    _check(sums, watch.tokens)
    return _by_weight(layers, sums)


def target_layers(model: nn.Module, targets: Sequence[str]) -> dict[str, nn.Linear]:
    """The linear layers that the patterns name; a wildcard leaves the output head out, its own name takes it in.

    Raises:
        InputError: a pattern that matches no linear layer, or a quantised layer.
    """
    get_head = getattr(model, "get_output_embeddings", None)
    head = get_head() if callable(get_head) else None
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    chosen: dict[str, nn.Linear] = {}
    for pattern in targets:
        found = {
            name: layer
            for name, layer in linear.items()
            if (fnmatchcase(name, pattern) and layer is not head) or f".{name}".endswith(f".{pattern}")
        }
        if not found:
            raise InputError(
                f"the target {pattern!r} matches no linear layer; the model has {', '.join(list(linear)[:4]) or 'none'}"
            )
        chosen |= found
    for name, layer in chosen.items():
        if not layer.weight.is_floating_point():
            raise InputError(f"{name} is quantised ({layer.weight.dtype}); its values cannot be set exactly")
    return {name: layer for name, layer in linear.items() if name in chosen}


class _Watch:
    """The hooks' shared state: which tokens of the batch count, and the sum of the input seen last."""

    def __init__(self, sums: dict[str, Activity]) -> None:
        self.sums = sums
        self.tokens = 0
        self.forget()

    def start(self, counted: Tensor) -> None:
        """A new batch; ``counted`` [B, T] bool."""
        self.forget()
        self.counted = counted
        self.rows, self.size = len(counted), int(counted.sum())
        self.tokens += self.size

    def forget(self) -> None:
        """Let go of the batch's tensors."""
        self.last_input: Tensor | None = None
        self.last_sum = torch.zeros(0)

    def hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        """The hook of one layer."""

        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found = self.sums[name]
            found.squares += self._squares(name, inputs[0]).to(found.squares.device)
            found.sequences += self.rows
            found.tokens += self.size

        return before

    def _squares(self, name: str, seen: Tensor) -> Tensor:
        # Queries, keys and values read one tensor, gate and up another: it is summed once.
        if seen is not self.last_input:
            tokens = seen.reshape(-1, seen.shape[-1])
            if len(tokens) != self.counted.numel():
                raise InputError(
                    f"{name} got {len(tokens)} inputs for {self.counted.numel()} tokens; only layers that see every "
                    "token can be scored, leave it out of the targets"
                )
            if self.size != len(tokens):
                tokens = tokens[self.counted.reshape(-1).to(tokens.device)]
            self.last_input, self.last_sum = seen, tokens.float().square().sum(0)
        return self.last_sum


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without a cache, and afterwards every module's own mode again."""
    modes = {module: module.training for module in model.modules()}
    config = getattr(model, "config", None)
    use_cache = getattr(config, "use_cache", None)
    model.eval()
    if config is not None and use_cache is not None:
        config.use_cache = False
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        if config is not None and use_cache is not None:
            config.use_cache = use_cache


def _width(layer: nn.Linear) -> int:
    return int(layer.weight.shape[1])


def _check(sums: Mapping[str, Activity], tokens: int) -> None:
    if not tokens:
        raise InputError("no token of the calibration rows counts; give rows with text (scores never fall back to |W|)")
    silent = [name for name, found in sums.items() if not found.sequences]
    if silent:
        raise InputError(f"{len(silent)} target layers were never called: {', '.join(silent[:4])}; leave them out")
    for name, found in sums.items():
        if not torch.isfinite(found.squares).all():
            raise InputError(
                f"the input of {name} is not finite on the calibration rows; load the model in float32, or "
                "look for NaN in the weights before that layer"
            )


def _by_weight(layers: Mapping[str, nn.Linear], sums: Mapping[str, Activity]) -> dict[str, Activity]:
    first: dict[int, str] = {}
    found: dict[str, Activity] = {}
    for name, layer in layers.items():
        owner = first.setdefault(id(layer.weight), name)
        key = f"{owner}.weight"
        whole = found[key] + sums[name] if key in found else sums[name]
        whole.modules = (*(found[key].modules if key in found else ()), name)
        found[key] = whole
    return found
