"""The supervisors that are compared, behind one face: start with services, know its processes, end."""

import json
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from world import Trouble, alive, wait_for, with_helpers


@dataclass
class Service:
    name: str
    argv: list
    # The fields of a [[probe]], or none.
    probe: dict = field(default_factory=dict)


class Supervisor:
    """One running instance, in a directory of its own. `with` ends it whatever happens."""

    name = "?"

    def __init__(self, tools, directory, services):
        self.tools, self.directory, self.services = tools, directory, services
        self.process = None
        self.begun = 0

    def command(self):
        raise NotImplementedError

    def __enter__(self):
        argv = [str(a) for a in self.command()]
        log = open(self.directory / "log", "wb")
        self.begun = time.monotonic_ns()
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def pids(self):
        if self.process.poll() is not None:
            said = (self.directory / "log").read_text(errors="replace").strip()[-300:]
            raise Trouble(f"{self.name} ended by itself ({self.process.returncode}): {said}")
        return with_helpers(self.process.pid)

    def stop(self, children):
        """Ends it by SIGTERM; nanoseconds until it has ended, and with it all its children."""
        begin = time.monotonic_ns()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            raise Trouble(f"{self.name} does not end by SIGTERM in 60 s") from None
        took = time.monotonic_ns() - begin
        if left := sum(alive(pid) for pid in children):
            raise Trouble(f"{self.name} left {left} of {len(children)} behind")
        return took


class Floor(Supervisor):
    """floor/supervise: clone3, pidfds, epoll. All its services are the same child."""

    name = "floor"

    def command(self):
        fifo = self.services[0].argv[1]
        return [self.tools.floor / "supervise", len(self.services), fifo, self.tools.floor / "child"]


class Dinit(Supervisor):
    name = "dinit"

    def command(self):
        directory = self.directory / "dinit.d"
        directory.mkdir()
        names = [s.name for s in self.services]
        for service in self.services:
            (directory / service.name).write_text(
                f"type = process\ncommand = {' '.join(map(str, service.argv))}\n"
                "restart = true\nsmooth-recovery = true\nrestart-delay = 0\nrestart-limit-interval = 0\n"
            )
        (directory / "boot").write_text("type = internal\n" + "".join(f"waits-for = {n}\n" for n in names))
        return [self.tools.dinit, "-u", "-q", "-d", directory, "-p", self.socket]

    @property
    def socket(self):
        return self.directory / "dinit.socket"


class Vitald(Supervisor):
    name = "vitald"
    # What vitald.toml holds, and what each definition holds besides.
    settings = ""
    keys = ""

    def command(self):
        services = self.directory / "etc" / "services"
        services.mkdir(parents=True)
        (self.directory / "etc" / "vitald.toml").write_text(self.settings)
        for service in self.services:
            (services / f"{service.name}.toml").write_text(self.definition(service))
        state = self.tools.state / self.directory.name
        shutil.rmtree(state, ignore_errors=True)
        return [self.tools.vitald, "run", "--config-dir", self.directory / "etc",
                "--state-dir", state, "--runtime-dir", self.directory / "run"]

    def __exit__(self, *about):
        super().__exit__(*about)
        shutil.rmtree(self.tools.state / self.directory.name, ignore_errors=True)

    def definition(self, service):
        # JSON's strings, numbers and arrays of strings are TOML's.
        lines = [f"exec = {json.dumps([str(a) for a in service.argv])}", self.keys]
        lines += ["[retry_policy]", 'max_attempts = "unlimited"', 'backoff = "fixed"',
                  "delay_ms = 0", "jitter = 0.0", "stability_period_ms = 1"]
        if service.probe:
            lines += ["[[probe]]"] + [f"{key} = {json.dumps(value)}" for key, value in service.probe.items()]
        return "\n".join(lines) + "\n"

    @property
    def socket(self):
        return self.directory / "run" / "control.sock"

    def ask(self, line):
        """One answer, as bytes: JSON is one line, words end with `ok`."""
        wait_for("control socket", self.socket.exists, 10)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(self.socket))
            client.sendall(line.encode() + b"\n")
            answer = b""
            while not (answer.endswith(b"\n") and (line[0] in "{[" or whole(answer))):
                chunk = client.recv(1 << 20)
                if not chunk:
                    raise Trouble(f"the control socket closed after {answer[-100:]!r}")
                answer += chunk
        if b'"error"' in answer[:200] or answer.startswith(b"error"):
            raise Trouble(f"{line}: {answer[:200]!r}")
        return answer


def whole(answer):
    last = answer[:-1].rsplit(b"\n", 1)[-1]
    return last == b"ok" or last.startswith(b"error")


class VitaldWithoutStormLimit(Vitald):
    """For hangs that are made faster than a host should have them, and told nobody why."""

    settings = (
        "health_restart_limit = { count = 1000000, per_ms = 1000 }\n"
        "storm = { services = 0, percent = 0 }\n"
    )
    keys = "dossier_timeout_ms = 0\n"
