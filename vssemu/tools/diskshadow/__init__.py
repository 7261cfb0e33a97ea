"""DiskShadow: the Windows script tool over the requester's interface."""
