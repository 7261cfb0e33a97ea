"""The trio client: `async with vssemu.trio.connect() as vss`."""

from vssemu.api.trio_client import Async, BackupComponents, Vss, connect

__all__ = ["Async", "BackupComponents", "Vss", "connect"]
