"""What the fuzzer starts from: small JPEG files of every kind, and the odd ones of a folder, each with a tail.

Command:  python -m fuzz.corpus OUT [FOLDER]
"""

from __future__ import annotations

import random
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.photos import encodings, load

TAIL = 16  # bytes behind the image that the views follow from, as in fuzz/draws.h
LARGEST = 20_000


def drawn_image(width: int, height: int, seed: int) -> bytes:
    """Smooth colours with some noise, as PNG."""
    noise = np.random.default_rng(seed).normal(0, 25, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 255 / width, y * 255 / height, 128 + 90 * np.sin((x + y) / 5)], axis=-1)
    file = BytesIO()
    Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def turned_sampling(file: bytes) -> bytes:
    """A square 4:2:2 file as 4:4:0, which Pillow does not write: the same blocks, placed below each other."""
    assert b"\x01\x21\x00" in file
    return file.replace(b"\x01\x21\x00", b"\x01\x12\x00", 1)  # in its header; coded data may hold the same bytes


def too_bright() -> bytes:
    """White blocks that a larger first entry of the quantization table takes far above white."""
    file = BytesIO()
    Image.new("L", (16, 16), 255).save(file, "JPEG", quality=100)
    table = b"\xff\xdb\x00\x43\x00"
    assert file.getvalue().count(table + b"\x01") == 1
    return file.getvalue().replace(table + b"\x01", table + b"\xff")


def files(folder: Path | None) -> list[bytes]:
    """Images without tails, the small ones of ``folder`` among them."""
    # `encodings` makes them a third as large: 48 x 32 pixels and others.
    sizes = ((143, 95), (143, 95), (1, 1), (48, 48), (20, 130), (200, 20), (100, 100))
    made = [file for seed, size in enumerate(sizes) for file in encodings(drawn_image(*size, seed))]
    made += [turned_sampling(encodings(drawn_image(143, 143, 0))[1]), too_bright()]
    found = load(folder) if folder is not None else []
    return made + [file for file in found if len(file) <= LARGEST - TAIL]


def main() -> None:
    """Write the files into a folder, twice each, with other tails."""
    out, draw = Path(sys.argv[1]), random.Random(0)
    out.mkdir(parents=True, exist_ok=True)
    sources = files(Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    for number, file in enumerate(sources * 2):
        (out / f"{number:04}").write_bytes(file + draw.randbytes(TAIL))
    print(f"{2 * len(sources)} files to start from")


if __name__ == "__main__":
    main()
