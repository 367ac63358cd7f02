"""When a schedule fires: its text and its time zone are checked here, explained, and turned into times.

Times are whole microseconds since the epoch. cronsim gives those of a cron expression as Debian's cron has them on the
days on which clocks change: a fixed time that is skipped comes once, right after; one that is there twice comes once.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from taskapi_jupyter.core.errors import BadRequest, printable

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

US = 1_000_000
DAY = 86_400 * US
LEAST_EVERY = 10  # seconds
MOST_EVERY = 3650 * 86_400
LONGEST = 200  # characters of a schedule
COUNTED = 10_000  # firings that were missed are counted up to here

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_UNITS = {"s": ("second", 1), "m": ("minute", 60), "h": ("hour", 3600), "d": ("day", 86_400), "w": ("week", 604_800)}
_SPAN = re.compile(r"(\d{1,9})\s*([a-z]+)\s*")
_WORDS = {
    word: unit
    for unit, words in {
        "s": "s sec secs second seconds",
        "m": "m min mins minute minutes",
        "h": "h hr hrs hour hours",
        "d": "d day days",
        "w": "w week weeks",
    }.items()
    for word in words.split()
}
#: The fields of a cron expression, the first of six first, each with what it may have.
_FIELDS = {
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, L or LW",
    "month": "1 to 12, or JAN to DEC",
    "day-of-week": "0 to 7, or SUN to SAT, with 5L or 5#2 for the last or second Friday",
}
_FORMS = "use cron of five fields, @hourly, @daily, @weekly, @monthly, @yearly, every 15m, or at 2026-12-24T18:00"
_PLACES = ("localtime", "posixrules", "Factory")  # files beside those of zones
_STEPS = (3_600, 86_400, 32 * 86_400, 366 * 86_400, 51 * 366 * 86_400)  # seconds to look back


class Due(NamedTuple):
    """What of a schedule is due at a moment: the newest time, how many earlier ones were missed, and the next time."""

    newest: int
    missed: int
    next: int | None


class Times:
    """The times of a checked schedule; ``anchor`` is from when `every` counts."""

    def __init__(self, schedule: str, zone: str | None = None, anchor: int = 0) -> None:
        """Check a schedule and a zone (None: this machine's); raise :class:`BadRequest` for what is invalid."""
        if not isinstance(schedule, str) or not schedule.strip():
            raise BadRequest(f"the schedule is empty: {_FORMS}")
        self.schedule = " ".join(schedule.split())
        if len(self.schedule) > LONGEST:
            raise BadRequest(f"the schedule has {len(self.schedule)} characters; at most {LONGEST} are allowed")
        self.zone = zone_of(zone or local_zone())
        self.timezone = self.zone.key
        self.anchor = anchor - anchor % US
        self._every: int | None = None
        self._at: int | None = None
        self._cron = ""
        first, _, rest = self.schedule.partition(" ")
        kind = first.lower()
        if kind == "every" or (kind[:5] == "every" and kind[5:6].isdigit()):
            self._every = _every(self.schedule[5:].strip())
            self.explained = _explain_every(self._every)
        elif kind == "at":
            self._at = moment_of(rest, self.zone, "at")
            self.explained = f"Once, at {self.local(self._at).strftime('%H:%M:%S').removesuffix(':00')} on " + (
                self.local(self._at).strftime("%Y-%m-%d")
            )
        elif kind.startswith("@"):
            if kind not in _NAMED or rest:
                near = difflib.get_close_matches(kind, _NAMED, 1)
                raise BadRequest(f"there is no schedule {_shown(self.schedule)}: {_did_you_mean(near)}{_FORMS}")
            self.schedule, self._cron = kind, _NAMED[kind]
        else:
            self._cron = self.schedule
        if self._cron:
            self.explained = _check_cron(self._cron)
            if next(self.after(0), None) is None:
                raise BadRequest(f"{_shown(self.schedule)} never fires")

    def local(self, us: int) -> datetime:
        """Return a time in the schedule's zone."""
        return (_EPOCH + timedelta(microseconds=us)).astimezone(self.zone)

    def after(self, us: int, until: int | None = None) -> Iterator[int]:
        """Yield the times after a moment, up to and with ``until``, in order and without end where it has none."""
        for one in self._all_after(us):
            if until is not None and one > until:
                return
            if one > us:  # cronsim gives those of the first pass through an hour that comes twice, too
                us = one
                yield one

    def next(self, us: int, until: int | None = None) -> int | None:
        """Return the first time after a moment; None where there is none."""
        return next(self.after(us, until), None)

    def first(self, now: int, until: int | None = None) -> int:
        """Return the first time of a schedule that begins now; raise :class:`BadRequest` where there is none."""
        found = self.next(now, until)
        if found is None and self._at is not None and self._at <= now:
            raise BadRequest(f"{_shown(self.schedule)} is in the past ({self.timezone}): it is {self._iso(now)} there")
        if found is None and until is not None and (later := self.next(now)) is not None:
            raise BadRequest(
                f"until is {self._iso(until)}, before {_shown(self.schedule)} fires first, at {self._iso(later)}"
            )
        if found is None:
            raise BadRequest(f"{_shown(self.schedule)} never fires")
        return found

    def due(self, since: int, now: int, until: int | None = None) -> Due:
        """Return what is due of a schedule whose time ``since`` is the first that has not been served, at most now."""
        newest = self._newest(since, min(now, until) if until is not None else now)
        missed = 0 if newest == since else sum(1 for _ in islice(self.after(since - 1, newest - 1), COUNTED))
        return Due(newest, missed, self.next(max(newest, now), until))

    def period(self, us: int) -> int:
        """Return the time from one firing to the next, at most a day, as for one that is the last."""
        later = self.next(us)
        return DAY if later is None else min(later - us, DAY)

    def times(self, us: int, count: int, until: int | None = None) -> list[str]:
        """Return the next times in the schedule's zone, with its offset, as text."""
        return [self.local(one).isoformat() for one in islice(self.after(us, until), count)]

    def until(self, text: str | None) -> int | None:
        """Return the last moment at which the schedule may fire; a date without a time counts to its end."""
        return None if text is None else moment_of(text, self.zone, "until", whole_day=True)

    def _newest(self, since: int, now: int) -> int:
        """Return the last time up to now, ``since`` where there is no later one; few are looked at."""
        if self._every is not None:
            step = self._every * US
            return max(since, now - (now - self.anchor) % step)
        for step in _STEPS:
            begin = max(since, now - step * US)
            newest = None
            for newest in self.after(begin, now):  # noqa: B007
                pass
            if newest is not None:
                return newest
            if begin == since:
                break
        return since

    def _all_after(self, us: int) -> Iterator[int]:
        if self._every is not None:
            step = self._every * US
            found = self.anchor + max((us - self.anchor) // step + 1, 1) * step
            while found < _END:
                yield found
                found += step
        elif self._at is not None:
            yield self._at
        else:
            from cronsim import CronSim

            try:
                for moment in CronSim(self._cron, self.local(us)):
                    yield _us(moment)
            except (OverflowError, ValueError):  # the end of the year 9999
                return

    def _iso(self, us: int) -> str:
        return self.local(us).isoformat(timespec="seconds")


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


_FIRST_YEAR, _LAST_YEAR = 1970, 9999
_END = _us(datetime(_LAST_YEAR, 1, 1, tzinfo=timezone.utc))


def moment_of(text: str, zone: ZoneInfo, what: str, whole_day: bool = False) -> int:
    """Return the time that a text means in a zone, or by its own offset; raise :class:`BadRequest` for another text.

    A time that the zone skips means the first minute after. ``whole_day``: a date means its end, else its beginning.
    """
    given = text.strip()
    written = re.sub(r"[zZ]$", "+00:00", given)
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        raise BadRequest(
            f"{what} {_shown(given)} is no time: write it as 2026-12-24T18:00, in the schedule's time zone"
        ) from None
    if re.fullmatch(r"\d{4}-?\d\d-?\d\d", given) and whole_day:
        moment = moment.replace(hour=23, minute=59, second=59, microsecond=999_999)
    try:
        if not _FIRST_YEAR <= moment.year < _LAST_YEAR:
            raise OverflowError
        if moment.tzinfo is not None:
            return _us(moment)
        found = moment.replace(tzinfo=zone)
        while found.astimezone(timezone.utc).astimezone(zone).replace(tzinfo=None) != moment:
            moment += timedelta(minutes=1)
            found = moment.replace(second=0, microsecond=0, tzinfo=zone)
            moment = found.replace(tzinfo=None)
        return _us(found.astimezone(timezone.utc))
    except OverflowError:
        raise BadRequest(f"{what} {_shown(given)} is too far away") from None


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name; raise :class:`BadRequest` with the closest names where there is none."""
    from zoneinfo import ZoneInfo

    try:
        if name in _PLACES or not isinstance(name, str):
            raise ValueError
        return ZoneInfo(name)
    except Exception:  # KeyError, ValueError; OSError for a folder, or for what is too long to be a path
        pass
    shown = _shown(str(name))
    if str(name).lower() in ("local", "localtime"):
        raise BadRequest(f"{shown} is no time zone: name one; this machine's is {local_zone()}")
    raise BadRequest(
        f"there is no time zone {shown}: {_did_you_mean(_near(str(name)))}use a name such as Europe/Berlin"
    )


def local_zone() -> str:
    """Return the name of this machine's time zone."""
    from zoneinfo import ZoneInfo

    for name in _local_names():
        try:
            return ZoneInfo(name).key
        except Exception:  # noqa: S112
            continue
    return "UTC"


def _local_names() -> Iterator[str]:
    name = os.environ.get("TZ", "").lstrip(":")
    if name:
        yield _of_path(name)
    try:
        with open("/etc/timezone", encoding="utf-8", errors="replace") as file:
            yield file.read(100).strip()
    except OSError:
        pass
    yield _of_path(os.path.realpath("/etc/localtime"))


def _of_path(path: str) -> str:
    """Return the name of a zone of which a path is the file."""
    return path.rpartition("/zoneinfo/")[2].removeprefix("posix/").removeprefix("right/")


def _near(name: str) -> list[str]:
    from zoneinfo import available_timezones

    known = {one.lower(): one for one in sorted(available_timezones(), reverse=True)}
    wanted = name[:100].strip().lower().replace(" ", "_")
    if wanted in known:
        return [known[wanted]]
    cities = [known[one] for one in known if one.rpartition("/")[2] == wanted and "/" in one]
    near = cities or [known[one] for one in difflib.get_close_matches(wanted, known, 3)]
    if not near:
        last = {one.rpartition("/")[2]: one for one in known if "/" in one}
        near = [known[last[one]] for one in difflib.get_close_matches(wanted.rpartition("/")[2], last, 3)]
    return sorted(near)[:3]


def _every(text: str) -> int:
    """Return the seconds of a span such as ``15m`` or ``1h 30m``."""
    seconds, at, lowered = 0, 0, text.lower()
    while at < len(lowered) and (part := _SPAN.match(lowered, at)) and part[2] in _WORDS:
        seconds, at = seconds + int(part[1]) * _UNITS[_WORDS[part[2]]][1], part.end()
    if not at or at < len(lowered):
        raise BadRequest(f"every {_shown(text)} is no span of time: write it as every 15m, with s, m, h, d or w")
    if seconds < LEAST_EVERY:
        raise BadRequest(f"every {_shown(text)} is too often: the least is every {LEAST_EVERY}s")
    if seconds > MOST_EVERY:
        raise BadRequest(f"every {_shown(text)} is too seldom: the most is every {MOST_EVERY // 86_400}d")
    return seconds


def _explain_every(seconds: int) -> str:
    words, left = [], seconds
    for name, size in (_UNITS[unit] for unit in "dhms"):
        count, left = divmod(left, size)
        if count:
            words.append(f"{count} {name}{'' if count == 1 else 's'}")
    if len(words) == 1 and words[0].startswith("1 "):
        return f"Every {words[0][2:]}"
    return f"Every {' '.join(words)}"


def _check_cron(text: str) -> str:
    """Return how a cron expression reads; raise :class:`BadRequest` that names what is wrong with it."""
    from cronsim import CronSim, CronSimError

    fields = text.split()
    if len(fields) not in (5, 6):
        count = f"{len(fields)} field{'' if len(fields) == 1 else 's'}"
        hint = f"{_FORMS}" if len(fields) < 3 else "minute, hour, day-of-month, month, day-of-week"
        near = difflib.get_close_matches(f"@{text.lower()}", _NAMED, 1)
        raise BadRequest(
            f"{_shown(text)} has {count}, and cron has five, or six with seconds first: {_did_you_mean(near)}{hint}"
        )
    names = [*_FIELDS][-len(fields) :]
    for name, field in zip(names, fields, strict=True):
        alone = " ".join(field if one == name else "*" for one in names)
        try:
            CronSim(alone, _EPOCH)
        except CronSimError:
            raise BadRequest(f"bad {name} {_shown(field)} in {_shown(text)}: {_FIELDS[name]}") from None
        except (ValueError, TypeError, AssertionError, IndexError):
            raise BadRequest(f"bad {name} {_shown(field)} in {_shown(text)}: {_FIELDS[name]}") from None
    try:
        return CronSim(text, _EPOCH).explain()
    except CronSimError:  # each field is valid
        raise BadRequest(f"{_shown(text)} never fires: no month has such a day") from None


def _did_you_mean(names: list[str]) -> str:
    return f"did you mean {' or '.join(names)}? " if names else ""


def _shown(text: str) -> str:
    return repr(printable(text if len(text) <= 60 else f"{text[:60]}..."))
