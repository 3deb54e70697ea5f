"""When a night ends: its budget, its deadline, and how both are said."""

import datetime as dt

from devicelab.model.night import Farm


def ends_at(farm: Farm, now: dt.datetime) -> dt.datetime | None:
    """The end of a night that begins, or goes on, now: budget or deadline, whichever comes first.

    A deadline is the next time the clock shows it.

    Args:
        farm: with both.
        now: see ``local_now``; the end is of the same kind.
    """
    ends = []
    if farm.budget_s is not None:
        ends.append(dt.datetime.fromtimestamp(now.timestamp() + farm.budget_s, now.tzinfo))
    if farm.deadline is not None:
        hour, minute = map(int, farm.deadline.split(":"))
        today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        ends.append(today if today > now else today + dt.timedelta(days=1))
    return min(ends, key=lambda end: end.timestamp(), default=None)


def local_now() -> dt.datetime:
    """What this machine's clock shows.

    Without a time zone: Python's has one offset for ever, and in some nights the clock changes. ``timestamp`` of a time
    without one goes by the machine's rules.
    """
    return dt.datetime.now()  # noqa: DTZ005
