"""What there is to find out on a GPU, in order of worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyvit_kd.errors import ConfigError


@dataclass(frozen=True)
class Step:
    """One module that runs as ``python -m MODULE --device … --results FILE``.

    Attributes:
        name: on the command line, and of its files.
        module: in the tree.
        about: the question that it answers.
        limit: seconds after which it is killed; the last step of a call may take all that is left.
        least: seconds below which it is not begun.
        takes: options of the whole command that it understands, too.
        options: of its own, with which it is always run.
    """

    name: str
    module: str
    about: str
    limit: int
    least: int = 30
    takes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


SETUP = "setup"
STEPS = (
    Step(SETUP, "benchmarks.gpu.environment", "is all there that the others need?", 150, 10, ("wheels", "site")),
    Step("tests", "benchmarks.gpu.suite", "do the tests pass that need a GPU, and do views have the right bytes?", 120),
    Step("demo", "benchmarks.gpu.demo", "do all stages run, and do digests hold?", 90, 30, (), ("--few",)),
    Step("steps", "benchmarks.steps", "how fast are training steps, and the official code's?", 240, 45, ("peer",)),
    Step("resume", "benchmarks.gpu.resume", "does a killed run go on to the same bits?", 180, 60),
    Step("online", "benchmarks.online", "what does a teacher in the loop cost?", 120, 45),
    Step("precisions", "benchmarks.precisions", "do float16, bfloat16 and compiled teachers say the same?", 120),
    Step("dump", "benchmarks.dump", "does stage one keep its teacher busy?", 120, 45),
    Step("loop", "benchmarks.loop", "what does the training loop cost beside bare steps?", 90),
    Step("fed", "benchmarks.fed", "do the loading processes keep the GPU busy?", 150, 60, ("photos",)),
    Step("trace", "benchmarks.trace", "where do ten steps spend their time?", 90),
    Step("scores", "benchmarks.gpu.demo", "does the whole demo score as it does on the CPU?", 240, 120),
)


def chosen(names: Sequence[str] | None, table: Sequence[Step] = STEPS) -> list[Step]:
    """The steps of these names, in the table's order; all of them where no name is given.

    Raises:
        ConfigError: there is no step of some name.
    """
    known = [step.name for step in table]
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ConfigError(
            "there is no such step", where="--only", found=", ".join(unknown), expected=f"some of {', '.join(known)}"
        )
    return [step for step in table if names is None or step.name in names]
