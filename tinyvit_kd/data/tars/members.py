"""Lists the files in a plain tar. Nothing is ever unpacked, so a member's name cannot do harm as a path."""

from __future__ import annotations

import tarfile
from collections.abc import Generator, Iterator

from tinyvit_kd.data.shard_files import Location, ShardFiles
from tinyvit_kd.data.tars.heads import is_header
from tinyvit_kd.data.tars.leftovers import Leftovers
from tinyvit_kd.data.tars.links import Link, Links
from tinyvit_kd.data.tars.member import Member
from tinyvit_kd.data.tars.member_names import names_image, passed_over
from tinyvit_kd.data.tars.problems import damaged, refuse_other_formats
from tinyvit_kd.errors import ShardError

_CHUNK = 1 << 20  # bytes behind an end marker that are read at a time
# Errors that tarfile is known to raise on damaged headers.
_DAMAGE = (tarfile.TarError, OSError, ValueError, EOFError, IndexError, OverflowError, RecursionError)
_MAGIC = b"ustar"  # stands in every header but those of the oldest writers


def tar_members(files: ShardFiles, tar: Location, leftovers: Leftovers | None = None) -> Iterator[Member]:
    """Yield the files of a plain tar, in order: of all archives in it, if several were joined by ``cat``.

    A link stands for the file that it leads to: it has the link's name, and the place of that file's bytes. Links to
    files further behind come last.

    Args:
        files: reads the tar.
        tar: path or URL.
        leftovers: counts what is left out: links that lead to no file of the tar, sparse and special files.

    Raises:
        ShardError: the tar is missing, compressed, truncated or damaged.
    """
    leftovers = Leftovers() if leftovers is None else leftovers
    refuse_other_formats(files, tar)
    links = Links()
    start: int | None = 0
    part = 0
    while start is not None:
        end = yield from _archive(files, tar, start, part, links, leftovers)
        start = _next_archive(files, tar, end, leftovers)
        part += 1
    leftovers.joined += part - 1
    for link, target in links.resolved_late(leftovers):
        yield Member(link.name, target.offset, target.size, link.part)


def _archive(
    files: ShardFiles, tar: Location, start: int, part: int, links: Links, leftovers: Leftovers
) -> Generator[Member, None, int]:
    """Yield the files of the archive that begins at byte ``start``; returns where its end marker begins."""
    try:
        with files.stream(tar) as stream:
            stream.seek(start)
            with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
                found = links.files
                while (entry := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # else it would keep them all
                    if entry.size < 0:  # tarfile would read backwards, forever
                        raise tarfile.ReadError(f"negative size of {entry.name!r}")
                    if entry.isreg() and not entry.issparse():
                        member = Member(entry.name, entry.offset_data, entry.size, part)
                        found.append(member)
                        yield member
                    elif (linked := _linked(entry, part, links, leftovers)) is not None:
                        yield linked
                end = int(archive.offset)
    except ShardError:
        raise
    except _DAMAGE as error:
        raise damaged(files, tar, str(error)) from None
    # tarfile takes a damaged header for the end of the archive. A real end is a block of zeros.
    if files.read_at_most(tar, end, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise damaged(
            files, tar, f"no block of zeros after the last member, at byte {end:,} of {files.info(tar).size:,}"
        )
    return end


def _linked(entry: tarfile.TarInfo, part: int, links: Links, leftovers: Leftovers) -> Member | None:
    """The file that a link stands for; None for a link that has to wait, and for what is no file, which is counted."""
    if entry.islnk() or entry.issym():
        target = links.resolve(Link(entry.name, entry.linkname, entry.issym(), part))
        if target is None:
            return None
        member = Member(entry.name, target.offset, target.size, part)
        links.files.append(member)
        return member
    if entry.isdir():
        links.folders.append(entry.name)
    else:
        cause = "sparse" if entry.issparse() else "special"
        leftovers.count(passed_over(entry.name) or (cause if names_image(entry.name) else "other"), entry.name)
    return None


def _next_archive(files: ShardFiles, tar: Location, end: int, leftovers: Leftovers) -> int | None:
    """Where another archive begins behind the end marker at byte ``end``; None if there is none.

    Raises:
        ShardError: what follows is no archive, and yet has members of one in it.
    """
    start = end
    while chunk := files.read_at_most(tar, start, _CHUNK):
        zeros = len(chunk) - len(chunk.lstrip(b"\0"))
        start += zeros
        if zeros < len(chunk):
            break
    else:
        return None
    start -= start % tarfile.BLOCKSIZE  # headers begin at multiples of it
    if is_header(files.read_at_most(tar, start, tarfile.BLOCKSIZE)):
        return start
    if _holds_magic(files, tar, start):
        raise damaged(files, tar, f"members behind byte {start:,}, where a damaged header or foreign bytes begin")
    leftovers.count("trailing", f"from byte {start:,}")
    return None


def _holds_magic(files: ShardFiles, tar: Location, start: int) -> bool:
    tail = b""
    while chunk := files.read_at_most(tar, start, _CHUNK):
        if _MAGIC in tail + chunk:
            return True
        tail = chunk[-len(_MAGIC) :]
        start += len(chunk)
    return False
