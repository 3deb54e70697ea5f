"""The board's /proc files: statistics of its CPUs, identity, load, uptime."""

from collections.abc import Callable

from virtualboards.kernel.accounting import CpuTime
from virtualboards.kernel.cpus import Cpus
from virtualboards.kernel.nodes import Caller, Tree
from virtualboards.kernel.spec import BoardSpec
from virtualboards.kernel.text import scan_int, strict_int

_TICK_NS = 10_000_000
# The share of busy time shown as user time; the rest is shown as system time.
_USER_SHARE = 0.9
_SYSCTLS = {
    "kernel/sched_boost": "0",
    "kernel/perf_event_paranoid": "3",
    "kernel/randomize_va_space": "2",
    "vm/swappiness": "100",
}
_QUALCOMM_SYSCTLS = {
    "kernel/sched_upmigrate": "95",
    "kernel/sched_downmigrate": "85",
    "kernel/sched_lib_mask_force": "0",
}


class ProcFiles:
    """Texts of /proc; ``uptime_ns`` gives the time since boot."""

    def __init__(self, spec: BoardSpec, cpus: Cpus, cpu_time: CpuTime, uptime_ns: Callable[[], int]) -> None:
        self._spec, self._cpus, self._cpu_time, self._uptime_ns = spec, cpus, cpu_time, uptime_ns
        self.boot_time_s = 0
        self.average = [0.0, 0.0, 0.0]

    def stat(self) -> str:
        """/proc/stat: the first line sums possible CPUs, the others are the online ones only (fs/proc/stat.c)."""
        rows = {cpu: self._ticks(cpu) for cpu in sorted(self._cpus.possible)}
        whole = [sum(column) for column in zip(*rows.values(), strict=True)]
        lines = ["cpu  " + " ".join(map(str, whole))]
        lines += [f"cpu{cpu} " + " ".join(map(str, row)) for cpu, row in rows.items() if cpu in self._cpus.online]
        lines += [
            "intr 0",
            f"ctxt {sum(whole) * 20}",
            f"btime {self.boot_time_s}",
            "processes 1000",
            f"procs_running {max(1, self._cpu_time.running)}",
            "procs_blocked 0",
            "softirq 0 0 0 0 0 0 0 0 0 0 0",
        ]
        return "\n".join(lines) + "\n"

    def _ticks(self, cpu: int) -> tuple[int, ...]:
        busy, idle = self._cpu_time.busy_ns[cpu] // _TICK_NS, self._cpu_time.idle_ns[cpu] // _TICK_NS
        user = int(busy * _USER_SHARE)
        return user, 0, busy - user, idle, 0, 0, 0, 0, 0, 0

    def cpuinfo(self) -> str:
        """/proc/cpuinfo as arm64 kernels print it: online CPUs only."""
        blocks = [
            f"processor\t: {cpu}\nBogoMIPS\t: 38.40\n"
            "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm\n"
            f"CPU implementer\t: {policy.implementer}\nCPU architecture: 8\nCPU variant\t: 0x1\n"
            f"CPU part\t: {policy.part}\nCPU revision\t: 0\n"
            for policy in self._spec.policies
            for cpu in policy.cpus
            if cpu in self._cpus.online
        ]
        return "\n".join(blocks) + f"\nHardware\t: {self._spec.title}\n"

    def uptime(self) -> str:
        """/proc/uptime: seconds since boot and idle seconds of all CPUs."""
        idle = sum(self._cpu_time.idle_ns.values())
        return f"{self._uptime_ns() / 1e9:.2f} {idle / 1e9:.2f}\n"

    def loadavg(self) -> str:
        """/proc/loadavg."""
        one, five, fifteen = self.average
        return f"{one:.2f} {five:.2f} {fifteen:.2f} {self._cpu_time.running}/1000 4242\n"

    def account(self, dt_ns: int) -> None:
        """Move the load averages on."""
        for index, seconds in enumerate((60, 300, 900)):
            share = min(1.0, dt_ns / 1e9 / seconds)
            self.average[index] += share * (self._cpu_time.running - self.average[index])

    def meminfo(self) -> str:
        """/proc/meminfo, its best-known lines."""
        total = self._spec.memory_mb * 1024
        return (
            f"MemTotal:       {total:>8} kB\nMemFree:        {total // 4:>8} kB\nMemAvailable:   {total // 2:>8} kB\n"
            f"Buffers:        {4096:>8} kB\nCached:         {total // 4:>8} kB\nSwapTotal:      {0:>8} kB\n"
        )

    def install(self, tree: Tree, boot_id: str) -> None:
        """Put the files into the tree."""
        spec = self._spec
        files: dict[str, Callable[[], str] | str] = {
            "stat": self.stat,
            "cpuinfo": self.cpuinfo,
            "uptime": self.uptime,
            "loadavg": self.loadavg,
            "meminfo": self.meminfo,
            "version": f"Linux version {spec.kernel} (devicelab@virtual) #1 SMP PREEMPT {spec.title}\n",
            "cmdline": f"androidboot.hardware={spec.kind} devicelab.virtual=1\n",
            "sys/kernel/random/boot_id": f"{boot_id}\n",
            "sys/kernel/osrelease": f"{spec.kernel}\n",
        }
        for name, read in files.items():
            tree.file(f"/proc/{name}", read)
        sysctls = _SYSCTLS | (_QUALCOMM_SYSCTLS if spec.qualcomm_sched else {})
        for name, text in sysctls.items():
            _sysctl(tree, f"/proc/sys/{name}", text)


def _sysctl(tree: Tree, path: str, text: str) -> None:
    held = [int(text)]

    def write(value: str, _caller: Caller) -> None:
        held[0] = strict_int(str(scan_int(value)))

    tree.file(path, lambda: f"{held[0]}\n", write)
