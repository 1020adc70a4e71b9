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


def dependencies(src: Path, path: Path) -> set[str]:
    """The modules of ours that a file needs, also for types and within functions. ``from package import module``
    needs that module, and the package only if the name is the package's own."""
    me = module_name(src, path)
    needed = set()
    for name in imported(src, path, deep=True):
        file = module_file(src, name) if name.split(".")[0] == "oomless" else None
        if file is not None and (file.name != "__init__.py" or _names_of(src, path, name)):
            needed.add(name)
    return needed - {me}


def _names_of(src: Path, path: Path, package: str) -> set[str]:
    """What a file takes from a package itself, not from its modules."""
    taken: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            taken |= {alias.name for alias in node.names if alias.name == package}
        elif isinstance(node, ast.ImportFrom) and node.module == package:
            taken |= {alias.name for alias in node.names if not module_file(src, f"{package}.{alias.name}")}
    return taken


def circles(src: Path) -> list[list[str]]:
    """Modules that need each other, directly or through others (Tarjan's strongly connected components)."""
    needs = {module_name(src, path): dependencies(src, path) for path in sorted((src / "oomless").rglob("*.py"))}
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        path.append(module)
        for other in sorted(needs[module] & needs.keys()):
            if other not in order:
                visit(other)
            if other in path:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == order[module]:
            at = path.index(module)
            circle, path[at:] = path[at:], []
            if len(circle) > 1:
                found.append(sorted(circle))

    for module in needs:
        if module not in order:
            visit(module)
    return found
