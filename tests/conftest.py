"""What tests of several parts need."""

import os
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

import pytest

from raycnn.data import download


@pytest.fixture(autouse=True)
def environment_as_before():
    """What a test changes in the environment of its process is not there in the next: a command sets variables."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(autouse=True)
def no_ray_is_left():
    """A test that starts one in this process, if only by asking Ray something, would spoil those that come after it.

    What a fixture of the whole session started was there before.
    """

    def started() -> bool:
        ray = sys.modules.get("ray")
        return ray is not None and ray.is_initialized()

    before = started()
    yield
    if started() and not before:
        sys.modules["ray"].shutdown()
        pytest.fail("it has left Ray started")


@pytest.fixture(scope="session")
def reference() -> Callable[[str], Path]:
    """reference(name): a file or folder of the real images and the authors' outputs, which lie in the folder that
    RAYCNN_TEST_DATA names. Skips the test where there is none."""

    def path_of(name: str) -> Path:
        root = os.environ.get("RAYCNN_TEST_DATA")
        if not root:
            pytest.skip("needs the reference data: set RAYCNN_TEST_DATA to its folder")
        path = Path(root) / name
        if not path.exists():
            pytest.skip(f"needs {path}, which is not there")
        return path

    return path_of


class Server:
    """Serves one file. `requests`: the Range of each request (None: the whole)."""

    def __init__(self):
        self.content = b""
        self.ranges = True
        self.status = 200
        self.cut: int | None = None  # bytes after which the connection breaks
        self.hold_at: int | None = None  # bytes after which nothing comes any more, until this is None
        self.pause_s = 0.0  # before an answer
        self.requests: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                server.requests.append(wanted)
                content, status = server.content, server.status
                if wanted and server.ranges:
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                    content, status = content[start:], 206 if start < len(content) else 416
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                time.sleep(server.pause_s)
                self.wfile.write(content[: server.cut if server.hold_at is None else server.hold_at])
                while server.hold_at is not None:
                    time.sleep(0.01)

            def log_message(self, format, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch):
    """A server on this machine that sends one file, however it is asked for."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "_CHUNK_BYTES", 1000)
    monkeypatch.setattr(download, "_PAUSE_S", 0)
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()
