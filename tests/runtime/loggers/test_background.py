"""A logger that is slow, down or broken never keeps a run waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import pytest

from tinyvit_kd.runtime import log
from tinyvit_kd.runtime.loggers import background
from tinyvit_kd.runtime.loggers.background import Background
from tinyvit_kd.runtime.loggers.base import MetricLogger


class Server(MetricLogger):
    """Takes lines while it is up, each of them once ``gate`` is open."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, float]] = []
        self.tries = self.down_for = 0
        self.gate = threading.Event()
        self.gate.set()
        self.succeeded: bool | None = None

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        self.gate.wait(60)
        self.tries += 1
        if self.tries <= self.down_for:
            raise ConnectionError("no route to host")
        self.lines.append((kind, step, values["loss"]))

    def close(self, succeeded: bool = True) -> None:
        self.succeeded = succeeded


@pytest.fixture
def server() -> Server:
    log._warned.cache_clear()
    return Server()


def test_lines_arrive_in_order_and_the_end_is_told(server: Server) -> None:
    logger = Background("server", server)
    values = {"loss": 0.5}
    for step in range(50):
        logger.write("train", step, values)
    values["loss"] = 7.0  # the caller may use it again
    logger.close(succeeded=False)
    assert server.lines == [("train", step, 0.5) for step in range(50)]
    assert server.succeeded is False


def test_a_server_that_hangs_delays_neither_a_step_nor_the_end_for_long(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(background, "CLOSE_WITHIN", 0.2)
    server.gate.clear()
    logger = Background("server", server)
    begin = time.monotonic()
    for step in range(1000):
        logger.write("train", step, {"loss": 0.5})
    logger.close()
    assert time.monotonic() - begin < 5
    assert "server has not taken" in capsys.readouterr().err
    server.gate.set()


def test_after_an_outage_all_lines_are_there_and_it_was_told_once(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.down_for = 3
    logger = Background("server", server, pauses=(0.01, 0.01, 0.01))
    for step in range(5):
        logger.write("train", step, {"loss": 0.5})
    logger.close()
    assert [step for _, step, _ in server.lines] == [0, 1, 2, 3, 4]
    said = capsys.readouterr().err
    assert said.count("server does not take the figures of this run (no route to host)") == 1


def test_a_line_that_is_refused_again_and_again_is_left_out_and_counted(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.down_for = 3
    logger = Background("server", server, pauses=(0.01, 0.01))
    for step in range(2):
        logger.write("train", step, {"loss": 0.5})
    logger.close()
    assert [step for _, step, _ in server.lines] == [1]
    assert "server has not taken 1 line of this run; metrics.jsonl has them all" in capsys.readouterr().err


def test_a_server_that_is_down_at_the_start_is_opened_once_it_is_up(server: Server) -> None:
    tries = 0

    def opened() -> MetricLogger:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionError("no route to host")
        return server

    logger = Background("server", opened, pauses=(0.01, 0.01, 0.01))
    for step in range(3):
        logger.write("train", step, {"loss": 0.5})
    logger.close()
    assert len(server.lines) == 3


def test_what_waits_for_a_server_is_limited(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MAX_WAITING", 5)
    server.gate.clear()
    logger = Background("server", server)
    for step in range(100):
        logger.write("train", step, {"loss": 0.5})
    assert logger.lost >= 94
    server.gate.set()
    logger.close()
