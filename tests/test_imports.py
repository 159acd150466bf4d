"""Imports point downward only, the objectives need torch alone, and `import lengthwise` stays light."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lengthwise

ROOT = Path(lengthwise.__file__).parent
BASE = {
    "errors", "files", "data", "config", "context_length", "folder_lock", "hub_models", "installation_check",
    "json_types", "optional_imports", "output_paths", "pretrained", "template_trial", "threads", "user_code",
}  # fmt: skip
ROOMS = (
    ("objectives", "safetensors_io"),
    ("context",),
    ("engine", "merging"),
    ("repair",),
    ("lab",),
    ("grading",),
    ("statistics",),
    ("generation", "logs"),
    ("methods", "reporting"),
    ("runs",),
    ("adapters",),
    ("cli",),
)
"""Rooms from the ground up: a room imports from those before it, never from one beside it."""
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "json_types": set(),
    "files": {"errors", "json_types"},
    "installation_check": set(),
    "optional_imports": {"errors"},
    "user_code": {"errors"},
    "config": {"errors", "files", "json_types"},
    "data": {"errors", "files", "json_types", "optional_imports"},
    "context_length": {"errors"},
    "folder_lock": {"errors"},
    "hub_models": {"errors"},
    "output_paths": {"errors", "files", "folder_lock"},
    "pretrained": {"errors", "files", "json_types"},
    "template_trial": {"errors"},
    "threads": {"errors"},
    **{
        room: {below for floor in ROOMS[:level] for below in floor} | BASE
        for level, floor in enumerate(ROOMS)
        for room in floor
    },
    "objectives": {"errors"},
    "__main__": {"cli"},
    # Deprecated: they say where their names are now.
    "_moved": set(),
    "evaluation": {"_moved"},
    "weights": {"_moved"},
}
for _room in ("runs", "adapters", "cli"):
    BELOW[_room] = BELOW[_room] | {"__version__"}
PURE = {"__future__", "torch", "math", "typing", "collections", "dataclasses", "itertools", "functools", "lengthwise"}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(source: str) -> set[str]:
    """Every dotted name that a file imports, inside functions and TYPE_CHECKING blocks too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they point"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def forbidden(here: str, source: str) -> set[str]:
    """Layers of the package that a file of layer `here` may not import."""
    parts = {name.split(".")[1] for name in imported(source) if name.split(".")[0] == "lengthwise" and "." in name}
    return parts - BELOW[here] - {here}


def test_every_layer_has_its_place():
    assert {layer(path) for path in MODULES} <= BELOW.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downward(path):
    assert forbidden(layer(path), path.read_text(encoding="utf-8")) == set()


def test_the_check_itself_sees_an_upward_import():
    assert forbidden("engine", "def f():\n    from lengthwise.runs import demo\n") == {"runs"}
    assert forbidden("lab", "import lengthwise.grading.graders\n") == {"grading"}
    assert forbidden("grading", "from lengthwise import methods\n") == {"methods"}
    assert forbidden("engine", "from lengthwise.engine.rollouts import Rollouts\nimport torch\n") == set()


def test_no_public_name_hides_a_module_of_its_package():
    # else the module is no attribute of its package, and a test cannot patch what is in it by name
    for package in [path.parent for path in MODULES if path.name == "__init__.py"]:
        own = ".".join(["lengthwise", *package.relative_to(ROOT).parts])
        froms = [node for node in ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body
                 if isinstance(node, ast.ImportFrom) and node.module != own]  # fmt: skip
        names = {alias.asname or alias.name for node in froms for alias in node.names}
        assert not names & {path.stem for path in package.iterdir()}, package


def test_every_public_function_is_used_or_documented():
    # what tests alone call stands in tests/helpers
    repository = Path(__file__).parent.parent
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for folder in (ROOT, repository / "studies",
             repository / "benchmarks") for path in folder.rglob("*.py")}  # fmt: skip
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    used |= {node.name for node in nodes if isinstance(node, ast.alias) and node.asname not in (None, node.name)}
    # by name: methods, graders, and what a child process is told to run
    used |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    docs = " ".join(path.read_text(encoding="utf-8") for path in (repository / "docs").rglob("*.md"))
    used |= set(re.findall(r"\w+", docs))
    # modules whose names the site shows: what they define, or name as theirs
    for module in re.findall(r"^::: (lengthwise[\w.]*)", docs, re.M):
        found = importlib.import_module(module)
        used |= {*getattr(found, "__all__", vars(found))}
    defined = {node.name: path for path in MODULES for node in trees[path].body if isinstance(node, ast.FunctionDef)}
    assert {name: str(path) for name, path in defined.items() if not name.startswith("_") and name not in used} == {}


@pytest.mark.parametrize("path", sorted((ROOT / "objectives").glob("*.py")), ids=lambda path: path.name)
def test_objectives_need_torch_alone(path):
    assert {name.split(".")[0] for name in imported(path.read_text(encoding="utf-8"))} <= PURE


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_objectives_load_nothing_heavy():
    loaded = fresh(
        "import sys, lengthwise.objectives; "
        "print(*sorted({'transformers', 'safetensors', 'matplotlib', 'typer', 'rich'} & sys.modules.keys()))"
    )
    assert loaded == ""


def test_settings_load_neither_tensors_nor_models():
    loaded = fresh(
        "import sys, lengthwise.config.commands, lengthwise.config.files, lengthwise.config.tables; "
        "print(*sorted({'torch', 'transformers', 'numpy', 'typer', 'rich'} & sys.modules.keys()))"
    )
    assert loaded == ""


def test_settings_load_in_little_time_beyond_pydantic():
    seconds = fresh(
        "import time, pydantic; pydantic.create_model('One', x=(int, 1))(); t = time.process_time(); "
        "import lengthwise.config.commands; print(time.process_time() - t)"
    )
    assert float(seconds) < 0.5  # 0.06 where nothing else runs


def test_import_lengthwise_loads_no_pydantic():
    assert fresh("import sys, lengthwise; print('pydantic' in sys.modules)") == "False"


def test_import_lengthwise_is_light():
    # Timed in one process after torch, so that neither its import nor a busy machine's start-up counts.
    heavy, seconds = fresh(
        "import sys, time, torch; t = time.process_time(); import lengthwise; t = time.process_time() - t; "
        "print(*sorted({'transformers', 'matplotlib', 'math_verify'} & sys.modules.keys()), '|', t)"
    ).split("|")
    assert heavy.strip() == ""
    assert float(seconds) < 1.5


@pytest.mark.parametrize("name", [name for name in lengthwise.__all__ if name != "__version__"])
def test_every_public_name_is_there(name):
    assert getattr(lengthwise, name) is not None
    assert name in dir(lengthwise)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        lengthwise.nonsense  # noqa: B018
