"""Why a build failed, in one line, from what it printed. Pure; the texts are those of pip 24, npm 11, node-gyp 12."""

from __future__ import annotations

import re

#: The first that fits wins: a build without a compiler complains about the network too (it
#: looked for a binary first).
_KNOWN = (
    (r"ENOSPC|No space left on device|os error 28", "the disk is full"),
    (r"find Python|Could not find any Python", "no Python for node-gyp, which compiles native code"),
    (
        r"not found: make|(g\+\+|c\+\+|cc|gcc): .*(not found|No such file)|cc1plus",
        "no C++ compiler (it needs make and g++)",
    ),
    (
        r"SELF_SIGNED_CERT|UNABLE_TO_(GET|VERIFY)|CERTIFICATE_VERIFY_FAILED",
        "the package index is not trusted (certificate)",
    ),
    (
        r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT"
        r"|NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|error sending request",
        "no network: the package index cannot be reached",
    ),
    (r"No matching distribution|no wheels? with a matching|ETARGET|E404", "this version is not offered here"),
    (r"EACCES|EPERM|Permission denied", "not allowed to write there"),
    (r"gyp ERR!", "native code did not compile"),
)


def why(output: str, exit_code: int | None) -> str:
    """``exit_code`` None: it was ended because it took too long."""
    for pattern, reason in _KNOWN:
        if re.search(pattern, output):
            return reason
    if exit_code is None:
        return "it took too long"
    lines = [
        line for line in output.splitlines() if re.match(r"npm error|ERROR:|error:", line)
    ] or output.splitlines()
    # Addresses may carry a password.
    last = re.sub(r"\w+://\S+", "(an address)", lines[-1])[:120] if lines else "it said nothing"
    return f"exit code {exit_code}: {last}"
