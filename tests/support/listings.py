"""Listings in the forms that ps and top print, for tests: written after procps 4 and macOS, no real machine's."""

from __future__ import annotations

from oomless.catalog import Catalog
from oomless.census.listing import attribute_listing
from oomless.listing import Listing
from oomless.reports.listing import ListingReport, scan_listing

NPX = "/Users/sam/.npm/_npx/7cfa166e65244432/node_modules"
PLUGIN = (
    "/Applications/Visual Studio Code.app/Contents/Frameworks/"
    "Code Helper (Plugin).app/Contents/MacOS/Code Helper (Plugin)"
)
SERVICE = "--type=utility --utility-sub-type=node.mojom.NodeService --lang=en-US"

LINUX_AUX = """\
USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND
root           1  0.0  0.1 168140 12600 ?        Ss   Nov23   0:26 /sbin/init splash
root           2  0.0  0.0      0     0 ?        S    Nov23   0:00 [kthreadd]
sam         3100  1,5  2.4 1203456 398120 pts/1  Sl+  10:01   1:26 claude
sam         3155  0.0  0.5 705544 84120 pts/1    Sl+  10:01   0:01 npm exec chrome-devtools-mcp@latest
sam         3190  0.0  0.6 905544 94120 pts/1    Sl+  10:02   0:03 node /home/sam/npx/.bin/chrome-devtools-mcp
sam         4000  0.0  0.0      0     0 pts/2    Z    10:03   0:00 [sh] <defunct>
sam-admin+  4100  0.0  0.2  12345  6789 pts/2    Ss   2025  12:34 -bash
"""

LINUX_EF = """\
UID          PID    PPID  C STIME TTY          TIME CMD
root           1       0  0 Nov23 ?        00:00:26 /sbin/init splash
sam         3100    2900  1 10:01 pts/1    00:01:26 claude
sam         3155    3100  0 10:01 pts/1    00:00:01 npm exec chrome-devtools-mcp@latest
sam         3190    3155  0 10:02 pts/1  1-02:03:04 node /home/sam/npx/.bin/chrome-devtools-mcp
"""

LINUX_EO = """\
    PID    PPID    PGID     SID   RSS                  STARTED     ELAPSED COMMAND
   3100    2900    3100    2900 398120 Tue Nov 24 10:01:09 2026    07:18:26 claude
   3155    3100    3100    2900 84120 Tue Nov  3 10:01:10 2026    07:18:25 npm exec chrome-devtools-mcp@latest
"""

LINUX_MIDDLE = """\
    PID COMMAND                       RSS TT
   3100 claude                     398120 pts/1
   3155 npm exec chrome-devtools-mc 84120 pts/1
   3190 node /home/sam/.npm/_npx/ab 94120 pts/1
   3300 node /home/sam/project/serv 12000 ?
"""

LINUX_TWO = """\
    PID COMMAND         COMMAND
   3000 tmux: server    tmux new -s work
   3100 node            claude
"""

LINUX_TOP = """\
top - 17:15:08 up  7:13,  1 user,  load average: 1.22, 3.79, 3.27
Tasks:  81 total,   2 running,  79 sleeping,   0 stopped,   0 zombie
%Cpu(s):  1.0 us,  0.0 sy,  0.0 ni, 99.0 id,  0.0 wa,  0.0 hi,  0.0 si,  0.0 st
MiB Mem :  15904.1 total,    675.0 free,  13178.1 used,   2075.5 buff/cache
MiB Swap:   2048.0 total,   1024.5 free,   1023.5 used.   2427.1 avail Mem

    PID USER      PR  NI    VIRT    RES    SHR S  %CPU  %MEM     TIME+ COMMAND
   3100 sam       20   0   21.0g   1.2g  60956 S 200.0   7.5   1:26.67 claude
   3155 sam       20   0  705544  84120   3060 R   6.7   0.5   0:01.01 npm exec ch+
      4 root       0 -20       0      0      0 I   0.0   0.0   0:00.00 kworker/R-+
     12 root      rt   0       0      0      0 S   0.0   0.0   0:00.00 migration/0
"""

MAC_AUX = f"""\
USER               PID  %CPU %MEM      VSZ    RSS   TT  STAT STARTED      TIME COMMAND
sam              19284   2.1  3.9 1623456789 650240   ??  S     9:03AM  12:34.56 {PLUGIN} {SERVICE}
sam              41863   0.0  0.1 408123456   9216 s008  S+   Mon09AM   0:00.31 node {NPX}/.bin/claude-flow mcp start
_windowserver      377   8.0  0.6 412000000 101000   ??  Ss   23Nov24  99:01.02 /System/Library/WindowServer -daemon
sam                500   0.0  0.0        0      0 s008  Z     9:03AM   0:00.00 (node)
"""

MAC_EF = """\
  UID   PID  PPID   C STIME   TTY           TIME CMD
    0     1     0   0  9:00AM ??         0:42.11 /sbin/launchd
  501   612     1   0  9:03AM ttys008    0:00.10 -zsh
"""

MAC_COMM = f"""\
  PID  PPID    RSS COMM
19284 19159 650240 {PLUGIN}
"""

MAC_TOP = """\
Processes: 512 total, 3 running, 509 sleeping, 2345 threads
2024/11/25 09:03:01
PhysMem: 15G used (2345M wired, 1234M compressor), 1023M unused.

PID    COMMAND          %CPU TIME     #TH   #WQ  #PORT MEM    PURG   CMPRS  PGRP  PPID  STATE    BOOSTS      UID  USER
19284  Code Helper (Plu 0.0  12:34.56 35/1  2    191   635M+  0B     120M-  19159 19159 sleeping *0[1]       501  sam
0      kernel_task      3.1  01:02:03 500/8 0    0     12M    0B     0B     0     0     running   0[0]       0    root
"""

LISTS = """\
VSCode Node Helper processes (3 instances running):
- PID 19284: 635 MB
- PID 4433:  425 MB
- PID 22932: 1,522 MB

Parent PID 19159 (VSCode main process) spawned:
├─ PID 19287: 555 MB (Code Helper - subagent 2)
└─ PID 21363 (Code Helper): ~423.5 MB

Claude Code MAIN session:            ~635 MB (VSCode Plugin Helper - PID 19285)
"""

EVIDENCE = f"""\
**Evidence:**
```bash
sam   41909  node {NPX}/claude-flow/src/mcp/mcp-server.js
sam   41896  node {NPX}/claude-flow/src/cli/simple-cli.js mcp start
```
"""

ALL = {
    "linux aux": LINUX_AUX,
    "linux ef": LINUX_EF,
    "linux eo": LINUX_EO,
    "linux middle": LINUX_MIDDLE,
    "linux two": LINUX_TWO,
    "linux top": LINUX_TOP,
    "mac aux": MAC_AUX,
    "mac ef": MAC_EF,
    "mac comm": MAC_COMM,
    "mac top": MAC_TOP,
    "lists": LISTS,
    "evidence": EVIDENCE,
}


def scanned(listing: Listing, catalog: Catalog) -> ListingReport:
    return scan_listing(listing, attribute_listing(listing, catalog))


def broken(text: str, width: int) -> str:
    """As a terminal of that width breaks lines."""
    pieces = ([line[at : at + width] for at in range(0, len(line), width)] or [""] for line in text.split("\n"))
    return "\n".join(piece for line in pieces for piece in line)


def cut(text: str, width: int) -> str:
    return "\n".join(line[:width] for line in text.split("\n"))


SERVER = f"node {NPX}/.bin/claude-flow mcp start"


AUX = "USER               PID  %CPU %MEM      VSZ    RSS   TT  STAT STARTED      TIME COMMAND\n"


def aux(pid: int, tty: str, command: str, rss: int = 9216) -> str:
    return f"sam              {pid:5}   0.0  0.1 408123456 {rss:6} {tty:4} S+    9:03AM   0:00.31 {command}\n"


TWO_TERMINALS = (
    AUX
    + aux(500, "s008", "claude", 300_000)
    + aux(600, "s022", "claude --resume", 310_000)
    + aux(501, "s008", SERVER)
    + aux(601, "s022", SERVER)
    + aux(701, "s030", SERVER)
    + aux(900, "??", f"{PLUGIN} {SERVICE}", 650_240)
)


EO = "    PID    PPID TT         ELAPSED   RSS COMMAND\n"


def eo(pid: int, parent: int, elapsed: str, command: str, tty: str = "pts/1") -> str:
    return f"{pid:7} {parent:7} {tty:8} {elapsed:>9} 10000 {command}\n"
