"""Asks circus or supervisord, over its own control socket, to stop the program ``tree``. Runs in their environment.

    python _client.py circus|supervisord SOCKET

Each line on stdin is a request; the answer is the moment just before it was sent, in nanoseconds of the monotonic
clock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def circus(socket: str) -> Callable[[], object]:
    from circus.client import CircusClient  # type: ignore[import-not-found, import-untyped, unused-ignore]

    client = CircusClient(endpoint=f"ipc://{socket}", timeout=15)
    return lambda: client.send_message("stop", name="tree", waiting=True)


def supervisord(socket: str) -> Callable[[], object]:
    from xmlrpc.client import Fault, ServerProxy

    from supervisor.xmlrpc import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        SupervisorTransport,
    )

    server = ServerProxy("http://127.0.0.1", transport=SupervisorTransport(serverurl=f"unix://{socket}"))

    def stop() -> object:
        try:
            return server.supervisor.stopProcess("tree")
        except Fault as error:  # its program has ended by itself: there is nothing that it would stop
            return error

    return stop


def main() -> None:
    stop = {"circus": circus, "supervisord": supervisord}[sys.argv[1]](sys.argv[2])
    print("ready", flush=True)
    for _ in sys.stdin:
        print(time.monotonic_ns(), flush=True)
        stop()


if __name__ == "__main__":
    main()
