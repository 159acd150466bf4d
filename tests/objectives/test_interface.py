"""The public list, its documentation, and that importing it costs torch and nothing else."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import lengthwise.objectives as objectives

STANDARD = {"__future__", "collections", "dataclasses", "math", "typing"}
ALLOWED_IMPORTS = {*STANDARD, "torch", "lengthwise.errors", "lengthwise.objectives"}


def test_the_public_names_are_sorted_and_exist() -> None:
    assert objectives.__all__ == sorted(objectives.__all__)
    assert all(callable(getattr(objectives, name)) for name in objectives.__all__)


@pytest.mark.parametrize("name", objectives.__all__)
def test_every_public_function_is_documented(name: str) -> None:
    function = getattr(objectives, name)
    text = inspect.getdoc(function) or ""
    for section in ("Args:", "Returns:", "Raises:"):
        assert section in text, f"{name} lacks {section}"
    missing = [parameter for parameter in inspect.signature(function).parameters if parameter not in text]
    assert not missing, f"{name} does not document {missing}"


def test_options_are_keyword_only() -> None:
    for name in objectives.__all__:
        for parameter in inspect.signature(getattr(objectives, name)).parameters.values():
            has_default = parameter.default is not inspect.Parameter.empty
            assert not has_default or parameter.kind is inspect.Parameter.KEYWORD_ONLY, (name, parameter.name)


def test_importing_the_objectives_loads_torch_and_nothing_heavy() -> None:
    script = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "import lengthwise.objectives\n"
        "print('\\n'.join(sorted(set(sys.modules) - before)))\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    loaded = set(out.split())
    foreign = {name for name in loaded if name.split(".")[0] != "lengthwise"}
    inner = {name for name in loaded if name.startswith("lengthwise.")}
    assert not foreign & {"transformers", "safetensors", "matplotlib", "jinja2", "typer", "rich", "math_verify"}
    assert all(name.startswith(("lengthwise.errors", "lengthwise.objectives")) for name in inner), inner


def test_the_sources_import_only_what_the_layer_may_see() -> None:
    for path in Path(objectives.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            for name in names:
                root = ".".join(name.split(".")[:2]) if name.startswith("lengthwise") else name.split(".")[0]
                assert root in ALLOWED_IMPORTS, f"{path.name} imports {name}"
