"""The kernel's end of lunfs: requests from /dev/fuse and their answers."""
