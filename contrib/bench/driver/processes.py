"""Processes: respawn, start and stop of many, memory, idling. Interleaved: each round takes the
floor, the peer and vitald one after another."""

import os
import signal
import time

from supervisors import Dinit, Floor, Service, Vitald
from world import Reports, cpu_ns, median, memory, percentile, scratch, switches


def compared(tools):
    kinds = [Floor]
    if tools.dinit:
        kinds.append(Dinit)
    if tools.vitald:
        kinds.append(Vitald)
    return kinds


def children(tools, reports, count):
    return [Service(f"s{n}", [tools.floor / "child", reports.path, f"s{n}"]) for n in range(count)]


class Running:
    """A supervisor with `count` children that have all reported."""

    def __init__(self, kind, tools, count):
        self.kind, self.tools, self.count = kind, tools, count

    def __enter__(self):
        self.place = scratch()
        directory = self.place.__enter__()
        self.reports = Reports(directory)
        self.services = children(self.tools, self.reports, self.count)
        self.supervisor = self.kind(self.tools, directory, self.services).__enter__()
        try:
            self.first = self.reports.wait("R", [s.name for s in self.services], 60)
            self.supervisor.pids()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *about):
        self.supervisor.__exit__(*about)
        self.reports.close()
        self.place.__exit__(None, None, None)

    def pids(self):
        return [report.pid for report in self.first.values()]

    def started_ns(self):
        return max(report.ns for report in self.first.values()) - self.supervisor.begun


def figures(results, key, scale):
    """{kind: value} to the arguments of a row: floor, peer, vitald."""
    def of(name):
        values = results.get(name)
        return key(values) / scale if values else None
    return {"vitald": of("vitald"), "floor": of("floor"), "peer": of("dinit")}


def respawn(tools, table):
    table.part("crash to respawn, delay 0, ms (peer: dinit)")
    first, again = {}, {}
    for _ in range(tools.rounds(8)):
        for kind in compared(tools):
            with Running(kind, tools, 1) as run:
                pid = run.pids()[0]
                time.sleep(0.3)
                for n in range(100):
                    begin = time.monotonic_ns()
                    os.kill(pid, signal.SIGKILL)
                    report = run.reports.wait("R", ["s0"], 10)["s0"]
                    pid = report.pid
                    (again if n else first).setdefault(kind.name, []).append(report.ns - begin)
                    time.sleep(0.003)
    table.row("first", **figures(first, median, 1e6), floors=1.35, peers=0.7)
    table.row("again, p50", **figures(again, median, 1e6), floors=1.35, peers=0.7)
    table.row("again, p99", **figures(again, lambda v: percentile(v, 0.99), 1e6), floors=2)


def start_and_stop(tools, table):
    table.part("all started, all stopped and gone, ms (peer: dinit)")
    for count, rounds in ((100, 12), (1000, 6)):
        started, stopped = {}, {}
        for _ in range(tools.rounds(rounds)):
            for kind in compared(tools):
                with Running(kind, tools, count) as run:
                    time.sleep(0.3)
                    started.setdefault(kind.name, []).append(run.started_ns())
                    stopped.setdefault(kind.name, []).append(run.supervisor.stop(run.pids()))
        table.row(f"{count:,} started", **figures(started, median, 1e6), floors=2.0, peers=0.7)
        table.row(f"{count:,} stopped", **figures(stopped, median, 1e6), floors=1.4, peers=1.0)


def footprint(tools, table):
    table.part("memory of the daemon and its scribe, KiB (peer: dinit)")
    private = {}
    for count, most in ((1, 900), (100, 1200), (1000, 3000)):
        pss = {}
        for kind in compared(tools):
            with Running(kind, tools, count) as run:
                # What follows a start: vitald lets go of what only that needed after a quiet second.
                time.sleep(3)
                found = memory(run.supervisor.pids())
                pss[kind.name] = [found[0]]
                private[kind.name, count] = found[1]
        table.row(f"PSS with {count:,} services", **figures(pss, median, 1), most=most)
    each = {
        kind.name: [(private[kind.name, 1000] - private[kind.name, 1]) / 999] for kind in compared(tools)
    }
    table.row("private for each service", **figures(each, median, 1), most=2)


def idle(tools, table):
    table.part("idle for 10 s with 100 services (peer: dinit)")
    cpu, switched = {}, {}
    for kind in compared(tools):
        with Running(kind, tools, 100) as run:
            # Let what follows a start come to rest: the journal, the scribe's last sync.
            time.sleep(3)
            pids = run.supervisor.pids()
            before = cpu_ns(pids), switches(pids)
            time.sleep(10)
            cpu[kind.name] = [cpu_ns(pids) - before[0]]
            switched[kind.name] = [switches(pids) - before[1]]
    table.row("CPU, us", **figures(cpu, median, 1e3), most=0)
    table.row("context switches", **figures(switched, median, 1), most=0)
