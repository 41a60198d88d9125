"""What the measurements share: reports of children, /proc, running the C programs, statistics."""

import contextlib
import os
import select
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path


class Trouble(Exception):
    """A measurement that could not be made; it is shown in place of its figures."""


def median(values):
    return statistics.median(values)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@contextlib.contextmanager
def scratch():
    """A directory in memory, as /run is: no disk in the figures but the one a state directory is on."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="bench-", dir=base))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Report:
    """A line of a child: see floor/common.h."""

    def __init__(self, line):
        self.kind, self.name, pid, ns, value = line.split()
        self.pid, self.ns, self.value = int(pid), int(ns), int(value)


class Reports:
    """The FIFO to which children report."""

    def __init__(self, directory):
        self.path = directory / "reports"
        os.mkfifo(self.path)
        # Also for writing: so that it never ends.
        self.fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.rest = b""

    def close(self):
        os.close(self.fd)

    def read(self, wait):
        """All reports that are there; waits up to so many seconds for a first."""
        if not select.select([self.fd], [], [], max(0, wait))[0]:
            return []
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.fd, 65536):
                self.rest += chunk
        *lines, self.rest = self.rest.split(b"\n")
        return [Report(line.decode()) for line in lines]

    def wait(self, kind, names, seconds):
        """The first report of this kind of each name, as {name: report}."""
        found, open_names = {}, set(names)
        end = time.monotonic() + seconds
        while open_names:
            left = end - time.monotonic()
            if left <= 0:
                raise Trouble(f"{len(open_names)} of {len(names)} did not report {kind} in {seconds} s")
            for report in self.read(left):
                if report.kind == kind and report.name in open_names:
                    found[report.name] = report
                    open_names.remove(report.name)
        return found


def cpu_ns(pids):
    """Time on the CPU of these processes, all threads (proc(5), schedstat)."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total


def switches(pids):
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for line in (task / "status").read_text().splitlines():
                if "ctxt_switches" in line:
                    total += int(line.split()[1])
    return total


def memory(pids):
    """(PSS, private) in KiB over these processes."""
    pss = private = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            key, *rest = line.split()
            if key == "Pss:":
                pss += int(rest[0])
            elif key.startswith("Private_"):
                private += int(rest[0])
    return pss, private


def with_helpers(pid):
    """A daemon and those of its children that run the daemon's own program (vitald's scribe)."""
    program = os.readlink(f"/proc/{pid}/exe")
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{child}/exe") == program:
                    found.append(int(child))
    return found


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie of somebody who does not reap is gone for our purpose.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def output(argv, seconds=120):
    """What a program prints, as words."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=seconds)
    if done.returncode != 0:
        raise Trouble(f"{Path(argv[0]).name}: exit status {done.returncode}: {done.stderr.strip()[:200]}")
    return done.stdout.split()


def wait_for(what, condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Trouble(f"{what}: not in {seconds} s")
        time.sleep(0.01)
