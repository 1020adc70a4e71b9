"""The rule on memory that is in use and belongs to no process, by the kernel's own count. Pure.

Processes are counted by their anonymous memory, all users' together, as that is what they hold and nobody else: it
costs no reading of each, which would stall them. Pages of files can be taken back and are in what is available.
"""

from __future__ import annotations

from oomless.census.findings.finding import Finding, Scene
from oomless.units import format_size

#: What nobody accounts for is worth a word from here on: a share of the machine's memory, and bytes. What the kernel
#: keeps free for itself is in it (1.6 % of 25 GB, read with 0.6 GB in use).
UNKNOWN_SHARE, UNKNOWN_BYTES = 0.05, 1_000_000_000
#: The same of what is named and still no process's: files in memory, the kernel, pages set aside.
NAMED_SHARE, NAMED_BYTES = 0.20, 1_000_000_000
_ACTIONS = {
    "shared": "look for large files in memory (df -h -t tmpfs, ls -l /dev/shm) and delete what is not needed",
    "kernel": "look at what the kernel keeps (slabtop); ended containers and deleted folders may be held there",
    "huge": "give back huge pages that nothing uses (sysctl vm.nr_hugepages)",
    "unknown": "the kernel does not say whose it is: a driver, the graphics card or a balloon of a virtual machine's"
    " host may have it; compare after ending programs that use these",
}


def unaccounted_memory(scene: Scene) -> Finding | None:
    """Memory that is in use and that no process holds."""
    memory, use = scene.memory, scene.use
    if memory is None or use is None:
        return None
    used = memory.total_bytes - memory.available_bytes
    named = {"shared": use.shared_bytes, "kernel": use.kernel_bytes, "huge": use.huge_bytes}
    unknown = used - use.processes_bytes - sum(named.values())
    parts = {**named, "unknown": max(0, unknown)}
    too_much = (
        parts["unknown"] >= max(UNKNOWN_SHARE * memory.total_bytes, UNKNOWN_BYTES),
        max(named.values()) >= max(NAMED_SHARE * memory.total_bytes, NAMED_BYTES),
    )
    if not any(too_much):
        return None
    largest = "unknown" if too_much[0] and not too_much[1] else max(parts, key=lambda part: parts[part])
    nobody = f", {format_size(parts['unknown'])} that nobody owns" if too_much[0] else ""
    return Finding(
        rule="unaccounted-memory",
        severity="warning",
        title=f"{format_size(sum(parts.values()))} of the memory in use are no process's{nobody}",
        evidence=(
            f"of {format_size(used)} in use processes hold {format_size(use.processes_bytes)} together (AnonPages)",
            f"shared memory and files in memory {format_size(use.shared_bytes)} (Shmem); the kernel"
            f" {format_size(use.kernel_bytes)} (SUnreclaim, KernelStack, PageTables, Percpu); huge pages"
            f" {format_size(use.huge_bytes)} (Hugetlb)",
            f"the rest, which nobody accounts for: {format_size(parts['unknown'])}",
        ),
        action=_ACTIONS[largest],
    )
