"""JSON and signal names without the standard modules: the same answers, and none of what these would load."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomless import lean

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_json_as_the_standard_module_has_it(value: object) -> None:
    assert lean.dumps(value) == json.dumps(value)
    assert lean.loads(json.dumps(value)) == value
    assert lean.loads(b" \n" + json.dumps(value).encode() + b"\r\n") == value


@pytest.mark.parametrize("text", ["", "{", "{}x", "[1,]", '{"a"', "nul", '"\x01"', b"\xff", "1 2"])
def test_what_is_not_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"^\S"):
        lean.loads(text)


def test_it_is_a_value_error_too_where_the_standard_module_is_not_loaded() -> None:
    """CPython 3.11 looks for the class of its error in that module, and without it fails with a SystemError."""
    code = "\n".join(
        [
            f"import sys; sys.path.insert(0, {str(Path(lean.__file__).parent.parent)!r})",
            "from oomless import lean",
            "assert 'json' not in sys.modules",
            "for text in ('{', '[1,]', '{\"a\"', '\"\\x01\"'):",
            "    try: lean.loads(text)",
            "    except ValueError: print('well')",
        ]
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("well\n" * 4, "")


def test_what_has_no_place_in_json_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="object has no place"):
        lean.dumps({"a": object()})


@pytest.mark.parametrize("number", [s for s in signal.Signals if s.value < 32])
def test_names_of_signals(number: signal.Signals) -> None:
    assert getattr(signal, lean.name_of(number.value)) == number


@pytest.mark.parametrize(
    "module", ["oomless.cli.prefix", "oomless.contain.shells.background_shim", "oomless.contain.shim"]
)
def test_a_shim_loads_neither_enum_nor_re(module: str) -> None:
    path = lean.__file__.rsplit("/", 2)[0]
    script = f"import sys; sys.path.insert(0, {path!r}); import {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", script], capture_output=True, text=True, check=True
    )
    assert not {"enum", "re", "json", "signal", "functools", "ctypes"} & set(done.stdout.split())
