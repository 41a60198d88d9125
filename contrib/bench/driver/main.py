"""Runs the measurements and prints one table. Started by contrib/bench/run, which says how."""

import argparse
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import control
import processes
import probes
from world import Trouble

PARTS = {
    "respawn": processes.respawn,
    "start": processes.start_and_stop,
    "memory": processes.footprint,
    "idle": processes.idle,
    "hang": probes.hang,
    "probe": probes.cost,
    "control": control.answers,
    "lag": control.lag,
}


@dataclass
class Tools:
    """Where the programs are; None for a peer that is not installed."""

    floor: Path
    state: Path
    vitald: Path
    dinit: Path
    haproxy: Path
    quick: bool

    def rounds(self, number):
        return max(1, number // 4) if self.quick else number


def number(value):
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")


class Table:
    """Rows as they come: figures beside each other, ratios of vitald's to theirs."""

    def __init__(self):
        self.missed = []
        self.line("", "floor", "peer", "vitald", "/floor", "/peer", "target", "")

    @staticmethod
    def line(what, *cells):
        widths = (10, 10, 10, 7, 7)
        shown = " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths))
        print(f"{what:<50} {shown}  {' '.join(cells[len(widths):])}".rstrip(), flush=True)

    def part(self, title):
        print(f"\n{title}", flush=True)

    def row(self, what, vitald=None, floor=None, peer=None, *, most=None, floors=None, peers=None, least=None):
        """`most`/`least`: the figure's own bound; `floors`, `peers`: bounds of the ratios."""
        checks, targets = [], []
        by_floor = vitald / floor if vitald is not None and floor else None
        by_peer = vitald / peer if vitald is not None and peer else None
        for bound, value, shown in ((most, vitald, "<= {}"), (floors, by_floor, "<= {} x floor"),
                                    (peers, by_peer, "<= {} x peer")):
            if bound is not None:
                targets.append(shown.format(number(bound)))
                if value is not None:
                    checks.append(value <= bound)
        if least is not None:
            targets.append(f">= {number(least)}")
            if vitald is not None:
                checks.append(vitald >= least)
        verdict = "" if not checks else "yes" if all(checks) else "NO"
        if verdict == "NO":
            self.missed.append(what)
        self.line(what, number(floor), number(peer), number(vitald), number(by_floor), number(by_peer),
                  ", ".join(targets), verdict)

    def trouble(self, what, why):
        self.missed.append(what)
        print(f"{what:<50} {why}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="contrib/bench/run")
    parser.add_argument("--floor", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--vitald", type=Path)
    parser.add_argument("--dinit", type=Path)
    parser.add_argument("--quick", action="store_true", help="a quarter of the rounds")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {' '.join(PARTS)}; default: all")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {' '.join(sorted(unknown))}")

    found = {name: shutil.which(name) for name in ("dinit", "haproxy")}
    tools = Tools(args.floor, args.state, args.vitald, args.dinit or found["dinit"], found["haproxy"], args.quick)
    print(f"Linux {platform.release()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f} at the beginning")
    for name in ("vitald", "dinit", "haproxy"):
        print(f"{name}: {getattr(tools, name) or 'not installed, its column stays empty'}")
    print()
    table = Table()
    for name in args.parts or PARTS:
        try:
            PARTS[name](tools, table)
        except Trouble as why:
            table.trouble(name, f"could not be measured: {why}")
    print(f"\nload {os.getloadavg()[0]:.2f} at the end")
    if table.missed:
        print("missed: " + "; ".join(table.missed))
        sys.exit(1)


if __name__ == "__main__":
    main()
