"""The one command that builds a part into a folder: pip's for what comes from PyPI, npm's for the servers.

Both run with the user's own environment and settings (index, proxy, certificates), with few tries, so that a machine
without a network is told so in seconds. Running them: ``build.py``.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec

from oomless.demo.parts.cache import TEMPORARY
from oomless.demo.parts.catalog import NODE, Part
from oomless.errors import OomlessError


class Command(msgspec.Struct, frozen=True, kw_only=True):
    argv: tuple[str, ...]
    env: dict[str, str]


class _Package(msgspec.Struct, frozen=True, kw_only=True):
    """The ``package.json`` of a server's folder."""

    private: bool = True
    dependencies: dict[str, str]


def node_binary(place: Path) -> Path:
    """The program itself, in the folder of the part ``node``."""
    return place / NODE.files[0]


def prepare(part: Part, draft: Path, node: Path) -> Command:
    """The command that fills ``draft``, after what it needs there is written; ``node``: that part's folder."""
    return _npm(part, draft, node) if part.source == "npm" else _pip(part, draft)


def _pip(part: Part, draft: Path) -> Command:
    """pip unpacks into a temporary folder first and moves the result: that one is in the draft too, so that it is on
    the same disk and goes with it."""
    temporary = draft / TEMPORARY
    temporary.mkdir()
    requirement = f"{part.package}=={part.version}"
    options = ("--no-deps", "--only-binary", ":all:", "--target", str(draft), requirement)
    env = {**os.environ, "TMPDIR": str(temporary), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    if find_spec("pip"):
        argv = (sys.executable, "-m", "pip", "install", "--no-cache-dir", "--no-compile", "--retries", "1", *options)
        return Command(argv=argv, env=env)
    uv = shutil.which("uv")
    if uv:
        return Command(argv=(uv, "pip", "install", "--no-cache", "--python", sys.executable, *options), env=env)
    raise OomlessError("the real parts cannot be installed", f"{sys.executable} has no pip", "install pip or uv")


def _npm(part: Part, draft: Path, node: Path) -> Command:
    package = _Package(dependencies={part.package: part.version})
    (draft / "package.json").write_bytes(msgspec.json.encode(package))
    program = node_binary(node)
    argv = (str(program), str(node / NODE.files[1]), "install", "--no-audit", "--no-fund", "--omit=dev")
    return Command(argv=(*argv, *part.options), env=npm_environment(program))


def npm_environment(program: Path) -> dict[str, str]:
    """npm's scripts find this Node first, and native code is compiled against its own headers."""
    return {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "npm_config_nodedir": str(program.parent.parent),
        "npm_config_python": sys.executable,
        "npm_config_update_notifier": "false",
        "npm_config_progress": "false",
        "npm_config_fetch_retries": "1",
        "npm_config_fetch_retry_mintimeout": "1000",
        "npm_config_fetch_timeout": "60000",
        "npm_config_omit_lockfile_registry_resolved": "true",
    }
