"""What will be written is tried out before the work, and nothing of the trial stays."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from lengthwise.errors import ConfigError
from lengthwise.output_paths import check_file_target, check_folder_target, real

LINUX = pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc on this system")
LONG = "x" * 300


def full(*args, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("folder", "'folder', a folder; name a file"),
        ("", "'.', a folder; name a file"),
        ("/dev/null", "a device or pipe, which cannot be replaced"),
        ("file/x.html", "Not a directory"),
        ("file/deep/x.html", "Not a directory"),
        ("loop", "symbolic links"),
        ("loop/x.html", "symbolic links"),
        (LONG, "File name too long"),
        (f"new/{LONG}/x.html", "File name too long"),
        pytest.param("/proc/none/x.html", "nothing can be written", marks=LINUX),
        pytest.param("/dev/full/x.html", "Not a directory", marks=LINUX),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_file_that_cannot_be_written_is_told_before_and_nothing_of_the_trial_stays(place, path, says):
    with pytest.raises(ConfigError, match=f"^report is .*{says}"):
        check_file_target("report", path)
    assert names(place) == ["dangling", "file", "folder", "loop"] and names(place / "folder") == []


@pytest.mark.parametrize("path", ["new.html", "new/deep/x.html", "file", "folder/x", "dangling", "x" * 230])
def test_a_file_that_can_be_written_is_tried_out_without_a_trace(place, path):
    check_file_target("report", path)
    assert names(place) == ["dangling", "file", "folder", "loop"] and names(place / "folder") == []
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("file", "'file', which is a file; give a folder"),
        ("file/x", "Not a directory"),
        ("/dev/null", "which is a file"),
        ("loop", "symbolic links"),
        ("dangling", "a symbolic link that leads nowhere"),
        (LONG, "File name too long"),
        pytest.param("/proc/none", "nothing can be written", marks=LINUX),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_folder_that_cannot_be_written_is_told_before(place, path, says, replaced):
    with pytest.raises(ConfigError, match=f"^out is .*{says}"):
        check_folder_target("out", path, replaced=replaced)
    assert names(place) == ["dangling", "file", "folder", "loop"]


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("path", ["new", "new/deep", "folder", "folder/", ".", "..", ""])
def test_a_folder_that_can_be_written_is_tried_out_without_a_trace(place, path, replaced):
    check_folder_target("out", path, replaced=replaced)
    assert names(place) == ["dangling", "file", "folder", "loop"] and names(place / "folder") == []


def test_a_folder_may_lie_in_one_that_cannot_be_written(place, monkeypatch):
    # As a mounted volume does: what is written goes into it, not beside it.
    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: full() if self.parent == Path() else write(self, data))
    check_folder_target("out", "folder")


def test_what_another_process_has_put_into_a_folder_of_the_trial_stays(place, monkeypatch):
    unlink = Path.unlink

    def meanwhile(self, *args, **options):
        unlink(self, *args, **options)
        (self.parent / "theirs").write_text("")

    monkeypatch.setattr(Path, "unlink", meanwhile)
    check_file_target("report", "new/x.html")
    assert names(place / "new") == ["theirs"]


def test_a_full_disk_is_told_as_such(place, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        check_file_target("report", "new.html")


def test_the_real_path_of_a_circle_is_no_error(place):
    assert real("loop") == place.resolve() / "loop"
    assert real("folder/../file") == place.resolve() / "file"
