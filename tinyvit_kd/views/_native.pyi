from typing_extensions import Buffer

def size(data: Buffer, /) -> tuple[int, int, int] | None: ...
def render(
    data: Buffer,
    size_of_rgb: tuple[int, int],
    params: Buffer,
    size: int,
    bicubic: bool,
    fill: tuple[int, int, int],
    erase_mode: int,
    noise: Buffer,
    out: Buffer,
    processor: str,
    /,
) -> bool: ...
def decode(
    data: Buffer, region: tuple[int, int, int, int], decoder: str, /
) -> tuple[int, int, int, int, bytes, bytes, bytes] | None: ...
def coefficients(data: Buffer, /) -> bool: ...
def processor() -> str: ...
def supports(processor: str, /) -> bool: ...
