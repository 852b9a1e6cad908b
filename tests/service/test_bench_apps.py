"""What the benchmark compares the service with runs in the service's own worker."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import ours
from bench.bench import Bench
from bench.ports import Ports
from bench.servers import Server, running
from tests.support.example import Row


@pytest.mark.parametrize("create", [ours.unmonitored, ours.ceiling])
def test_an_application_of_the_benchmark_answers(
    create: Callable[[Bench], Server],
    example_bundle: Path,
    held_out_inputs: list[Row],
    tmp_path: Path,
) -> None:
    """It starts with the service's configuration, although it is another application."""
    with Ports() as ports:
        bench: Any = SimpleNamespace(bundle=example_bundle, ports=ports, directory=tmp_path)
        server = create(bench)
        with running(server, os.sched_getaffinity(0), tmp_path / "log", held_out_inputs[0]):
            assert server.predict(held_out_inputs[0]) > 0
