"""When a night ends: its budget, its deadline, and how both are said."""

import datetime as dt

from devicelab.model.night import Farm


def ends_at(farm: Farm, now: dt.datetime) -> dt.datetime | None:
    """The end of a night that begins, or goes on, now (local time): budget or deadline, whichever comes first.

    A deadline is the next time the clock shows it.
    """
    ends = []
    if farm.budget_s is not None:
        ends.append(now + dt.timedelta(seconds=farm.budget_s))
    if farm.deadline is not None:
        hour, minute = map(int, farm.deadline.split(":"))
        today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        ends.append(today if today > now else today + dt.timedelta(days=1))
    return min(ends, default=None)


def local_now() -> dt.datetime:
    """Now, with this machine's time zone."""
    return dt.datetime.now().astimezone()
