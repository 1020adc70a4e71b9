"""The ends of processes by pidfd and epoll, in the place of macOS' kqueue: as a Mac tells them, but for forks."""

from __future__ import annotations

import os
import select

_OPEN, _EPOLL, _EPOLLIN = os.pidfd_open, select.epoll, select.EPOLLIN


class Exits:
    def __init__(self) -> None:
        self._epoll = _EPOLL()
        self.fd = self._epoll.fileno()
        self._watched: dict[int, int] = {}

    def watch(self, pid: int) -> bool:
        if pid in self._watched:
            return True
        try:
            fd = _OPEN(pid)
        except ProcessLookupError:
            return False
        self._watched[pid] = fd
        self._epoll.register(fd, _EPOLLIN)
        return True

    def take(self) -> None:
        ended = {fd for fd, _ in self._epoll.poll(0)}
        for pid, fd in list(self._watched.items()):
            if fd in ended:
                self._epoll.unregister(fd)
                os.close(self._watched.pop(pid))

    def close(self) -> None:
        self._epoll.close()
        for fd in self._watched.values():
            os.close(fd)
