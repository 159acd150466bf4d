"""Models by their name on a hub: a small hub on loopback, its faults, the cache, and what is never downloaded."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants as hub_constants
import pytest
from evaluate_command import LAB, evaluated, write_rows

from lengthwise.errors import InputError
from lengthwise.hub_models import hub_folder, is_hub_name
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.lab.shipped_models import model_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves the lab's reasoner as ``made/up``, with a pickle and code beside it; ``made/gated`` is closed."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {path.name: path.read_bytes() for path in shipped_reasoner().iterdir() if path.is_file()}
        self.files |= {"pytorch_model.bin": b"pickle", "modeling_own.py": b"raise SystemExit"}
        self.taken: list[str] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/made/up/tree/"):
            sizes = [(name, len(content)) for name, content in self.server.files.items()]
            listed = ",".join(f'{{"type": "file", "path": "{name}", "size": {n}, "oid": "0"}}' for name, n in sizes)
            self._send(200, f"[{listed}]".encode(), body=body)
        elif path.startswith("/api/models/made/up"):
            listed = ",".join(f'{{"rfilename": "{name}"}}' for name in self.server.files)
            self._send(200, f'{{"id": "made/up", "sha": "{COMMIT}", "siblings": [{listed}]}}'.encode(), body=body)
        elif path.startswith("/made/up/resolve/"):
            name = path.rpartition("/")[2]
            found = self.server.files[name]
            if body:
                self.server.taken.append(name)
            etag = hashlib.sha256(found).hexdigest()
            self._send(200, found, body=body, headers={"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        else:
            gated = "made/gated" in path
            code = "GatedRepo" if gated else "RepoNotFound"
            self._send(403 if gated else 404, b"{}", body=body, headers={"X-Error-Code": code})

    def _send(self, status: int, content: bytes, *, body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that answers, with an empty cache before it."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{hub.server_address[1]}"
        download = huggingface_hub.snapshot_download

        def here(name: str, **options: object) -> str:
            return download(name, endpoint=url, cache_dir=tmp_path / "cache", **options)

        monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", here)
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


def test_a_model_of_a_hub_is_loaded_by_its_name_and_taken_from_the_cache_afterwards(
    online: Hub, tmp_path: Path
) -> None:
    folder = model_folder("made/up")
    assert (folder / "model.safetensors").read_bytes() == (shipped_reasoner() / "model.safetensors").read_bytes()
    assert "model.safetensors" in online.taken
    assert not {"pytorch_model.bin", "modeling_own.py"} & set(online.taken)
    online.taken.clear()
    assert model_folder("made/up") == folder
    assert online.taken == []
    data = write_rows(tmp_path / "rows.jsonl", count=2)
    summary = evaluated("made/up", "--data", data, "--out", tmp_path / "out", *LAB)
    assert summary["context"]["model"] == "made/up"
    assert summary["problems"] == 2


def test_only_what_a_tokenizer_needs_is_taken_for_one_and_code_where_it_is_trusted(online: Hub) -> None:
    hub_folder("made/up", weights=False, trust_remote_code=True)
    assert "model.safetensors" not in online.taken
    assert {"tokenizer.json", "modeling_own.py"} <= set(online.taken)


@pytest.mark.parametrize(
    ("name", "says"),
    [("made/none", "the hub has no model of that name"), ("made/gated", "only to those who were let in")],
)
def test_what_the_hub_does_not_give_is_one_line(online: Hub, name: str, says: str) -> None:
    with pytest.raises(InputError, match=f"model is '{name}': no such folder, and .*{says}") as refused:
        model_folder(name)
    assert "\n" not in str(refused.value)


def test_without_a_network_the_way_out_is_named() -> None:
    with pytest.raises(InputError, match=r"no such folder, and the hub cannot be reached .*HF_HUB_OFFLINE") as refused:
        model_folder("no-such-org/no-such-model")
    assert "\n" not in str(refused.value)


def test_folders_and_mistyped_folders_are_no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "dler").mkdir(parents=True)
    for text in ("runs/dler", "runs/dlr", "./a/b", "/a/b", "a", "a/b/c", "~/a", "a/", "../a", ""):
        assert not is_hub_name(text)
    assert is_hub_name("Qwen/Qwen3-1.7B")
    assert hub_folder("runs/dlr") == "runs/dlr"
