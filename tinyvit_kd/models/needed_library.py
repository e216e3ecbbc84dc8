"""Libraries of networks that not every installation has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tinyvit_kd.errors import ConfigError


@contextmanager
def needing(package: str, extra: str, where: str) -> Iterator[None]:
    """Import a library of networks in here, which only some installations have.

    Args:
        extra: of ours that brings it.
        where: the network was named, for messages.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"this network needs the package {package}, which is not installed",
            where=where,
            found=str(error),
            fix=f"pip install 'tinyvit_kd[{extra}]'",
        ) from None
