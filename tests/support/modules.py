"""What a module of the package imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def module_file(src: Path, module: str) -> Path | None:
    path = src.joinpath(*module.split("."))
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def module_name(src: Path, path: Path) -> str:
    parts = path.relative_to(src).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(node: ast.AST, deep: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports below ``node``; unless ``deep``, only those that run when the module is loaded."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif deep:
            yield from statements(child, deep)
        elif is_type_checking(child):
            assert isinstance(child, ast.If)
            for other in child.orelse:
                yield from statements(other, deep)
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from statements(child, deep)


def imported(src: Path, path: Path, *, deep: bool) -> set[str]:
    """Names of the modules that a file imports, absolute; submodules of ours named by ``from x import y`` too."""
    found: set[str] = set()
    package = module_name(src, path) if path.name == "__init__.py" else module_name(src, path).rpartition(".")[0]
    for node in statements(ast.parse(path.read_text(encoding="utf-8"), str(path)), deep):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        base = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, *([node.module] if node.module else [])])
        found.add(base)
        found |= {f"{base}.{a.name}" for a in node.names if module_file(src, f"{base}.{a.name}")}
    return found
