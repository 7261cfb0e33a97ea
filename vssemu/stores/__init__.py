"""Exception stores in the persistent format of the kernel's dm-snapshot target."""
