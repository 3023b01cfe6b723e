"""A Weights & Biases server of the size of a test: the calls that wandb-core needs, answered from memory.

What it answers was tried against wandb 0.31. It keeps what a dashboard would show, so that a test can look at it.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote

API_KEY = "0123456789abcdef" * 2 + "01234567"  # 40 characters, of no account


@dataclass
class Run:
    """One run as the dashboard knows it."""

    id: str
    group: str | None = None
    sweep: str | None = None
    job_type: str | None = None
    display_name: str | None = None
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)  # streamed file → line number → line
    files: dict[str, bytes] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)
    commit: str | None = None
    was_preempted: bool = False

    @property
    def history(self) -> list[dict[str, Any]]:
        lines = self.lines.get("wandb-history.jsonl", {})
        return [json.loads(lines[number]) for number in sorted(lines)]

    @property
    def values(self) -> dict[str, Any]:
        """The config as it was given."""
        return {name: entry["value"] for name, entry in self.config.items()}

    @property
    def summary(self) -> dict[str, Any]:
        lines = self.lines.get("wandb-summary.json", {})
        return json.loads(lines[max(lines)]) if lines else {}

    def steps(self, stage: str) -> list[int]:
        """The step axis of one stage, in the order in which it arrived."""
        return [row[f"{stage}/step"] for row in self.history if f"{stage}/loss" in row]


@dataclass
class Artifact:
    """One version of a named thing, which runs make and use. The same content is the same version."""

    id: str
    name: str
    type: str
    digest: str
    metadata: dict[str, Any]
    state: str = "PENDING"
    files: dict[str, bytes] = field(default_factory=dict)
    made_by: set[str] = field(default_factory=set)
    used_by: set[str] = field(default_factory=set)


ARTIFACTS = {
    "createArtifact": "create_artifact",
    "createArtifactManifest": "manifest",
    "updateArtifactManifest": "manifest",
    "createArtifactFiles": "artifact_files",
    "commitArtifact": "commit_artifact",
    "useArtifact": "use_artifact",
}
"""Mutation → method that answers it."""


@dataclass
class View:
    """A report (`type` "runs") or a saved workspace ("project-view")."""

    id: str
    name: str
    type: str
    display_name: str
    project: str
    spec: dict[str, Any]


class Refused(Exception):
    """What the server answers with an error in GraphQL."""


class WandbServer(ThreadingHTTPServer):
    """`with WandbServer() as server:` serves at `server.url` until the block ends."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, Run] = {}
        self.views: dict[str, View] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.projects: set[str] = set()  # those that runs have made
        self.broken = ""  # "ask", "write", "write project-view": such calls about views are answered with an error
        self.refuse = False  # answer every call with 401, as for a key that is not known
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "WandbServer":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *args: object) -> None:
        """A client that was killed is no event here."""

    @property
    def only_run(self) -> Run:
        (run,) = self.runs.values()
        return run


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer
    PROJECT: ClassVar = {"id": "project", "name": "hldm", "entity": {"id": "entity", "name": "nobody"}}

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self) -> None:
        body = self.body()
        if self.server.refuse:
            self.answer({"errors": [{"message": "invalid API key"}]}, 401)
        elif self.path == "/graphql":
            query = json.loads(body)
            try:
                self.answer({"data": self.graphql(query["query"], query.get("variables") or {})})
            except Refused as refused:
                self.answer({"data": None, "errors": [{"message": str(refused)}]})
        elif not self.path.endswith("/file_stream"):
            self.answer({})
        else:  # /files/<entity>/<project>/<run>/file_stream
            run = self.server.runs[unquote(self.path.split("/")[4])]
            self.stream(run, json.loads(body))
            self.answer({})

    def do_PUT(self) -> None:
        _, kind, owner, name = self.path.split("/", 3)
        owners: Mapping[str, Run | Artifact] = self.server.artifacts if kind == "artifact" else self.server.runs
        owners[owner].files[unquote(name)] = self.body()
        self.answer({})

    def do_GET(self) -> None:
        self.answer({})

    def stream(self, run: Run, update: dict[str, Any]) -> None:
        for name, chunk in (update.get("files") or {}).items():
            lines = run.lines.setdefault(name, {})
            for i, line in enumerate(chunk["content"]):
                lines[chunk["offset"] + i] = line
        run.was_preempted |= update.get("preempting", False)
        if update.get("complete"):
            run.exit_codes.append(update["exitcode"])

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertBucket" in query:
            return self.upsert(variables)
        if "RunResumeStatus" in query:
            return {"model": self.PROJECT | {"bucket": self.resume_status(variables["name"])}}
        if "createRunFiles" in query:
            files = [
                {"name": name, "uploadUrl": f"{self.server.url}/upload/{variables['run']}/{name}"}
                for name in variables["files"]
            ]
            return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}
        if "upsertView(" in query:
            return {"upsertView": {"view": self.upsert_view(variables), "inserted": "id" not in variables}}
        if "query ViewIsThere" in query:
            self.refuse_broken("ask")
            return {"view": {"id": variables["id"]} if variables["id"] in self.server.views else None}
        if "query ArtifactType" in query:
            return {"project": {"artifact": None}}
        if "query ArtifactByID" in query:
            return {"artifact": self.artifact(self.server.artifacts[variables["id"]])}
        if name := next((name for name in ARTIFACTS if f"{name}(" in query), None):
            return {name: getattr(self, ARTIFACTS[name])(variables.get("input") or variables)}
        if "ProjectInternalId" in query:
            known = variables["projectName"] in self.server.projects
            return {"project": {"id": "project", "internalId": "UHJvamVjdA=="} if known else None}
        if "GetProjects" in query:
            facts = {"entityName": "nobody", "createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False, "user": None}
            nodes = [self.PROJECT | facts | {"name": name} for name in sorted(self.server.projects)]
            edges = [{"node": node, "cursor": node["name"]} for node in nodes]
            return {"models": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}
        if "viewer" in query:
            viewer = {"id": "viewer", "entity": "nobody", "username": "nobody", "email": "", "flags": "{}"}
            return {"viewer": viewer | {"teams": {"edges": []}}, "serverInfo": {"features": []}}
        if "serverInfo" in query:
            return {"serverInfo": {"features": []}}
        return {}

    def upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables.get("name") or variables["id"].removeprefix("bucket-")
        inserted = name not in self.server.runs
        self.server.projects.add(variables.get("project") or self.PROJECT["name"])
        run = self.server.runs.setdefault(name, Run(name))
        run.group = variables.get("groupName") or run.group
        run.sweep = variables.get("sweep") or run.sweep
        run.job_type = variables.get("jobType") or run.job_type
        run.display_name = variables.get("displayName") or run.display_name
        run.tags = variables.get("tags") or run.tags
        run.commit = variables.get("commit") or run.commit
        run.config |= json.loads(variables.get("config") or "{}")
        return {"upsertBucket": {"bucket": self.bucket(run), "inserted": inserted}}

    def create_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        known = self.server.artifacts
        same = [
            one
            for one in known.values()
            if (one.name, one.digest) == (given["artifactCollectionName"], given["digest"])
        ]
        artifact = (
            same[0]
            if same
            else Artifact(
                f"artifact-{len(known)}",
                given["artifactCollectionName"],
                given["artifactTypeName"],
                given["digest"],
                json.loads(given.get("metadata") or "{}"),
            )
        )
        known[artifact.id] = artifact
        artifact.made_by |= {given["runName"]} - {None}
        return {"artifact": {"id": artifact.id, "state": artifact.state, "artifactSequence": {"latestArtifact": None}}}

    def artifact(self, one: Artifact) -> dict[str, Any]:
        """As wandb looks at one that it has just made."""
        project = self.PROJECT | {"internalId": "UHJvamVjdA=="}
        sequence = {"__typename": "ArtifactSequence", "name": one.name, "project": project}
        counted = {"versionIndex": 0, "fileCount": len(one.files), "size": 1, "ttlDurationSeconds": -1}
        unknown = dict.fromkeys(("description", "historyStep", "commitHash", "updatedAt"))
        return (
            counted
            | unknown
            | {
                "__typename": "Artifact",
                "id": one.id,
                "artifactSequence": sequence,
                "artifactType": {"name": one.type},
                "metadata": json.dumps(one.metadata),
                "ttlIsInherited": True,
                "tags": [],
                "state": one.state,
                "digest": one.digest,
                "createdAt": "2026-01-01T00:00:00Z",
                "aliases": [],
            }
        )

    def manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        artifact = given.get("artifactID") or given["artifactManifestID"].removeprefix("manifest-")
        return {"artifactManifest": {"id": f"manifest-{artifact}", "file": self.upload(artifact, given["name"])}}

    def artifact_files(self, given: dict[str, Any]) -> dict[str, Any]:
        nodes = [self.upload(one["artifactID"], one["name"]) for one in given["artifactFiles"]]
        return {"files": {"edges": [{"node": node} for node in nodes]}}

    def upload(self, artifact: str, name: str) -> dict[str, Any]:
        url = f"{self.server.url}/artifact/{artifact}/{name}"
        parts = {"id": f"file-{name}", "name": name, "displayName": name, "uploadUrl": url, "uploadHeaders": []}
        return parts | {"uploadMultipartUrls": None, "storagePath": name, "artifact": {"id": artifact}}

    def commit_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        artifact = self.server.artifacts[given["artifactID"]]
        artifact.state = "COMMITTED"
        return {"artifact": {"id": artifact.id, "digest": artifact.digest}}

    def use_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        artifact = self.server.artifacts[given["artifactID"]]
        artifact.used_by.add(given["runName"])
        return {"artifact": {"id": artifact.id, "digest": artifact.digest, "state": artifact.state}}

    def refuse_broken(self, what: str) -> None:
        """Answer no call of this kind, as where a proxy or the server itself has trouble."""
        if self.server.broken == what:
            raise Refused("internal server error")

    def upsert_view(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.refuse_broken("write")
        self.refuse_broken(f"write {variables['type']}")
        known = variables.get("id")
        if known and known not in self.server.views:
            raise Refused(f"could not find view {known}")
        view = View(
            known or f"view-{len(self.server.views)}",
            variables["name"],
            variables["type"],
            variables["displayName"],
            f"{variables['entityName']}/{variables['projectName']}",
            json.loads(variables["spec"]),
        )
        self.server.views[view.id] = view
        project = {"id": "project", "name": variables["projectName"], "entityName": variables["entityName"]}
        return {
            "id": view.id,
            "type": view.type,
            "name": view.name,
            "displayName": view.display_name,
            "description": variables["description"],
            "project": project,
            "spec": variables["spec"],
            "updatedAt": "2026-01-01T00:00:00Z",
        }

    def bucket(self, run: Run) -> dict[str, Any]:
        return {
            "id": f"bucket-{run.id}",
            "name": run.id,
            "displayName": run.display_name or run.id,
            "description": None,
            "sweepName": None,
            "project": self.PROJECT,
            "config": json.dumps(run.config),
            "historyLineCount": len(run.lines.get("wandb-history.jsonl", {})),
        }

    def resume_status(self, name: str) -> dict[str, Any] | None:
        run = self.server.runs.get(name)
        if run is None:
            return None
        events = run.lines.get("wandb-events.jsonl", {})
        return self.bucket(run) | {
            "summaryMetrics": json.dumps(run.summary),
            "logLineCount": len(run.lines.get("output.log", {})),
            "eventsLineCount": len(events),
            "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
            "eventsTail": json.dumps([events[line] for line in sorted(events)[-1:]]),
            "tags": run.tags,
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }
