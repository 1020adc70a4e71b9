"""Mask what looks like a secret in argument lists, so that they can be shown, stored and mailed.

They mask too much rather than too little: the values of options, variables, headers, JSON members and query
parameters whose name has a word such as token or key in it, passwords in addresses, and the shapes of well-known
tokens wherever they are. Environments are never shown at all.
"""

from __future__ import annotations

import re

MASK = "***"

_WORDS = frozenset(
    {
        *("apikey", "auth", "authorization", "bearer", "cookie", "credential", "credentials", "key", "pass"),
        *("passphrase", "passwd", "password", "pat", "pwd", "secret", "secrets", "token"),
    }
)
_ENDINGS = ("apikey", "passphrase", "passwd", "password", "secret", "token")
_NAME_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
#: As a shell reads a word: quoted parts (a line that was cut may end before the quote does) and others up to the next
#: blank or separator, side by side; a quote within quotes is ``'"'"'`` or ``'\\''``.
_VALUE = r"""(?:"(?:[^"\\]|\\.)*(?:"|\\?$)|'[^']*(?:'|$)|[^\s"'&;|,)}\]])+"""
#: Names are bounded: without, a word of 20 kB took 1.4 s, for each of its letters may begin a name.
_ASSIGNED = re.compile(rf"(?P<name>[A-Za-z][\w.-]{{0,80}})(?P<mid>=)(?P<value>{_VALUE})")
_OPTION = re.compile(rf"(?P<name>--?[A-Za-z][\w-]{{0,80}})(?P<mid>\s+)(?P<value>(?!-){_VALUE})")
_MEMBER = re.compile(rf"""(?P<name>[A-Za-z][\w-]{{0,80}})(?P<mid>["']?\s*:\s*)(?P<value>{_VALUE})""")
_SCHEME = re.compile(r"(?i)\b(bearer|basic)(\s+)[\w.~+/=-]{6,}")
_ADDRESS = re.compile(r"(?P<start>[A-Za-z][\w+.-]{0,30}://[^\s/@:]*:)[^\s/]+(?=@)")
#: A word that is one option, variable or header as a whole: its value may hold any character.
_WHOLE = re.compile(r"(?P<name>-{0,2}[A-Za-z][\w.-]*)(?P<mid>=|:\s+)(?P<value>.+)", re.DOTALL)
#: Prefixes as their makers publish them: OpenAI and Anthropic, GitHub, GitLab, Slack, npm, Hugging Face, AWS,
#: Google, JSON Web Tokens.
_SHAPES = re.compile(
    r"\b(?:sk-[\w-]{8,}|gh[opsur]_\w{8,}|github_pat_\w{8,}|glpat-[\w-]{8,}|xox[abeprs]-[\w-]{8,}|npm_\w{16,}"
    r"|hf_\w{16,}|A[KS]IA[A-Z0-9]{12,}|AIza[\w-]{20,}|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?)"
)


def is_secret_name(name: str) -> bool:
    """``--api-key``, ``OPENAI_API_KEY``, ``accessToken``, ``PGPASSWORD``; not ``--keyboard``, ``--author``."""
    words = [word.lower() for word in _NAME_PARTS.findall(name)]
    return any(word in _WORDS or word.endswith(_ENDINGS) for word in words)


def command_line(argv: tuple[str, ...]) -> str:
    """The arguments as one line, secrets masked, control characters blanked (they would steer a terminal)."""
    return " ".join(printable_words(argv))


def printable_words(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Each argument by itself, secrets masked and control characters blanked."""
    return tuple("".join(c if c.isprintable() else " " for c in word) for word in mask_secrets(argv))


def printable_name(text: str) -> str:
    """A name that a file or a process gave, masked and blanked in the same way."""
    return printable_words((text,))[0]


def mask_secrets(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Only secrets masked: for formats that escape control characters themselves."""
    shown = []
    masks_next = False
    for word in argv:
        shown.append(MASK if masks_next and not word.startswith("--") else _mask_word(word))
        masks_next = word.startswith("-") and "=" not in word and " " not in word and is_secret_name(word)
    return tuple(shown)


def _mask_word(word: str) -> str:
    whole = _WHOLE.fullmatch(word)
    if whole is not None and is_secret_name(whole["name"]) and (whole["mid"] != "=" or " " not in word):
        return _mask_value(whole)
    text = _ADDRESS.sub(rf"\g<start>{MASK}", word)
    text = _SCHEME.sub(rf"\1\2{MASK}", text)
    for pattern in (_OPTION, _ASSIGNED, _MEMBER):
        text = pattern.sub(_mask_value, text)
    return _SHAPES.sub(MASK, text)


def _mask_value(match: re.Match[str]) -> str:
    if not is_secret_name(match["name"]):
        return match[0]
    return f"{match['name']}{match['mid']}{MASK}"
