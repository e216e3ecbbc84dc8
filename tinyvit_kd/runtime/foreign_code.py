"""Code of a recipe's author by its dotted name: imported, also from the current directory; its errors in a line."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import traceback
from typing import Any

from tinyvit_kd.errors import ConfigError


def resolve(name: str, where: str, what: str) -> Any:
    """The object of a dotted name, such as ``package.module.function``; importing it runs its module.

    Args:
        where: the name stands, for messages.
        what: names it, for messages, for example "the transform".

    Raises:
        ConfigError: it cannot be imported.
    """
    try:
        # `python -m` looks for modules here, a console script does not. Appended last, so that no file here hides a
        # package, and not removed, since the code may import something when it is called.
        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)
        return pkgutil.resolve_name(name)
    except Exception as error:  # importing runs the module
        raise ConfigError(
            f"a name in {what} cannot be imported",
            where=f"{where}: {name}",
            found=one_line(error),
            expected="a dotted name, such as torchvision.transforms.v2.Compose, or my_file.my_function for a module in "
            "the current directory",
        ) from error


def one_line(error: Exception, *callers: str) -> str:
    """An error in code of others, as one line with its location: the traceback itself is lost in a loading process.

    Args:
        callers: files of ours that call such code, which is not where the error is.
    """
    skipped_files = {__file__, pkgutil.__file__, importlib.__file__, *callers}
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename not in skipped_files]
    locations = [f" ({each.filename}:{each.lineno})" for each in frames if not each.filename.startswith("<frozen")]
    return f"{type(error).__name__}: {' '.join(str(error).split())}{''.join(locations[-1:])}"
