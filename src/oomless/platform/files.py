"""Small control files of the kernel: read and written as wholes. Standard library only."""

from __future__ import annotations

import os


def read_file(path: str) -> bytes | None:
    """The whole file, or None if it is gone or not ours to read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(fd)


def read(path: str) -> str:
    """The text, or "" if it is gone or not readable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def read_int(path: str) -> int | None:
    """The number in it, or None ("max", gone, not readable)."""
    text = read(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def read_field(path: str, name: str) -> int | None:
    """The number behind ``name`` in a file of ``name value`` lines."""
    for line in read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return None


def write(path: str, text: str) -> None:
    """One write, as the kernel wants it; raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def try_write(path: str, text: str) -> bool:
    try:
        write(path, text)
        return True
    except OSError:
        return False
