"""Whether a part of a dump is one of those that the dump was begun in."""

from __future__ import annotations

from tinyvit_kd.analysis.jobs.part_status import Part, dump_parts
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.wording import counted


def require_parts_as_before(path: str, part: Part) -> None:
    """Refuse a part of another number of parts than those that have left files beside a store.

    Some elements of an array, submitted again, look like an array of their own.

    Raises:
        ConfigError: the others were parts of another number.
    """
    before = sorted({parts for _, parts in dump_parts(path) if parts not in (1, part[1])})
    if before:
        raise ConfigError(
            f"an array of {counted(part[1], 'part')} goes on with a store that was begun in {before[-1]:,} parts",
            where=path,
            found=f"this is part {part[0]} of {part[1]}, and there are files of parts of {before[-1]}",
            fix=f"say how many parts the whole array has: --part auto/{before[-1]}; to divide what is missing anew, "
            f"give the new number: --part auto/{part[1]}",
        )
