"""The ``%taskapi`` magic: parse, delegate, show."""

from __future__ import annotations

import re
import sys
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope, no_var_expand
from IPython.display import display
from msgspec.structs import asdict

from taskapi_jupyter import environments
from taskapi_jupyter.client.groups.group import Group, GroupList
from taskapi_jupyter.client.headers import notebook_of
from taskapi_jupyter.client.job_lookup import Resolver, Unclear, Unknown, shorten
from taskapi_jupyter.client.packages import PackagesList
from taskapi_jupyter.client.schedules.schedule import Schedule, ScheduleList
from taskapi_jupyter.client.taskapi import API, Job, JobList, TaskAPI
from taskapi_jupyter.client.waiting import jobs as waiting
from taskapi_jupyter.core import room
from taskapi_jupyter.core.errors import (
    APINotDeployed,
    Forbidden,
    JobFailed,
    NotFound,
    NotKept,
    TaskAPIError,
    Unreachable,
)
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.deploy.notebook import is_notebook
from taskapi_jupyter.display import clean
from taskapi_jupyter.display.facts import parameters
from taskapi_jupyter.display.notifications import notifications_text
from taskapi_jupyter.display.packages import SHORT
from taskapi_jupyter.display.text import in_short
from taskapi_jupyter.ui import stops
from taskapi_jupyter.ui.verbs import (
    ALIASES,
    VERBS,
    general_help,
    names_to_notify,
    notebook_options,
    packages_options,
    verb_help,
)

from . import groups, schedules
from .complete import HOOK, Completer, known_values
from .hints import as_function, near_function
from .line import Line, LineError, parse
from .show import Deployed, EnvironmentCard, EnvironmentList, follow_log, in_lines, is_dropped, print_log, say, watch

if TYPE_CHECKING:
    from taskapi_jupyter.core.contract import DeployResult
    from taskapi_jupyter.ui.panel import Panel

API_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}$")
Variables = Mapping[str, Any]


@magics_class
class TaskAPIMagics(Magics):  # type: ignore[misc]
    """``%taskapi`` and ``%%taskapi``, for one kernel."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._environment: str | None = None

    @no_var_expand  # type: ignore
    @needs_local_scope  # type: ignore
    @line_cell_magic  # type: ignore
    def taskapi(self, line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None) -> Any:
        """Deploy cells as task APIs; submit, watch and stop jobs: %taskapi help."""
        variables = ChainMap(local_ns or {}, self.shell.user_ns)
        try:
            read = parse(line, variables, cell=cell is not None)
            for text in read.notes:
                print(f"taskapi: {clean(text, 400)}", file=sys.stderr)  # noqa: T201
            value = getattr(self, f"_{read.verb.name}")(read, variables, cell)
            if read.verb.name in ("submit", "rerun", "deploy", "schedule") and is_dropped(self.shell.user_ns):
                say(in_lines(value))
            return value
        except Unclear as error:
            verb = getattr(error, "verb", None)
            usages = [one for one in verb.usage if "FILE.ipynb" in one and ".ipynb" in line] if verb else []
            usage = f"\nusage: {(usages or verb.usage)[0]}" if verb else ""
            raise UsageError(clean(error, 400) + usage) from None
        except NotKept as note:
            return say([clean(str(note))])  # this environment does not keep it, which is not a failure
        except (TaskAPIError, TimeoutError, KeyboardInterrupt) as error:
            if isinstance(error, Unreachable | Forbidden):
                self.close()  # the server may come back at another address
            raise in_short(error) from None
        except OSError as error:
            told = room.as_told(error)
            if told is None:
                raise
            raise in_short(told) from None

    def api(self) -> TaskAPI:
        """Return the connection to the environment that this kernel uses."""
        return environments.CONNECTIONS.get(self._environment)

    def close(self) -> None:
        """Close all connections."""
        environments.CONNECTIONS.close()

    def known(self, what: str) -> list[str]:
        """Return words that Tab may offer."""
        if what == "environments":
            return [env.name for env in environments.environments().environments]
        if what == "kernels":
            from taskapi_jupyter.deploy.packages.kernels import folders

            return sorted(folders())
        if what == "apis":
            return [api.name for api in self.api().get()]
        if what.startswith(("parameters ", "values ")):
            _, api, *name = what.split(" ")
            from taskapi_jupyter.ui.notebooks import parameters_of

            there = parameters_of(api) if is_notebook(api) else parameters(self.api().get(api))
            taken = [one for one in there or () if not one["name"].startswith("*")]
            values = [known_values(one) for one in taken if [one["name"]] == name]
            return [value for one in values for value in one] if name else [f"{one['name']}=" for one in taken]
        if what == "notifications":
            return [one.name for one in self.api().notifications(limit=1).names]
        if what == "schedules":
            return [one.name for one in self.api().schedules_response().schedules]
        if what == "packages":
            return [one.key[:SHORT] for one in self.api().packages()]
        ids = [job.id for job in self.api().jobs(limit=20)]
        return [*(job_id[-6:] for job_id in ids), *ids]

    # Verbs, each handed the line, the notebook's variables and the cell below the line

    def _deploy(self, read: Line, variables: Variables, cell: str | None) -> Deployed:
        options = _prepare_options(read.options)
        more = ("timeout", "run_timeout", "config", "dry_run")
        options |= {key: read.options[key] for key in more if key in read.options}
        function = read.options.get("function")
        if cell is not None:
            if function is not None:
                options["function"] = function
            return self._deploy_cell(_single(read, "NAME"), cell, options)
        word = _single(read, "FILE.yaml, FILE.ipynb, or NAME with --function")
        if is_notebook(str(word)):
            if function is not None:
                raise LineError(
                    "--function is for a function of this notebook: a notebook's file runs whole", read.verb
                )
            return self._deploy_notebook(read, str(word), options)
        if function is not None:
            if not callable(variables.get(function)):
                raise LineError(f"{shorten(function)} is not a function or class of this notebook", read.verb)
            results = self.api().deploy(variables[function], name=str(word), notebook=self._notebook(), **options)
            return _deployed(results, Path(), options)
        path = Path(word).expanduser() if isinstance(word, str) else None
        if path is not None and not path.exists():
            raise LineError(f"there is no file {shorten(word)}{as_function(word, variables)}", read.verb)
        results = self.api().deploy(path or word, **options)
        folder = path or Path()
        return _deployed(results, folder.parent if folder.is_file() else folder, options)

    def _deploy_notebook(
        self, read: Line, word: str, options: dict[str, Any], config: dict[str, Any] | None = None
    ) -> Deployed:
        path = Path(word).expanduser()
        if not path.exists():
            raise LineError(f"there is no file {shorten(word)}", read.verb)
        if config:
            from taskapi_jupyter.ui.notebooks import check_submission

            check_submission(word, config, read.options)
        results = self.api().deploy(path, **options, **notebook_options(read.options))
        return _deployed(results, path.parent, options)

    def _deploy_cell(self, name: str, cell: str, options: dict[str, Any]) -> Deployed:
        # Line numbers are those that the notebook shows: the first line is the magic's own.
        from taskapi_jupyter.deploy.prepare import Source

        source = Source("\n" + cell)
        results = self.api().deploy(source, name=name, notebook=self._notebook(), **options)
        return _deployed(results, Path(), options, cell)

    def _submit(self, read: Line, variables: Variables, cell: str | None) -> Job | Group | groups.Planned:
        name = str(_single(read, "API", "; write configuration as key=value, without spaces"))
        api_id = deployed = None
        config = read.options.get("config")
        if read.config:
            config = {**(config or {}), **read.config}
        configs = groups.planned(read, config)
        more = groups.waits(read, self._resolver(variables), configs is not None)
        if read.options.get("dry_run"):
            return groups.Planned([{**(config or {}), **more.get("results", {})}] if configs is None else configs)
        if cell is not None:
            deployed = self._deploy_cell(name, cell, _prepare_options(read.options))
        elif is_notebook(name):
            first = {**(config or {}), **more.get("results", {})} if configs is None else next(iter(configs), None)
            deployed = self._deploy_notebook(read, name, _prepare_options(read.options), first)
            name = deployed[0].api.spec["name"] if deployed[0].api else name
        if deployed is not None:
            api_id = self._version_of(deployed)
            if deployed.has_warnings:
                display(deployed)
        times = read.options.get("timeout"), read.options.get("run_timeout")
        notebook = self._notebook()
        try:
            if configs is not None:
                return groups.submit(self.api(), name, configs, read, notebook=notebook, api_id=api_id)
            job = self.api().submit(
                name,
                config,
                times[0],
                notebook=notebook,
                api_id=api_id,
                run_timeout=times[1],
                **groups.attempts(read.options),
                **more,
            )
        except APINotDeployed as error:
            error.args = (f"{error}{near_function(name, str(error), variables)}",)
            raise
        return job.wait().check() if read.options.get("wait") else job

    def _version_of(self, deployed: Deployed) -> str | None:
        """Return the version that was deployed; None, with a warning, where the server can't submit it."""
        if too_old := self.api().lacks("api_id"):
            for result in deployed:
                result.warnings = [text for text in result.warnings or () if text != too_old]
            deployed.warnings.append(f"{too_old}; this job runs what is deployed when it is submitted")
            return None
        shown = deployed[0].api
        return str(shown.spec["id"]) if shown and shown.spec.get("id") else None

    def _status(self, read: Line, variables: Variables, cell: str | None) -> Any:
        def show() -> API | Job | JobList | Group:
            return self._shown(read, variables)

        return watch(show) if read.options.get("watch") else show()

    def _shown(self, read: Line, variables: Variables) -> API | Job | JobList | Group:
        """Return what ``status`` shows: a table, an API, a job or a group."""
        api, words, options = self.api(), read.words, read.options
        narrowed = options.keys() & {"status", "search"}
        if not words and not narrowed:
            jobs = api.jobs(limit=options.get("limit", 20))
            return JobList(jobs, jobs.next_cursor, api.get() if "limit" not in options else None)
        if len(words) > 1:
            return self._resolver(variables).one(words).refresh()
        name = words[0] if words and isinstance(words[0], str) else None
        if words and (name is None or not API_NAME.match(name)):
            return self._job_or_group(words, variables)
        if narrowed or "limit" in options:
            codes = _codes(options["status"]) if "status" in options else None
            return api.jobs(name, codes, limit=options.get("limit", 50), search=options.get("search"))
        assert name is not None
        try:
            return api.get(name)
        except APINotDeployed:
            try:
                return self._job_or_group(words, variables)
            except Unknown:
                raise LineError(f"{shorten(name)} is neither a deployed API nor a job", read.verb) from None

    def _job_or_group(self, words: list[Any], variables: Variables) -> Job | Group:
        resolver = self._resolver(variables)
        found = resolver.groups(words)
        return found[0] if found else resolver.one(words).refresh()

    def _stop(self, read: Line, variables: Variables, cell: str | None) -> None:
        if found := self._meant(read, variables):
            say([group.stop() for group in found])
            return
        if not read.options.get("all"):
            stops.stop(self.api(), self._resolver(variables).many(read.words), say)
            return
        if len(read.words) > 1:
            raise LineError("--all takes at most one API", read.verb)
        stops.stop_all(self.api(), str(read.words[0]) if read.words else None, say)

    def _delete(self, read: Line, variables: Variables, cell: str | None) -> None:
        if not read.words or not isinstance(read.words[0], str):
            raise LineError("which API?", read.verb)
        if len(read.words) == 1:
            try:
                say([self.api().delete(read.words[0])])
            except APINotDeployed:
                found = self._meant(read, variables)
                if not found:
                    raise
                say([group.stop() for group in found])
        else:
            jobs = self._resolver(variables).many(read.words[1:], api=read.words[0])
            stops.stop(self.api(), jobs, say)

    def _logs(self, read: Line, variables: Variables, cell: str | None) -> None:
        if found := self._meant(read, variables, 1):
            groups.print_logs(found[0], bool(read.options.get("follow")), read.options.get("tail"))
            return
        api, job = self.api(), self._resolver(variables).one(read.words)
        show = follow_log if read.options.get("follow") else print_log
        show(api, job, read.options.get("tail"))

    def _wait(self, read: Line, variables: Variables, cell: str | None) -> Job | JobList | Group | GroupList:
        timeout = read.options.get("timeout")
        if found := self._meant(read, variables):
            for group in found:
                group.wait(timeout)
            ended = GroupList([groups.checked(group) for group in found])
            return ended if len(ended) > 1 else ended[0]
        jobs = waiting.wait(self._resolver(variables).many(read.words), timeout)
        failed = [job for job in jobs if job.status != JobCode.SUCCEEDED.value]
        if len(failed) > 1:
            which = ", ".join(f"{job.id} ({job.record.code.label})" for job in failed[:10])
            message = f"{len(failed)} of {len(jobs)} jobs did not succeed: {which}"
            raise JobFailed(message, failed[0].id, failed[0].status)
        return jobs[0].check() if len(jobs) == 1 else JobList([job.check() for job in jobs])

    def _result(self, read: Line, variables: Variables, cell: str | None) -> Any:
        if found := self._meant(read, variables, 1):
            return found[0].results()
        return self._resolver(variables).one(read.words).kept_result()

    def _rerun(self, read: Line, variables: Variables, cell: str | None) -> Job | Group:
        if found := self._meant(read, variables, 1):
            group = found[0].rerun(failed=bool(read.options.get("failed")))
            return groups.checked(group.wait()) if read.options.get("wait") else group
        if read.options.get("failed"):
            raise LineError("--failed is for groups", read.verb)
        job = self._resolver(variables).one(read.words).rerun(read.options.get("same", False))
        return job.wait().check() if read.options.get("wait") else job

    def _attach(self, read: Line, variables: Variables, cell: str | None) -> None:
        self._resolver(variables).one(read.words).attach()

    def _resume(self, read: Line, variables: Variables, cell: str | None) -> None:
        job = self._resolver(variables).one(read.words)
        say([job.end_kernel() if read.options.get("end") else job.resume()])

    def _notify(self, read: Line, variables: Variables, cell: str | None) -> None:
        if not read.words:
            say([notifications_text(self.api().notifications(limit=20))])
            return
        if len(read.words) > 2:
            raise LineError(f"unexpected {shorten(read.words[2])}; write names with commas between: a,b", read.verb)
        job = self._resolver(variables).one(read.words[:1])
        say([self.api().notify(job, names_to_notify(str(read.words[1]) if len(read.words) > 1 else True))])

    def _meant(self, read: Line, variables: Variables, most: int | None = None) -> list[Group]:
        """Return the groups that a line is about; nothing where it is about jobs."""
        found = self._resolver(variables).groups(read.words) if read.words else []
        if most is not None and len(found) > most:
            raise LineError(f"{read.verb.name} takes one group", read.verb)
        return found

    def _groups(self, read: Line, variables: Variables, cell: str | None) -> GroupList:
        if read.words:
            raise LineError(f"unexpected {shorten(read.words[0])}; one group: %taskapi status GROUP", read.verb)
        return self.api().groups(read.options.get("limit", 20))

    def _schedule(self, read: Line, variables: Variables, cell: str | None) -> Schedule | Job | schedules.Times | None:
        if schedules.is_about_one(read):
            return schedules.act(self.api(), read)
        if (times := schedules.preview(self.api(), read)) is not None:
            return times
        name, config = str(read.words[0]), read.options.get("config")
        if read.config:
            config = {**(config or {}), **read.config}
        if is_notebook(name):
            options = {key: value for key, value in read.options.items() if key != "name"}  # which is the schedule's
            of_file = Line(read.verb, read.words, options=options)
            deployed = self._deploy_notebook(of_file, name, _prepare_options(options), config)
            name = deployed[0].api.spec["name"] if deployed[0].api else name
            if deployed.has_warnings:
                display(deployed)
        try:
            return schedules.make(self.api(), name, read, config, self._notebook())
        except APINotDeployed as error:
            error.args = (f"{error}{near_function(name, str(error), variables)}",)
            raise

    def _schedules(self, read: Line, variables: Variables, cell: str | None) -> ScheduleList:
        schedules.check_words(read)
        return self.api().schedules()

    def _packages(self, read: Line, variables: Variables, cell: str | None) -> PackagesList | EnvironmentCard:
        key = str(_single(read, "KEY")) if read.words else None
        found = self.api().packages()
        return found if key is None else EnvironmentCard(**asdict(found.find(key)))

    def _panel(self, read: Line, variables: Variables, cell: str | None) -> Panel:
        from taskapi_jupyter.ui.panel import Panel

        name = str(_single(read, "an API")) if read.words else None
        return Panel(name=name, environment=self._environment)

    def _env(self, read: Line, variables: Variables, cell: str | None) -> EnvironmentList:
        there = environments.environments()
        if read.words:
            try:
                self._environment = environments.find(there, str(_single(read, "NAME"))).name
            except NotFound as error:
                raise LineError(str(error), read.verb) from None
        default = self._environment or there.default_environment
        from taskapi_jupyter.ui import doctor

        return EnvironmentList(default, there.environments, facts=doctor.answering())

    def _help(self, read: Line, variables: Variables, cell: str | None) -> None:
        if read.words and str(read.words[0]) not in {**VERBS, **ALIASES}:
            raise LineError(f"there is no verb {shorten(read.words[0])}", read.verb)
        name = str(read.words[0]) if read.words else ""
        say([verb_help(VERBS[ALIASES.get(name, name)]) if name else general_help()])

    def _resolver(self, variables: Variables) -> Resolver:
        return Resolver(self.api(), variables, self._notebook())

    def _notebook(self) -> str | None:
        return notebook_of(self.shell.user_ns)


def load(ipython: Any) -> None:
    """Register the magic and its completion."""
    unload(ipython)
    magics = TaskAPIMagics(ipython)
    ipython.register_magics(magics)
    ipython.set_hook("complete_command", Completer(magics.known, ipython.user_ns), re_key=HOOK)


def unload(ipython: Any) -> None:
    """Remove both."""
    magics = ipython.magics_manager.registry.pop("TaskAPIMagics", None)
    if magics is not None:
        magics.close()
    for kind in ("line", "cell"):
        ipython.magics_manager.magics[kind].pop("taskapi", None)
    ipython.strdispatchers["complete_command"].regexs.pop(re.compile(HOOK), None)


def _deployed(
    results: list[DeployResult], folder: Path, options: Mapping[str, Any], cell: str | None = None
) -> Deployed:
    """Return what a deploy is shown as, with what the requirements in a folder lack here."""
    from taskapi_jupyter.deploy.prepare import unmet  # it takes time to import

    return Deployed(results, unmet(results, folder, cell, options.get("kernel")))


def _single(read: Line, what: str, hint: str = "") -> Any:
    """Return the only word of a line."""
    if not read.words:
        raise LineError(f"{read.verb.name} needs {what}", read.verb)
    if len(read.words) > 1:
        raise LineError(f"unexpected {shorten(read.words[1])}{hint}", read.verb)
    return read.words[0]


def _prepare_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a line that say what a job needs, as ``deploy()`` takes them."""
    names = {"cpu": "cpu", "mem": "mem", "gpu": "gpu", "env_var": "env", "kernel": "kernel", "warm": "warm"}
    return {names[key]: value for key, value in options.items() if key in names} | packages_options(options)


def _codes(text: str) -> list[str]:
    """Read ``--status``: codes, or the words shown for them, separated by commas."""
    spelt = {spelling: code.value for code in JobCode for spelling in (code.value, code.label)}
    codes = []
    for word in text.split(","):
        plain = word.strip().lower().replace("-", "_").removeprefix("status_")
        code = spelt.get(plain) or spelt.get(plain.replace("_", " "))
        if code is None:
            raise LineError(f"{shorten(word)} is not one of {', '.join(JobCode)}", VERBS["status"])
        codes.append(code)
    return codes
