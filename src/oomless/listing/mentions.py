"""Processes outside of tables: ``PID 19284: 635 MB`` in lists and reports, and evidence lines without a header.

Only lines that say both which process it is and something of it: its memory beside the number, or its command behind
user and number. A number that is merely mentioned is no process here. Pure.
"""

from __future__ import annotations

import re

from oomless.listing.facts import Listed
from oomless.listing.values import spoken_size

_PID = r"PID[ :#]{1,3}([0-9]{1,10})"
#: Bullets, numbers and branches before it.
_LEAD = r"(?:[-*•·|`+ \t─-╿]|[0-9]{1,3}[.)])*"
#: Between the number and its memory there must be a sign or a gap: ``PID: 1,522 MB`` and ``PID: 400-600 MB`` name no
#: process, only amounts.
_GAP = r"(?:[ \t]*[:=][ \t]*|,?[ \t]+[–—-][ \t]+|,[ \t]+|[ ]{2,}|[ ]*\t[ \t]*)"
_ITEM = re.compile(rf"{_LEAD}{_PID}\b(?:[ \t]*\(([^()]{{1,120}})\)(?:[ \t]|{_GAP})|{_GAP})[~≈]?(?=[0-9])")
_BEGINS = re.compile(rf"{_LEAD}{_PID}\b")
_BEHIND = re.compile(rf"\(([^()]{{1,120}}?)[ \t]*[,:–—-]?[ \t]*{_PID}\)")
_AMOUNT = re.compile(r"(?<![0-9.,])[0-9]")
_LABEL = re.compile(r"[ \t]*\((.{1,120})\)[ \t]*\Z")
#: ``sam   41909  node /Users/sam/...``: user, number, and a path among the first words.
_EVIDENCE = re.compile(r"[ \t]*([a-z_][a-z0-9_.-]{0,31})([ \t]+)([0-9]{1,10})([ \t]+)([^ \t].*)")


def is_item(text: str) -> bool:
    """Whether a line starts as an entry of such a list does."""
    return _BEGINS.match(text) is not None


def mention(line: int, text: str) -> Listed | None:
    """The process that a line of a list or of prose names with its memory."""
    if "PID" not in text:
        return None
    return _item(line, text) or _behind(line, text)


def _item(line: int, text: str) -> Listed | None:
    match = _ITEM.match(text)
    size = spoken_size(text[match.end() :]) if match else None
    if match is None or size is None or not int(match[1]):
        return None
    label = _LABEL.match(size[1])
    return Listed(line=line, pid=int(match[1]), rss_bytes=size[0], command=match[2] or (label[1] if label else ""))


def _behind(line: int, text: str) -> Listed | None:
    """``~635 MB (VSCode Plugin Helper - PID 19284)``, if there is only one amount before it."""
    match = _BEHIND.search(text)
    if match is None or not int(match[2]) or len(re.findall(_PID, text)) > 1:
        return None
    sizes = [size for at in _AMOUNT.finditer(text, 0, match.start()) if (size := spoken_size(text[at.start() :]))]
    if len(sizes) != 1 or sizes[0][1].strip() != text[match.start() :].strip():
        return None
    return Listed(line=line, pid=int(match[2]), rss_bytes=sizes[0][0], command=match[1])


def evidence(line: int, text: str) -> Listed | None:
    """A row of user, number and command that stands without a header."""
    match = _EVIDENCE.match(text)
    if match is None or not int(match[3]):
        return None
    words = match[5].split()[:2]
    if not any(word.startswith(("/", "~/", "./")) and word.count("/") > 1 for word in words):
        return None
    return Listed(line=line, pid=int(match[3]), user=match[1], command=match[5].rstrip(" \t"))


def is_apart(text: str) -> bool:
    """Whether user, number and command stand in columns. Without that, one such line may be a sentence."""
    match = _EVIDENCE.match(text)
    return match is not None and all(gap.startswith("\t") or len(gap) > 1 for gap in (match[2], match[4]))
