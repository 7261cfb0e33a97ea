"""Moments and places as the Windows tools print them. Pure."""

from datetime import datetime

from vssemu.vss.host import Volume


def clock(moment: datetime) -> str:
    """Return a moment, in its own time zone, as en-US Windows writes it: 10/5/2020 4:30:40 PM."""
    half = "PM" if moment.hour >= 12 else "AM"
    day = f"{moment.month}/{moment.day}/{moment.year}"
    return f"{day} {moment.hour % 12 or 12}:{moment:%M:%S} {half}"


def place_of(volume: Volume) -> str | None:
    r"""Return where a volume is on its host, `F:\` or a folder, or None when nowhere."""
    return next(iter((*volume.letters, *volume.mount_points)), None)
