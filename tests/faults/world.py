"""A home, who uses it, what is killed in it, and what became of its jobs."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil

from support import until
from support.homes import is_idle
from support.receiver import receiver
from support.servers import LiveServer, start_server
from taskapi_jupyter.core import fault_points, folders
from taskapi_jupyter.core.errors import JobNotInProgress, TaskAPIError
from taskapi_jupyter.core.process import descendants, is_there
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.supervisor import succession, wake

from . import chains, groups, notifications, schedules
from .jobs import KINDS, TASK
from .plan import INODES, PACKAGE, WRONGS, Facts, Outcome, Round
from .users import Gone, Kernel, Program, Refused
from .verdict import untruths

RECOVERY = 60.0  # seconds in which everything must have ended
IN_PROGRESS = ["pending", "running"]


class World:
    """A home, and who uses it. The process that looks after it stays alive and dies at no point."""

    def __init__(self, folder: Path, small: bool = False) -> None:
        assert not fault_points.FOLDER, "points would kill the harness itself"
        self.folder = folder
        self.home = folder / "home"
        self.armed = folder / "faults"
        self.evidence = folder / "evidence"
        self.project = folder / "project"
        for path in (self.home, self.armed, self.project):
            path.mkdir(mode=0o700)
        self.is_small = small and on_a_small_disk(self.home)
        self.evidence.touch()
        for name in ("TASKAPI_URL", "TASKAPI_TOKEN", "JPY_PARENT_PID", "JUPYTERHUB_SERVICE_URL"):
            os.environ.pop(name, None)
        os.environ.update(TASKAPI_FAULTS=str(self.armed), TASKAPI_HOME=str(self.home))
        self.service = Service(self.home)
        self.newer = folder / "newer"  # the same package, as a newer version that may replace a supervisor
        shutil.copytree(
            PACKAGE, self.newer / PACKAGE.name, ignore=shutil.ignore_patterns("labextension", "__pycache__")
        )
        (self.newer / PACKAGE.name / "_version.py").write_text('__version__ = "99.0"\n')
        self.ends = ExitStack()
        self.hook = self.ends.enter_context(receiver())
        self.version = 0
        self.server: LiveServer | None = None
        self.users: dict[str, Program | Kernel] = {}
        self.ended: list[str] = []  # jobs of earlier rounds
        self.first_end: dict[str, str] = {}
        self.write_apis()
        for name in ("work", "small", "shell", "temp"):
            self.service.deploy(str(self.project / f"{name}.yaml"))

    # What is deployed

    def write_apis(self) -> None:
        self.version += 1
        (self.project / "work.py").write_text(f"{TASK}\nversion = {self.version}\n")
        shell = f'echo "begun $TASKAPI_JOB_ID 0" >> {self.evidence}; sleep 0.1; exit 3'
        definition: dict[str, Any] = {"path": "work.py"}
        if self.version % 2:
            definition["warm"] = {"idle": 5}
        common = {"kind": "TaskAPI", "definition": definition, "compute": {"cpu": "500m"}}
        specs: dict[str, dict[str, Any]] = {
            "work": common,
            "temp": common,
            "small": {**common, "compute": {"cpu": "500m", "mem": "200Mi"}},
            "shell": {
                "kind": "TaskAPI",
                "pod": {
                    "containers": [{"name": "main", "image": "none", "command": ["sh", "-c", shell]}],
                },
            },
        }
        for name, spec in specs.items():
            (self.project / f"{name}.yaml").write_text(json.dumps([{"name": name, **spec}]))

    # Who uses it

    def user(self, through: str) -> Program | Kernel:
        """Return somebody who lives."""
        if through == "server" and (self.server is None or self.server.process.poll() is not None):
            self.server = start_server(self.folder, patience=180)
            if "server" in self.users:
                self.users.pop("server").close()
        user = self.users.get(through)
        if user is None or user.pid is None:
            environ: dict[str, str] = {}
            if through == "server":
                assert self.server is not None
                environ = {"TASKAPI_URL": self.server.url, "TASKAPI_TOKEN": self.server.token}
            user = self.users[through] = (Kernel if through == "kernel" else Program)(self.folder, environ)
        return user

    def close(self) -> None:
        for user in self.users.values():
            user.close()
        if self.server is not None:
            self.server.process.kill()
            self.server.process.wait()
        self.service.close()
        self.ends.close()

    # A round

    def run(self, round_: Round) -> Outcome:
        chance = random.Random(round_.seed)
        facts = Facts()
        config = f"stop_grace: 0.5\ncpus: {chance.choice([1, 2, 4])}\n"
        of_notifications = (round_.point or "").startswith(("notifier.", "outbox."))
        facts.told = of_notifications or round_.thorough or chance.random() < 0.3
        self.hook.got.clear()
        user = self.user(round_.through)  # a server comes with a config.yaml of its own
        (self.home / "config.yaml").write_text(config + (notifications.rules(self.hook) if facts.told else ""))
        if round_.point:
            after = f" {chance.choice([1, 2])}" if chance.random() < 0.3 and not round_.thorough else ""
            (self.armed / round_.point).write_text(f"{'pause' if round_.hold else 'kill'}{after}")
        watching = threading.Event()
        observer = threading.Thread(target=self.observe, args=(watching,), daemon=True)
        observer.start()
        work = threading.Thread(target=self.use, args=(user, round_, chance.random(), facts), daemon=True)
        work.start()
        if round_.point:
            self.attack_at_point(round_, chance, facts, work, user)
        else:
            for _ in range(chance.choice([1, 1, 2])):
                time.sleep(chance.uniform(0.0, 0.8))
                self.kill(round_.targets, chance, facts, user)
        work.join(RECOVERY)
        for path in self.armed.glob("*"):
            if path.suffix == ".taken":
                facts.reached = True
                self.whose(int(path.read_text() or 0), facts)
            path.unlink(missing_ok=True)
        outcome = Outcome(round_, facts.injected, len(facts.acknowledged), facts.reached or not round_.point)
        if work.is_alive():
            outcome.wrong.append(f"{round_.through} did not answer within {RECOVERY:g} s")
            user.close()
        self.recover(facts, outcome)
        watching.set()
        observer.join()
        self.judge(round_, facts, outcome)
        return outcome

    def use(self, user: Program | Kernel, round_: Round, salt: float, facts: Facts) -> None:
        """Do what people do, until who does it dies."""
        chance = random.Random(f"{round_.seed} {salt}")

        def ask(verb: str, *arguments: Any) -> Any:
            try:
                return user.ask(verb, *arguments)
            except Refused as error:
                facts.refused.append(f"{verb} {arguments[0]}: {error}")
                return None

        def configure(kind: str) -> dict[str, Any]:
            return {
                "kind": kind,
                "round": round_.number,
                "n": chance.randrange(1000),
                "seconds": chance.choice([0, 0, 0.1, 0.4]),
                "evidence": str(self.evidence),
            }

        def submit(api: str, kind: str) -> str | None:
            job_id = ask("submit", api, configure(kind), 1 if kind == "late" else None)
            if job_id:
                facts.acknowledged[job_id] = kind
            return job_id

        def stop(job_id: str) -> None:
            facts.stops.setdefault(job_id, False)
            if ask("stop", job_id):
                facts.stops[job_id] = True

        try:
            if round_.thorough or chance.random() < 0.5:
                self.write_apis()
                ask("deploy", str(self.project / "work.yaml"))
            of_groups = (round_.point or "").startswith(("group.", "attempt."))
            if of_groups or round_.thorough or chance.random() < 0.4:
                groups.use(ask, configure, chance, facts, self.begun)
            if (round_.point or "").startswith("chain.") or round_.thorough or chance.random() < 0.3:
                chains.use(ask, configure, chance, facts)
            of_schedules = (round_.point or "").startswith(("firing.", "schedule."))
            if of_schedules or round_.thorough or chance.random() < 0.2:
                schedules.use(ask, configure, chance, facts, round_)
            kinds = list(KINDS) if round_.thorough else ["asleep", "returns"]
            for _ in range(len(KINDS) if round_.thorough else chance.randint(3, 6)):
                kind = kinds.pop() if kinds else chance.choice(list(KINDS))
                job_id = submit(KINDS[kind][0], kind)
                if job_id and chance.random() < (0.9 if kind == "asleep" else 0.1):
                    time.sleep(chance.choice([0, 0, 0.05, 0.3]))
                    stop(job_id)
            if self.ended and (round_.thorough or chance.random() < 0.6):
                job_id = self.ended.pop(chance.randrange(len(self.ended)))
                facts.forgets[job_id] = False
                if ask("forget", job_id):
                    facts.forgets[job_id] = True
            if round_.thorough or chance.random() < 0.4:
                ask("deploy", str(self.project / "temp.yaml"))
                submit("temp", "asleep")
                ask("delete", "temp")
                if round_.thorough or chance.random() < 0.5:
                    ask("purge", "temp")
        except Gone:
            pass

    # What is killed

    def attack_at_point(
        self, round_: Round, chance: random.Random, facts: Facts, work: threading.Thread, user: Program | Kernel
    ) -> None:
        with ThreadPoolExecutor() as stops:  # a stop may lead to the point, and last until who is held there goes on
            self._attack_at_point(round_, chance, facts, work, user, stops)

    def _attack_at_point(
        self,
        round_: Round,
        chance: random.Random,
        facts: Facts,
        work: threading.Thread,
        user: Program | Kernel,
        stops: ThreadPoolExecutor,
    ) -> None:
        assert round_.point is not None
        path = self.armed / round_.point
        taken, held = path.with_name(f"{path.name}.taken"), path.with_name(f"{path.name}.held")
        began = time.monotonic()
        swapped = round_.point == "supervisor.becoming"  # which nobody comes by at, but for a swap
        provoked = not swapped and not round_.thorough and chance.random() < 0.7
        quiet = 0
        while not taken.exists():
            quiet = 0 if work.is_alive() or self.service.in_progress() else quiet + 1
            # A supervisor tidies, and leaves, when it has had nothing to do for 3 s.
            if quiet > (100 if round_.thorough else 10) or time.monotonic() > began + 20:
                return  # nobody came by
            time.sleep(0.05)
            if not provoked and time.monotonic() > began + 0.3:
                provoked = True
                some = [["supervisor"], ["watcher"], ["supervisor", "watcher"], ["swap"]]
                self.kill(["swap"] if swapped else chance.choice(some), chance, facts, user)
            if not work.is_alive():
                for job in self.service.jobs(status=IN_PROGRESS):
                    if (job.config or {}).get(
                        "kind"
                    ) == "asleep" and job.id not in facts.stops:  # or all would be quiet
                        facts.stops[job.id] = False
                        stops.submit(self.stop, job.id, facts)
        facts.injected += 1
        if not round_.hold:
            return
        until(lambda: held.exists() and held.read_text(), "the process to be held")
        pid = int(held.read_text())
        time.sleep(chance.uniform(0, 0.2))
        self.kill(round_.targets, chance, facts, user)
        time.sleep(chance.uniform(0, 0.3))
        if chance.random() < 0.5:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            facts.injected += 1
        else:
            taken.unlink(missing_ok=True)  # nobody died there
            facts.reached = True
        held.unlink(missing_ok=True)

    def kill(self, targets: list[str], chance: random.Random, facts: Facts, user: Program | Kernel) -> None:
        """Kill all of them at once; a target that isn't there within a moment is left out."""
        found = []
        for target in targets:
            if target == INODES:
                facts.no_inodes = self.is_small
                if self.is_small:
                    threading.Thread(target=take_inodes, args=(self.home, chance.uniform(0.2, 2))).start()
                    facts.injected += 1
                continue
            with suppress(AssertionError):
                found.append(until(lambda target=target: self.find(target, chance, user), target, 1.5))
        for target, pid, job_id in found:
            if target == "task":
                facts.killed_tasks.add(job_id)
            if target == "watcher":
                facts.killed_watchers.add(job_id)
            facts.killed_supervisor = facts.killed_supervisor or target == "supervisor"
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if target == "swap" else signal.SIGKILL)
            facts.injected += 1

    def find(self, target: str, chance: random.Random, user: Program | Kernel) -> tuple[str, int, str] | None:
        """Return who is to be killed, as ``(target, pid, job id or '')``."""
        if target == "supervisor":
            pid = living(self.home / "supervisor.lock")
            return (target, pid, "") if pid else None
        if target == "swap":  # by a newer package, or, where it is that one already, by its own files
            pid = living(self.home / "supervisor.lock")
            with suppress(OSError, ValueError, KeyError):
                record = json.loads((self.home / "supervisor.lock").read_bytes())
                command = wake.command("service.supervisor.supervisor", str(self.home))
                command[command.index(str(PACKAGE.parent))] = str(self.newer)
                succession.propose(str(self.home), record, command)
            return (target, pid, "") if pid else None
        if target == "template":
            pid = living(self.home / "supervisor.lock")
            found = []
            with suppress(psutil.NoSuchProcess):  # who was killed a moment ago
                below = psutil.Process(pid).children() if pid else []
                found = [one.pid for one in below if one.name() == "taskapi-warm"]
            return (target, chance.choice(found), "") if found else None
        if target in ("watcher", "task"):
            running = self.service.store.running()
            chance.shuffle(running)
            for row in running:
                pid = living(self.home / "jobs" / row["id"] / "claim")
                if pid and target == "task":
                    pid = next(iter(descendants(pid)), 0)
                if pid:
                    return target, pid, row["id"]
            return None
        if target == "lock holder":
            code = (
                "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
                "c.execute('BEGIN IMMEDIATE'); c.execute(\"UPDATE jobs SET reason = 'never written'\")\n"
                "c.execute('UPDATE counter SET n = n + 1000'); print(flush=True); time.sleep(60)"
            )
            holder = subprocess.Popen(
                [sys.executable, "-c", code, str(self.home / "taskapi.db")], stdout=subprocess.PIPE
            )
            assert holder.stdout is not None
            holder.stdout.readline()
            time.sleep(chance.uniform(0, 0.5))
            threading.Thread(target=holder.wait, daemon=True).start()
            return target, holder.pid, ""
        if target == "server":
            pid = self.server.process.pid if self.server and self.server.process.poll() is None else None
        else:
            pid = user.pid
        return (target, pid, "") if pid else None

    def whose(self, pid: int, facts: Facts) -> None:
        """Note whose job is concerned by a process that died at a point."""
        for claim in (self.home / "jobs").glob("*/claim"):
            with suppress(OSError, ValueError, KeyError):
                if json.loads(claim.read_bytes())["pid"] == pid:
                    facts.killed_watchers.add(claim.parent.name)
                    return
        for word, job_id, its in self.marks():
            if word in ("begun", "session") and its == pid:
                (facts.killed_tasks if word == "begun" else facts.killed_watchers).add(job_id)
                return
        facts.killed_unknown = True

    # What became of it

    def observe(self, over: threading.Event) -> None:
        """Note in which terminal state each job is seen first."""
        since = 0
        while True:
            last = over.is_set()
            counter = self.service.store.counter()
            for news in self.service.store.news(since):
                if news["status"] not in (*IN_PROGRESS, "deleted"):
                    self.first_end.setdefault(news["id"], news["status"])
            since = counter
            if last:
                return
            time.sleep(0.02)

    def stop(self, job_id: str, facts: Facts) -> None:
        facts.stops.setdefault(job_id, False)
        try:
            self.service.stop(job_id)
            facts.stops[job_id] = True
        except JobNotInProgress:
            pass
        except TaskAPIError as error:
            facts.refused.append(f"stop {job_id}: {error}")

    def recover(self, facts: Facts, outcome: Outcome) -> None:
        """Look, as people do, until everything has ended."""
        deadline = time.monotonic() + RECOVERY
        for row in self.service.store.schedules():
            self.service.delete_schedule(row["name"])
        while jobs := self.service.jobs(status=IN_PROGRESS, limit=1000):
            if time.monotonic() > deadline:
                outcome.lost += [f"{job.id} is {job.status} for ever" for job in jobs]
                return
            for job in jobs:
                if (job.config or {}).get("kind") == "asleep":
                    self.stop(job.id, facts)
            time.sleep(0.02)
        while self.service.store.next_delivery() is not None:
            if time.monotonic() > deadline:
                outcome.lost.append("what was to be told waits for ever")
                return
            self.service.jobs(limit=1)  # who looks has a supervisor
            time.sleep(0.02)

    def marks(self) -> list[tuple[str, str, int]]:
        lines = self.evidence.read_text().splitlines()
        return [(word, job_id, int(pid)) for word, job_id, pid in map(str.split, lines)]

    def begun(self, ids: list[str]) -> int:
        """Count the jobs among these that have begun."""
        return len({job_id for word, job_id, _ in self.marks() if word == "begun" and job_id in ids})

    def judge(self, round_: Round, facts: Facts, outcome: Outcome) -> None:
        jobs = {job.id: job for job in self.service.jobs(limit=1000)}
        mine = {job_id: job for job_id, job in jobs.items() if (job.config or {}).get("round") == round_.number}
        forgotten = {news["id"] for news in self.service.store.news(0) if news["status"] == "deleted"}
        begun = Counter(job_id for word, job_id, _ in self.marks() if word == "begun")
        ended = {job_id for word, job_id, _ in self.marks() if word == "ended"}
        for job_id, kind in facts.acknowledged.items():
            if job_id not in jobs and not (job_id in forgotten and kind == "asleep"):
                outcome.lost.append(f"{job_id} ({kind}) was acknowledged and is not there")
        for job_id, acknowledged in facts.forgets.items():
            if acknowledged and job_id in jobs:
                outcome.wrong.append(f"{job_id} was deleted and is there")
        outcome.twice += [f"{job_id} was started {begun[job_id]} times" for job_id in mine if begun[job_id] > 1]
        for job in mine.values():
            first = self.first_end.get(job.id, job.status)
            told = list(untruths(job, facts, begun[job.id], job.id in ended, first, chains.fails(job, mine, facts)))
            outcome.wrong += [f"{job.id} ({job.config['kind']}, {job.status}, {job.reason!r}): {one}" for one in told]
        outcome.wrong += groups.untruths(mine, round_, facts, self.begun)
        outcome.wrong += chains.untruths(mine, facts, self.begun)
        outcome.twice += schedules.untruths(mine)
        if facts.told:
            outcome.wrong += notifications.untruths(mine, self.hook)
            if not facts.no_inodes:  # without room for its row, nothing is told
                outcome.lost += notifications.undelivered(mine, self.hook)
        for refused in facts.refused:
            by_design = "NotInProgress" in refused or (
                "NotDeployed" in refused and not refused.startswith("stop")
            )  # `temp` was deleted in an earlier round whose user died
            away = round_.through == "server" and "Unreachable" in refused
            full = facts.no_inodes and ("no space is left" in refused or "No space left" in refused)
            if not by_design and not away and not full:
                outcome.wrong.append(f"refused: {refused}")
        self.ended += [job_id for job_id, job in mine.items() if job.api_name != "temp"]  # those are purged
        outcome.orphans += self.orphans(list(mine)) + self.bare(list(mine), facts)

    def bare(self, ids: list[str], facts: Facts) -> list[str]:
        """Return the processes left that had shed session and environment, but where that is not promised."""
        found = []
        for word, job_id, pid in self.marks():
            with suppress(psutil.Error):
                if word != "bare" or job_id not in ids or psutil.Process(pid).cmdline() != ["sleep", "600"]:
                    continue
                lost_watcher = job_id in facts.killed_watchers or facts.killed_unknown
                if not (lost_watcher and (facts.killed_supervisor or facts.killed_unknown)):
                    found.append(f"{job_id}: {pid}, which shed all")
                os.kill(pid, signal.SIGKILL)
        return found

    def orphans(self, ids: list[str]) -> list[str]:
        """Return the processes that jobs left, once they had a moment to be gone."""
        sessions = {pid: job_id for word, job_id, pid in self.marks() if word == "session" and job_id in ids}
        for job_id in ids:  # claims of jobs that did not come to say it
            with suppress(OSError, ValueError, KeyError):
                sessions[json.loads((self.home / "jobs" / job_id / "claim").read_bytes())["pid"]] = job_id

        def left() -> list[str]:
            found = []
            for process in psutil.process_iter():
                with suppress(psutil.Error, OSError):
                    if process.status() == psutil.STATUS_ZOMBIE or is_idle(process, self.home):
                        continue
                    of = process.environ().get("TASKAPI_JOB_ID")
                    if of in ids or sessions.get(os.getsid(process.pid)):
                        found.append(f"{of}: {process.pid} {' '.join(process.cmdline())[:80]}")
            return found

        with suppress(AssertionError):
            until(lambda: not left(), "what jobs left", 10)
        return left()


def on_a_small_disk(home: Path) -> bool:
    """Have a home lie on a disk that only this process and what it starts see; False where that is not allowed."""
    if ctypes.CDLL(None).unshare(0x20000):  # CLONE_NEWNS
        return False
    options = "size=2g,nr_inodes=100000,mode=700"
    for command in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", options, "none", str(home)]):
        if subprocess.run(["mount", *command], capture_output=True, check=False).returncode:
            return False
    return True


def take_inodes(home: Path, seconds: float) -> None:
    """Take all inodes of a home's disk for some time."""
    taken = home / f".taken-{time.monotonic_ns()}"
    with suppress(OSError):
        taken.mkdir()
        for number in itertools.count():
            (taken / str(number)).touch()
    time.sleep(seconds)
    folders.remove(taken)


def living(path: Path) -> int | None:
    """Return the pid in a lock's record, if that process lives."""
    try:
        who = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return int(who["pid"]) if is_there(who) else None


def run_world(rounds: list[Round]) -> tuple[list[Outcome], str]:
    """Run rounds one after the other in one home; return what they came to, and the folder where it was kept."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    world = World(folder, small=any(INODES in one.targets for one in rounds))
    outcomes = []
    try:
        for round_ in rounds:
            outcomes.append(world.run(round_))
    finally:
        world.close()
    if any(getattr(one, name) for one in outcomes for name in WRONGS):
        return outcomes, str(folder)
    folders.remove(folder)
    return outcomes, ""
