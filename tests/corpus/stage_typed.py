"""Claude Code as people use it: in a terminal, with what they type, and with servers of their own settings
(``stage_settings.py``). Without a terminal, and told by its command line what to do: ``stage_host.py``."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import sys
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from oomless.demo.model import Rule, Turn

from .stage import Stage
from .stage_host import Session, Terminal
from .stage_parts import Server, claude

assert sys.platform == "linux"

#: Seconds between what is typed and Enter (as one piece, Claude Code takes it for a paste), and without output.
PAUSE, STILL = 0.7, 1.0


class Screen(Terminal):
    """A terminal that somebody looks at: what is written there is read, else its writer stands still."""

    def __init__(self, stage: Stage, role: str, *argv: str) -> None:
        super().__init__(stage, role, *(argv or ("/bin/bash", "--norc", "--noprofile", "-i")))
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self._seen, self._last, self._closing = b"", time.monotonic(), threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._closing.is_set():
            try:
                if select.select([self._fd], [], [], 0.1)[0]:
                    self._seen += os.read(self._fd, 65536)
                    self._last = time.monotonic()
            except OSError:
                return  # whoever had its other end is gone

    def said(self) -> str:
        return self._seen.decode(errors="replace")

    def still(self) -> bool:
        """Nothing moves: what is typed now is not lost to somebody who is busy."""
        return time.monotonic() - self._last > STILL

    def hang_up(self) -> None:
        """Whoever reads from it holds it: the reader ends first."""
        self._closing.set()
        self._reader.join()
        super().hang_up()


class Typed(Session):
    """``go`` is its first prompt; when its turns are played, it waits for the next."""

    def __init__(
        self,
        stage: Stage,
        name: str,
        screen: Screen,
        project: Path,
        servers: Sequence[Server] = (),
        turns: Sequence[Turn] = (),
        *,
        rules: Sequence[Rule] = (),
        options: Sequence[str] = (),
    ) -> None:
        self.screen, self._options = screen, tuple(options)
        super().__init__(stage, name, servers, turns, launch=False, project=project, rules=rules)
        screen.type(self.line())

    def _last(self) -> list[Turn]:
        return []

    def command(self) -> list[str]:
        return [claude(), "--dangerously-skip-permissions", *self._options, "go"]

    def script(self, command: str) -> str:
        return f"cd {self.project}\nTERM=xterm-256color {command}\n"

    def said(self) -> str:
        return self.screen.said()

    def enter(self, text: str) -> None:
        self.stage.wait(self.screen.still, 30, f"{self.name} waits for what is typed")
        self.screen.type(text, end="")
        time.sleep(PAUSE)
        self.screen.type("", end="\r")

    def _ask_again(self, server: Server) -> None:
        self.enter(f"/mcp reconnect {server.name}")

    def exit(self) -> None:
        who = self.process_id
        self.enter("/exit")
        self.gone(who)
