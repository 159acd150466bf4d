"""Small models run on one thread, others as the user has it; afterwards all is as before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from flags import EVERYTHING

from lengthwise import threads
from lengthwise.cli import main
from lengthwise.errors import ConfigError
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.lab.shipped_models import model_folder, shipped_models
from lengthwise.threads import SMALL, on_few_threads, parameters_in, threads_for, wait_without_spinning


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def counted(*folders: Path, **options) -> int:
    with threads_for(*folders, **options):
        return torch.get_num_threads()


def test_parameters_are_counted_in_the_headers(tmp_path) -> None:
    assert parameters_in(shipped_reasoner()) == 605_440
    assert parameters_in(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(b"\x10")
    assert parameters_in(tmp_path) is None


def test_every_model_of_the_lab_is_small() -> None:
    for name in shipped_models():
        assert counted(model_folder(name, in_its_world=True)) == 1


def test_a_larger_model_keeps_the_threads_that_are_there(monkeypatch) -> None:
    monkeypatch.setattr(threads, "SMALL", 605_440)
    assert counted(shipped_reasoner()) == 2


def test_models_that_cannot_be_counted_and_none_at_all_change_nothing(tmp_path) -> None:
    assert counted() == 2
    assert counted(tmp_path) == 2
    assert counted(shipped_reasoner(), tmp_path) == 2


def test_what_the_user_says_counts(monkeypatch) -> None:
    assert counted(shipped_reasoner(), wanted=3) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert counted(shipped_reasoner()) == 2
    assert counted(shipped_reasoner(), wanted=1) == 1
    with pytest.raises(ConfigError, match="threads is 0"), threads_for(wanted=0):
        pass


def test_the_outermost_decides_and_an_error_restores() -> None:
    with pytest.raises(KeyError), threads_for(wanted=3):
        assert counted(shipped_reasoner()) == 3
        raise KeyError
    assert counted(shipped_reasoner()) == 1


def test_a_function_runs_on_the_threads_of_its_models() -> None:
    class Job:
        folders = (shipped_reasoner(),)

    @on_few_threads("job.folders")
    def run(job: Job) -> int:
        return torch.get_num_threads()

    assert run(Job()) == run(job=Job()) == 1


def test_waiting_threads_sleep_unless_the_user_or_torch_was_faster(monkeypatch) -> None:
    environment: dict[str, str] = {}
    wait_without_spinning(environment)
    assert environment == {}, "torch is loaded"
    monkeypatch.delitem(sys.modules, "torch")
    wait_without_spinning(environment)
    assert environment == {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
    for own in ({"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "1000"}):
        environment = dict(own)
        wait_without_spinning(environment)
        assert environment == own


CODE = """
import os, sys
from lengthwise.cli import main
assert "torch" not in sys.modules and "GOMP_SPINCOUNT" not in os.environ
try:
    main(["methods", "--json"])
finally:
    assert "torch" in sys.modules
    sys.stderr.write(f"{os.environ.get('OMP_WAIT_POLICY')} {os.environ.get('GOMP_SPINCOUNT')}")
"""


def test_only_the_command_line_sets_how_threads_wait() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == "passive 0", done.stderr
    library = "import os, lengthwise; lengthwise.Job; import torch; print(dict(os.environ), torch.get_num_threads())"
    loaded = subprocess.run([sys.executable, "-c", library], capture_output=True, text=True, check=True).stdout
    assert ("SPINCOUNT" not in loaded and f" {os.cpu_count()}" in loaded) or os.cpu_count() == 1


@pytest.mark.parametrize(("flags", "count"), [([], 1), (["--threads", "2"], 2)], ids=["default", "--threads 2"])
def test_a_run_keeps_the_threads_that_it_had(tmp_path, capsys, flags, count) -> None:
    rows = [chain.row for chain in chains.problems(3, split="test", seed=0, levels=(2,))]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    torch.set_num_threads(3 - count)
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "lab:chains", "--data", str(tmp_path / "rows.jsonl"), "--preset", "lab", "--cap", "40",
              "--out", str(tmp_path / "out"), "--json", *flags])  # fmt: skip
    assert not ended.value.code, capsys.readouterr().err
    assert torch.get_num_threads() == 3 - count
    assert json.loads((tmp_path / "out" / "config.json").read_text())["environment"]["threads"] == count
    torch.set_num_threads(2)


def test_shorten_as_a_library_takes_one_thread_and_gives_the_others_back(tmp_path, monkeypatch) -> None:
    class SeenError(Exception):
        pass

    def load(job, folder=None):
        raise SeenError(torch.get_num_threads())

    monkeypatch.setattr("lengthwise.runs.shortening.shorten.load", load)
    from lengthwise.config.commands import DemoSettings
    from lengthwise.runs.chains_demo import demo

    with pytest.raises(SeenError, match="1"):
        demo(DemoSettings(out=tmp_path / "out", limit=4))


def test_every_command_that_computes_takes_threads_and_its_help_names_the_bound() -> None:
    taking = {one.command: one.help for one in EVERYTHING if one.word == "--threads"}
    assert taking.keys() == {"demo", "shorten", "evaluate", "evaluate-context", "generate", "repair", "extend"}
    assert all(f"below {SMALL // 10**6} million parameters" in text for text in taking.values())
