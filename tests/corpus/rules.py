"""Which rules gave the verdicts: the hash of their sources, and the name of the rules that they are the same as.

A scene is held out if it was recorded with the rules of today. A refactoring changes the sources and no verdict, so
``rules.json`` declares which hash is the same as the one that the scenes name, and holds a digest of the verdicts of
each scene. ``python -m tests.corpus --same-rules`` declares it anew, and refuses if any verdict has changed;
``--new-rules`` accepts the new verdicts, and the scenes of which any has changed its verdict are held out no more.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

import oomless

HERE = Path(__file__).parent
DECLARED = HERE / "rules.json"
#: The packages whose modules are rules, if a replay of the corpus imports them; and what is none of the rules.
ROOMS = ("oomless.census", "oomless.catalog", "oomless.processes", "oomless.hosts", "oomless.listing")
PROPOSAL, NO_RULES = "oomless.reports.reap", "oomless.census.findings"
Kind = Literal["scenes", "listings"]
SAY = "say: python -m tests.corpus --same-rules"


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """``sources``: the hash of the sources that give these verdicts; ``scenes`` and ``listings``: the hash that a
    recorded scene or a listing names which is held out; ``verdicts``: by the name of a scene, ``digest()``."""

    schema: Literal["oomless.corpus-rules/1"] = "oomless.corpus-rules/1"
    sources: str
    scenes: str
    listings: str
    verdicts: dict[str, str]


@functools.cache
def declared() -> Declared:
    return msgspec.json.decode(DECLARED.read_bytes(), type=Declared)


def declare(found: Declared, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def name(kind: Kind) -> str:
    """What a scene calls the rules that it is recorded with today. Sources that nobody declared have only a hash."""
    known = declared()
    return getattr(known, kind) if known.sources == sources_hash() else sources_hash()


def digest(verdicts: Iterable[tuple[int, str, float, bool]]) -> str:
    """Of one scene: pid, verdict, confidence and whether ``reap`` proposes it, of each process that is listed."""
    lines = (f"{pid} {verdict} {confidence:.2f} {proposed}\n" for pid, verdict, confidence, proposed in verdicts)
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()[:16]


def changed(before: Declared, verdicts: dict[str, str]) -> list[str]:
    """Names of the scenes whose verdicts are not those that were declared; of new ones there were none."""
    return sorted(scene for scene, found in verdicts.items() if before.verdicts.get(scene, found) != found)


# -- the sources -----------------------------------------------------------------------------------------------------


@functools.cache
def sources_hash() -> str:
    return hash_of(sources())


def hash_of(paths: Iterable[Path]) -> str:
    """Of names and contents."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_root()).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def sources() -> frozenset[Path]:
    """The modules of the rules that a replay imports, directly or not, and the known programs."""
    seen = set[str]()
    todo = [name for module in ("scene.py", "listing.py") for name in _imported(HERE / module)]
    while todo:
        module = todo.pop()
        path = _file(module)
        if path is not None and module not in seen:
            seen.add(module)
            todo += _imported(path)
    rules = (module for module in seen if _is_rule(module))
    return frozenset((*filter(None, map(_file, rules)), *(_root() / "catalog").glob("*.toml")))


def _is_rule(module: str) -> bool:
    in_room = any(f"{module}.".startswith(f"{room}.") for room in ROOMS)
    return module == PROPOSAL or (in_room and not f"{module}.".startswith(f"{NO_RULES}."))


def _root() -> Path:
    return Path(oomless.__path__[0]).resolve()


def _file(module: str) -> Path | None:
    path = _root().parent.joinpath(*module.split("."))
    found = (one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file())
    return next(found, None)


def _imported(path: Path) -> Iterator[str]:
    """Modules of the program, and names in modules; the package itself hands out what is no rule."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.startswith("oomless."))
