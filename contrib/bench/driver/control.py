"""The control socket and the command line; and how long the loop lets a client wait under load."""

import contextlib
import json
import socket
import time

from processes import Running
from supervisors import Dinit, Service, Vitald
from world import Reports, cpu_ns, median, output, scratch, wait_for
from probes import program


def call(method, **params):
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def answers(tools, table):
    table.part("answers (floor: an echo server with the same answer; peer: dinitctl)")
    if tools.vitald:
        with Running(Vitald, tools, 1) as run:
            for what, line, end in (("status, words", "status s0", "ok"),
                                    ("status, JSON-RPC", call("service.status", name="s0"), "")):
                sockets(tools, table, run, what, line, end)
        with Running(Vitald, tools, 1000) as run:
            run.supervisor.ask("ping")
            for what, line, end in (("list of 1,000, words: ms", "list", "ok"),
                                    ("list of 1,000, JSON-RPC: ms", call("service.list"), "")):
                p50, *_ = output([tools.floor / "ask", run.supervisor.socket, tools.rounds(100), 1000, line, end])
                table.row(what, int(p50) / 1e6, most=5)
    commands(tools, table)


def sockets(tools, table, run, what, line, end):
    daemon = run.supervisor
    with scratch() as directory:
        (directory / "reply").write_bytes(daemon.ask(line))
        with program([tools.floor / "echo", directory / "echo", directory / "reply"]):
            wait_for("echo server", (directory / "echo").exists, 5)
            p50 = {"echo": [], "vitald": []}
            cpu, count = [], 5000
            for _ in range(tools.rounds(8)):
                for name, path in (("echo", directory / "echo"), ("vitald", daemon.socket)):
                    pids = daemon.pids()
                    before = cpu_ns(pids)
                    p50[name].append(int(output([tools.floor / "ask", path, count, 0, line, end])[0]))
                    if name == "vitald":
                        cpu.append((cpu_ns(pids) - before) / count)
    table.row(f"{what}: p50 us", median(p50["vitald"]) / 1e3, median(p50["echo"]) / 1e3, floors=1.25)
    table.row(f"{what}: CPU us in the daemon", median(cpu) / 1e3, most=20)


def commands(tools, table):
    """The command line, from spawn to end."""
    with contextlib.ExitStack() as stack:
        ways = {"floor": [tools.floor / "nothing"]}
        if tools.dinit:
            peer = stack.enter_context(Running(Dinit, tools, 1)).supervisor
            ctl = tools.dinit.parent / "dinitctl"
            ways["peer"] = [ctl, "-p", peer.socket, "status", "s0"]
        if tools.vitald:
            daemon = stack.enter_context(Running(Vitald, tools, 1)).supervisor
            daemon.ask("ping")
            ways["vitald"] = [tools.vitald, "--socket", daemon.socket, "status", "s0"]
        took = {}
        for _ in range(tools.rounds(8)):
            for name, argv in ways.items():
                took.setdefault(name, []).append(int(output([tools.floor / "times", 50, *argv])[0]) / 1e6)
    figures = {name: median(values) for name, values in took.items()}
    table.row("status by command, ms", figures.get("vitald"), figures["floor"], figures.get("peer"), peers=0.5)


def lag(tools, table):
    table.part("how long a client waits for a ping, ms")
    if not tools.vitald:
        return
    flood = [Service(f"flood{n}", ["/bin/sh", "-c", "exec yes 'a line of a flood'"]) for n in range(4)]
    storm = [Service(f"storm{n}", [tools.floor / "nothing"]) for n in range(20)]
    for what, services, clients in (("nothing else", [], 0), ("4 services flood their logs", flood, 0),
                                    ("1,000 clients connect and say nothing", [], 1000),
                                    ("20 services crash at once, again and again", storm, 0)):
        pinged(tools, table, what, services, clients)


def pinged(tools, table, what, services, clients):
    with scratch() as directory, contextlib.ExitStack() as stack:
        reports = Reports(directory)
        stack.callback(reports.close)
        steady = Service("s0", [tools.floor / "child", reports.path, "s0"])
        daemon = stack.enter_context(Vitald(tools, directory, [steady, *services]))
        reports.wait("R", ["s0"], 30)
        daemon.ask("ping")
        for _ in range(clients):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(5)
            # At the daemon's limit of connections the one idle longest is closed.
            with contextlib.suppress(OSError):
                client.connect(str(daemon.socket))
        time.sleep(1)
        p50, p99, longest, _ = output([tools.floor / "ask", daemon.socket, tools.rounds(2000), 1000, "ping", "ok"])
        daemon.pids()
    table.row(f"{what}: p50", int(p50) / 1e6)
    table.row(f"{what}: p99", int(p99) / 1e6, most=10)
    table.row(f"{what}: longest", int(longest) / 1e6)
