"""A research engineer's first questions to a machine with a GPU, answered by one command.

Command:  python -m benchmarks.gpu --out FOLDER [--minutes 9] [--only STEP …] [--tiny]
          python -m benchmarks.gpu --prepare FOLDER [--python 3.12]
Result:   FOLDER/summary.md and summary.json, and of every step STEP.json and STEP.log.

Each step is a process with a time limit. One that fails, or is killed at its limit, is noted with the end of its log
and with whatever it had measured by then, and the next one runs. What no longer fits into --minutes is listed as not
run; --only runs it later, into the same folder.

A machine that cannot fetch packages is given them: --prepare fills a folder on another one, to be put into the tree
or beside it under the name gpu-prepared. Where nothing is missing, none is needed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks.gpu.environment import prepared_folder, site_folder
from benchmarks.gpu.prepare import LIMIT_MIB, Carrier, prepare
from benchmarks.gpu.series import Look, Series, Settings
from benchmarks.gpu.steps import STEPS, Step, chosen
from benchmarks.gpu.summary import MARKDOWN
from tinyvit_kd.errors import ConfigError

USER_ERROR, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None, table: Sequence[Step] = STEPS, look: Look | None = None) -> None:
    """Parse the arguments, prepare or run, exit: 0 if all steps that ran ended well, 1 if not, 2 for a mistake,
    130 after a signal.

    Args:
        arguments: of the command line; None: those of this process.
        table: of all steps.
        look: what finds out about the machine; None: a process that asks torch.
    """
    options = _parser(table).parse_args(arguments)
    try:
        if options.prepare is not None:
            print(prepare(options.prepare, _carrier(options)))
            return
        well = _run(options, table, look)
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0 if well else 1)


def _parser(table: Sequence[Step]) -> argparse.ArgumentParser:
    steps = "\n".join(f"  {step.name:11} {step.about} ({step.limit} s)" for step in table)
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=f"{__doc__}\nSteps, in order of worth, each with its limit:\n{steps}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="FOLDER", help="run the steps; their results go there")
    what.add_argument("--prepare", type=Path, metavar="FOLDER", help="gather what has to travel to a machine")
    running = made.add_argument_group("with --out")
    running.add_argument("--minutes", type=float, default=9, help="of all steps together (%(default)s)")
    running.add_argument("--only", nargs="+", metavar="STEP", help="these steps alone")
    running.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda; with --tiny the cpu")
    running.add_argument("--tiny", action="store_true", help="in small, to rehearse it all on a CPU")
    running.add_argument("--peer", type=Path, metavar="FOLDER", help="of TinyViT in a checkout of microsoft/Cream")
    running.add_argument("--photos", type=Path, metavar="FOLDER", help="of webdataset tars or JPEG files")
    running.add_argument("--wheels", type=Path, metavar="FOLDER", help="what --prepare made, if it is elsewhere")
    running.add_argument("--site", type=Path, metavar="FOLDER", help=f"for its packages (default: {site_folder()})")
    running.add_argument("--archive", type=Path, metavar="FILE", help="a .tar.gz of results, renewed after each step")
    preparing = made.add_argument_group("with --prepare")
    preparing.add_argument("--python", default="3.12", help="of the machine (%(default)s)")
    preparing.add_argument("--limit-mib", type=float, default=LIMIT_MIB, help="what can be carried (%(default)s)")
    preparing.add_argument("--without", nargs="+", default=[], metavar="NAME", help="packages that the machine has")
    preparing.add_argument("--find-links", type=Path, metavar="FOLDER", help="take wheels from there, without a net")
    return made


def _carrier(options: argparse.Namespace) -> Carrier:
    return Carrier(options.python, options.limit_mib, tuple(options.without), options.find_links)


def _run(options: argparse.Namespace, table: Sequence[Step], look: Look | None) -> bool:
    """Run the steps, with the folders that they may be given; whether all ended well."""
    steps = chosen(options.only, table)
    site = options.site or site_folder()
    folders = {"peer": options.peer, "photos": options.photos, "wheels": options.wheels or prepared_folder()}
    for name, folder in folders.items():
        if folder is not None and not folder.is_dir():
            raise ConfigError("there is no such folder", where=f"--{name}", found=str(folder))
    given = {name: folder for name, folder in {**folders, "site": site}.items() if folder is not None}
    device = options.device or ("cpu" if options.tiny else "cuda")
    settings = Settings(options.out, device, options.tiny, options.minutes, given, site, options.archive)
    signal.signal(signal.SIGTERM, _interrupt)
    well = Series(settings, look).run(steps)
    print((options.out / MARKDOWN).read_text(encoding="utf-8"))
    return well


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM is taken as Ctrl-C is: the step is killed, and what it had found is noted."""
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
