"""HTTP proxy that injects faults into answers of the server behind it, for tests and for benchmarks/chaos.py.

    plan = Script([Fault.error_503] * 3, matching=".mds")     # the next three answers about shards
    with FaultyProxy("127.0.0.1", 5000, plan) as proxy:
        os.environ["S3_ENDPOINT_URL"] = proxy.url
        ...
        assert proxy.injected[Fault.error_503] == 3

A plan chooses the fault of each request: `Script` takes a list, `RandomPlan` draws from a seed.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol


class Fault(Enum):
    """A fault of an answer. Faults of a body do not apply to answers without one."""

    error_500 = "500 Internal Server Error"
    error_503 = "503 Slow Down"
    hang_up = "connection closed in the middle of the body"
    no_answer = "connection closed without an answer"
    stall = "nothing for a long while, then closed"
    stall_in_body = "half of the body, nothing for a long while, then closed"
    slow = "body in small pieces with pauses"
    flip = "one bit of the body flipped"
    truncate = "second half of the body missing, the length adjusted"


IN_BODY = frozenset({Fault.hang_up, Fault.stall_in_body, Fault.slow, Fault.flip, Fault.truncate})


class Plan(Protocol):
    """Chooses the fault of each request, or None; called once per request, one at a time."""

    def choose(self, method: str, path: str) -> Fault | None: ...


@dataclass
class Script:
    """The faults of a list, one a request whose path contains `matching`; then none."""

    faults: Sequence[Fault]
    matching: str = ""
    used: int = 0

    def choose(self, method: str, path: str) -> Fault | None:
        if self.used == len(self.faults) or self.matching not in path:
            return None
        fault = self.faults[self.used]
        if fault in IN_BODY and method != "GET":
            return None
        self.used += 1
        return fault


@dataclass
class Always:
    """One fault for every request whose path contains `matching`, while `on`."""

    fault: Fault
    matching: str = ""
    on: bool = True

    def choose(self, method: str, path: str) -> Fault | None:
        spoils = self.on and self.matching in path and (method == "GET" or self.fault not in IN_BODY)
        return self.fault if spoils else None


@dataclass
class RandomPlan:
    """A fault for each matching request with probability `rate`, drawn from `seed` in the order of requests."""

    seed: int
    rate: float
    faults: Sequence[Fault] = tuple(Fault)
    matching: str = ""
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def choose(self, method: str, path: str) -> Fault | None:
        if self.matching not in path:
            return None
        fault = self._random.choice(list(self.faults)) if self._random.random() < self.rate else None
        return None if fault in IN_BODY and method != "GET" else fault


class FaultyProxy:
    """Forwards HTTP requests to `host:port` with the faults of its plan, while its `with` block lasts."""

    def __init__(
        self, host: str, port: int, plan: Plan, *, stall_seconds: float = 5.0, slow_seconds: float = 1.0
    ) -> None:
        self.upstream = (host, port)
        self.plan = plan
        self.stall_seconds = stall_seconds
        """Seconds for which a stalled connection stays open; longer than the client's timeout."""
        self.slow_seconds = slow_seconds
        """Total seconds of a slow body."""
        self.injected: Counter[Fault] = Counter()
        self.requests = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FaultyProxy:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def choose(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.requests += 1
            return self.plan.choose(method, path)

    def note(self, fault: Fault) -> None:
        with self._lock:
            self.injected[fault] += 1

    def wait(self, seconds: float) -> None:
        self._closing.wait(seconds)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Do not report clients that were killed."""


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.choose(self.command, self.path)
            try:
                if fault is not None and fault not in IN_BODY:
                    proxy.note(fault)
                    self.fail(fault)
                else:
                    self.answer(body, fault)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def fail(self, fault: Fault) -> None:
            if fault in (Fault.no_answer, Fault.stall):
                if fault is Fault.stall:
                    proxy.wait(proxy.stall_seconds)
                self.close_connection = True
                return
            status, code = (500, "InternalError") if fault is Fault.error_500 else (503, "SlowDown")
            text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        def answer(self, body: bytes, fault: Fault | None) -> None:
            upstream = http.client.HTTPConnection(*proxy.upstream, timeout=60)
            try:
                headers = {key: value for key, value in self.headers.items() if key.lower() != "connection"}
                upstream.request(self.command, self.path, body, headers)
                found = upstream.getresponse()
                content = found.read()
            finally:
                upstream.close()
            if not content or found.status >= 300:
                fault = None
            if fault is not None:
                proxy.note(fault)
            if fault is Fault.truncate:
                content = content[: len(content) // 2]
            elif fault is Fault.flip:
                place = len(content) // 2
                content = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            self.send_response(found.status)
            for key, value in found.getheaders():
                if key.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(key, value)
            length = found.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.write_body(content, fault)

        def write_body(self, content: bytes, fault: Fault | None) -> None:
            half = len(content) // 2
            if fault in (Fault.hang_up, Fault.stall_in_body):
                self.wfile.write(content[:half])
                self.wfile.flush()
                if fault is Fault.stall_in_body:
                    proxy.wait(proxy.stall_seconds)
                self.close_connection = True
            elif fault is Fault.slow:
                pieces = 10
                size = -(-len(content) // pieces)
                for start in range(0, len(content), size):
                    self.wfile.write(content[start : start + size])
                    self.wfile.flush()
                    time.sleep(proxy.slow_seconds / pieces)
            else:
                self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

    return Handler
