"""What benchmarks of a device are asked, and what they take where nothing is said."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
COMMON = {"classes": 21841, "topk": 100, "size": 224, "rounds": 3}
TINY = {"classes": 40, "topk": 5, "size": 32, "rounds": 1}


def parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that they share."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    made.add_argument("--threads", type=int, help="of the host's computing: 1 on the CPU, on a GPU up to 4")
    made.add_argument("--classes", type=int, help=f"C of the head; {COMMON['classes']}")
    made.add_argument("--topk", type=int, help=f"K of the targets; {COMMON['topk']}")
    made.add_argument("--size", type=int, help=f"pixels; {COMMON['size']}")
    made.add_argument(
        "--views", choices=("synthetic", "real"), default="synthetic", help="bytes at random, or of photos"
    )
    made.add_argument("--photos", type=Path, help="folder of webdataset tars or JPEG files, for real views")
    made.add_argument(
        "--rounds", type=int, help=f"timings of each column, of which the median counts; {COMMON['rounds']}"
    )
    made.add_argument("--results", type=Path, help="a JSON file of the result, written again after every case")
    made.add_argument("--tiny", action="store_true", help="settings with which it takes seconds, to rehearse it")
    return made


def student_parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments of those that train students."""
    made = parser(description)
    made.add_argument("--students", nargs="+", help="timm's names")
    made.add_argument("--batch", type=int)
    made.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    made.add_argument("--compile", action=argparse.BooleanOptionalAction, help="compile the student")
    return made


def parse(
    given: argparse.ArgumentParser, arguments: Sequence[str] | None, defaults: Mapping[str, Mapping[str, Any]]
) -> argparse.Namespace:
    """The arguments, where None is said with what ``defaults`` has for the type of device, or for tiny runs."""
    options = given.parse_args(arguments)
    if options.views == "real" and options.photos is None:
        given.error("--views real needs --photos")
    on_gpu = options.device != "cpu" and torch.cuda.is_available()
    filled = {**COMMON, "threads": min(4, cores()) if on_gpu else 1, **defaults["cuda" if on_gpu else "cpu"]}
    if options.tiny:
        filled |= {**TINY, **defaults.get("tiny", {})}
    for name, value in filled.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if getattr(options, "compile", False) is None:
        options.compile = on_gpu and not options.tiny  # as stages do
    return options


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
