"""Rules on memory: of the machine as a whole, memory that belongs to no process, and figures that mislead. Pure."""

from __future__ import annotations

from oomless.census.findings.finding import Finding, Inventory, Severity
from oomless.units import format_size

_WARNING, _CRITICAL = 0.80, 0.95
#: A sum of RSS misleads if it is this much above the honest one, and by at least so many bytes.
CONFUSING, CONFUSING_BYTES = 1.25, 200_000_000
HONEST = frozenset({"pss", "phys_footprint", "cgroup"})
#: Memory that nothing accounts for is reported from a share of the machine's memory on, and from so many bytes. What
#: the kernel keeps free for itself is in it (1.6 % of 25 GB, read with 0.6 GB in use).
UNKNOWN_SHARE, UNKNOWN_BYTES = 0.05, 1_000_000_000
#: The same of memory with a name that is no process's: files in memory, the kernel, pages set aside.
NAMED_SHARE, NAMED_BYTES = 0.20, 1_000_000_000
_ACTIONS = {
    "shared": "look for large files in memory (df -h -t tmpfs, ls -l /dev/shm) and delete what is not needed",
    "kernel": "look at what the kernel keeps (slabtop); ended containers and deleted folders may be held there",
    "huge": "give back huge pages that nothing uses (sysctl vm.nr_hugepages)",
    "unknown": "the kernel does not say whose it is: a driver, the graphics card or a balloon of a virtual machine's"
    " host may have it; compare after ending programs that use these",
}


def memory_in_use(inventory: Inventory) -> Finding | None:
    """More than 80 % of the machine's memory is in use (a warning), or more than 95 % (critical)."""
    memory = inventory.memory
    if memory is None:
        return None
    used = memory.total_bytes - memory.available_bytes
    share = used / memory.total_bytes
    if share <= _WARNING:
        return None
    severity: Severity = "critical" if share > _CRITICAL else "warning"
    limit = _CRITICAL if severity == "critical" else _WARNING
    return Finding(
        rule="memory-in-use",
        severity=severity,
        title=f"{share:.0%} of the machine's memory is in use",
        evidence=(
            f"{format_size(used)} of {format_size(memory.total_bytes)} in use, {format_size(memory.available_bytes)}"
            f" available by the system's own estimate; {severity} is above {limit:.0%}",
        ),
        action="start no further agents now; end a session that is not needed",
    )


def unaccounted_memory(inventory: Inventory) -> Finding | None:
    """Memory that is in use and belongs to no process, by the kernel's own count.

    Processes are counted by their anonymous memory, all users' together: that is theirs alone, and takes no reading
    of each process, which would stall it. Pages of files can be taken back and are in what is available."""
    memory, use = inventory.memory, inventory.use
    if memory is None or use is None:
        return None
    used = memory.total_bytes - memory.available_bytes
    named = {"shared": use.shared_bytes, "kernel": use.kernel_bytes, "huge": use.huge_bytes}
    unknown = used - use.processes_bytes - sum(named.values())
    parts = {**named, "unknown": max(0, unknown)}
    much_unknown = parts["unknown"] >= max(UNKNOWN_SHARE * memory.total_bytes, UNKNOWN_BYTES)
    much_named = max(named.values()) >= max(NAMED_SHARE * memory.total_bytes, NAMED_BYTES)
    if not much_unknown and not much_named:
        return None
    largest = "unknown" if not much_named else max(parts, key=lambda part: parts[part])
    unaccounted = f", {format_size(parts['unknown'])} of it unaccounted for" if much_unknown else ""
    return Finding(
        rule="unaccounted-memory",
        severity="warning",
        title=f"{format_size(sum(parts.values()))} of the memory in use belong to no process{unaccounted}",
        evidence=(
            f"of {format_size(used)} in use processes hold {format_size(use.processes_bytes)} together (AnonPages)",
            f"shared memory and files in memory {format_size(use.shared_bytes)} (Shmem); the kernel"
            f" {format_size(use.kernel_bytes)} (SUnreclaim, KernelStack, PageTables, Percpu); huge pages"
            f" {format_size(use.huge_bytes)} (Hugetlb)",
            f"the rest, unaccounted for: {format_size(parts['unknown'])}",
        ),
        action=_ACTIONS[largest],
    )


def confused_figures(inventory: Inventory) -> Finding | None:
    """The sum of RSS, which counts shared pages in each process, is far above the honest sum."""
    known = ((process, inventory.footprints.get(process.pid)) for process in inventory.processes)
    honest = [process for process, footprint in known if footprint is not None and footprint.source in HONEST]
    rss, size = sum(process.process.rss_bytes for process in honest), inventory.size(honest)
    if rss < size * CONFUSING or rss - size < CONFUSING_BYTES:
        return None
    return Finding(
        rule="confused-figures",
        severity="info",
        title=f"RSS adds up to {format_size(rss)} where {format_size(size)} are used",
        evidence=(
            f"{len(honest)} listed processes: sum of RSS {format_size(rss)}, of footprints {format_size(size)}",
            "RSS counts each shared page once in every process; a footprint divides it. VIRT is address space,"
            " not memory",
        ),
        action="add up footprints, not RSS or VIRT as ps and top print them",
    )
