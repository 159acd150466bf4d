"""Imports of what only an extra brings: whatever goes wrong in one is a line with the reason, everywhere."""

from __future__ import annotations

import ast
import importlib
import sys
import tomllib
from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lengthwise
from lengthwise.adapters import engine_names, export_verl
from lengthwise.adapters import verl as verl_adapter
from lengthwise.adapters.verdicts import as_dataset
from lengthwise.context.positions import finetuning
from lengthwise.data import read_rows
from lengthwise.engine.model_folders import _with_lora
from lengthwise.errors import ConfigError, MissingExtraError
from lengthwise.methods.bi_level.dpo import import_trl
from lengthwise.methods.mode_sft import check_trl
from lengthwise.optional_imports import EXTRAS, importing
from lengthwise.repair.model_loading import _with_adapter

ROOT = Path(lengthwise.__file__).parent
BROUGHT = {
    "trl", "accelerate", "datasets", "peft", "verl", "hydra", "omegaconf", "ray", "vllm", "pyarrow", "mergekit",
    "deepspeed", "bitsandbytes",
}  # fmt: skip
"""Packages that no plain installation has."""


class Broken(Loader):
    """Finds one package and raises when it is run, as a package does that is there but does not fit the others."""

    def __init__(self, package: str, error: BaseException, cause: BaseException | None) -> None:
        self.package, self.error, self.cause = package, error, cause

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        return spec_from_loader(name, self) if name == self.package else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        raise self.error from self.cause


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Forgets that a package was imported, for a while."""

    def forget(package: str) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)

    return forget


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, forgotten: Callable[[str], None]) -> Callable[..., None]:
    def make(package: str, error: BaseException, cause: BaseException | None = None) -> None:
        forgotten(package)
        monkeypatch.setattr(sys, "meta_path", [Broken(package, error, cause), *sys.meta_path])

    return make


def adapter_of_trl() -> None:
    sys.modules.pop("lengthwise.adapters.trl", None)
    try:
        importlib.import_module("lengthwise.adapters.trl")
    finally:
        sys.modules.pop("lengthwise.adapters.trl", None)


def stand_in(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Beside TRL data sets are imported; where only TRL is looked at, something stands in for them."""
    datasets = ModuleType("datasets")
    datasets.Dataset = object  # type: ignore[attr-defined]
    if package == "trl":
        monkeypatch.setitem(sys.modules, "datasets", datasets)


PLACES: dict[str, tuple[str, Callable[[], Any]]] = {
    "LoRA": ("peft", lambda: _with_lora(None, 2, 0)),
    "a LoRA adapter": ("peft", lambda: _with_adapter(None, Path())),
    "sft_data": ("trl", check_trl),
    "ada-r1": ("trl", import_trl),
    "fine-tuning": ("trl", finetuning.import_trainer),
    "the TRL adapter": ("trl", adapter_of_trl),
    "a data set for TRL": ("datasets", lambda: as_dataset([{"a": 1}])),
    "reading it as a dataset": ("datasets", lambda: read_rows("someone/something:test")),
}


@pytest.mark.parametrize("who", PLACES)
@pytest.mark.parametrize(
    "error",
    [
        ImportError("cannot import name 'HybridCache' from 'transformers'"),
        ModuleNotFoundError("No module named 'llm_blender'", name="llm_blender"),
        AttributeError("module 'pyarrow' has no attribute 'json_'"),
        OSError("libcudart.so.13: cannot open shared object file:\nno such file"),
    ],
)
def test_an_import_that_fails_for_its_own_reasons_is_one_line(broken, monkeypatch, who, error):
    package, use = PLACES[who]
    stand_in(monkeypatch, package)
    broken(package, error)
    with pytest.raises(MissingExtraError) as raised:
        use()
    text = str(raised.value)
    assert f"{who} needs {package}, which is installed but cannot be imported: {type(error).__name__}: " in text
    assert " ".join(str(error).split()) in text and "\n" not in text
    assert "transformers 5." in text and 'pip install --upgrade "lengthwise[trl]"' in text


@pytest.mark.parametrize("who", PLACES)
def test_a_package_that_is_not_there_is_named_with_its_extra(forgotten, monkeypatch, who):
    package, use = PLACES[who]
    stand_in(monkeypatch, package)
    forgotten(package)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf'{who} needs {package}; install .*pip install "lengthwise\[trl\]"'):
        use()


def test_the_reason_is_the_first_of_a_chain(broken):
    # What TRL raises where one of its lazy modules fails: it says to look up, where nobody sees a traceback.
    broken(
        "peft", RuntimeError("Failed to import x because of the following error (look up to see its traceback):\n..."),
        ModuleNotFoundError("No module named 'requests'", name="requests"),
    )  # fmt: skip
    with pytest.raises(MissingExtraError, match="cannot be imported: ModuleNotFoundError: No module named 'requests'"):
        _with_lora(None, 2, 0)


def test_parquet_and_an_error_of_ours_and_a_long_reason(broken, tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    broken("pyarrow", ImportError("numpy.core.multiarray failed to import " + "x" * 999))
    with pytest.raises(MissingExtraError) as raised:
        read_rows(tmp_path / "rows.parquet")
    assert "needs pyarrow, which is installed but" in str(raised.value) and len(str(raised.value)) < 800
    with pytest.raises(ConfigError, match="^ours$"), importing("a", "trl", "trl"):
        raise ConfigError("ours")


def test_verl_that_cannot_be_imported_says_why_and_a_name_that_is_gone_stays_one(broken, monkeypatch, capsys):
    monkeypatch.setattr(engine_names.metadata, "version", lambda package: "0.9.1")
    wanted = r"the verl adapter needs verl, which is installed but cannot be imported: ImportError: no cachetools"
    broken("verl", ImportError("no cachetools"))
    with pytest.raises(MissingExtraError, match=wanted):
        verl_adapter.register()
    with pytest.raises(MissingExtraError, match=wanted):
        verl_adapter.check_registered()
    assert verl_adapter.main([]) == 2
    assert capsys.readouterr().err.startswith("error: the verl adapter needs verl")
    assert export_verl.validated(Path("nowhere")).startswith("not against verl: ")
    gone = "json.no_such_module"
    with pytest.raises(ConfigError, match=rf"module {gone} is gone"):
        engine_names.check_modules("verl", {gone: ("x",)})


def test_the_extras_are_those_of_the_package():
    declared = Path(__file__).resolve().parents[1] / "pyproject.toml"
    extras = tomllib.loads(declared.read_text())["project"]["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        assert {need.split(">=")[0].replace("-", "_") for need in extras[extra]} == set(packages)


def unguarded(source: str) -> list[str]:
    """Imports of what an extra brings that stand outside of ``with importing(...)``."""
    found: list[str] = []

    def look(node: ast.AST, guarded: bool) -> None:
        named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found.extend(name for name in named if name.partition(".")[0] in BROUGHT and not guarded)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            guarded = True  # names for type checkers, which nothing runs
        if isinstance(node, ast.With):
            calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
            guarded = guarded or any(isinstance(c.func, ast.Name) and c.func.id == "importing" for c in calls)
        for child in ast.iter_child_nodes(node):
            look(child, guarded)

    look(ast.parse(source), False)
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_optional_import_of_the_package_is_guarded(path):
    assert unguarded(path.read_text(encoding="utf-8")) == []


def test_the_check_itself_sees_one():
    assert unguarded("def f():\n    import trl.trainer\n    from peft import x\n") == ["trl.trainer", "peft"]
    assert unguarded("with importing('a', 'b', 'c'):\n    from peft import x\n") == []
    assert unguarded("if TYPE_CHECKING:\n    from peft import x\nimport trl") == ["trl"]
