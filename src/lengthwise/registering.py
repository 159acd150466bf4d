"""Position schemes are known to transformers after ``import lengthwise``, which itself loads no transformers."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ROPE_TYPE = "lengthwise.context"
"""The RoPE type of our schemes. It names what to import, so that a program without it fails on that name."""
VALIDATOR = f"_validate_{ROPE_TYPE}_rope_parameters"
"""What transformers calls for every config of the type, before it makes a model of it."""
SCHEMES = "lengthwise.context.positions.registered_schemes"
CONFIGS = "transformers.modeling_rope_utils"


def register_schemes() -> None:
    """Have the schemes imported when the first config names them; transformers may be loaded before or after."""
    if CONFIGS in sys.modules:
        _promise(sys.modules[CONFIGS])
    elif not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


def _promise(module: ModuleType) -> None:
    """A validator that replaces itself, and registers the frequencies, when it is first called."""
    mixin = module.RotaryEmbeddingConfigMixin

    def validate(config: Any, *given: Any, **named: Any) -> None:
        importlib.import_module(SCHEMES)
        getattr(mixin, VALIDATOR)(config, *given, **named)

    if not hasattr(mixin, VALIDATOR):
        setattr(mixin, VALIDATOR, validate)


class _Watch(MetaPathFinder):
    """Waits for one module, lets the others find it, and acts after it was loaded."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if fullname != CONFIGS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        return None if spec is None or spec.loader is None else _followed(spec, spec.loader)


def _followed(spec: ModuleSpec, loader: Loader) -> ModuleSpec:
    run = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        run(module)
        _promise(module)

    loader.exec_module = exec_module  # type: ignore[method-assign]
    return spec
