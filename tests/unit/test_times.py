"""When schedules fire: what is accepted, how it reads, and the days on which clocks change."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone

import pytest

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy import times
from taskapi_jupyter.deploy.times import DAY, US, Times


def us(text: str) -> int:
    """Return a time, in UTC unless it says otherwise, in microseconds."""
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=moment.tzinfo or timezone.utc)
    return int(moment.timestamp()) * US


def after(schedule: str, zone: str, moment: str, count: int = 3) -> list[str]:
    return Times(schedule, zone).times(us(moment), count)


@pytest.mark.parametrize(
    ("schedule", "zone", "moment", "expected"),
    [
        # Clocks go from 2:00 to 3:00: what is skipped comes once, right after.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]),
        ("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"]),
        ("0 * * * *", "Europe/Berlin", "2026-03-28T23:30", ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"]),
        # Clocks go from 3:00 back to 2:00: a fixed time comes once, an hourly one both times.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:15", ["2026-10-26T02:30:00+01:00", "2026-10-27T02:30:00+01:00"]),
        ("0 * * * *", "Europe/Berlin", "2026-10-24T23:30", ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]),
        ("every 1h", "Europe/Berlin", "2026-10-24T23:30", ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]),
        # By half an hour, at 2:00.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", ["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"]),
        ("*/30 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00", ["2026-04-05T01:30:00+11:00", "2026-04-05T01:30:00+10:30"]),
        # A whole day was skipped: 2011-12-30.
        ("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00", ["2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00"]),
        ("0 * * * *", "Pacific/Apia", "2011-12-30T08:30", ["2011-12-29T23:00:00-10:00", "2011-12-31T00:00:00+14:00"]),
        ("@weekly", "Pacific/Apia", "2011-12-26T00:00", ["2012-01-01T00:00:00+14:00", "2012-01-08T00:00:00+14:00"]),
    ],
)  # fmt: skip
def test_the_days_on_which_clocks_change(schedule: str, zone: str, moment: str, expected: list[str]) -> None:
    assert after(schedule, zone, moment, 2) == expected


@pytest.mark.parametrize(
    ("schedule", "explained", "first"),
    [
        ("0 6 * * MON-FRI", "At 06:00 on Monday through Friday", "2026-12-01T06:00:00+01:00"),
        ("  0  6 * *   mon-fri ", "At 06:00 on Monday through Friday", "2026-12-01T06:00:00+01:00"),
        ("*/10 * * * * *", "Every 10th second of every minute", "2026-11-30T15:00:10+01:00"),
        ("0 0 L * *", "At 00:00 on the last day of every month", "2026-12-31T00:00:00+01:00"),
        ("0 9 * * 5#1", "At 09:00 on the first Friday of the month", "2026-12-04T09:00:00+01:00"),
        ("@hourly", "At the start of every hour", "2026-11-30T16:00:00+01:00"),
        ("@daily", "At 00:00 every day", "2026-12-01T00:00:00+01:00"),
        ("@Monthly", "At 00:00 on the first day of every month", "2026-12-01T00:00:00+01:00"),
        ("@yearly", "At 00:00 on January 1", "2027-01-01T00:00:00+01:00"),
        ("every 15m", "Every 15 minutes", "2026-11-30T15:15:00+01:00"),
        ("every15m", "Every 15 minutes", "2026-11-30T15:15:00+01:00"),
        ("Every 1 hour 30 minutes", "Every 1 hour 30 minutes", "2026-11-30T16:30:00+01:00"),
        ("every 1d", "Every day", "2026-12-01T15:00:00+01:00"),
        ("every 10s", "Every 10 seconds", "2026-11-30T15:00:10+01:00"),
        ("at 2026-12-24T18:00", "Once, at 18:00 on 2026-12-24", "2026-12-24T18:00:00+01:00"),
        ("at 2026-12-24 18:00:30", "Once, at 18:00:30 on 2026-12-24", "2026-12-24T18:00:30+01:00"),
        ("at 2026-12-24", "Once, at 00:00 on 2026-12-24", "2026-12-24T00:00:00+01:00"),
        ("at 2026-12-24T18:00Z", "Once, at 19:00 on 2026-12-24", "2026-12-24T19:00:00+01:00"),
        ("at 2027-03-28T02:30", "Once, at 03:00 on 2027-03-28", "2027-03-28T03:00:00+02:00"),
    ],
)
def test_what_is_accepted(schedule: str, explained: str, first: str) -> None:
    now = us("2026-11-30T14:00")
    one = Times(schedule, "Europe/Berlin", now)
    assert (one.explained, one.times(now, 1)) == (explained, [first])
    assert one.first(now) == us(first)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("", "the schedule is empty: use cron"),
        ("* * * *", "has 4 fields, and cron has five, or six with seconds first"),
        ("* * * * * * *", "has 7 fields, and cron has five"),
        ("daily", "has 1 field, and cron has five, or six with seconds first: did you mean @daily?"),
        ("60 * * * *", "bad minute '60' in '60 * * * *': 0 to 59"),
        ("* 24 * * *", "bad hour '24'"),
        ("* * 0 * *", "bad day-of-month '0'"),
        ("* * * 13 *", "bad month '13'"),
        ("* * * * MOM", "bad day-of-week 'MOM'"),
        ("60 * * * * *", "bad second '60'"),
        ("* * * * 5L/2", "bad day-of-week '5L/2'"),
        ("*/0 * * * *", "bad minute"),
        ("* * * * ²", "bad day-of-week"),
        ("0 0 31 2 *", "'0 0 31 2 *' never fires"),
        ("@dayly", "did you mean @daily?"),
        ("@reboot", "there is no schedule '@reboot'"),
        ("every 5s", "every '5s' is too often: the least is every 10s"),
        ("every 0m", "too often"),
        ("every 15", "is no span of time: write it as every 15m"),
        ("every", "is no span of time"),
        ("every 9999d", "too seldom"),
        ("at noon", "at 'noon' is no time"),
        ("at 2026-11-30T14:59", "is in the past (Europe/Berlin): it is 2026-11-30T15:00:00+01:00 there"),
        ("at 9999-12-31T23:59:59-12:00", "is too far away"),
        ("* * * * " + "*" * 200, "at most 200 are allowed"),
        ("\x1b[31m * * * *", "bad minute '\\\\x1b[31m'"),
    ],
)  # fmt: skip
def test_bad_schedules(schedule: str, message: str) -> None:
    with pytest.raises(BadRequest) as error:
        Times(schedule, "Europe/Berlin").first(us("2026-11-30T14:00"))
    assert message in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("zone", "message"),
    [
        ("berlin", "there is no time zone 'berlin': did you mean Europe/Berlin?"),
        ("Europe/Berlln", "did you mean Europe/Berlin"),
        ("EUROPE/BERLIN", "did you mean Europe/Berlin?"),
        ("new york", "did you mean America/New_York?"),
        ("Europe", "there is no time zone 'Europe'"),
        ("../../etc/passwd", "there is no time zone '../../etc/passwd'"),
        ("/etc/localtime", "there is no time zone"),
        ("x" * 5000, "there is no time zone 'xxx"),
        ("a\0b", "there is no time zone 'a\\\\x00b'"),
        ("local", "'local' is no time zone: name one; this machine's is "),
        ("localtime", "'localtime' is no time zone"),
    ],
)  # fmt: skip
def test_bad_zones(zone: str, message: str) -> None:
    with pytest.raises(BadRequest) as error:
        Times("@daily", zone)
    assert message in str(error.value)


def test_until() -> None:
    now = us("2026-11-30T14:00")
    one = Times("0 6 * * *", "Europe/Berlin", now)
    last = one.until("2026-12-02")
    assert last == us("2026-12-02T23:59:59+01:00") + US - 1
    assert one.times(now, 9, last) == ["2026-12-01T06:00:00+01:00", "2026-12-02T06:00:00+01:00"]
    assert one.until("2026-12-02T05:00:00Z") == us("2026-12-02T05:00")
    assert one.times(now, 9, us("2026-12-02T05:00")) == one.times(now, 9, last)  # up to and with it
    for text in ("2026-12-01", "2020-01-01"):
        until = one.until(text)
        with pytest.raises(BadRequest, match=r"until is .*, before '0 6 \* \* \*' fires first, at 2026-12-02T06:00"):
            one.first(us("2026-12-01T12:00"), until)
    with pytest.raises(BadRequest, match="until 'soon' is no time"):
        one.until("soon")


def test_this_machines_zone_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, name in (
        ("Asia/Tokyo", "Asia/Tokyo"),
        (":Asia/Tokyo", "Asia/Tokyo"),
        ("/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
    ):
        monkeypatch.setenv("TZ", variable)
        assert times.local_zone() == name
        assert Times("@daily").timezone == name
    monkeypatch.setenv("TZ", "no such zone")
    assert times.local_zone() not in ("", "local", "no such zone")


def test_what_was_missed_is_found_at_once() -> None:
    now, second = us("2026-11-30T14:00"), US
    daily = Times("0 6 * * *", "Europe/Berlin")
    since = daily.next(now - 400 * DAY)
    assert since is not None
    due = daily.due(since, now)
    assert (due.newest, due.missed, due.next) == (us("2026-11-30T05:00"), 399, us("2026-12-01T05:00"))
    assert daily.due(us("2026-11-30T05:00"), now).missed == 0
    often = Times("* * * * * *", "Europe/Berlin").due(now - 400 * DAY, now)
    assert often == (now, times.COUNTED, now + second)
    every = Times("every 10s", "UTC", now - 400 * DAY)
    assert every.due(now - 25 * second, now + 4 * second) == (now, 2, now + 10 * second)
    once = Times("at 2026-11-30T13:00", "UTC")
    assert once.due(us("2026-11-30T13:00"), now) == (us("2026-11-30T13:00"), 0, None)
    until = daily.due(since, now, us("2026-11-28T12:00"))
    assert (until.newest, until.next) == (us("2026-11-28T05:00"), None)


def test_nothing_is_imported_before_there_is_a_schedule() -> None:
    code = (
        "import sys; import taskapi_jupyter.service.service; "
        "sys.exit(', '.join({'cronsim', 'zoneinfo'} & {*sys.modules}) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
