"""Says what a file is that is no plain tar, or a damaged one."""

from __future__ import annotations

import re

from tinyvit_kd.data.image_formats import HEAD_BYTES, image_format
from tinyvit_kd.data.shard_files import Location, ShardFiles
from tinyvit_kd.errors import ShardError

_COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
    b"\x04\x22\x4d\x18": "unlz4",
}
_OTHERS = {
    b"PK\x03\x04": ("a zip", "shards build packs a folder of zips, one per class"),
    b"Rar!": ("a rar archive", "unpack it, then pack the images with shards build"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it, then pack the images with shards build"),
    b"PAR1": ("a Parquet file", "write its images into a folder per class, then pack them with shards build"),
    b"\x89HDF": ("an HDF5 file", "write its images into a folder per class, then pack them with shards build"),
    b"version https://git-lfs": ("a pointer of Git LFS, not the file itself", "fetch the file with git lfs pull"),
}
_BLOCK = 512  # bytes of a header
_OCTAL = re.compile(rb"[0-7]+")
_PAGE_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")


def refuse_other_formats(files: ShardFiles, tar: Location) -> None:
    """Refuse what is known to be no plain tar.

    Raises:
        ShardError: the file is compressed, or of another kind; the message says of which.
    """
    head = files.read_at_most(tar, 0, _BLOCK)
    if is_header(head):
        return
    for magic, command in _COMPRESSED.items():
        if head.startswith(magic):
            raise ShardError(
                "the shard is compressed, so its samples cannot be read in random order",
                where=str(tar),
                expected="a plain tar",
                fix=f"decompress it once with {command}",
            )
    found, fix = _other_kind(head)
    if found:
        raise ShardError("the file is not a tar", where=str(tar), found=found, expected="a plain tar", fix=fix)


def _other_kind(head: bytes) -> tuple[str, str]:
    """What a file is, and what to do about it; empty if it may be a damaged tar."""
    for magic, found_and_fix in _OTHERS.items():
        if head.startswith(magic):
            return found_and_fix
    if (name := image_format(head[:HEAD_BYTES])) is not None:
        return f"an image ({name})", "pack a folder of images with shards build"
    if is_web_page(head):
        return "a web page", "fetch the file again: the server asked for a login, or reported an error in its place"
    if head and b"\0" not in head and head.isascii():
        return f"text: {head[:60].decode()!r}", "name the tars alone, for example by a pattern that ends in .tar"
    return "", ""


def is_web_page(head: bytes) -> bool:
    """Whether the first bytes of a file are those of HTML or XML."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGE_STARTS)


def is_header(block: bytes) -> bool:
    """Whether 512 bytes are the header of a tar's member: their checksum is right (POSIX.1-1988, ustar)."""
    digits = block[148:156].strip(b" \0")
    if len(block) < _BLOCK or not _OCTAL.fullmatch(digits):
        return False
    counted = block[:148] + 8 * b" " + block[156:]
    # Some old writers added signed characters.
    return int(digits, 8) in (sum(counted), sum(counted) - 256 * sum(byte > 127 for byte in counted))


def damaged(tar: Location, found: str) -> ShardError:
    """The error for a tar that ends too early, or in which a header is wrong."""
    return ShardError(
        "the shard is truncated or damaged",
        where=str(tar),
        found=found,
        expected="a complete plain tar",
        fix="copy or build it again",
    )
