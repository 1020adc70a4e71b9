"""What a guest of ``make test-vm`` runs, as its root: tests as the ordinary user, in both places where a user works.

``manager``: below the user's own manager, as a desktop starts its programs. ``login``: in a login session, as ssh and
a terminal do, from where the user may move no process. Each place runs one pytest; its exit code, its figures and the
group it ran in go to ``/results/PLACE.json``, its output to ``PLACE.txt``. Runs on the guest's own Python, with
nothing but the standard library; the driver is ``__main__.py``.
"""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import time
from pathlib import Path

USER, UID = "tester", 1000
RESULTS = Path("/results")
PAYLOAD = Path("/payload")
#: A Python loop takes about 11 times as long on the emulated CPU.
SLOWNESS = "8"


ENVIRONMENT = {"OOMLESS_TEST_SLOWNESS": SLOWNESS, "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"}


def install() -> None:
    """Where every Python looks, the isolated one too, as which the daemon is started."""
    folder = Path(next(path for path in site.getsitepackages() if path.startswith("/usr/local/")))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "payload.pth").write_text(f"{PAYLOAD}/src\n{PAYLOAD}/site\n")


def starter(place: str, script: Path) -> list[str]:
    if place == "login":
        return ["su", "-l", USER, "-c", f"exec {script}"]
    runtime = f"XDG_RUNTIME_DIR=/run/user/{UID}"
    systemd = "systemd-run --user --quiet --wait --pipe --collect -p Delegate=yes -p OOMPolicy=continue"
    return ["runuser", "-u", USER, "--", "env", runtime, *systemd.split(), str(script)]


def write_script(place: str, arguments: list[str], seconds: float) -> Path:
    """The place is told from inside, before the first test."""
    lines = [f"export {name}={value}" for name, value in ENVIRONMENT.items()]
    words = " ".join(f"'{word}'" for word in arguments)
    script = RESULTS / f"{place}.sh"
    commands = ["cd /payload", f"cat /proc/self/cgroup > /results/{place}.group"]
    commands.append(f"exec timeout -s INT -k 20 {seconds:.0f} python3 -m pytest -p no:cacheprovider {words}")
    script.write_text("\n".join(["#!/bin/sh", *lines, *commands, ""]))
    script.chmod(0o755)
    return script


def run(place: str, arguments: list[str], seconds: float) -> None:
    """Interrupted in time, it still tells where it was."""
    began = time.monotonic()
    with (RESULTS / f"{place}.txt").open("wb") as out:
        script = write_script(place, arguments, seconds)
        code = subprocess.call(starter(place, script), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    group = RESULTS / f"{place}.group"
    facts = {
        "exit_code": code,
        "seconds": round(time.monotonic() - began, 1),
        "group": group.read_text().strip() if group.exists() else "",
        "kernel": os.uname().release,
        "left": left(),
    }
    (RESULTS / f"{place}.json").write_text(json.dumps(facts))


def left() -> list[str]:
    """Processes of the user that are neither the manager's own nor its session's."""
    usual = ("systemd", "(sd-pam)", "dbus-daemon")
    rows = subprocess.run(["ps", "-u", USER, "-o", "comm=,args="], capture_output=True, text=True, check=False)
    return [row.strip() for row in rows.stdout.splitlines() if not row.startswith(usual)]


def main() -> int:
    install()
    RESULTS.mkdir(exist_ok=True)
    RESULTS.chmod(0o777)
    subprocess.run(["chown", "-R", f"{USER}:", str(PAYLOAD)], check=True)  # compiled modules are kept beside them
    try:
        plan = json.loads((PAYLOAD / "plan.json").read_text())
        for place in plan["places"]:
            run(place, plan["pytest"], plan["seconds"])
    finally:
        subprocess.run(
            ["journalctl", "-b", "--no-pager", "-o", "short-monotonic"], stdout=(RESULTS / "journal").open("w")
        )
        subprocess.run(["tar", "-cf", "/dev/vdc", "-C", str(RESULTS), "."], check=True)
        os.sync()
    return 0


if __name__ == "__main__":
    sys.exit(main())
