"""``signal``, and JSON in and out, without what the standard modules of these names load for it.

``import signal`` loads ``enum`` and ``import json`` loads ``re``: 7 ms of a tool shell's start, 1 MB in every shim.
The C modules below do the work; where an interpreter has no such JSON module, the standard one is used. Standard
library only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signal
    import socket as socket
    from hmac import compare_digest as compare_digest
    from typing import Any
else:
    import _signal as signal


def loads(text: str | bytes) -> Any:
    """Raises ValueError for what is not JSON."""
    decoded = (text.decode("utf-8") if isinstance(text, bytes) else text).strip(" \t\n\r")
    try:
        value, end = _scan(decoded, 0)
    except (StopIteration, SystemError):  # where ``json`` is not loaded, CPython 3.11 cannot make its own error
        raise ValueError(f"not JSON: {decoded[:40]!r}") from None
    if end != len(decoded):
        raise ValueError(f"more than one value: {decoded[end : end + 40]!r}")
    return value


def dumps(value: object) -> str:
    return "".join(_chunks(value, 0))


def _default(value: object) -> object:
    raise TypeError(f"{type(value).__name__} has no place in JSON")


class _Context:
    """The settings that the scanner reads, each at its default."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float, parse_int = float, int

    @staticmethod
    def parse_constant(name: str) -> float:
        return float(name.replace("Infinity", "inf"))


def _build_codec() -> tuple[Any, Any]:
    try:
        import _json

        ascii_only = _json.encode_basestring_ascii
        encoder = _json.make_encoder(None, _default, ascii_only, None, ": ", ", ", False, False, True)
        return _json.make_scanner(_Context), encoder  # type: ignore[arg-type]
    except (ImportError, AttributeError, TypeError):
        import json

        scan: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
        return scan, lambda value, level: (json.dumps(value),)


_scan, _chunks = _build_codec()


def name_of(number: int) -> str:
    """``SIGTERM`` for 15."""
    names = (name for name in dir(signal) if name.startswith("SIG") and name[3] != "_")
    return next((name for name in names if getattr(signal, name) == number), f"signal {number}")


def __getattr__(name: str) -> Any:
    """Loaded for those modules only that ask for them: ``socket`` (the package takes 0.8 MB more, and 4 ms),
    ``thread``, and ``compare_digest``, for which ``hmac`` would load OpenSSL: 3 MB."""
    if name == "socket":
        import _socket

        return _socket
    if name == "thread":
        import _thread

        return _thread
    if name == "compare_digest":
        from _operator import _compare_digest  # type: ignore[attr-defined, unused-ignore]

        return _compare_digest
    raise AttributeError(name)


def call_c(name: str, *arguments: int | bytes) -> int:
    """Calls a function of the C library with numbers and bytes, and returns its int; errno is lost. The ``ctypes``
    package would cost the shim 0.3 MB."""
    import _ctypes

    function = _ctypes.dlsym(_ctypes.dlopen(None, 0), name)  # type: ignore[arg-type]
    return int(_ctypes.call_function(function, arguments))


def call_c_for_errno(name: str, *arguments: int | bytes | None) -> int:
    """Calls a function of the C library that returns 0 when it has succeeded; returns 0 then, else the errno."""
    import _ctypes

    class Int(_ctypes._SimpleCData):  # type: ignore[type-arg]
        _type_ = "i"

    class Function(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
        _restype_ = Int

    function = Function(_ctypes.dlsym(_ctypes.dlopen(None, 0), name))  # type: ignore[arg-type]
    return _ctypes.get_errno() if function(*arguments) != 0 else 0
