"""A hub of its own for tests: real HTTP on a free port, as much of it as pulling needs, and faults on request."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from qied.planning.profiles.model_profile import versions

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "Qwen/Qwen-Image-Edit-2511"
LIGHTNING = "lightx2v/Qwen-Image-Edit-2511-Lightning"
LORA = "Qwen-Image-Edit-2511-Lightning-{}steps-V1.0-bf16.safetensors"
SHARD = "transformer/diffusion_pytorch_model-0000{}-of-00002.safetensors"
UNWANTED = ("README.md", ".gitattributes", "assets/sample.png")


@dataclass
class Repository:
    """Files by path. Those in ``gated`` are for members, as is the list itself where it holds ``""``."""

    files: dict[str, bytes]
    gated: frozenset[str] = frozenset()
    gate_code: str = "GatedRepo"
    commit: str = COMMIT
    listed_sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None


@dataclass
class Pause:
    """An answer that stands still: ``reached`` once the client may have its first bytes."""

    bytes: int
    reached: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)


@dataclass
class Hub:
    """What the server has and does; tests change it while it runs."""

    endpoint: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    cut_off_after: dict[str, list[int]] = field(default_factory=dict)
    """For each file: after how many bytes of each coming answer the connection breaks."""
    busy_times: dict[str, int] = field(default_factory=dict)
    pauses: dict[str, Pause] = field(default_factory=dict)
    sent_instead: dict[str, bytes] = field(default_factory=dict)
    """For each file: other bytes than those that are listed."""
    knows_ranges: bool = True
    list_as_html: bool = False

    def fetched(self) -> list[tuple[str, str | None]]:
        """Files whose bytes were asked for, with the range, in order."""
        found = [(request.path, request.range) for request in self.requests if request.method == "GET"]
        return [(path.partition("/cdn/")[2], asked) for path, asked in found if "/cdn/" in path]


def model_files() -> dict[str, bytes]:
    """The repository of the model in small: all that diffusers' layout needs, and some that nobody needs."""
    parts = ("transformer", "text_encoder", "vae", "tokenizer", "processor", "scheduler")
    vocabulary = b'{"a": 1}' * 1000
    index = {"_class_name": versions()["2511"].pipeline, **{part: ["library", "Class"] for part in parts}}
    files = {
        "model_index.json": json.dumps(index).encode(),
        "transformer/diffusion_pytorch_model.safetensors.index.json": json.dumps(
            {"weight_map": {str(number): SHARD.format(number).partition("/")[2] for number in (1, 2)}}
        ).encode(),
        "scheduler/scheduler_config.json": b'{"shift": 1.0}',
        "tokenizer/tokenizer_config.json": b'{"tokenizer": 1}',
        "tokenizer/vocab.json": vocabulary,
        "processor/preprocessor_config.json": b'{"processor": 1}',
        "processor/vocab.json": vocabulary,
        "processor/merges.txt": b"",
    }
    files |= {f"{part}/config.json": f'{{"of": "{part}", "zero_cond_t": true}}'.encode() for part in parts[:3]}
    weights = (*map(SHARD.format, (1, 2)), "text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors")
    files |= {path: path.encode() * 5000 for path in weights}
    return files | dict.fromkeys(UNWANTED, b"x" * 100000)


def hash_of(content: bytes, path: str) -> str:
    """As the hub has it: SHA-256 of weights, which lie in LFS, git's SHA-1 of everything else."""
    if path.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub on a free port of this machine, with the model and its LoRAs in small."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = server.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")  # type: ignore[attr-defined]
    hub.repositories[MODEL] = Repository(model_files())
    hub.repositories[LIGHTNING] = Repository({LORA.format(steps): b"lora" * 9000 * steps for steps in (4, 8)})
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        for pause in hub.pauses.values():
            pause.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined,no-any-return]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(Request(self.command, path, self.headers["Range"]))
        if path.startswith("/api/models/"):
            kind = "/tree/" if "/tree/" in path else "/revision/"
            name, _, revision = path.removeprefix("/api/models/").partition(kind)
            self._list(name, revision, kind)
        elif "/resolve/" not in path and "/cdn/" not in path:
            self._refuse(404, "")  # such as what the library asks for its own statistics
        else:
            name, _, rest = path.lstrip("/").partition("/resolve/" if "/resolve/" in path else "/cdn/")
            revision, _, file = rest.partition("/")
            repository = self.hub.repositories[name]
            if "/cdn/" in path:
                self._send(repository, rest)
            elif file not in repository.files:
                self._refuse(404, "EntryNotFound")
            elif file in repository.gated:
                self._refuse(403, repository.gate_code)
            else:
                self._point_to_content(name, repository, file)

    def _list(self, name: str, revision: str, kind: str) -> None:
        repository = self.hub.repositories.get(name)
        if self.hub.list_as_html:
            self._finish(200, b"<html>Please log in to this network.</html>", {"Content-Type": "text/html"})
        elif repository is None:
            self._refuse(401, "RepoNotFound")
        elif "" in repository.gated:
            self._refuse(403, repository.gate_code)
        elif revision not in ("main", repository.commit):
            self._refuse(404, "RevisionNotFound")
        else:
            files = [self._entry(repository, path) for path in repository.files]
            tree = [{**file, "type": "file", "path": file["rfilename"], "oid": file["blobId"]} for file in files]
            answer = {"id": name, "sha": repository.commit, "siblings": files} if kind == "/revision/" else tree
            self._finish(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    @staticmethod
    def _entry(repository: Repository, path: str) -> dict[str, object]:
        content = repository.files[path]
        size = repository.listed_sizes.get(path, len(content))
        known = hash_of(content, path)
        if path.endswith(".safetensors"):
            lfs = {"sha256": known, "oid": known, "size": size, "pointerSize": 130}
            return {"rfilename": path, "size": size, "blobId": hashlib.sha1(known.encode()).hexdigest(), "lfs": lfs}
        return {"rfilename": path, "size": size, "blobId": known}

    def _point_to_content(self, name: str, repository: Repository, file: str) -> None:
        location = {"Location": f"{self.hub.endpoint}/{name}/cdn/{file}"}
        self._finish(302, b"", location | self._marks(repository, file))

    @staticmethod
    def _marks(repository: Repository, file: str) -> dict[str, str]:
        content = repository.files[file]
        etag = f'"{hash_of(content, file)}"'
        return {"X-Repo-Commit": repository.commit, "X-Linked-Etag": etag, "X-Linked-Size": str(len(content))}

    def _send(self, repository: Repository, file: str) -> None:
        if self.hub.busy_times.get(file, 0):
            self.hub.busy_times[file] -= 1
            self._finish(503, b"", {})
            return
        content = self.hub.sent_instead.get(file, repository.files[file])
        asked = self.headers["Range"] if self.hub.knows_ranges else None
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        part = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if asked else {}
        self._finish(206 if asked else 200, content[start:], part | self._marks(repository, file), file)

    def _refuse(self, status: int, code: str) -> None:
        self._finish(status, b"", {"X-Error-Code": code})

    def _finish(self, status: int, body: bytes, headers: dict[str, str], file: str = "") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        pause = self.hub.pauses.get(file)
        if pause is not None and not pause.reached.is_set():
            self.wfile.write(body[: pause.bytes])
            pause.reached.set()
            pause.over.wait()
        elif cuts := self.hub.cut_off_after.get(file):
            self.wfile.write(body[: cuts.pop(0)])
        else:
            self.wfile.write(body)
