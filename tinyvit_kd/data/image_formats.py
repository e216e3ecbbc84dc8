"""Tells images by their first bytes, and by the suffixes that people give them."""

from __future__ import annotations

HEAD_BYTES = 64  # of a file, which ``image_format`` looks at
# If a sample has several images, the first suffix in this order counts. The order of the first eleven is kept for ever.
IMAGE_SUFFIXES = (
    *("jpg", "jpeg", "png", "webp", "bmp", "gif", "ppm", "pgm", "pbm", "tif", "tiff"),
    *("jpe", "jfif", "jif", "jfi", "pjpeg", "pjp", "mpo", "apng", "pnm", "tga", "qoi", "ico"),
    *("avif", "avifs", "heic", "heics", "heif", "heifs", "hif"),
    *("jp2", "j2k", "j2c", "jpc", "jpf", "jpx", "jxl"),
)
_MAGIC = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
    (b"II+\0", "tif"),  # BigTIFF
    (b"MM\0+", "tif"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "j2k"),  # a bare codestream
    (b"qoif", "qoi"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (b"\xff\x0a", "jxl"),  # a bare codestream
)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_ANY_HEIF_BRANDS = {b"mif1", b"mif2", b"msf1"}  # of images of any codec
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}  # bytes of the second header; "BM" alone may begin a text


def image_format(head: bytes) -> str | None:
    """The format of an image, as a suffix of ``IMAGE_SUFFIXES``; None if the bytes are not known to be an image.

    TGA has no mark at its beginning, so it is never known: there the suffix must do.

    Args:
        head: the first ``HEAD_BYTES`` of the file, or all of a shorter one.

    Returns:
        jpg, png, gif, tif, jp2, j2k, qoi, jxl, webp, avif, heic, bmp, pbm, pgm, ppm or ico.
    """
    for magic, suffix in _MAGIC:
        if head.startswith(magic):
            return suffix
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return _heif_format(head)
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    if head[:1] == b"P" and head[1:2].isdigit() and head[2:3] in (b" ", b"\t", b"\r", b"\n"):
        # P1 to P3 are the same as text.
        return {b"1": "pbm", b"2": "pgm", b"3": "ppm", b"4": "pbm", b"5": "pgm", b"6": "ppm"}.get(head[1:2])
    # An icon has at least one image, whose entry has a byte that is always zero.
    if head.startswith(b"\0\0\1\0") and head[4:6] != b"\0\0" and head[9:10] == b"\0":
        return "ico"
    return None


def _heif_format(head: bytes) -> str | None:
    # The main brand, four bytes of version, then the other brands to the end of the box (ISO/IEC 14496-12).
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[start : start + 4] for start in range(16, end - 3, 4))}
    if head[8:12] in _AVIF_BRANDS or (head[8:12] in _ANY_HEIF_BRANDS and brands & _AVIF_BRANDS):
        return "avif"
    return "heic" if brands & (_HEIC_BRANDS | _ANY_HEIF_BRANDS) else None
