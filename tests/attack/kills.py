"""Processes that are killed while they save: at each call to the file system, and at random moments.

The calls are those that Python makes; what happens inside one call, as in the writer of safetensors, only the random
moments reach. The killed process is a fork of this one, so that a try takes milliseconds.
"""

import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from attack.artefacts import command_lines, saved_things
from attack.row import Row

TITLE = "Killed while saving"
RANDOM = 200  # kills of each kind of artefact at random moments
FAULTS = ("unreadable", "mixed", "litter", "next save failed")
MODES = ("new", "replaced", "into the current folder")
# Modules whose functions reach the file system.
REACHING = {"posix", "io", "_io", "fcntl", "safetensors", "_safetensors_rust", "safetensors._safetensors_rust"}


def attack(scale):
    """Kill saves of every artefact; one row for each kind and way."""
    with tempfile.TemporaryDirectory() as folder:
        things = saved_things() + command_lines(Path(folder))
        kinds = {}
        for thing in things:
            kinds.setdefault(thing.kind, []).append(thing)
        rows = []
        for kind, same in kinds.items():
            cases = [(one, mode) for one in same for mode in MODES if one.is_folder or mode != MODES[2]]
            rows.append(at_calls(kind, cases, scale, Path(folder)))
            rows.append(at_random(kind, cases, max(1, round(RANDOM * scale)), Path(folder)))
        return rows


def at_calls(kind, cases, share, folder):
    """Kill at each call, or at a share of all of them."""
    row = Row(f"{kind}, at a call to the file system", 0, dict.fromkeys(FAULTS, 0))
    tries = []
    for thing, mode in cases:
        with Case(thing, mode, folder) as case:
            n_calls = case.count_calls()
        tries += [(thing, mode, call) for call in range(n_calls)]
    for thing, mode, call in random.Random(0).sample(tries, max(1, round(share * len(tries)))):
        with Case(thing, mode, folder) as case:
            case.save_and_die_at(call)
            case.judge(row, f"{thing.name}, {mode}, call {call}")
    return row


def at_random(kind, cases, n, folder):
    """Kill at random moments of the time that a save takes."""
    row = Row(f"{kind}, at a random moment", 0, dict.fromkeys(FAULTS, 0))
    rng, seconds = random.Random(1), {}
    for at in range(n):
        thing, mode = cases[at % len(cases)]
        with Case(thing, mode, folder) as case:
            if (thing.name, mode) not in seconds:
                started = time.monotonic()
                case.fork(case.save_new)
                case.wait()
                seconds[thing.name, mode] = time.monotonic() - started
        with Case(thing, mode, folder) as case:
            child = case.fork(case.save_new)
            moment = rng.random() * seconds[thing.name, mode]
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
            case.wait()
            case.judge(row, f"{thing.name}, {mode}, after {moment * 1000:.1f} ms")
    return row


class Case:
    """A folder with an old version, or none, in which a new one is being saved."""

    def __init__(self, thing, mode, folder):
        self.thing, self.mode = thing, mode
        self.room = Path(tempfile.mkdtemp(dir=folder))
        ending = ".npy" if thing.name in ("encode", "resolve") else ".safetensors"
        self.path = self.room / ("it" if thing.is_folder else f"it{ending}")

    def __enter__(self):
        # Made once for each thing and mode: what loads give, and which files a clean save leaves.
        known = KNOWN.get((self.thing.kind, self.thing.name, self.mode))
        if known is None:
            known = KNOWN[self.thing.kind, self.thing.name, self.mode] = self._know()
        self.contents, self.listing = known
        if self.mode != MODES[0]:
            self.thing.save(self.thing.versions[0], self.path)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.room)

    def _know(self):
        contents = []
        for version in self.thing.versions:
            self.thing.save(version, self.path)
            contents.append(self.thing.load(self.path))
        if self.mode == MODES[2]:
            self.fork(self.save_new)
            self.wait()
        listing = self.files()
        for path in self.room.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return contents, listing

    def files(self):
        """Return all names below; the random part of one counts as a letter."""
        return sorted(
            re.sub(r"\.[0-9a-f]{8}\.", ".x.", str(one.relative_to(self.room))) for one in self.room.rglob("*")
        )

    def save_new(self):
        """Save the new version, as a process does that is in the folder or beside it."""
        path = self.path
        if self.mode == MODES[2]:
            os.chdir(path)
            path = Path()
        self.thing.save(self.thing.versions[1], path)

    def fork(self, work):
        """Run `work` in a forked process and return its number."""
        self.child = os.fork()
        if self.child == 0:
            try:
                work()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        return self.child

    def wait(self):
        return os.waitpid(self.child, 0)[1]

    def count_calls(self):
        """Return the number of calls to the file system of a whole save."""
        read, write = os.pipe()

        def work():
            calls = Calls(None)
            calls.watch(self.save_new)
            os.write(write, str(calls.n).encode())

        self.fork(work)
        os.close(write)
        with os.fdopen(read) as pipe:
            n = int(pipe.read())
        self.wait()
        return n

    def save_and_die_at(self, call):
        self.fork(lambda: Calls(call).watch(self.save_new))
        self.wait()

    def judge(self, row, example):
        """Load what is there, save again, and compare the files with those of a clean save."""
        row.tried += 1
        if self.mode != MODES[0] or self.path.exists():
            try:
                if self.thing.load(self.path) not in self.contents:
                    row.fault("mixed", example)
            except Exception as error:
                row.fault("unreadable", f"{example}: {error}")
        self.fork(self.save_new)
        self.wait()
        try:
            if self.thing.load(self.path) != self.contents[1]:
                row.fault("next save failed", example)
        except Exception as error:
            row.fault("next save failed", f"{example}: {error}")
        if self.files() != self.listing:
            row.fault("litter", f"{example}: {sorted(set(self.files()) ^ set(self.listing))}")


KNOWN = {}


class Calls:
    """Counts a process's calls to the file system, and ends it at one of them."""

    def __init__(self, last):
        self.n, self.last = 0, last

    def watch(self, work):
        sys.setprofile(self._seen)
        try:
            work()
        finally:
            sys.setprofile(None)

    def _seen(self, frame, event, function):
        if event != "c_call":
            return
        module = getattr(function, "__module__", None) or type(getattr(function, "__self__", None)).__module__
        if module not in REACHING:
            return
        if self.n == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.n += 1
