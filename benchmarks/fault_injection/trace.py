"""``tinyvit-kd`` that notes which blocks a dump begins: a line "shard view" each, in the order of beginning.

Command:  python -m benchmarks.fault_injection.trace TRACE dump-logits RECIPE …

A block counts as begun when the teacher's first answers for it arrive. Otherwise this is the command line as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from tinyvit_kd.runtime.signals import leave_on_signals, leave_with_torchrun


def main() -> None:
    """Wrap what puts blocks together, then run the command line."""
    leave_with_torchrun()
    trace, sys.argv[1:] = sys.argv[1], sys.argv[2:]
    with leave_on_signals():  # as the command line does, before anything slow is imported
        _note_beginnings(os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        from tinyvit_kd.cli import main as command_line
    command_line()


def _note_beginnings(descriptor: int) -> None:
    from tinyvit_kd.runs.block_writer import Assembler

    add = Assembler.add

    def noting(assembler: Assembler, batch: Any, *answers: Any) -> Iterator[Any]:
        for span in batch.task:
            if span.group not in assembler._open:
                lines = "".join(f"{span.group.shard} {view}\n" for view in span.group.views)
                os.write(descriptor, lines.encode())  # one call, so that lines of several processes do not mix
        return add(assembler, batch, *answers)

    setattr(Assembler, "add", noting)  # noqa: B010  assigning to a method is what mypy refuses


if __name__ == "__main__":
    main()
