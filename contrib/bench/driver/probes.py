"""Probes: from a hang to the replacement's first answer, and what a check costs."""

import os
import random
import signal
import subprocess
import time
from contextlib import contextmanager

from supervisors import Service, Vitald, VitaldWithoutStormLimit
from world import Reports, Trouble, cpu_ns, median, scratch

INTERVAL, TIMEOUT = 100, 50
PORT = 21000


def http(port, threshold, **more):
    return {"type": "http", "target": f"http://127.0.0.1:{port}/", "interval_ms": INTERVAL,
            "timeout_ms": TIMEOUT, "failure_threshold": threshold, "start_interval_ms": 2, **more}


def hang(tools, table):
    table.part(f"hang to first answer of the replacement, {INTERVAL}/{TIMEOUT} ms, ms over the ideal")
    if not tools.vitald:
        return
    for count in (1, 200):
        for threshold in (1, 3):
            ideal = INTERVAL / 2 + (threshold - 1) * INTERVAL + TIMEOUT
            took, false_restarts = hangs(tools, count, threshold)
            what = f"{count} services, threshold {threshold} (ideal {ideal:.0f})"
            table.row(f"{what}: p50", median(took) - ideal, most=5)
            table.row(f"{what}: longest", max(took) - ideal, most=INTERVAL / 2 + 15)
            table.row(f"{what}: false restarts", false_restarts, most=0)


def hangs(tools, count, threshold):
    """Milliseconds from each hang to the answer, and how many were restarted that did not hang."""
    names = [f"s{n}" for n in range(count)]
    chance = random.Random(1)
    took, answered = [], []
    with scratch() as directory:
        reports = Reports(directory)
        services = [
            Service(name, [tools.floor / "server", PORT + n, 1, reports.path, name], http(PORT + n, threshold))
            for n, name in enumerate(names)
        ]
        with VitaldWithoutStormLimit(tools, directory, services) as daemon:
            serving = {name: r.pid for name, r in reports.wait("A", names, 60).items()}
            time.sleep(1)
            rounds = tools.rounds(40)
            for n in range(rounds):
                # At any point of the interval, and evenly so: by chance alone the median of forty
                # is off by eight milliseconds as often as not.
                time.sleep(0.3 + (n + chance.random()) / rounds * INTERVAL / 1000)
                name = chance.choice(names)
                begin = time.monotonic_ns()
                os.kill(serving[name], signal.SIGUSR1)
                end = time.monotonic() + 20
                while name is not None:
                    if time.monotonic() > end:
                        raise Trouble(f"{name} did not answer again in 20 s")
                    for report in reports.read(1):
                        if report.kind != "A":
                            continue
                        answered.append(report.name)
                        serving[report.name] = report.pid
                        if report.name == name:
                            took.append((report.ns - begin) / 1e6)
                            name = None
            time.sleep(1)
            answered += [report.name for report in reports.read(0) if report.kind == "A"]
            daemon.pids()
        reports.close()
    return took, len(answered) - len(took)


@contextmanager
def program(argv):
    process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield process
        if process.poll() is not None:
            raise Trouble(f"{argv[0]} ended by itself ({process.returncode})")
    finally:
        process.terminate()
        process.wait()


def cost(tools, table):
    table.part(f"HTTP checks every {INTERVAL} ms (peer: HAProxy, one thread)")
    for count in (200, 1000):
        ways = {"floor": floor_prober("new"), "floor kept": floor_prober("keep")}
        if tools.haproxy:
            ways["peer"] = haproxy
        if tools.vitald:
            ways["vitald"] = vitald_prober(False)
            ways["vitald kept"] = vitald_prober(True)
        each, share = {}, {}
        for _ in range(tools.rounds(4)):
            for name, way in ways.items():
                with scratch() as directory:
                    cpu, rate = checks(tools, directory, count, way)
                each.setdefault(name, []).append(cpu)
                share.setdefault(name, []).append(rate)
        us = {name: median(values) for name, values in each.items()}
        rate = {name: 100 * median(values) for name, values in share.items()}
        kept = 0.65 if count == 200 else 0.40
        title = f"{count:,} targets"
        table.row(f"{title}: CPU us a check, new connections",
                  us.get("vitald"), us["floor"], us.get("peer"), peers=1.2)
        table.row(f"{title}: CPU us a check, kept alive (peer: new)",
                  us.get("vitald kept"), us["floor kept"], us.get("peer"), peers=kept)
        least = 99.5 if count == 1000 else None
        table.row(f"{title}: % of the nominal rate, new",
                  rate.get("vitald"), rate["floor"], rate.get("peer"), least=least)
        table.row(f"{title}: % of the nominal rate, kept",
                  rate.get("vitald kept"), rate["floor kept"], least=least)


def checks(tools, directory, count, way):
    """(CPU us a check, share of the nominal rate) of one prober, as the server counts them."""
    reports = Reports(directory)
    with program([tools.floor / "server", PORT, count, reports.path, "server"]) as server:
        reports.wait("R", ["server"], 10)

        def answered():
            server.send_signal(signal.SIGUSR2)
            return reports.wait("C", ["server"], 10)["server"]

        with way(tools, directory, count, reports) as pids:
            time.sleep(3)
            watched = pids()
            cpu, before = cpu_ns(watched), answered()
            time.sleep(5)
            cpu, after = cpu_ns(watched) - cpu, answered()
    reports.close()
    asked, seconds = after.value - before.value, (after.ns - before.ns) / 1e9
    if not asked:
        raise Trouble("nothing was asked")
    return cpu / 1e3 / asked, asked / (count * seconds * 1000 / INTERVAL)


def floor_prober(connections):
    @contextmanager
    def run(tools, _directory, count, _reports):
        with program([tools.floor / "prober", PORT, count, INTERVAL, connections]) as prober:
            yield lambda: [prober.pid]
    return run


@contextmanager
def haproxy(tools, directory, count, _reports):
    servers = "".join(
        f"  server s{n} 127.0.0.1:{PORT + n} check inter {INTERVAL}ms\n" for n in range(count)
    )
    (directory / "haproxy.cfg").write_text(
        "global\n  nbthread 1\n  maxconn 4000\n"
        f"defaults\n  mode http\n  timeout connect {TIMEOUT}ms\n  timeout check {TIMEOUT}ms\n"
        "  timeout client 1s\n  timeout server 1s\n"
        # Without a listener it does not run.
        f"frontend nobody\n  bind {directory}/haproxy.sock\n  default_backend all\n"
        f"backend all\n  option httpchk GET /\n{servers}"
    )
    with program([tools.haproxy, "-db", "-q", "-f", directory / "haproxy.cfg"]) as process:
        yield lambda: [process.pid]


def vitald_prober(kept):
    @contextmanager
    def run(tools, directory, count, reports):
        services = [
            Service(f"s{n}", [tools.floor / "child", reports.path, f"s{n}"],
                    http(PORT + n, 3, keep_alive=kept))
            for n in range(count)
        ]
        with Vitald(tools, directory, services) as daemon:
            reports.wait("R", [s.name for s in services], 60)
            yield daemon.pids
    return run
