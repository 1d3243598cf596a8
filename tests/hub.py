"""The Hugging Face Hub on this machine: enough of its HTTP interface for the real client.

    with Hub(accounts={"hf_ada": Account("ada")}) as hub:
        hub.serve(monkeypatch, tmp_path, token="hf_ada")   # this process; another one: hub.environment()
        HfApi().create_repo("ada/model")

Model, dataset and Space repositories with their commits, large files (LFS, in one part or several),
the variables and secrets of Spaces, and faults to order: hub.fail("POST .*/commit/", 500, times=2).
Kept in memory. Xet is switched off in the client; large files are redirected to another host name, as
the Hub does with its storage.
"""

import base64
import hashlib
import json
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml
from huggingface_hub.utils import close_session
from huggingface_hub.utils.sha import git_hash

CUT = "cut"  # the connection breaks in the middle of the request
LOST = "lost"  # the work is done, but the connection breaks before the answer
LARGE = (".safetensors", ".parquet", ".arrow", ".png", ".jpg", ".tif", ".npy", ".zip", ".bin", ".pt")
LARGE_BYTES = 10_000_000  # any file from here on is a large one
TIME = "2026-01-01T00:00:00.000Z"
CARD = "README.md"
SDKS = ("gradio", "streamlit", "docker", "static")


@dataclass(frozen=True)
class Account:
    """Who a token belongs to. role: of the token, "write" or "read". orgs: that may be written to."""

    name: str
    role: str = "write"
    orgs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Commit:
    """oid: 40 hex digits. files: the whole tree, content by path. large: the paths kept as LFS."""

    oid: str
    message: str
    files: Mapping[str, bytes]
    large: frozenset[str]


@dataclass
class Repository:
    """kind: "model", "dataset" or "space". commits: oldest first; there is one branch, main.

    sdk, variables and secrets: of a Space.
    """

    kind: str
    id: str
    private: bool
    sdk: str = ""
    commits: list[Commit] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> Mapping[str, bytes]:
        """What main holds now."""
        return self.commits[-1].files

    @property
    def prefix(self) -> str:
        return "" if self.kind == "model" else f"{self.kind}s/"


@dataclass
class Fault:
    """pattern: searched in "PUT /path". answer: an HTTP status, CUT or LOST. left: how often still.

    retry_after_s: what the answer's Retry-After says, "" for nothing.
    """

    pattern: str
    answer: int | str
    left: int
    retry_after_s: str = ""


class Answer(NamedTuple):
    """What goes back: JSON where the content is no bytes."""

    content: Any = b""
    status: int = 200
    headers: Mapping[str, str] = {}


class Refusal(Exception):
    """An answer that is an error. code: the Hub's X-Error-Code."""

    def __init__(self, status: int, message: str, code: str = "", **more: Any):
        super().__init__(message)
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer = Answer({"error": message, **more}, status, headers)


class Request(NamedTuple):
    """query: the first value of each name. account: None where nobody is signed in."""

    query: Mapping[str, str]
    body: bytes
    headers: Mapping[str, str]
    account: Account | None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Hub:
    """A Hub with its own address while the `with` block lasts.

    repositories: by (kind, id). requests: "PUT /path" of every request so far. part_bytes: larger
    files are asked for in parts of this size.
    """

    def __init__(self, accounts: Mapping[str, Account], part_bytes: int = 5_000_000):
        self.accounts, self.part_bytes = accounts, part_bytes
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}  # large files by sha256
        self.parts: dict[tuple[str, int], bytes] = {}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    # What a test does with it

    def __enter__(self) -> "Hub":
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def storage(self) -> str:
        """The same server under another name, so that the client takes it for another host."""
        return f"http://localhost:{self._server.server_port}"

    def environment(self, home: Path, token: str = "") -> dict[str, str]:
        """The variables that make a new process use this Hub, with its own cache in `home`."""
        return {
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_TOKEN": token,
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def serve(self, monkeypatch: Any, home: Path, token: str = "") -> None:
        """Make huggingface_hub in this process use this Hub, with its own cache in `home`.

        Its settings were read from the environment when it was imported, hence the constants.
        """
        constants = {
            "ENDPOINT": self.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        }
        for name, value in constants.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        bars = sys.modules["huggingface_hub.utils.tqdm"]  # by name: the package hides it behind a class
        monkeypatch.setattr(bars, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setenv("HF_TOKEN", token)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        close_session()  # the client's connections, which may be to an earlier Hub

    def fail(self, pattern: str, answer: int | str, times: int = 1, retry_after_s: str = "") -> None:
        """The next requests like "POST /api/models/.*/commit/" end in a status, CUT or LOST."""
        with self._lock:
            self.faults.append(Fault(pattern, answer, times, retry_after_s))

    def repository(self, id: str, kind: str = "model") -> Repository:
        return self.repositories[kind, id]

    def count(self, pattern: str) -> int:
        """How many requests so far were like "POST .*/commit/"."""
        return sum(bool(re.search(pattern, request)) for request in self.requests)

    # What a request meets

    def fault(self, line: str) -> Fault | None:
        with self._lock:
            self.requests.append(line)
            for fault in self.faults:
                if fault.left and re.search(fault.pattern, line):
                    fault.left -= 1
                    return fault
        return None

    def answer(self, method: str, path: str, request: Request) -> Answer:
        for wanted, pattern, work in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method in wanted:
                with self._lock:
                    return work(self, request, **{k: unquote(v or "") for k, v in match.groupdict().items()})
        raise Refusal(404, f"no such address: {method} {path}")

    def find(self, request: Request, kind: str, id: str, write: bool = False) -> Repository:
        kind, account = kind.removesuffix("s") or "model", request.account
        owner = id.partition("/")[0]
        mine = account is not None and owner in (account.name, *account.orgs)
        found = self.repositories.get((kind, id))
        if found is None or (found.private and not mine):
            raise Refusal(404 if account else 401, "Repository not found", "RepoNotFound")
        if write and not (mine and account.role == "write"):
            raise Refusal(403, "You don't have the rights to write to this repository")
        return found

    def commit_of(self, repository: Repository, revision: str) -> Commit:
        for commit in reversed(repository.commits):
            if revision in ("", "main", "refs/heads/main", commit.oid):
                return commit
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    # The interface, one method an address

    def whoami(self, request: Request) -> Answer:
        account = request.account
        if account is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        token = {"type": "access_token", "accessToken": {"displayName": "test", "role": account.role}}
        orgs = [{"type": "org", "name": org, "roleInOrg": "write"} for org in account.orgs]
        return Answer({"type": "user", "name": account.name, "orgs": orgs, "auth": token})

    def create(self, request: Request) -> Answer:
        asked, account = request.json, request.account
        if account is None:
            raise Refusal(401, "Invalid username or password.")
        owner = asked.get("organization") or account.name
        if owner not in (account.name, *account.orgs) or account.role != "write":
            raise Refusal(403, f"You don't have the rights to create a repository under {owner}")
        kind, sdk = asked.get("type") or "model", asked.get("sdk", "")
        if (kind == "space") != (sdk in SDKS):
            raise Refusal(400, f"Invalid sdk of a {kind}: {sdk!r}")
        private = asked.get("visibility") == "private"
        repository = Repository(kind, f"{owner}/{asked['name']}", private, sdk)
        url = f"{self.address}/{repository.prefix}{repository.id}"
        if (kind, repository.id) in self.repositories:
            raise Refusal(409, f"You already created this {kind} repo", url=url)
        self.repositories[kind, repository.id] = repository
        files = {".gitattributes": b""}
        if kind == "space":
            files[CARD] = f"---\ntitle: {asked['name']}\nsdk: {sdk}\n---\n".encode()
        self.add_commit(repository, "initial commit", files, frozenset())
        return Answer({"url": url, "name": repository.id, "id": repository.id})

    def validate(self, request: Request) -> Answer:
        content = request.json["content"]
        bare = not content.startswith("---\n")
        try:
            yaml.safe_load("" if bare else content.split("---\n")[1])
        except yaml.YAMLError as error:
            errors = [{"message": str(error)}]
            raise Refusal(400, "Invalid metadata in README.md", errors=errors, warnings=[]) from error
        warnings = [{"message": "empty or missing yaml metadata in repo card"}] if bare else []
        return Answer({"errors": [], "warnings": warnings})

    def preupload(self, request: Request, kind: str, id: str, revision: str) -> Answer:
        commit = self.commit_of(self.find(request, kind, id, write=True), revision)
        files = []
        for file in request.json["files"]:
            path = file["path"]
            large = path.lower().endswith(LARGE) or file["size"] >= LARGE_BYTES
            known = {"oid": _oid(commit, path)} if path in commit.files else {}
            mode = "lfs" if large else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **known})
        return Answer({"files": files, "commitOid": commit.oid})

    def batch(self, request: Request, kind: str, id: str) -> Answer:
        self.find(request, kind, id, write=True)
        objects = [self._instructions(each["oid"], each["size"]) for each in request.json["objects"]]
        return Answer({"transfer": "basic", "objects": objects})

    def _instructions(self, oid: str, size: int) -> dict[str, Any]:
        """How to upload one large file; without actions where it is here already."""
        if oid in self.objects:
            return {"oid": oid, "size": size}
        upload = {"href": f"{self.storage}/lfs/{oid}"}
        if size > self.part_bytes:
            numbers = range(1, -(-size // self.part_bytes) + 1)
            parts = {str(number): f"{self.storage}/lfs/{oid}/{number}" for number in numbers}
            upload["header"] = {"chunk_size": str(self.part_bytes), **parts}
        verify = {"href": f"{self.address}/lfs/{oid}/verify"}
        return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}}

    def store(self, request: Request, oid: str) -> Answer:
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise Refusal(400, "the content does not fit its sha256")
        self.objects[oid] = request.body
        return Answer()

    def store_part(self, request: Request, oid: str, number: str) -> Answer:
        self.parts[oid, int(number)] = request.body
        return Answer(headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})

    def join_parts(self, request: Request, oid: str) -> Answer:
        numbers = [part["partNumber"] for part in request.json["parts"]]
        content = b"".join(self.parts.pop((oid, number)) for number in numbers)
        return self.store(request._replace(body=content), oid)

    def verify(self, request: Request, oid: str) -> Answer:
        if len(self.objects.get(oid, b"")) != request.json["size"]:
            raise Refusal(404, "the object is not here")
        return Answer({})

    def commit(self, request: Request, kind: str, id: str, revision: str) -> Answer:
        repository = self.find(request, kind, id, write=True)
        head = self.commit_of(repository, revision)
        files, large, message = dict(head.files), set(head.large), ""
        for line in request.body.splitlines():
            key, value = (item := json.loads(line))["key"], item["value"]
            if key == "header":
                message = value["summary"]
                if value.get("parentCommit", head.oid) != head.oid:
                    raise Refusal(412, "A commit has happened since. Please refresh and try again.")
                continue
            path = value["path"]
            large.discard(path)
            if key == "file":
                files[path] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.objects:
                    raise Refusal(400, f"{path} was not uploaded")
                files[path] = self.objects[value["oid"]]
                large.add(path)
            elif key == "deletedFile":
                del files[path]
            elif key == "deletedFolder":
                files = {name: data for name, data in files.items() if not name.startswith(path)}
        new = self.add_commit(repository, message, files, frozenset(large))
        url = f"{self.address}/{repository.prefix}{repository.id}/commit/{new.oid}"
        return Answer({"success": True, "commitOid": new.oid, "commitUrl": url, "hookOutput": ""})

    def add_commit(self, repository: Repository, message: str, files: Mapping[str, bytes], large) -> Commit:
        told = f"{repository.id} {len(repository.commits)} {message} {sorted(files)}".encode()
        commit = Commit(hashlib.sha1(told).hexdigest(), message, files, large)
        repository.commits.append(commit)
        return commit

    def info(self, request: Request, kind: str, id: str, revision: str = "") -> Answer:
        repository = self.find(request, kind, id)
        commit = self.commit_of(repository, revision)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        if request.query.get("blobs"):
            siblings = [{"rfilename": e["path"], "blobId": e["oid"], **e} for e in _tree(commit)]
        return Answer(
            {
                "_id": "0" * 24,
                "id": repository.id,
                "author": repository.id.partition("/")[0],
                "sha": commit.oid,
                "private": repository.private,
                "gated": False,
                "disabled": False,
                "lastModified": TIME,
                "createdAt": TIME,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": siblings,
                **({"sdk": repository.sdk} if repository.sdk else {}),
            }
        )

    def tree(self, request: Request, kind: str, id: str, revision: str, folder: str = "") -> Answer:
        commit = self.commit_of(self.find(request, kind, id), revision)
        start = folder.strip("/") + "/" if folder.strip("/") else ""
        below = [e for e in _folders(commit) + _tree(commit) if e["path"].startswith(start)]
        if start and not below:
            raise Refusal(404, f"{folder} does not exist on {revision}", "EntryNotFound")
        if request.query.get("recursive", "").lower() != "true":
            below = [e for e in below if "/" not in e["path"].removeprefix(start)]
        return Answer(below)

    def paths(self, request: Request, kind: str, id: str, revision: str) -> Answer:
        commit = self.commit_of(self.find(request, kind, id), revision)
        if request.headers.get("Content-Type", "").startswith("application/json"):
            wanted = request.json["paths"]
        else:
            wanted = parse_qs(request.body.decode())["paths"]
        entries = _folders(commit) + _tree(commit)
        return Answer([entry for entry in entries if entry["path"] in {path.strip("/") for path in wanted}])

    def refs(self, request: Request, kind: str, id: str) -> Answer:
        head = self.find(request, kind, id).commits[-1].oid
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": head}
        return Answer({"branches": [main], "converts": [], "tags": []})

    def history(self, request: Request, kind: str, id: str, revision: str) -> Answer:
        commits = self.find(request, kind, id).commits
        return Answer(
            [
                {"id": commit.oid, "authors": [], "date": TIME, "title": commit.message, "message": ""}
                for commit in reversed(commits)
            ]
        )

    def variables(self, request: Request, id: str) -> Answer:
        space = self.find(request, "space", id, write=True)
        return Answer({key: {"value": value, "updatedAt": TIME} for key, value in space.variables.items()})

    def secrets(self, request: Request, id: str) -> Answer:
        """Their names; nobody can read what they hold."""
        space = self.find(request, "space", id, write=True)
        return Answer({key: {"description": None, "updatedAt": TIME} for key in space.secrets})

    def set_variable(self, request: Request, id: str) -> Answer:
        space = self.find(request, "space", id, write=True)
        if request.json["key"] in space.secrets:
            raise Refusal(400, f"Collision on variables and secrets names: {request.json['key']}")
        space.variables[request.json["key"]] = request.json["value"]
        return self.variables(request, id)

    def set_secret(self, request: Request, id: str) -> Answer:
        space = self.find(request, "space", id, write=True)
        space.secrets[request.json["key"]] = request.json["value"]
        return Answer()

    def delete_variable(self, request: Request, id: str) -> Answer:
        space = self.find(request, "space", id, write=True)
        if space.variables.pop(request.json["key"], None) is None:
            raise Refusal(404, "Variable not found", "EntryNotFound")
        return self.variables(request, id)

    def resolve(self, request: Request, kind: str, id: str, revision: str, path: str) -> Answer:
        commit = self.commit_of(self.find(request, kind, id), revision)
        headers = {"X-Repo-Commit": commit.oid}
        if path not in commit.files:
            refusal = Refusal(404, "Entry not found", "EntryNotFound").answer
            return refusal._replace(headers={**refusal.headers, **headers})
        content, oid = commit.files[path], _oid(commit, path)
        if path not in commit.large:
            return _ranged(content, request, {**headers, "ETag": f'"{oid}"'})
        linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        place = {"Location": f"{self.storage}/storage/{oid}", "ETag": f'"{oid}"'}
        return Answer(b"", 302, {**headers, **linked, **place})

    def stored(self, request: Request, oid: str) -> Answer:
        return _ranged(self.objects[oid], request, {"ETag": f'"{oid}"'})


KIND, ID, REVISION = r"(?P<kind>models|datasets|spaces)", r"(?P<id>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", "/api/whoami-v2", Hub.whoami),
    ("POST", "/api/repos/create", Hub.create),
    ("POST", "/api/validate-yaml", Hub.validate),
    ("POST", f"/api/{KIND}/{ID}/preupload/{REVISION}", Hub.preupload),
    ("POST", f"/api/{KIND}/{ID}/commit/{REVISION}", Hub.commit),
    ("POST", f"/api/{KIND}/{ID}/paths-info/{REVISION}", Hub.paths),
    ("GET", f"/api/{KIND}/{ID}/tree/{REVISION}(?P<folder>/.*)?", Hub.tree),
    ("GET", f"/api/{KIND}/{ID}/revision/{REVISION}", Hub.info),
    ("GET", f"/api/{KIND}/{ID}/commits/{REVISION}", Hub.history),
    ("GET", f"/api/{KIND}/{ID}/refs", Hub.refs),
    ("GET", f"/api/{KIND}/{ID}", Hub.info),
    ("GET", f"/api/spaces/{ID}/variables", Hub.variables),
    ("POST", f"/api/spaces/{ID}/variables", Hub.set_variable),
    ("DELETE", f"/api/spaces/{ID}/variables", Hub.delete_variable),
    ("GET", f"/api/spaces/{ID}/secrets", Hub.secrets),
    ("POST", f"/api/spaces/{ID}/secrets", Hub.set_secret),
    ("POST", rf"(?:/(?P<kind>datasets|spaces))?/{ID}\.git/info/lfs/objects/batch", Hub.batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", Hub.store),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})/(?P<number>[0-9]+)", Hub.store_part),
    ("POST", "/lfs/(?P<oid>[0-9a-f]{64})", Hub.join_parts),
    ("POST", "/lfs/(?P<oid>[0-9a-f]{64})/verify", Hub.verify),
    ("GET HEAD", "/storage/(?P<oid>[0-9a-f]{64})", Hub.stored),
    ("GET HEAD", f"(?:/(?P<kind>datasets|spaces))?/{ID}/resolve/{REVISION}/(?P<path>.+)", Hub.resolve),
]


def _oid(commit: Commit, path: str) -> str:
    """git's sha1 of a regular file, the sha256 of a large one."""
    content = commit.files[path]
    return hashlib.sha256(content).hexdigest() if path in commit.large else git_hash(content)


def _tree(commit: Commit) -> list[dict[str, Any]]:
    """The files, as the Hub lists them."""
    entries = []
    for path, content in sorted(commit.files.items()):
        entry = {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
        if path in commit.large:
            lfs = {"oid": _oid(commit, path), "size": len(content), "pointerSize": 130}
            entry["lfs"] = {**lfs, "sha256": lfs["oid"]}
        entries.append(entry)
    return entries


def _folders(commit: Commit) -> list[dict[str, Any]]:
    paths = {str(parent) for path in commit.files for parent in Path(path).parents} - {"."}
    return [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in sorted(paths)]


def _ranged(content: bytes, request: Request, headers: Mapping[str, str]) -> Answer:
    """The content, or the part of it that the request's Range header asks for."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if not match:
        return Answer(content, 200, headers)
    first, last = int(match[1]), int(match[2] or len(content) - 1)
    told = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
    return Answer(content[first : last + 1], 206, {**headers, **told})


class _Handler(BaseHTTPRequestHandler):
    """HTTP in, Hub.answer, HTTP out."""

    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer is sent in two parts, and the second must not wait

    def _respond(self) -> None:
        url = urlsplit(self.path)
        fault = self.hub.fault(f"{self.command} {url.path}")
        ordered = fault.answer if fault else None
        if ordered == CUT:
            self._read_body(part=0.5)
            self._break()
            return
        body = self._read_body()
        try:
            if isinstance(ordered, int):
                raise Refusal(ordered, f"the test asked for a {ordered}")
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            request = Request(query, body, self.headers, self._account())
            answer = self.hub.answer(self.command, url.path, request)
        except Refusal as refusal:
            answer = refusal.answer
            if fault and fault.retry_after_s:
                answer = answer._replace(headers={**answer.headers, "Retry-After": fault.retry_after_s})
        if ordered == LOST:
            self._break()
        else:
            self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _respond

    def _account(self) -> Account | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.accounts:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.hub.accounts.get(token)

    def _read_body(self, part: float = 1.0) -> bytes:
        """The request's content. part: the share of it to read."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(part * int(self.headers.get("Content-Length", 0))))
        content = b""
        while part and (size := int(self.rfile.readline(), 16)):
            content += self.rfile.read(size)
            self.rfile.readline()
            if part < 1:
                return content
        self.rfile.readline()
        return content

    def _break(self) -> None:
        """Reset the connection, as when a cable is pulled."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _send(self, answer: Answer) -> None:
        plain = isinstance(answer.content, bytes)
        content = answer.content if plain else json.dumps(answer.content).encode()
        kind = "application/octet-stream" if plain else "application/json"
        self.send_response(answer.status)
        for name, value in {"Content-Type": kind, **answer.headers}.items():
            self.send_header(name, quote(value, safe="\"' /:;,=.-_()@?&%!"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass
