"""``make test-vm``: the containment contract where cgroup v2 and systemd are as most Linux users have them.

    python -m tests.vm [--release bookworm|trixie ...] [--place manager|login ...] [-- PYTEST ARGUMENTS]

Boots each Debian under qemu and runs, as its ordinary user, the contract suite on the delegated rung and crashes
there: below the user's manager and in a login session. Needs root (an image is made once) and Debian's
``qemu-system-x86``, ``debootstrap`` and ``e2fsprogs``; where that is not to be had it says so and exits 0 (with
``--required``: 1). Not here: the image (``image.py``), booting (``boot.py``), the guest's side
(``guest.py``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import boot as vm_boot
from . import image as vm_image

ROOT = Path(__file__).parents[2]
PLACES = {"manager": f"/user@{vm_image.UID}.service/", "login": f"/user-{vm_image.UID}.slice/session-"}
TOOLS = {"qemu-system-x86_64": "qemu-system-x86", "debootstrap": "debootstrap", "mke2fs": "e2fsprogs"}
#: What the daemon, the command and the tests load in the guest.
SITE = ("msgspec", "httptools", "typer", "rich", "tomlkit", "pytest")
#: On the delegated rung, and of what dies there: the daemon, the shim, both.
WHICH = "systemd or delegation or (crash and (adopted or swept_within or (both_killed and auto)))"
SUITE = ["-k", WHICH] + [
    f"tests/{name}.py"
    for name in ("processes/test_contain", "processes/test_limits", "processes/test_delegation", "daemon/test_crash")
]
#: A guest's time, and how much of it may go to boot, power-off and results; the rest is for pytest.
SECONDS, BOOT_SECONDS = 900.0, 180.0


def missing() -> str:
    """Why it cannot run here, or ""."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "it takes Linux on x86_64"
    if os.geteuid() != 0:
        return "making an image takes root"
    packages = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    return f"install {' '.join(packages)}" if packages else ""


def site(python: str) -> Path:
    """Packages for the guest's Python, from where pip has them here; kept beside the images."""
    pins = (ROOT / "constraints.txt").read_bytes()
    folder = vm_image.cache() / f"site-{python}-{hashlib.sha256(pins + ' '.join(SITE).encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        vm_image.cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="making-", dir=vm_image.cache()) as made:
            target = Path(made) / "site"
            fixed = "install --quiet --disable-pip-version-check --no-warn-script-location --only-binary=:all:"
            platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 28)]
            where = [
                "--target",
                str(target),
                "--python-version",
                python,
                *platforms,
                "--platform=manylinux2014_x86_64",
            ]
            pinned = ["-c", str(ROOT / "constraints.txt")]
            vm_image.run(sys.executable, "-m", "pip", *fixed.split(), *where, *pinned, *SITE)
            os.rename(target, folder)
    return folder


class Trial:
    """One release from its image to the verdict. ``told``: what is to be printed; ``failures``: one line each."""

    def __init__(self, release: str, places: list[str], pytest: list[str], keep: str | None) -> None:
        self.release = release
        self.places = places
        self.pytest = pytest
        self.keep = keep
        self.told: list[str] = []
        self.failures: list[str] = []

    def run(self) -> Trial:
        with tempfile.TemporaryDirectory(prefix="oomless-vm-") as name:
            folder = Path(name)
            try:
                results = self._boot(folder)
                for place in self.places:
                    self._judge(place, results)
            except (vm_boot.GuestFailed, RuntimeError) as error:
                self.failures.append(f"{self.release}: {error}")
            if self.keep:
                shutil.copytree(folder, Path(self.keep) / self.release, dirs_exist_ok=True)
        return self

    def _boot(self, folder: Path) -> Path:
        began = time.monotonic()
        image = vm_image.image(self.release)
        made = time.monotonic() - began
        plan = folder / "plan.json"
        each = (SECONDS - BOOT_SECONDS) / len(self.places)
        plan.write_text(json.dumps({"places": self.places, "pytest": self.pytest, "seconds": each}))
        payload = folder / "payload.tar"
        content = {name: ROOT / name for name in ("src", "tests", "pyproject.toml")}
        vm_boot.pack(payload, {**content, "site": site(vm_image.RELEASES[self.release]), "plan.json": plan})
        began = time.monotonic()
        results = vm_boot.boot(image, payload, folder, SECONDS)
        self.told.append(f"{self.release}: image {made:.0f} s, guest {time.monotonic() - began:.0f} s")
        return results

    def _judge(self, place: str, results: Path) -> None:
        path = results / f"{place}.json"
        if not path.exists():
            self.failures.append(f"{self.release}, {place}: it did not come to this")
            return
        facts = json.loads(path.read_text())
        output = (results / f"{place}.txt").read_text("utf-8", "replace")
        counted = re.findall(r"^=*\s*(\d+ [a-z]+.* in [\d.]+s.*?)\s*=*$", output, re.MULTILINE)
        figures = counted[-1] if counted else "no figures"
        self.told.append(f"  {place}: {figures}; kernel {facts['kernel']}, in {facts['group']}")
        if facts["exit_code"] != 0:
            self.told.append(output[-12000:])
            self._fail(place, f"pytest ended with {facts['exit_code']}")
        if PLACES[place] not in f"{facts['group']}/":
            self._fail(place, f"it ran in {facts['group'] or 'an unknown group'}")
        if facts["left"]:
            self._fail(place, f"left running: {facts['left']}")

    def _fail(self, place: str, what: str) -> None:
        self.failures.append(f"{self.release}, {place}: {what}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--release", action="append", choices=list(vm_image.RELEASES))
    parser.add_argument("--place", action="append", choices=list(PLACES))
    parser.add_argument("--required", action="store_true", help="fail where it cannot run")
    parser.add_argument("--keep", metavar="FOLDER", help="leave console, journal and outputs there")
    parser.add_argument("pytest", nargs="*", help="instead of the contract suite")
    options = parser.parse_args()
    why = missing()
    if why:
        print(f"skipped: {why}")
        return int(options.required)
    places, pytest = options.place or list(PLACES), options.pytest or SUITE
    trials = [Trial(release, places, pytest, options.keep) for release in options.release or vm_image.RELEASES]
    failures = []
    with ThreadPoolExecutor() as pool:  # an emulated machine keeps one CPU busy
        for trial in pool.map(Trial.run, trials):
            print("\n".join(trial.told), flush=True)
            failures += trial.failures
    for failure in failures:
        print(f"FAILED {failure}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
