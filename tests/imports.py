"""Find out from the syntax of Python source what it imports, in any form, and where it joins paths."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.util import resolve_name

BY_NAME = {"import_module", "__import__", "resolve_name"}  # functions that import by a string
JOINING = {"joinpath", "with_name", "with_stem", "with_suffix"}  # methods of paths that return other paths


class Source:
    """The source of a module.

    Args:
        text: the source.
        package: the package that relative imports start from.
    """

    def __init__(self, text: str, package: str = "") -> None:
        self.package = package
        self._tree = ast.parse(text)
        self._nodes = list(ast.walk(self._tree))  # also those inside functions and conditions

    @cached_property
    def imports(self) -> set[str]:
        """Dotted names of everything that is imported; for ``from a import b`` this is ``a.b``, module or not."""
        by_name = {name for name, _ in self._imports_by_name() if name is not None}
        return by_name | set(self._imports_by_statement()) | set(self._reached_by_attribute())

    @cached_property
    def computed_imports(self) -> list[int]:
        """Lines that import a module whose name is computed at run time."""
        return [line for name, line in self._imports_by_name() if name is None]

    @cached_property
    def constants(self) -> dict[str, str]:
        """String constants at the top level of the module, by name."""
        assigned = [node for node in self._tree.body if isinstance(node, ast.Assign) and _is_text(node.value)]
        targets = [(target, node.value) for node in assigned for target in node.targets]
        return {ast.unparse(target): ast.literal_eval(value) for target, value in targets}

    def joined_paths(self, constants: Mapping[str, str]) -> list[int]:
        """Lines that join paths: by dividing by a string, or by a method of paths.

        Args:
            constants: string constants that the module imports, by name.
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
        """Names passed to functions that import, None for computed ones, each with its line."""
        for node in self._nodes:
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                name, package = [*(_text(each, self.constants) for each in given), None][:2]
                yield None if name is None else self._absolute(name, package), node.lineno

    def _reached_by_attribute(self) -> Iterator[str]:
        """Attribute chains ``a.b.c`` that start at an imported module ``a``."""
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
    """The string of a literal or of a named constant; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return texts.get(ast.unparse(node))


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
