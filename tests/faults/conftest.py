"""Fixtures: a bucket with prepared segments, and faulty proxies in front of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.data.prepared import write_split
from tests.faults.proxy import FaultyProxy, Plan
from tests.faults.s3 import LocalS3, local_s3

SAMPLES = 83


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    write_split(root, SAMPLES)
    return root


@pytest.fixture(scope="session")
def server() -> Iterator[LocalS3]:
    with local_s3() as s3:
        yield s3


@pytest.fixture
def address(server: LocalS3, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of the prepared data in the bucket, for one test; the environment variables name the server itself."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server.upload(prepared, tmp_path.name)


@pytest.fixture
def proxied(server: LocalS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FaultyProxy]]:
    """`proxied(plan)` starts a proxy with that plan in front of the server, for this process and its children."""
    with ExitStack() as stack:

        def start(plan: Plan, **options: Any) -> FaultyProxy:
            proxy = stack.enter_context(FaultyProxy(server.host, server.port, plan, **options))
            monkeypatch.setenv("S3_ENDPOINT_URL", proxy.url)
            return proxy

        yield start
