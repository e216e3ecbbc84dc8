"""Commands are watched from outside, with the allocator set up as the column says."""

from __future__ import annotations

import sys

import pytest

from benchmarks.allocator import COLUMNS, Use, print_table, use_of

# Holds 200 MiB for a second, and tells which settings of the allocator it was given.
COMMAND = """
import json, os, time
held = bytearray(b"1") * (200 << 20)
time.sleep(1)
print(json.dumps({"views_per_second": sum(name.startswith("MALLOC_") for name in os.environ)}))
"""


def test_a_command_is_watched(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    uses = {name: [use_of([sys.executable, "-c", COMMAND], environment)] for name, environment in COLUMNS.items()}
    assert {name: use.rate for name, (use,) in uses.items()} == {"returned": 1.0, "kept": 0.0}
    for (use,) in uses.values():
        assert use.seconds > 1
        assert 200 < use.peak < 400
        assert use.middle <= use.peak
        assert use.worker == 0
    print_table({"dump-logits": uses})
    rows = capsys.readouterr().out.splitlines()
    assert [row.count("|") for row in rows] == [len(Use._fields) + 2] * 4


def test_a_command_that_fails_is_not_measured() -> None:
    with pytest.raises(RuntimeError, match="ended with exit code 3"):
        use_of([sys.executable, "-c", "raise SystemExit(3)"], {})
