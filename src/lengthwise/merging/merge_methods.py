"""The merge methods as values: options with their checks, and how each plans its work over two models or more."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import ClassVar

import numpy as np

from lengthwise.errors import ConfigError, LengthwiseWarning
from lengthwise.merging import formulas
from lengthwise.merging.formulas import Mask
from lengthwise.merging.kth_largest import Blocks, Boundary, TopMask, kth_largest, ties_to_drop
from lengthwise.merging.option_checks import check_choice, check_finite, check_seed, check_share, model_weights
from lengthwise.safetensors_io.dtypes import Floats
from lengthwise.safetensors_io.tensor_sources import Block, Models, numbers

SUMMED = 1 << 16
"""Entries summed at once where a sum decides about a result: fixed, so that the block size changes nothing."""

Rule = Callable[[Block], tuple[Floats, Mask | None]]
"""Merges a block into [n]; the mask [M, n] says which changes were kept, None means all. Blocks come in order.

What it returns shares no memory with ``others``, which is used again."""


@dataclass(frozen=True, kw_only=True)
class Merge:
    """What all methods say: their name, what they take, and `plan`, from a tensor's name to its rule."""

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    needs_base: ClassVar[bool] = True
    """Whether a base is given apart; without one the first model takes its place."""
    takes_changes: ClassVar[bool] = True
    """Whether blocks hold W − B instead of W."""

    def check(self, models: int) -> None:
        """Refuse options that are out of range for so many models, base included.

        Raises:
            ConfigError: naming the option, its value and its range.
        """
        raise NotImplementedError

    def plan(self, models: Models) -> Callable[[str], Rule]:
        """Look at the models as often as needed, then give each tensor its rule."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Linear(Merge):
    """Weighted mean of models."""

    name = "linear"
    formula = "sum w_m W_m / sum w_m"
    source = "Model Soups, arXiv 2203.05482"
    needs_base = False
    takes_changes = False
    weights: tuple[float, ...] | None = None
    normalize: bool = True

    def check(self, models: int) -> None:
        """Weights: one per model, not summing to 0 where they are normalised."""
        weights = model_weights(self.weights, models)
        if self.normalize and math.fsum(weights) == 0:
            raise ConfigError(
                f"weights are {weights}, which sum to 0; change them or do not normalise (--no-normalize)"
            )

    def plan(self, models: Models) -> Callable[[str], Rule]:
        """One pass."""
        weights = model_weights(self.weights, len(models.others) + 1)

        def rule(block: Block) -> tuple[Floats, None]:
            return formulas.linear(block.base, block.others, weights, normalize=self.normalize), None

        return lambda _: rule


@dataclass(frozen=True, kw_only=True)
class TaskArithmetic(Merge):
    """Weighted sum of changes."""

    name = "task-arithmetic"
    formula = "B + scale * sum w_m (W_m - B)"
    source = "Editing Models with Task Arithmetic, arXiv 2212.04089"
    weights: tuple[float, ...] | None = None
    scale: float = 1.0

    def check(self, models: int) -> None:
        """Weights: one per model; a finite scale."""
        model_weights(self.weights, models - 1)
        check_finite("scale", self.scale)

    def plan(self, models: Models) -> Callable[[str], Rule]:
        """One pass."""
        weights = model_weights(self.weights, len(models.others))

        def rule(block: Block) -> tuple[Floats, None]:
            return formulas.add_update(block.base, formulas.task_update(block.others, weights, self.scale)), None

        return lambda _: rule


@dataclass(frozen=True, kw_only=True)
class Ties(Merge):
    """Trim each change to its largest entries, elect a sign, average what agrees."""

    name = "ties"
    formula = "B + scale * mean of trimmed changes that agree with the elected sign"
    source = "TIES-Merging, arXiv 2306.01708"
    density: float
    weights: tuple[float, ...] | None = None
    scale: float = 1.0
    normalize: bool = True

    def check(self, models: int) -> None:
        """A density in [0, 1], a finite scale, one weight per model."""
        check_share("density", self.density)
        check_finite("scale", self.scale)
        weights = model_weights(self.weights, models - 1)
        if models == 2 and self.normalize and weights != [1.0]:
            _warn(f"weights are {weights}: with one model normalising cancels the weight; use scale instead")

    def plan(self, models: Models) -> Callable[[str], Rule]:
        """Two passes per model and tensor for its boundary, then one."""
        weights = model_weights(self.weights, len(models.others))

        def start(name: str) -> Rule:
            tops = [top_masks(models, row, [name], self._count)[name] for row in range(len(models.others))]

            def rule(block: Block) -> tuple[Floats, Mask]:
                kept = np.stack([top(np.abs(change)) for top, change in zip(tops, block.others, strict=True)])
                update = formulas.ties_update(block.others * kept, weights, self.scale, normalize=self.normalize)
                return formulas.add_update(block.base, update), kept

            return rule

        return start

    def _count(self, size: int) -> int:
        return 0 if self.density == 0 else min(size, max(1, int(self.density * size)))


@dataclass(frozen=True, kw_only=True)
class TiesAuthors(Merge):
    """TIES as its authors' code has it: one ranking over all tensors, ties kept, a plain mean.

    Kept are the ⌊density·n⌋ + 1 largest entries and whatever equals the last of them. Where the trimmed changes
    sum to 0 the sign of the sum of all elected signs is taken. There are no weights.
    """

    name = "ties-authors"
    formula = "B + scale * plain mean of trimmed changes that agree with the elected sign, ranked over all tensors"
    source = "TIES-Merging, arXiv 2306.01708 (prateeky2806/ties-merging)"
    density: float
    scale: float = 1.0

    def check(self, models: int) -> None:
        """At least one model, a density in [0, 1), a finite scale."""
        model_weights(None, models - 1)
        check_share("density", self.density)
        check_finite("scale", self.scale)
        if self.density == 1:
            raise ConfigError("density is 1, which the authors' code cannot do; use the method ties")

    def plan(self, models: Models) -> Callable[[str], Rule]:
        """Two passes per model for its boundary, one for the majority's sign, then one."""
        names = models.floating()
        values = [_boundary(models, row, names, self._count).value for row in range(len(models.others))]

        def kept_of(block: Block) -> Mask:
            sizes = np.abs(block.others)
            return np.stack([size >= value for size, value in zip(sizes, values, strict=True)])

        signs = 0.0
        for name in names:
            for block in models.changes(name):
                signs += float(np.sign((block.others * kept_of(block)).sum(0)).sum())

        def rule(block: Block) -> tuple[Floats, Mask]:
            kept = kept_of(block)
            update = formulas.ties_authors_update(block.others * kept, float(np.sign(signs)), self.scale)
            return formulas.add_update(block.base, update), kept

        return lambda _: rule

    def _count(self, size: int) -> int:
        return min(size, int(self.density * size) + 1)


@dataclass(frozen=True, kw_only=True)
class Dare(Merge):
    """Drop entries of each change at random and scale up the rest."""

    name = "dare"
    formula = "B + scale * sum w_m (Z_m o (W_m - B)) * rescale, Z ~ Bernoulli(density)"
    source = "Language Models are Super Mario, arXiv 2311.03099"
    density: float
    seed: int
    weights: tuple[float, ...] | None = None
    scale: float = 1.0
    rescale: str = "inverse"

    def check(self, models: int) -> None:
        """A density in [0, 1], a finite scale, a known rescaling, one weight per model."""
        check_share("density", self.density)
        check_seed(self.seed)
        check_finite("scale", self.scale)
        model_weights(self.weights, models - 1)
        check_choice("rescale", self.rescale, ("inverse", "l1"))

    def plan(self, models: Models) -> Callable[[str], Rule]:
        """One pass; with ``l1`` one more over each tensor for its sums."""
        weights = model_weights(self.weights, len(models.others))

        def start(name: str) -> Rule:
            factors = [self._factor(models, row, name) for row in range(len(models.others))]

            def rule(block: Block) -> tuple[Floats, Mask]:
                stop = block.start + block.base.size
                kept = np.stack([self._mask(row, name, block.start, stop) for row in range(len(factors))])
                dropped = block.others * kept
                for change, factor in zip(dropped, factors, strict=True):
                    change *= change.dtype.type(factor)
                return formulas.add_update(block.base, formulas.task_update(dropped, weights, self.scale)), kept

            return rule

        return start

    def _mask(self, row: int, name: str, start: int, stop: int) -> Mask:
        return formulas.bernoulli_mask(self.seed, row, name, start, stop, self.density)

    def _factor(self, models: Models, row: int, name: str) -> float:
        if self.rescale == "inverse":
            return 1 / self.density if self.density else 1.0
        before = after = 0.0
        sizes = models.sizes_of_change(name, row, np.dtype("f8"), SUMMED)
        for span, block in zip(models.spans(name, SUMMED), sizes, strict=True):
            before += float(block.sum())
            after += float((block * self._mask(row, name, *span)).sum())
        return before / after if after else 1.0


@dataclass(frozen=True, kw_only=True)
class Slerp(Merge):
    """Two models, on the great circle between them, tensor by tensor."""

    name = "slerp"
    formula = "(sin((1-t) th) A + sin(t th) C) / sin th, th the angle between the tensors"
    source = "Shoemake, Animating Rotation with Quaternion Curves, 1985"
    needs_base = False
    takes_changes = False
    t: float
    extrapolate: bool = False

    def check(self, models: int) -> None:
        """Exactly two models; t in [0, 1] unless `extrapolate`."""
        if models != 2:
            raise ConfigError(f"slerp got {models} models; give exactly two")
        check_finite("t", self.t)
        if not self.extrapolate and not 0 <= self.t <= 1:
            raise ConfigError(f"t is {self.t}; give a number from 0 to 1, or ask for more (--extrapolate)")

    def plan(self, models: Models) -> Callable[[str], Rule]:
        """Two passes a tensor: dot product and norms, then the sum."""

        def start(name: str) -> Rule:
            weights = self._weights(models, name)

            def rule(block: Block) -> tuple[Floats, None]:
                if self.t in (0, 1):
                    return (block.others[0].copy() if self.t else block.base), None
                return formulas.slerp(block.base, block.others[0], weights), None

            return rule

        return start

    def _weights(self, models: Models, name: str) -> tuple[float, float]:
        sums = np.zeros(3)
        for start, stop in models.spans(name, SUMMED):
            first, second = (
                numbers(source, name, start, stop, np.dtype("f8")) for source in (models.base, models.others[0])
            )
            sums += [(first * second).sum(), (first * first).sum(), (second * second).sum()]
        dot, squared_first, squared_second = sums.tolist()
        return formulas.slerp_weights(dot, squared_first, squared_second, self.t)


@dataclass(frozen=True, kw_only=True)
class UpdateSelective(Merge):
    """Give a base the largest part of what tuning changed, scaled."""

    name = "update-selective"
    formula = "B + scale * (K o (W - B)), K the largest entries of |W - B|"
    source = "DLER, arXiv 2510.15110"
    density: float = 0.25
    scale: float = 0.7
    scope: str = "global"

    def check(self, models: int) -> None:
        """One model beside the base, a density in [0, 1], a finite scale, a known scope."""
        if models != 2:
            raise ConfigError(f"update-selective got {models - 1} models beside the base; give exactly one")
        check_share("density", self.density)
        check_finite("scale", self.scale)
        check_choice("scope", self.scope, ("global", "tensor"))

    def plan(self, models: Models) -> Callable[[str], Rule]:
        """Two passes for the boundary (global: one more where it cuts a tie), then one."""
        tops: dict[str, TopMask] = {}
        if self.scope == "global":
            tops = top_masks(models, 0, models.floating(), self._count)

        def start(name: str) -> Rule:
            top = tops[name] if tops else top_masks(models, 0, [name], self._count)[name]

            def rule(block: Block) -> tuple[Floats, Mask]:
                change = block.others[0]
                kept = top(np.abs(change))
                update = formulas.selective_update(change, kept, self.scale)
                return formulas.add_update(block.base, update), kept[None]

            return rule

        return start

    def _count(self, size: int) -> int:
        return math.floor(self.density * size + 0.5)


METHODS: dict[str, type[Merge]] = {
    kind.name: kind for kind in (Linear, TaskArithmetic, Ties, TiesAuthors, Dare, Slerp, UpdateSelective)
}


def build_merge(name: str, **options: object) -> Merge:
    """The method of that name with its options.

    Raises:
        ConfigError: an unknown method, an option that it does not take, or one that it needs and did not get.
    """
    if name not in METHODS:
        raise ConfigError(f"method is {name!r}; choose one of {', '.join(METHODS)}")
    fields = {field.name: field for field in dataclasses.fields(METHODS[name])}
    for option in options:
        if option not in fields:
            takers = [kind for kind in METHODS if option in {f.name for f in dataclasses.fields(METHODS[kind])}]
            raise ConfigError(f"{option} is no option of {name}; leave it out ({', '.join(takers) or 'none'} takes it)")
    for option, field in fields.items():
        if field.default is dataclasses.MISSING and option not in options:
            raise ConfigError(f"{name} needs {option}; it has no default that fits all models")
    return METHODS[name](**options)


def top_masks(models: Models, model: int, names: Sequence[str], count: Callable[[int], int]) -> dict[str, TopMask]:
    """Masks of the largest entries of one model's change, all tensors of ``names`` ranked together.

    ``count`` says how many to keep of so many entries.
    """
    boundary, working = _boundary(models, model, names, count), models.working(names)
    drops = ties_to_drop(boundary, _sizes(models, model, names))
    return {name: TopMask(boundary.value, drops[name], working) for name in names}


def _boundary(models: Models, model: int, names: Sequence[str], count: Callable[[int], int]) -> Boundary:
    total = sum(models.base.infos[name].size for name in names)
    wanted = count(total)
    if wanted == total:
        return Boundary(0.0, 0, 0)
    blocks = _sizes(models, model, names).values()
    return kth_largest(lambda: chain.from_iterable(each() for each in blocks), wanted, models.working(names))


def _sizes(models: Models, model: int, names: Sequence[str]) -> dict[str, Blocks]:
    working = models.working(names)
    return {name: partial(models.sizes_of_change, name, model, working) for name in names}


def _warn(text: str) -> None:
    warnings.warn(text, LengthwiseWarning, stacklevel=2)
