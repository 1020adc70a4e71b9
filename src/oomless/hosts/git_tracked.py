"""Whether git has a file, or would take it with the next ``git add``: such a file must not hold a token.

Asks git itself, with nothing of the caller's environment that points it elsewhere, and only below a ``.git``: where
there is none, git need not be installed.
"""

from __future__ import annotations

import os
import subprocess

from oomless.errors import UsageError

SECONDS = 10
#: ``ls-files`` would run a program that the repository's settings name as its file system monitor.
GIT = ("git", "-c", "core.fsmonitor=false")


def refuse_tracked(path: str, backup: str, config_variable: str) -> None:
    """Raises UsageError if ``path`` is tracked, or if it or ``backup`` (the name of one) is not ignored. ``path`` has
    no links in it; ``config_variable`` is what the host has its settings elsewhere by."""
    elsewhere = f"set {config_variable} to a folder outside"
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    if not _is_in_repository(folder):
        return
    if _ask_git(path, folder, "ls-files", "--error-unmatch", "--", path) == 0:
        raise _refusal(path, "git tracks it", f"git rm --cached it and ignore it, or {elsewhere}")
    for name in (path, backup):
        if _ask_git(path, folder, "check-ignore", "--quiet", "--", name) == 1:
            hint = f"add it and {os.path.basename(path)}.oomless-* to .gitignore, or {elsewhere}"
            raise _refusal(path, f"{name} is in a git repository and not ignored", hint)


def _refusal(path: str, why: str, hint: str) -> UsageError:
    return UsageError(f"{path} is not for a token", why, hint)


def _is_in_repository(folder: str) -> bool:
    while not os.path.lexists(os.path.join(folder, ".git")):
        if folder == os.path.dirname(folder):
            return False
        folder = os.path.dirname(folder)
    return True


def _ask_git(path: str, folder: str, *words: str) -> int:
    """Returns git's exit status, 0 or 1. A ``.git`` that is no repository tracks nothing and ignores everything."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            [*GIT, "-C", folder, *words],
            env={**environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise _refusal(path, "it is in a git repository, and there is no git to ask", "install git") from None
    except subprocess.TimeoutExpired:
        raise _refusal(path, f"git does not say in {SECONDS} s whether it tracks it", "try again") from None
    if done.returncode in (0, 1):
        return done.returncode
    if b"not a git repository" in done.stderr:
        return 1 if words[0] == "ls-files" else 0
    why = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
    raise _refusal(path, f"git cannot tell whether it tracks it: {why}", "")
