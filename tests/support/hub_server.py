"""A hub on this machine: the few addresses of the Hugging Face hub that pushing and fetching a model needs, over HTTP.

It speaks to the real huggingface_hub. Every push is a commit that stays.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = 10_000
"""Bytes from which on a file is uploaded by itself (LFS)."""
TOKEN = "hf_of_a_test"


def commit_of(name: str, number: int) -> str:
    """The name of a repository's commit, of which 0 is the first."""
    return hashlib.sha1(f"{name} {number}".encode()).hexdigest()


class Hub:
    """The repositories, and what was asked."""

    def __init__(self) -> None:
        self.repos: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        """Of each repository its commits, the newest last: (sha, files)."""
        self.gated: set[str] = set()
        self.fetched: list[str] = []
        """Files that were downloaded, in order."""
        self.blobs: dict[str, bytes] = {}
        self.address = ""

    def commit(self, name: str, changed: dict[str, bytes], deleted: list[str] | None = None) -> str:
        before = self.repos.setdefault(name, [])
        files = {**(before[-1][1] if before else {}), **changed}
        for path in deleted or ():
            files.pop(path)
        sha = commit_of(name, len(before))
        before.append((sha, files))
        return sha

    def at(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repos.get(name, [])
        if revision == "main":
            return commits[-1] if commits else None
        return next((one for one in commits if one[0] == revision), None)


@contextmanager
def local_hub() -> Iterator[Hub]:
    """A server on a free port of this machine, for as long as the context is open."""
    hub = Hub()
    handler = type("HandlerOf", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Silent."""

    def answer(self, value: object, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.answer({"error": code}, status, X_Error_Code=code, X_Error_Message=code)

    @property
    def parts(self) -> list[str]:
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    @property
    def logged_in(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.parts
        if parts[:2] == ["api", "whoami-v2"]:
            self.answer({"name": "me", "type": "user"}) if self.logged_in else self.refuse(
                401, "Unauthorized"
            )
        elif parts[:2] == ["api", "models"]:
            self.about("/".join(parts[2:4]), parts[4:])
        elif len(parts) > 4 and parts[2] == "resolve":
            self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self.refuse(404, "EntryNotFound")

    def about(self, name: str, rest: list[str]) -> None:
        if name not in self.hub.repos:
            self.refuse(401 if not self.logged_in else 404, "RepoNotFound")
            return
        found = self.hub.at(name, rest[1] if len(rest) > 1 else "main")
        if found is None:
            if self.hub.repos[name]:
                self.refuse(404, "RevisionNotFound")
                return
            found = ("0" * 40, {})
        sha, files = found
        if rest[:1] == ["tree"]:
            rows = [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in files.items()
            ]
            self.answer(rows)
            return
        names = [{"rfilename": path} for path in files]
        self.answer({"id": name, "sha": sha, "siblings": names, "private": False, "tags": [], "downloads": 0})

    def file(self, name: str, revision: str, path: str) -> None:
        if name in self.hub.gated:
            self.refuse(403 if self.logged_in else 401, "GatedRepo")
            return
        found = self.hub.at(name, revision)
        if found is None or path not in found[1]:
            self.refuse(404, "EntryNotFound")
            return
        sha, data = found[0], found[1][path]
        if self.command == "GET":
            self.hub.fetched.append(path)
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        self.answer(data, ETag=etag, X_Repo_Commit=sha, Accept_Ranges="bytes")

    def do_POST(self) -> None:
        parts, body = self.parts, self.body()
        if not self.logged_in:
            self.refuse(401, "Unauthorized")
        elif parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            there = name in self.hub.repos
            self.hub.repos.setdefault(name, [])
            self.answer({"url": f"{self.hub.address}/{name}", "id": name}, 409 if there else 200)
        elif parts[:2] == ["api", "models"] and parts[4] == "preupload":
            rows = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["size"] > LARGE else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            self.answer({"files": rows})
        elif parts[-3:] == ["lfs", "objects", "batch"]:
            rows = [
                {**one, "actions": {"upload": {"href": f"{self.hub.address}/upload/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": rows})
        elif parts[:2] == ["api", "models"] and parts[4] == "commit":
            self.take_commit("/".join(parts[2:4]), body)
        else:
            self.answer({})

    def take_commit(self, name: str, body: bytes) -> None:
        changed, deleted = {}, []
        for line in body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "file":
                changed[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                changed[value["path"]] = self.hub.blobs[value["oid"]]
            elif row["key"] == "deletedFile":
                deleted.append(value["path"])
        sha = self.hub.commit(name, changed, deleted)
        self.answer(
            {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.address}/{name}/commit/{sha}"}
        )

    def do_PUT(self) -> None:
        data = self.body()
        assert hashlib.sha256(data).hexdigest() == self.parts[-1]
        self.hub.blobs[self.parts[-1]] = data
        self.answer(b"")
