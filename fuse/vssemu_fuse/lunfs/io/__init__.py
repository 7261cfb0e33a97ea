"""What all of lunfs works with: asynchronous I/O, disks, memory, the protocol of a view."""
