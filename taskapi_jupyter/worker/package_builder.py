"""Builds the environment of packages that a task runs in, then becomes the task.

It runs in the task's process, before the task, so that stop, timeout, memory limit and log hold for it; in the
interpreter that the environment is made with (Python 3.8 or newer), with the standard library alone. Arguments: the
task's command. ``TASKAPI_PACKAGES``, which the task does not see, is JSON: ``folder`` (of all environments), ``job``
(its id), ``lock`` (a file of requirements), ``offline``, and ``packages``, which the deploy wrote.

An environment is built beside its place and renamed: nobody sees half of one. The builder holds a lock; other jobs
wait for it, and find the environment there.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from typing import Any

LAYOUT = 1  # of an environment's folder; another number builds all of them again
VARIABLE = "TASKAPI_PACKAGES"

#: What builders say where nobody answers.
_UNREACHABLE = (
    r"client error \(Connect\)|dns error|tcp connect error|operation timed out|[Cc]onnection (?:refused|reset|closed)|"
    r"Network is unreachable|Max retries exceeded|connection error:|ConnectTimeout|Read timed out"
)
#: How a line begins that says what went wrong, of uv, older ones too, and of pip.
_TELLS = r"\s*(?:error:|ERROR:|cause:|Caused by:|hint:|\xd7|\u2570\u2500\u25b6)\s*(.*)"


def installed(folder: str) -> list[str]:
    """Return the packages of an environment: the names of its ``dist-info`` folders that have a ``RECORD``."""
    found: list[str] = []
    library = os.path.join(folder, "lib")
    for python in os.listdir(library):
        packages = os.path.join(library, python, "site-packages")
        if os.path.isdir(packages):
            infos = [one for one in os.listdir(packages) if one.endswith(".dist-info")]
            found += [one for one in infos if os.path.exists(f"{packages}/{one}/RECORD")]
    return sorted(found)


def damage(folder: str, key: str) -> str:
    """Return what is wrong with an environment, '' where nothing is; raise FileNotFoundError where there is none."""
    os.stat(folder)
    try:
        with open(os.path.join(folder, "taskapi.json"), "rb") as file:
            facts = json.loads(file.read())
        there, wanted = len(installed(folder)), facts["records"]
        if (facts["key"], facts["layout"]) != (key, LAYOUT):
            return "its taskapi.json is of another one"
        if there != wanted:
            return f"{there} of its {wanted} packages are there"
        if not os.access(os.path.join(folder, "bin", "python"), os.X_OK):
            return "its interpreter is gone"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return "its taskapi.json can't be read"
    return ""


class Failed(Exception):
    """Why an environment could not be built; ``code`` is the builder's exit code, or a signal as a negative number."""

    def __init__(self, reason: str, code: int = 1) -> None:
        super().__init__(reason)
        self.code = code


class Build:
    """The build of one environment."""

    def __init__(self, given: dict[str, Any], fault_point: Any) -> None:
        self.home, self.job, self.requirements = given["folder"], given["job"], given["lock"]
        self.packages, self.fault_point = given["packages"], fault_point
        self.key, self.builder = self.packages["key"], self.packages["builder"]
        self.folder = os.path.join(self.home, self.key)
        self.temporary = f"{self.folder}.tmp-{self.job}"
        self.env = environment(self.packages, given["offline"])
        self.secrets = secrets(self.packages)

    def run(self) -> None:
        """Have the environment be there; raise :class:`Failed` or OSError, with nothing half built, where it can't."""
        import shutil

        lock = self._locked()
        try:
            try:
                why = damage(self.folder, self.key)
                if not why:
                    return
                say(f"taskapi: the environment {self.key[:8]} is damaged and is built again: {why}")
            except FileNotFoundError:
                pass
            for name in os.listdir(self.home):  # of builders that were killed
                if name.startswith((f"{self.key}.tmp-", f"{self.key}.old-")):
                    shutil.rmtree(os.path.join(self.home, name), ignore_errors=True)
            self.fault_point("build.locked")
            try:
                self._build()
            finally:
                for kind in ("tmp", "old"):
                    shutil.rmtree(f"{self.folder}.{kind}-{self.job}", ignore_errors=True)
        finally:
            os.ftruncate(lock, 0)
            os.close(lock)

    def _locked(self) -> int:
        """Return the lock's descriptor once no other process holds it; it names this job from then on."""
        lock = os.open(f"{self.folder}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            for _ in range(50):  # one that has just taken it writes its id next
                job = os.pread(lock, 100, 0).decode("ascii", "replace").strip()
                if job:
                    break
                time.sleep(0.01)
            say(f"taskapi: waiting for {f'job {job}' if job else 'a process'}, which builds the same environment")
            fcntl.flock(lock, fcntl.LOCK_EX)
        os.ftruncate(lock, 0)
        os.pwrite(lock, self.job.encode(), 0)
        return lock

    def _build(self) -> None:
        began = time.monotonic()
        make, resolve, install = self._commands()
        self._call(make)
        os.chmod(self.temporary, 0o700)
        self.fault_point("build.made")
        lock = self.requirements
        if self.packages["unlocked"]:
            lock = os.path.join(self.temporary, "requirements.lock")
            self._call([*resolve, self.requirements], quiet=True)
            if self.builder == "pip":
                lock_of_report(f"{lock}.json", lock)
        self._call([*install, lock])
        self.fault_point("build.installed")
        there = installed(self.temporary)
        self._relocate()
        names = [one[: -len(".dist-info")].replace("-", "==", 1) for one in there]
        facts = {
            "key": self.key,
            "python": self.packages["base"],
            "version": self.packages["version"],
            "builder": self.builder,
            "built": time.time(),
            "seconds": round(time.monotonic() - began, 3),
            "size": size(self.temporary),
            "records": len(there),
            "requirements": self.packages["requirements"],
            "packages": names if self.packages["unlocked"] else self.packages["packages"],
            "layout": LAYOUT,
        }
        write(os.path.join(self.temporary, "taskapi.json"), facts)
        sync(self.temporary)
        self.fault_point("build.synced")
        try:
            os.rename(self.folder, f"{self.folder}.old-{self.job}")  # the damaged one: a job may still run in it
        except FileNotFoundError:
            pass
        os.rename(self.temporary, self.folder)
        self.fault_point("build.renamed")
        count = f"{len(there)} package{'' if len(there) == 1 else 's'}"
        say(f"taskapi: built the environment {self.key[:8]} in {time.monotonic() - began:.1f} s ({count})")

    def _commands(self) -> tuple[list[str], list[str], list[str]]:
        """Return what makes an environment, and what resolves and installs the requirements that a file has."""
        import shutil

        base, uv, pip = self.packages["base"], self.packages["uv"], self.packages["pip"]
        python = os.path.join(self.temporary, "bin", "python")
        lock = os.path.join(self.temporary, "requirements.lock")
        if self.builder == "uv" and not (uv and os.access(uv, os.X_OK)):
            uv = shutil.which("uv", path=self.env.get("PATH"))
        if not (uv if self.builder == "uv" else pip):
            raise Failed(
                "neither uv nor pip is there to build the environment: pip install 'taskapi-jupyter[uv]', or "
                f"{base} -m ensurepip, and deploy again"
            )
        if self.builder == "uv":
            return (
                [uv, "venv", "--quiet", "--relocatable", "--no-project", "--python", base, self.temporary],
                [uv, "pip", "compile", "--generate-hashes", "--python", python, "-o", lock],
                [uv, "pip", "install", "--require-hashes", "--no-deps", "--python", python, "-r"],
            )
        # Which page of an index could not be had, and why, is in pip's own log alone.
        pip = [pip, "-I", "-m", "pip", "--python", python, "--log", os.path.join(self.temporary, "pip.log"), "install"]
        return (
            [base, "-I", "-m", "venv", "--without-pip", self.temporary],
            [*pip, "--dry-run", "--ignore-installed", "--report", f"{lock}.json", "-r"],
            [*pip, "--require-hashes", "--no-deps", "--no-warn-script-location", "-r"],
        )

    def _call(self, command: list[str], quiet: bool = False) -> None:
        """Run a program, with what it says in the log, of its errors alone if ``quiet``; raise where it fails."""
        import subprocess

        said = []
        with subprocess.Popen(
            command,
            env=self.env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else subprocess.PIPE,
            stderr=subprocess.PIPE if quiet else subprocess.STDOUT,
        ) as process:
            for line in process.stderr or process.stdout or ():
                said.append(self._shown(line.decode("utf-8", "replace").rstrip()))
                if said[-1]:
                    say(f"{self.builder}: {said[-1]}")
        if process.returncode:
            raise Failed(self._reason(said, process.returncode), process.returncode)

    def _shown(self, text: str) -> str:
        """Return text without credentials, and with the environment's place as it will be."""
        import re

        text = re.sub(r"(?<=://)[^/\s@]+@", "***@", text.replace(os.path.basename(self.temporary), self.key))
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text

    def _reason(self, said: list[str], code: int) -> str:
        """Return why a builder failed, from what it said."""
        import re

        if code < 0:
            return f"{self.builder} was killed by signal {-code}"
        pages = self._pages_not_had()
        text = "\n".join([*said, *pages])
        if re.search(r"No space left on device|Disk quota exceeded", text):
            return no_space(self.home)
        if re.search(_UNREACHABLE, text):
            url = re.search(r"(?:fetch|download|url|URL)\b[^\n]{0,9}?(\w+://([^\s`'\"/)]+)[^\s`'\")]*)", text)
            host = re.search(r"\bhost='([^']+)'", text)
            where = f"{url[1].rstrip(':')} ({url[2].rpartition('@')[2]})" if url else host[1] if host else "the index"
            return f"can't reach {where}; see packages.offline and packages.index_url"
        last: list[str] = []  # what the last line says that tells something, and the lines that go on with it
        for line in said:
            tells = re.match(_TELLS, line)
            if tells:
                last = [tells[1]]
            elif last and last[-1]:  # to the next empty line
                last.append(line.strip(" \u2502"))
        reason = " ".join(last).strip() or next(filter(None, reversed(said)), f"exit code {code}")
        return f"{self.builder}: {': '.join([reason, *pages[-1:]])[:1500]}"

    def _pages_not_had(self) -> list[str]:
        """Return what pip has noted of pages of an index that it could not have."""
        try:
            with open(os.path.join(self.temporary, "pip.log"), encoding="utf-8", errors="replace") as file:
                return [self._shown(line.partition(" ")[2].strip()) for line in file if "Could not fetch URL" in line]
        except OSError:
            return []

    def _relocate(self) -> None:
        """Have files name the final folder: venv and pip write its path into some, uv does not."""
        before, after = os.fsencode(os.path.basename(self.temporary)), self.key.encode()
        scripts = os.path.join(self.temporary, "bin")
        paths = [os.path.join(scripts, name) for name in os.listdir(scripts)]
        for path in [*paths, os.path.join(self.temporary, "pyvenv.cfg")]:
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    text = file.read()
                if before in text:
                    with open(path, "wb") as file:
                        file.write(text.replace(before, after))
        if self.builder == "pip":
            os.unlink(os.path.join(self.temporary, "pip.log"))


def environment(packages: dict[str, Any], offline: bool) -> dict[str, str]:
    """Return a builder's variables: the task's, those of the build alone, and what both builders are told here."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env.update(packages["env"])
    # What would have something else installed, or somewhere else; the lock has all that was asked for.
    for name in (
        "CONSTRAINT",
        "OVERRIDE",
        "EXCLUDE",
        "REQUIREMENT",
        "TARGET",
        "PREFIX",
        "ROOT",
        "PYTHON",
        "SYSTEM_PYTHON",
    ):
        env.pop(f"UV_{name}", None)
        env.pop(f"PIP_{name}", None)
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "VIRTUAL_ENV", "CONDA_PREFIX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"):
        own = env.pop(name, "")
        if own and name == "UV_INDEX_URL":
            env.setdefault("UV_DEFAULT_INDEX", own)
        elif own and name == "UV_EXTRA_INDEX_URL":
            env["UV_INDEX"] = f"{env.get('UV_INDEX', '')} {own}".strip()
    env.update(NO_COLOR="1", UV_NO_PROGRESS="1", UV_PYTHON_DOWNLOADS="never", PIP_NO_COLOR="1", PIP_PROGRESS_BAR="off")
    env.update(PIP_CONSTRAINT=os.devnull, PIP_USER="0", PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    env.setdefault("UV_LINK_MODE", "hardlink")  # environments share files with the cache, and with each other
    # Half a minute is enough to find that nobody answers.
    for name, value in (("UV_HTTP_CONNECT_TIMEOUT", "6"), ("UV_HTTP_RETRIES", "2"), ("PIP_RETRIES", "1")):
        env.setdefault(name, value)
    if "PIP_TIMEOUT" not in env:
        env.setdefault("PIP_DEFAULT_TIMEOUT", "13")
    index = packages["index"]
    if index["index_url"]:
        env.update(UV_DEFAULT_INDEX=index["index_url"], PIP_INDEX_URL=index["index_url"])
    if index["extra_index_urls"]:
        env["PIP_EXTRA_INDEX_URL"] = extra = " ".join(index["extra_index_urls"])
        env["UV_INDEX"] = f"{extra} {env.get('UV_INDEX', '')}".strip()
    if index["find_links"]:
        env.update(UV_FIND_LINKS=",".join(index["find_links"]), PIP_FIND_LINKS=" ".join(index["find_links"]))
    if index["no_index"]:
        env["UV_NO_INDEX"] = "1"
    if offline:
        env["UV_OFFLINE"] = "1"
    if index["no_index"] or offline:
        env["PIP_NO_INDEX"] = "1"
    return env


def secrets(packages: dict[str, Any]) -> set[str]:
    """Return what authenticates among the settings of a build: no line may show it."""
    import re
    from urllib.parse import unquote

    texts = [json.dumps(packages["index"]), *packages["env"].values()]
    found = {one for text in texts for one in re.findall(r"://(?:[^/\s:@\"]*:)?([^/\s:@\"]+)@", text)}
    found |= {value for name, value in packages["env"].items() if name.endswith(("_PASSWORD", "_TOKEN"))}
    return {form for one in found for form in (one, unquote(one)) if len(form) > 3}  # a shorter one is in many words


def lock_of_report(report: str, lock: str) -> None:
    """Write what pip has resolved as a file of requirements with hashes."""
    with open(report, "rb") as file, open(lock, "w", encoding="utf-8") as lines:
        for one in json.loads(file.read())["install"]:
            about, name = one["download_info"], one["metadata"]["name"]
            whole = f"{name} @ {about['url']}" if one["is_direct"] else f"{name}=={one['metadata']['version']}"
            hashes = (about.get("archive_info") or {}).get("hashes") or {}
            lines.write(" ".join([whole, *(f"--hash={kind}:{digest}" for kind, digest in hashes.items())]) + "\n")
    os.unlink(report)


def size(folder: str) -> int:
    """Return the bytes of all files below a folder."""
    return sum(os.lstat(os.path.join(path, name)).st_size for path, _, names in os.walk(folder) for name in names)


def sync(folder: str) -> None:
    """Have all that was written to a folder's file system on disk: file by file it would take seconds."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        import ctypes

        ctypes.CDLL(None).syncfs(fd)
    except (ImportError, AttributeError):  # not Linux
        os.sync()
    finally:
        os.close(fd)


def write(path: str, value: object) -> None:
    """Write a file of JSON that its owner alone may read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
        json.dump(value, file)


def no_space(folder: str) -> str:
    return f"no space is left for an environment of packages in {folder}"


def say(text: str) -> None:
    """Add a line to the job's log."""
    try:
        os.write(1, f"{text}\n".encode("utf-8", "replace"))
    except OSError:
        pass


def main() -> None:
    """Build, and become the task."""
    import errno
    import signal

    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "core"))
    from fault_points import fault_point  # type: ignore[import-not-found]  # by path, as nothing else of ours is loaded

    given = json.loads(os.environ.pop(VARIABLE))
    out = os.path.dirname(os.environ["TASKAPI_JOB_SPEC"])
    progress = os.path.join(out, "progress.json")
    try:
        try:
            write(progress, {"done": 0, "total": None, "message": "building the environment"})
            try:
                Build(given, fault_point).run()
            finally:
                os.unlink(progress)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and what it becomes would
                signal.signal(number, signal.SIG_DFL)
            os.execvpe(sys.argv[1], sys.argv[1:], os.environ)  # noqa: S606
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = no_space(given["folder"]) if full else f"its environment of packages can't be used: {error}"
            raise Failed(reason) from None
    except Failed as error:
        say(f"taskapi: {error}")
        with open(os.path.join(out, "report"), "r+b", 0) as report:  # which has room on a full disk, too
            report.write(f"raised\n{error}".encode("utf-8", "replace")[:2000])
        if error.code < 0:
            os.kill(os.getpid(), -error.code)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
