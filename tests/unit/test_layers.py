"""The two rules of ARCHITECTURE.md on imports: rooms import downward only, and the shim and the fast commands load
nothing outside the standard library."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from modules import circles, imported, module_file, module_name

SRC = Path(__file__).parents[2] / "src"


def levels() -> dict[str, int]:
    """The rooms of ARCHITECTURE.md from the top down; modules that share an entry share a level."""
    text = (SRC.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    listed = text.partition("## Rooms")[2].split("```")[1].strip()
    found: dict[str, int] = {}
    level = 0
    for line in listed.splitlines():
        first = re.match(r"(\w+)(/|\.py)", line)
        level -= 1 if first else 0
        if first and first[2] == "/":
            found[first[1]] = level
        elif first or "model" in found:
            found |= dict.fromkeys(re.findall(r"(\w+)\.py", line), level)
    return found


LEVEL = levels()

STANDARD_ONLY = (
    "errors",
    "units",
    "paths",
    "platform.namespaces",
    "platform.proc",
    "platform.files",
    "platform.pss",
    "protocol.lease",
    "protocol.spawn",
    "hosts",
    "hosts.base",
    "hosts.claude_code.facts",
    "processes.descent",
    "processes.detach",
    "cli",
    "cli.run",
    "cli.hook",
)
STANDARD_ONLY_ROOM, NOT_IN_IT = "contain", "contain.sweep"


def upward(src: Path) -> list[str]:
    """Every import that points up; the package itself and ``__main__`` hand out what is above and are exempt."""
    wrong = []
    for path in sorted((src / "oomless").rglob("*.py")):
        module = module_name(src, path)
        room = module.split(".")[1] if "." in module else ""
        if room in ("", "__main__"):
            continue
        assert room in LEVEL, f"{room} has no level in ARCHITECTURE.md"
        for name in sorted(imported(src, path, deep=True)):
            other = name.split(".")[1] if name.startswith("oomless.") else ""
            if other and LEVEL[other] > LEVEL[room]:
                wrong.append(f"{module} imports {name}")
    return wrong


def foreign(src: Path, module: str) -> list[str]:
    """What loading ``module`` loads that is neither ours nor of the standard library, each with who imports it."""
    found, seen, todo = [], set(), [module]
    while todo:
        name = todo.pop()
        path = module_file(src, name)
        if path is None or name in seen:
            continue
        seen.add(name)
        todo += [name.rpartition(".")[0]] if "." in name else []
        for other in sorted(imported(src, path, deep=False)):
            if other.split(".")[0] == "oomless":
                todo.append(other)
            elif other.split(".")[0] not in sys.stdlib_module_names:
                found.append(f"{name} imports {other}")
    return found


def standard_only() -> list[str]:
    room = [module_name(SRC, path) for path in sorted((SRC / "oomless" / STANDARD_ONLY_ROOM).rglob("*.py"))]
    rest = [f"oomless.{name}" for name in STANDARD_ONLY]
    return [name for name in rest + room if name != f"oomless.{NOT_IN_IT}" and module_file(SRC, name)]


def test_levels_are_those_of_the_page() -> None:
    assert LEVEL["cli"] > LEVEL["governor"] > LEVEL["contain"] > LEVEL["platform"] > LEVEL["model"]
    assert LEVEL["model"] == LEVEL["config"] == LEVEL["paths"] == LEVEL["errors"]
    assert "output" not in LEVEL


def test_rooms_import_downward() -> None:
    assert upward(SRC) == []


def test_modules_import_in_no_circle() -> None:
    assert circles(SRC) == []


CLIENTS = ("cli", "demo", "engines", "reports", "governor")


def test_clients_speak_the_protocol_and_know_nothing_of_the_daemon() -> None:
    reaching = [
        f"{module_name(SRC, path)} imports {name}"
        for path in sorted((SRC / "oomless").rglob("*.py"))
        if module_name(SRC, path).split(".")[1:2] and module_name(SRC, path).split(".")[1] in CLIENTS
        for name in sorted(imported(SRC, path, deep=True))
        if name == "oomless.daemon" or name.startswith("oomless.daemon.")
    ]
    assert reaching == []


#: By what the daemon may ask the operating system: facts with types, processes and groups by neutral names, files.
NEUTRAL = {f"oomless.platform{part}" for part in ("", ".base", ".files", ".system")}
LINUX_NAMES = {"SO_PEERCRED", "CLOCK_BOOTTIME", "pidfd_open", "pidfd_send_signal", "epoll", "AF_NETLINK"}
LINUX_FOLDERS = ("/proc", "/sys")


def linux_only(src: Path) -> list[str]:
    """What modules of the daemon import, name or open that only Linux has."""
    found = []
    for path in sorted((src / "oomless/daemon").rglob("*.py")):
        module = module_name(src, path)
        for name in sorted(imported(src, path, deep=True)):
            if name.startswith("oomless.platform") and name not in NEUTRAL:
                found.append(f"{module} imports {name}")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in LINUX_NAMES:
                found.append(f"{module} uses {node.attr}")
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and node.value.startswith(LINUX_FOLDERS)
            ):
                found.append(f"{module} opens {node.value}")
    return found


def test_the_daemon_asks_the_operating_system_by_neutral_names() -> None:
    assert linux_only(SRC) == []


#: A file of ``/proc`` or ``/sys``, or of a control group.
KERNEL_FILE = re.compile(r"^/(proc|sys)/|/(cgroup|memory|pids)\.\w")
#: A program that a browser names as its own, compared and never opened.
COMPARED = "/proc/self/exe"


def kernel_files(src: Path) -> list[str]:
    """Files of the kernel that modules outside of ``platform/`` name."""
    return [
        f"{module_name(src, path)} names {node.value}"
        for path in sorted((src / "oomless").rglob("*.py"))
        if path.parent != src / "oomless/platform"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and KERNEL_FILE.search(node.value)
        and "\n" not in node.value  # a docstring
        and node.value != COMPARED
    ]


def test_platform_alone_opens_files_of_the_kernel() -> None:
    assert kernel_files(SRC) == []


def test_a_file_of_the_kernel_is_found(tmp_path: Path) -> None:
    files = {
        "contain/bad.py": "open(f'{folder}/memory.max')\nopen(f'/proc/{1}/stat')\n",
        "contain/good.py": "raise OSError(95, 'this kernel has no cgroup.kill')\n",
        "platform/proc.py": "open('/proc/self/mountinfo')\n",
    }
    assert kernel_files(make(tmp_path, files)) == [
        "oomless.contain.bad names /memory.max",
        "oomless.contain.bad names /proc/",
    ]


def private_modules(src: Path) -> list[str]:
    """Modules below the standard library's, as CPython names them, that others than ``lean`` import."""
    return [
        f"{module_name(src, path)} imports {name}"
        for path in sorted((src / "oomless").rglob("*.py"))
        if path != src / "oomless/lean.py"
        for name in sorted(imported(src, path, deep=True))
        if re.match(r"_(?!_)", name)
    ]


def test_lean_alone_knows_the_private_modules_of_cpython() -> None:
    assert private_modules(SRC) == []


def test_a_private_module_is_found(tmp_path: Path) -> None:
    files = {"lean.py": "import _signal\n", "contain/link.py": "from __future__ import annotations\nimport _socket\n"}
    assert private_modules(make(tmp_path, files)) == ["oomless.contain.link imports _socket"]


def test_what_only_linux_has_is_found(tmp_path: Path) -> None:
    files = {
        "daemon/good.py": "from oomless.platform import current, system\nfrom oomless.platform.system import Stat\n",
        "daemon/parts/bad.py": "import socket\nfrom oomless.platform import proc\nsocket.SO_PEERCRED\n"
        "open(f'/proc/{1}/stat')\n",
        "platform/__init__.py": "",
        "platform/proc.py": "",
        "platform/system.py": "",
    }
    assert linux_only(make(tmp_path, files)) == [
        "oomless.daemon.parts.bad imports oomless.platform.proc",
        "oomless.daemon.parts.bad uses SO_PEERCRED",
        "oomless.daemon.parts.bad opens /proc/",
    ]


@pytest.mark.parametrize("module", standard_only())
def test_standard_library_only(module: str) -> None:
    assert foreign(SRC, module) == []


def make(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / "oomless" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_an_import_that_points_up_is_found(tmp_path: Path) -> None:
    src = make(
        tmp_path,
        {
            "__init__.py": "def f():\n    from oomless import governor\n",
            "governor.py": "from oomless.daemon import client",
            "daemon/__init__.py": "",
            "daemon/client.py": "import os\n",
            "census/__init__.py": "",
            "census/who.py": "def f():\n    from ..daemon import client\n",
            "platform/proc.py": "import oomless.census.who\n",
        },
    )
    assert upward(src) == [
        "oomless.census.who imports oomless.daemon",
        "oomless.census.who imports oomless.daemon.client",
        "oomless.platform.proc imports oomless.census.who",
    ]


def test_a_circle_is_found(tmp_path: Path) -> None:
    src = make(
        tmp_path,
        {
            "__init__.py": "",
            "a/__init__.py": "from oomless.a.x import f\n",
            "a/x.py": "def f():\n    from oomless import b\n",
            "a/y.py": "from oomless.a import x\n",
            "b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from oomless.a import f\n",
        },
    )
    assert circles(src) == [["oomless.a", "oomless.a.x", "oomless.b"]]


def test_a_foreign_import_is_found_through_others(tmp_path: Path) -> None:
    src = make(
        tmp_path,
        {
            "__init__.py": "",
            "contain/__init__.py": "try:\n    import rich\nexcept ImportError:\n    pass\n",
            "contain/shim.py": "from typing import TYPE_CHECKING\nimport os.path\nfrom oomless import model\n"
            "if TYPE_CHECKING:\n    import typer\ndef f():\n    import httptools\n",
            "model.py": "import msgspec\n",
        },
    )
    assert sorted(foreign(src, "oomless.contain.shim")) == [
        "oomless.contain imports rich",
        "oomless.model imports msgspec",
    ]
