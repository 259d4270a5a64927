"""A server of files on 127.0.0.1, that answers ranges, counts what it sends, and misbehaves when asked to.

It also stands in for the Hugging Face hub: REPOSITORY there holds its files.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPOSITORY = "owner/repo"


class Server(ThreadingHTTPServer):
    """``sent`` counts the bytes of files. How it misbehaves:

    ranges: False where it sends the whole file whatever is asked. sized: False where it hides the size. breaks: so many
    answers to ranges break off midway. status: answers with this instead. tags: the ETag of each answer in turn, the
    last one from then on. silences: the seconds before each answer to a range, likewise.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.sent, self.asked = folder, 0, 0
        self.ranges, self.sized, self.breaks, self.status = True, True, 0, 0
        self.tags, self.silences = ["a"], [0.0]
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has seen enough hangs up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        server, asked_path = self.server, self.path.partition("?")[0].lstrip("/")
        server.asked += 1
        if asked_path.startswith("api/"):
            self._tell(asked_path.removeprefix("api/models/"))
            return
        path = server.folder / asked_path.removeprefix(f"{REPOSITORY}/resolve/main/")
        if server.status or not path.is_file():
            self.send_response(server.status or 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = path.stat().st_size
        start, stop = 0, size
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and server.ranges:
            start, stop = int(asked[1]), min(size, int(asked[2]) + 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("ETag", f'"{_next(server.tags)}"')
        if server.sized:
            self.send_header("Content-Length", str(stop - start))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if with_body:
            self._send(path, start, stop, bool(asked))

    def _tell(self, what: str) -> None:
        """What the hub tells of a repository, and of its tree."""
        answers = {
            REPOSITORY: {"id": REPOSITORY, "sha": 40 * "0", "siblings": []},
            f"{REPOSITORY}/tree/main": [
                {"type": "file", "oid": self.server.tags[0], "size": path.stat().st_size, "path": path.name}
                for path in sorted(self.server.folder.iterdir())
            ],
        }
        body = json.dumps(answers.get(what.removesuffix("/revision/main"), {})).encode()
        self.send_response(200 if what.removesuffix("/revision/main") in answers else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send(self, path: Path, start: int, stop: int, ranged: bool) -> None:
        server = self.server
        if ranged:
            time.sleep(_next(server.silences))
        if ranged and server.breaks:
            server.breaks -= 1
            stop = start + (stop - start) // 2
            self.close_connection = True
        with open(path, "rb") as file:
            file.seek(start)
            while start < stop:
                data = file.read(min(1 << 20, stop - start))
                server.sent += len(data)
                start += len(data)
                self.wfile.write(data)


def _next(turns: list):
    return turns.pop(0) if len(turns) > 1 else turns[0]


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    with Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
