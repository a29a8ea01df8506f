"""The report of a run that is still going on, on loopback: made again when the run has changed and somebody looks."""

import contextlib
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from raycnn.errors import RaycnnError
from raycnn.reporting.page import write_report
from raycnn.slots.loopback import is_loopback_host

AGE_S = 15.0  # a report is at least so old before it is made again, and a page asks so often
_RELOAD = """<script>
const asking = setInterval(async () => {
  try {
    const answer = await fetch("version");
    if (answer.ok && await answer.text() !== "VERSION") {
      clearInterval(asking);  // once: making the next report may take longer than the period
      location.reload();
    }
  } catch { /* the server is gone; the page stays */ }
}, PERIOD);
</script>"""


class ReportServer(ThreadingHTTPServer):
    """Serves `run`, which holds a search, at 127.0.0.1:port (0: any that is free); `port` says which."""

    daemon_threads = True

    def __init__(self, run: Path, port: int = 0) -> None:
        self._run, self._lock = run, threading.Lock()
        self._page, self._version, self._made = "", "", float("-inf")
        super().__init__(("127.0.0.1", port), _Handler)
        self.port: int = self.server_address[1]

    def version(self) -> str:
        """What stands for the state of the run."""
        files = ("study.journal", "robustness.parquet", "manifest.json", "finals/finalists.json")
        paths = (self._run / name for name in files)
        return "-".join(str(path.stat().st_mtime_ns) for path in paths if path.exists())

    def page(self) -> str:
        """The report, with a script that loads it again when there is a newer one. Raises RaycnnError."""
        from raycnn.search.table import write_trials

        with self._lock:
            version = self.version()
            if version != self._version and time.monotonic() - self._made > AGE_S:
                write_trials(self._run)
                report = write_report(self._run).read_text(encoding="utf-8")
                script = _RELOAD.replace("VERSION", version).replace("PERIOD", str(round(AGE_S * 1000)))
                report = report.replace("default-src 'none';", "default-src 'none'; connect-src 'self';", 1)
                self._page = report.replace("</body>", f"{script}</body>")
                self._version, self._made = version, time.monotonic()
            return self._page


class _Handler(BaseHTTPRequestHandler):
    timeout = 30  # with who has connected and asks for nothing
    server: ReportServer  # pyright: ignore[reportIncompatibleVariableOverride] the only one that makes handlers

    def do_GET(self) -> None:
        """The report, or its version; nothing under a name other than loopback's, by which a page from elsewhere could
        read it."""
        if not is_loopback_host(self.headers.get("Host", "")):
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", "ask for 127.0.0.1")
        elif self.path == "/version":
            self._answer(HTTPStatus.OK, "text/plain", self.server.version())
        elif self.path == "/":
            try:
                self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page())
            except RaycnnError as error:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", str(error))
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "there is / alone")

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who asked has gone
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal is the user's."""
