"""A moment as a person says it.

    06:00 Asia/Kolkata              the next six o'clock there
    2026-11-27 06:00 Asia/Kolkata   that one
    2026-11-27T06:00+05:30          the same

Decides: which moment is meant, and how far from it another is said to be. Does not decide: what happens then.
"""

import re
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

IN_WORDS = re.compile(r"(?:(\d{4}-\d\d-\d\d)[T ])?(\d{1,2}):(\d\d)\s+(\S+)")
EXAMPLES = "'06:00 Asia/Kolkata' or '2026-11-27T06:00+05:30'"


def moment(text: str, now: datetime) -> datetime:
    """The moment in UTC. Raises ValueError that says what is wrong with the text."""
    if match := IN_WORDS.fullmatch(text.strip()):
        return _in_zone(match[1], int(match[2]), int(match[3]), match[4], now)
    try:
        given = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(f"deadline={text!r} is no time: give one such as {EXAMPLES}") from error
    if given.tzinfo is None:
        raise ValueError(f"deadline={text!r} names no time zone: give one such as {EXAMPLES}")
    return given.astimezone(UTC)


def _in_zone(day: str | None, hour: int, minute: int, name: str, now: datetime) -> datetime:
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"deadline: there is no zone {name!r}: give one such as Asia/Kolkata") from error
    if hour > 23 or minute > 59:
        raise ValueError(f"deadline: {hour}:{minute:02} is no time of day: give 00:00 to 23:59")
    today = now.astimezone(zone).date()
    if day is not None:
        return _at(date.fromisoformat(day), hour, minute, zone)
    found = _at(today, hour, minute, zone)
    return found if found > now else _at(today + timedelta(days=1), hour, minute, zone)


def _at(day: date, hour: int, minute: int, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(hour, minute), zone).astimezone(UTC)


def told(end: datetime, deadline: datetime) -> str:
    """How a job stands to its deadline, in words."""
    minutes = round(abs((end - deadline).total_seconds()) / 60)
    span = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
    when = f"predicted to end at {end:%H:%M} UTC"
    if end > deadline:
        what = "the least urgent films that are not begun will be dropped"
        return f"{when}, {span} after its deadline: {what}"
    return f"{when}, {span} before its deadline"
