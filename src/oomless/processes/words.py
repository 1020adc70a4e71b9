"""Split one line of text into arguments: a title that a process wrote over its own, or what a listing prints.

Words are separated by blanks, and quotes are gone. Paths on macOS contain blanks; they are put together again by the
form of its bundles, ``NAME.app/Contents/MacOS/NAME``, and the folder ``Library/Application Support``.
"""

from __future__ import annotations

import re

#: Where bundles and their helpers lie; elsewhere a blank is taken for the end of a word.
_MAC_FOLDERS = ("/Applications/", "/System/", "/Users/", "/Library/", "/Volumes/", "/private/", "/opt/homebrew/")
_OPTION = re.compile(r"--?[A-Za-z]")
_FIRST_OPTION = re.compile(r" (?=--?[A-Za-z])")
_BUNDLE = re.compile(r".*/([^/]+)\.app/Contents/MacOS/([^/]*)$")
_SUPPORT = "/Library/Application"
#: No path has more blanks; it bounds the work on a line of any length.
_MOST_WORDS = 24


def split_title(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Node programs and Electron's children overwrite their arguments with one line, blanks between:
    ``npm exec PACKAGE``, ``/usr/share/code/code --type=zygote``. A path with blanks in it stays whole."""
    if len(argv) != 1 or " " not in argv[0]:
        return argv
    line = argv[0]
    if not line.startswith("/") or _is_mac(line):
        return split_line(line)
    path, *options = _FIRST_OPTION.split(line, maxsplit=1)
    return (path, *(split_line(options[0]) if options else ()))


def split_line(line: str) -> tuple[str, ...]:
    """The words of a printed command, paths of macOS put together again."""
    words = line.split()
    if _SUPPORT not in line and ".app/" not in line:
        return tuple(words)
    arguments: list[str] = []
    at = 0
    while at < len(words):
        next_words = words[at : at + _MOST_WORDS]
        count = _count(next_words)
        arguments.append(" ".join(next_words[:count]))
        at += count
    return tuple(arguments)


def _is_mac(line: str) -> bool:
    return line.startswith(_MAC_FOLDERS) and (".app/" in line or f"{_SUPPORT} Support/" in line)


def _count(words: list[str]) -> int:
    """The number of words of the first argument: up to the last one that continues a bundle's path or the support
    folder, and then to the end of the name of the bundle's program."""
    option, equals, path = words[0].partition("=")
    path = path if equals and option.startswith("-") else words[0]
    if not path.startswith(_MAC_FOLDERS):
        return 1
    last = 1
    for at in range(1, len(words)):
        word = words[at]
        if word.startswith("/") or _OPTION.match(word):
            break
        named = word.startswith("Support/") and " ".join(words[:at]).endswith(_SUPPORT)
        if ".app/" in word or named:
            last = at + 1
    return _to_name(words, last)


def _to_name(words: list[str], last: int) -> int:
    """``Code Helper (Plugin).app/Contents/MacOS/Code`` goes on with ``Helper (Plugin)``; a line that was cut off may
    end within the name."""
    bundle = _BUNDLE.match(" ".join(words[:last]))
    if bundle is None or bundle[1] == bundle[2]:
        return last
    for at in range(last, len(words)):
        name = f"{bundle[2]} {' '.join(words[last : at + 1])}"
        if name == bundle[1] or (at == len(words) - 1 and bundle[1].startswith(name)):
            return at + 1
        if not bundle[1].startswith(name):
            break
    return last
