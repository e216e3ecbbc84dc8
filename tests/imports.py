"""What a piece of Python source imports, in whatever form, and where it joins paths: by its syntax alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.util import resolve_name

BY_NAME = {"import_module", "__import__", "resolve_name"}  # functions that import what a text names
JOINING = {"joinpath", "with_name", "with_stem", "with_suffix"}  # methods of paths that make other paths


class Source:
    """A module's text.

    Args:
        text: the source.
        package: where its relative imports start from.
    """

    def __init__(self, text: str, package: str = "") -> None:
        self.package = package
        self._tree = ast.parse(text)
        self._nodes = list(ast.walk(self._tree))  # those inside functions and conditions as well

    @cached_property
    def imports(self) -> set[str]:
        """Dotted names of all that is imported; of ``from a import b`` it is ``a.b``, be it a module or not."""
        by_name = {name for name, _ in self._imports_by_name() if name is not None}
        return by_name | set(self._imports_by_statement()) | set(self._reached_by_attribute())

    @cached_property
    def computed_imports(self) -> list[int]:
        """Lines that import a module whose name is known at run time only."""
        return [line for name, line in self._imports_by_name() if name is None]

    @cached_property
    def constants(self) -> dict[str, str]:
        """The texts that the module assigns to names, at its top."""
        assigned = [node for node in self._tree.body if isinstance(node, ast.Assign) and _is_text(node.value)]
        targets = [(target, node.value) for node in assigned for target in node.targets]
        return {ast.unparse(target): ast.literal_eval(value) for target, value in targets}

    def joined_paths(self, constants: Mapping[str, str]) -> list[int]:
        """Lines that put a path together: by a division by a text, or by a method of paths.

        Args:
            constants: names of texts that the module has from others.
        """
        texts = {**constants, **self.constants}
        nodes = [node for node in self._nodes if isinstance(node, ast.Call | ast.BinOp)]
        return sorted({node.lineno for node in nodes if _joins(node, texts)})

    def _imports_by_statement(self) -> Iterator[str]:
        for node in self._nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                module = self._absolute("." * node.level + (node.module or ""))
                yield from (f"{module}.{alias.name}" for alias in node.names)

    def _imports_by_name(self) -> Iterator[tuple[str | None, int]]:
        """Names that functions import by, None where they are computed, and lines."""
        for node in self._nodes:
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                name, package = [*(_text(each, self.constants) for each in given), None][:2]
                yield None if name is None else self._absolute(name, package), node.lineno

    def _reached_by_attribute(self) -> Iterator[str]:
        """``a.b.c``, where ``a`` was imported as a module."""
        aliases = [alias for node in self._nodes if isinstance(node, ast.Import) for alias in node.names]
        roots = {alias.asname or alias.name.partition(".")[0]: alias for alias in aliases}
        for node in self._nodes:
            if isinstance(node, ast.Attribute):
                root, _, rest = ast.unparse(node).partition(".")
                if root in roots:
                    yield f"{roots[root].name if roots[root].asname else root}.{rest}"

    def _absolute(self, name: str, package: str | None = None) -> str:
        return resolve_name(name, package or self.package) if name.startswith(".") else name


def _joins(node: ast.Call | ast.BinOp, texts: Mapping[str, str]) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr in JOINING
    operands = (node.left, node.right) if isinstance(node.op, ast.Div) else ()
    return any(isinstance(each, ast.JoinedStr) or _text(each, texts) is not None for each in operands)


def _text(node: ast.expr, texts: Mapping[str, str]) -> str | None:
    """The text that an expression is, as it stands or by the name of a constant."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return texts.get(ast.unparse(node))


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
