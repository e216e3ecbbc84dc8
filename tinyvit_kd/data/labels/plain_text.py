"""Text files as people's programs write them: UTF-8, UTF-16, with a byte order mark or a closing NUL."""

from __future__ import annotations

import codecs

_MARKS = (  # UTF-32's first: UTF-16's mark is the beginning of one of them
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


def decode_text(content: bytes) -> str:
    """The text of a small file, without its byte order mark and without the NUL that C programs end it with.

    Raises:
        UnicodeDecodeError: it is no text in UTF-8 or UTF-16.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding).removesuffix("\0")
    if len(content) > 2 and len(content) % 2 == 0:  # UTF-16 without a mark: every second byte of plain text is NUL
        even, odd = content[::2], content[1::2]
        for encoding, texts, zeros in (("utf-16-le", even, odd), ("utf-16-be", odd, even)):
            if not any(zeros) and all(texts):
                return content.decode(encoding)
    return content.removesuffix(b"\0").decode("utf-8")
