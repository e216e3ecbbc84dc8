"""The sections in which ``--help`` lists the commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click


class SectionedGroup(click.Group):
    """A group whose help lists its commands under headings, in the given order, instead of by name.

    Args:
        sections: commands by heading.
    """

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[click.Command]], **options: Any) -> None:
        super().__init__(*args, **options)
        self.sections = sections
        for command in (command for commands in sections.values() for command in commands):
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        del ctx
        width = max(map(len, self.commands))
        for heading, commands in self.sections.items():
            with formatter.section(heading):
                limit = formatter.width - width - 6
                rows = [(f"{command.name:<{width}}", command.get_short_help_str(limit)) for command in commands]
                formatter.write_dl(rows)
