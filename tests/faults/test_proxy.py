"""Tests of the proxy that injects faults."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.faults.proxy import Always, Fault, FaultyProxy, RandomPlan, Script

CONTENT = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("fault", Fault)
def test_one_request_gets_the_fault_and_the_next_does_not(port: int, fault: Fault) -> None:
    with FaultyProxy("127.0.0.1", port, Script([fault], "shard"), stall_seconds=0.1, slow_seconds=0.1) as proxy:
        assert urlopen(f"{proxy.url}/other").read() == CONTENT
        address = f"{proxy.url}/shard"
        if fault in (Fault.error_500, Fault.error_503):
            with pytest.raises(HTTPError) as refusal:
                urlopen(address)
            assert str(refusal.value.code) == fault.value[:3]
        elif fault in (Fault.no_answer, Fault.stall):
            with pytest.raises(http.client.RemoteDisconnected):
                urlopen(address)
        elif fault in (Fault.hang_up, Fault.stall_in_body):
            with pytest.raises(http.client.IncompleteRead) as cut:
                urlopen(address).read()
            assert cut.value.partial == CONTENT[: len(CONTENT) // 2]
        else:
            found = urlopen(address).read()
            wrong = [i for i, (one, two) in enumerate(zip(found, CONTENT)) if one != two]
            expected = {Fault.slow: (len(CONTENT), []), Fault.flip: (len(CONTENT), [len(CONTENT) // 2])}
            assert (len(found), wrong) == expected.get(fault, (len(CONTENT) // 2, []))
        assert proxy.injected == {fault: 1}
        assert urlopen(address).read() == CONTENT


def test_a_random_plan_is_the_same_for_the_same_seed() -> None:
    def drawn(seed: int) -> list[Fault | None]:
        plan = RandomPlan(seed, rate=0.5)
        return [plan.choose("GET", "/shard") for _ in range(200)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert set(drawn(1)) == {None, *Fault}


def test_a_plan_can_be_switched_off(port: int) -> None:
    plan = Always(Fault.error_503)
    with FaultyProxy("127.0.0.1", port, plan) as proxy:
        for _ in range(3):
            with pytest.raises(HTTPError):
                urlopen(proxy.url)
        plan.on = False
        assert urlopen(proxy.url).read() == CONTENT
