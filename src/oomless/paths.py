"""Where oomless keeps its things: XDG folders, so that a test or another user can have a daemon of its own.

The lock and the journal live in the *state* folder, never in the runtime folder: cron, sudo and ssh see another
runtime folder, and would start a second daemon. The socket's place is written to ``daemon.json`` in the state
folder, and clients read it there. Standard library only: the shim and the fast commands import it.
"""

from __future__ import annotations

import os

from oomless import atomicfile
from oomless.errors import StateUnwritable

#: sun_path holds 108 bytes on Linux and 104 on macOS, with the closing NUL.
SOCKET_PATH_MAX = 100


class Paths:
    """The folders and files of one installation, from ``environ`` (default: this process's)."""

    __slots__ = ("config", "runtime", "state")

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        env = os.environ if environ is None else environ
        home = env.get("HOME") or os.path.expanduser("~")
        self.config = os.path.join(env.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "oomless")
        self.state = os.path.join(env.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state"), "oomless")
        self.runtime = env.get("XDG_RUNTIME_DIR") or ""

    @property
    def config_file(self) -> str:
        return os.path.join(self.config, "config.toml")

    @property
    def catalog_file(self) -> str:
        """The user's own known programs."""
        return os.path.join(self.config, "catalog.toml")

    @property
    def daemon_file(self) -> str:
        """JSON: ``pid``, ``start``, ``boot_id``, ``socket``, ``url``, ``version`` of the running daemon."""
        return os.path.join(self.state, "daemon.json")

    @property
    def port_file(self) -> str:
        """The port on 127.0.0.1 that the daemon had last: settings of hosts name it."""
        return os.path.join(self.state, "port")

    @property
    def daemon_lock(self) -> str:
        """Held (flock) by the daemon as long as it lives."""
        return os.path.join(self.state, "daemon.lock")

    @property
    def start_lock(self) -> str:
        """Held (flock) by the one client that is starting the daemon."""
        return os.path.join(self.state, "start.lock")

    @property
    def log(self) -> str:
        return os.path.join(self.state, "daemon.log")

    @property
    def journal(self) -> str:
        return os.path.join(self.state, "journal.db")

    @property
    def exits(self) -> str:
        """Exit records that shims wrote and no daemon has taken into the journal yet: ``<tree>.json``."""
        return os.path.join(self.state, "exits")

    @property
    def tmp(self) -> str:
        """Folders for temporary files of trees that asked for one: ``<tree>`` (``contain/private_tmp.py``)."""
        return os.path.join(self.state, "tmp")

    @property
    def batches(self) -> str:
        return os.path.join(self.state, "batches")

    def token(self, surface: str) -> str:
        return os.path.join(self.state, "tokens", surface)

    def socket(self) -> str:
        """The socket that a daemon started now binds: the runtime folder if it is ours and short enough. Its name
        carries the installation's id: daemons with state folders of their own may share a runtime folder."""
        name = f"{self.install_id()}.sock"
        for folder in (self.runtime and os.path.join(self.runtime, "oomless"), self.state):
            if folder and len(os.fsencode(folder)) + 1 + len(name) < SOCKET_PATH_MAX:
                parent = folder if folder == self.state else self.runtime
                if os.path.isdir(parent) and os.access(parent, os.W_OK):
                    return os.path.join(folder, name)
        return f"/tmp/oomless-{os.getuid()}-{self.install_id()}/{name}"

    def make(self) -> None:
        """Makes the state folder and its parts, 0700; raises StateUnwritable."""
        for folder in (self.state, self.exits, self.batches, os.path.dirname(self.token("read"))):
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(13, "Permission denied")
            except OSError as error:
                raise StateUnwritable(
                    f"cannot write the state folder {folder}",
                    error.strerror or str(error),
                    "make it writable, or set XDG_STATE_HOME to a folder of yours",
                ) from None

    def install_id(self) -> str:
        """Eight hex digits, made once: cgroups and markers carry them, and a sweep touches only its own."""
        path = os.path.join(self.state, "id")
        for _ in range(2):
            try:
                with open(path, encoding="ascii") as file:
                    install = file.read().strip()
                if install:
                    return install
            except FileNotFoundError:
                pass
            self.make()
            self._write_id(path)
        raise StateUnwritable(f"cannot read {path}", "it stays empty", "delete it")

    @staticmethod
    def _write_id(path: str) -> None:
        """Of several writers the first wins."""
        try:
            atomicfile.write_first(path, os.urandom(4).hex())
        except OSError as error:
            raise StateUnwritable(f"cannot write {path}", error.strerror or str(error), "free disk space") from None
