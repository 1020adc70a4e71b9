"""Messages of the kernel's socket diagnosis, made by hand."""

from __future__ import annotations

import socket
import struct

import pytest

from oomless.platform import sockets


class TestMessages:
    """``_peer`` on what sock_diag(7) may answer."""

    def message(self, kind: int, **attributes: int) -> bytes:
        body = struct.pack("=BBBBIII", socket.AF_UNIX, kind, 1, 0, 77, 0, 0)
        if "peer" in attributes:
            body += struct.pack("=HHI", 8, 2, attributes["peer"])
        if "shutdown" in attributes:
            body += struct.pack("=HHB3x", 5, 6, attributes["shutdown"])
        return body

    @pytest.mark.parametrize(
        ("kind", "attributes", "end"),
        [
            (socket.SOCK_STREAM, {"peer": 88, "shutdown": 0}, "held"),
            (socket.SOCK_STREAM, {"peer": 88, "shutdown": 3}, "held"),
            (socket.SOCK_STREAM, {"peer": 0, "shutdown": 3}, "gone"),
            (socket.SOCK_STREAM, {"shutdown": 3}, "gone"),
            (socket.SOCK_SEQPACKET, {"shutdown": 3}, "gone"),
            (socket.SOCK_STREAM, {"peer": 0, "shutdown": 1}, "unknown"),
            (socket.SOCK_STREAM, {"peer": 0, "shutdown": 0}, "unknown"),
            (socket.SOCK_STREAM, {}, "unknown"),
            (socket.SOCK_DGRAM, {"peer": 0, "shutdown": 3}, "unknown"),
        ],
    )
    def test_only_a_peer_that_is_closed_is_gone(self, kind: int, attributes: dict[str, int], end: str) -> None:
        assert sockets._peer(self.message(kind, **attributes))[:2] == (77, end)

    @pytest.mark.parametrize("cut", range(28))
    def test_a_message_cut_short_is_read_as_far_as_it_goes(self, cut: int) -> None:
        whole = self.message(socket.SOCK_STREAM, peer=88, shutdown=3)
        assert sockets._peer(whole[:cut])[1] in ("unknown", "held")
        assert list(sockets._messages(whole[:cut])) is not None
