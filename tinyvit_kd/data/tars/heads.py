"""Tells a tar from what people take for one, by its first bytes."""

from __future__ import annotations

import re

from tinyvit_kd.data.image_formats import HEAD_BYTES, image_format

BLOCK_BYTES = 512  # of a header of a tar
COMPRESSED = {
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
_OCTAL = re.compile(rb"[0-7]+")
_PAGE_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")


def other_kind(head: bytes) -> tuple[str, str]:
    """What a file is that is no plain tar, and what to do about it; empty texts if it may be a tar, even a damaged one.

    Args:
        head: the first ``BLOCK_BYTES`` of the file, or all of a shorter one.
    """
    if is_header(head):
        return "", ""
    for magic, command in COMPRESSED.items():
        if head.startswith(magic):
            return "compressed data", f"decompress it once with {command}"
    for magic, found_and_fix in _OTHERS.items():
        if head.startswith(magic):
            return found_and_fix
    if (name := image_format(head[:HEAD_BYTES])) is not None:
        return f"an image ({name})", "pack a folder of images with shards build"
    if is_web_page(head):
        return (
            "a web page",
            "the server asked for a login, or reported an error in its place: open the URL in a browser to see which, "
            "then fetch the tar again",
        )
    text = head.removeprefix(b"\xef\xbb\xbf")
    if text and b"\0" not in text and text.isascii():
        return f"text: {text[:60].decode()!r}", "name the tars alone, for example by a pattern that ends in .tar"
    return "", ""


def is_web_page(head: bytes) -> bool:
    """Whether the first bytes of a file are those of HTML or XML."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGE_STARTS)


def is_header(block: bytes) -> bool:
    """Whether 512 bytes are the header of a tar's member: their checksum is right (POSIX.1-1988, ustar)."""
    digits = block[148:156].strip(b" \0")
    if len(block) < BLOCK_BYTES or not _OCTAL.fullmatch(digits):
        return False
    counted = block[:148] + 8 * b" " + block[156:]
    # Some old writers added signed characters.
    return int(digits, 8) in (sum(counted), sum(counted) - 256 * sum(byte > 127 for byte in counted))
