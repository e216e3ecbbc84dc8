"""YAML that says what it means: plain values alone, every key once, and no more of it than a recipe can need.

YAML lets a key be given twice and keeps the last; a few lines of anchors can stand for more values than fit in memory;
and in YAML 1.1, ``1e-3`` is text. None of that is so here.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode

from tinyvit_kd.errors import ConfigError

MAX_CHARACTERS = 256 * 1024  # of a file; the longest recipe that is shipped has 3,000
MAX_DEPTH = 40  # of sections and lists in each other; a recipe has 6
MAX_VALUES = 20_000  # with what aliases (*name) stand for, each time that they do
_CHARACTERS_PER_VALUE = 64  # a longer text counts as several values
_SHOWN = 40  # characters of a value in a message
_MERGE = "tag:yaml.org,2002:merge"
_FLOAT = "tag:yaml.org,2002:float"
# What YAML 1.1 takes for text, for want of a dot or of the exponent's sign: 1e-3, 1E5, 5.0e4, .5e3.
_EXPONENT = re.compile(r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """Safe YAML, with limits, without keys that are given twice, and with numbers such as 1e-3."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.given_twice: list[str] = []
        self._depth = 0
        self._sizes: dict[int, int] = {}  # number of values in each node, by its id; not in it while it is composed

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """As PyYAML's, with an eye on depth and size."""
        line = _line_of(self.peek_event())  # type: ignore[no-untyped-call]
        is_alias = self.check_event(AliasEvent)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _too_much(f"sections or lists nested deeper than {MAX_DEPTH}, on line {line}", f"{MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self._depth -= 1
        assert isinstance(node, Node)
        if is_alias and id(node) not in self._sizes:
            raise _too_much(f"an alias on line {line} that stands for a section which contains it", "no such circle")
        if not is_alias:
            self._sizes[id(node)] = self._size_of(node)
            if isinstance(node, MappingNode):
                self.given_twice += self._keys_given_twice(node)
        if self._sizes[id(node)] > MAX_VALUES:
            raise _too_much(f"more than {MAX_VALUES:,} values, by line {line}", f"at most {MAX_VALUES:,}")
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """As PyYAML's, with its own words for a value that is none, such as the date 2001-99-99."""
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, ConfigError):
            raise
        except Exception as error:  # PyYAML's constructors let through whatever int(), date() and the like raise
            kind = node.tag.rpartition(":")[2]
            found = f"{_shown(node)}, which is no {kind} ({str(error)[:_SHOWN]})"
            raise _invalid(f"line {_line_of(node)}: {found}", "quote it if it is a text") from None

    def _size_of(self, node: Node) -> int:
        if isinstance(node, ScalarNode):
            return 1 + len(node.value) // _CHARACTERS_PER_VALUE
        pairs = node.value if isinstance(node, MappingNode) else [(each,) for each in node.value]
        return 1 + sum(self._sizes[id(each)] for pair in pairs for each in pair)

    def _keys_given_twice(self, node: MappingNode) -> list[str]:
        """The keys that a section has more than once, with all of their lines. ``<<`` may be given several times."""
        lines: dict[Any, list[int]] = {}
        names: dict[Any, str] = {}
        for key_node, _ in node.value:
            if isinstance(key_node, ScalarNode) and key_node.tag != _MERGE:
                key = self.construct_object(key_node)
                lines.setdefault(key, []).append(_line_of(key_node))
                names.setdefault(key, _shown(key_node))
        return [
            f"{names[key]} on line{'s' if len(set(found)) > 1 else ''} {_joined(found)}"
            for key, found in lines.items()
            if len(found) > 1
        ]


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that ``_Loader`` would read as numbers."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+.0123456789"))


def parse_yaml(text: str) -> Any:
    """Parse YAML, which can contain nothing but plain values.

    Raises:
        ConfigError: the text is not YAML, contains other objects, gives a key twice, or is larger or nested deeper than
            any recipe.
    """
    if len(text) > MAX_CHARACTERS:
        raise _too_much(f"more than {MAX_CHARACTERS:,} characters", f"at most {MAX_CHARACTERS:,}")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if loader.given_twice:
            raise ConfigError(
                "a key is given twice" if len(loader.given_twice) == 1 else "keys are given twice",
                found="; ".join(loader.given_twice),
                expected="every key once in its section: only one of its values could count",
                fix="merge the two, or delete one",
            )
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise _invalid(_in_words(error), "") from None


def yaml_text(value: Any, **options: Any) -> str:
    """Plain values as YAML, which ``parse_yaml`` reads as the same values; ``options`` are of ``yaml.dump``."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, **options)
    return text


def _invalid(found: str, fix: str) -> ConfigError:
    return ConfigError("the text is not valid YAML", found=found, fix=fix)


def _too_much(found: str, expected: str) -> ConfigError:
    return ConfigError(
        "the YAML holds more than a recipe can",
        found=found,
        expected=expected,
        fix="check whether this is the file that you mean",
    )


def _in_words(error: yaml.YAMLError) -> str:
    """What PyYAML found, with its place but without its excerpts of the text."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    parts = [
        text if mark is None else f"{text} (line {mark.line + 1}, column {mark.column + 1})"
        for text, mark in ((error.context, error.context_mark), (error.problem, error.problem_mark))
        if text
    ]
    return ": ".join(parts)


def _line_of(place: Any) -> int:
    """Line of an event or a node, from 1 on."""
    return int(place.start_mark.line) + 1


def _shown(node: Node) -> str:
    text = str(node.value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _joined(lines: list[int]) -> str:
    return " and ".join(map(str, dict.fromkeys(lines)))
