"""The loop fabric: LUNs are image files of the same machine, bound to loop devices.

The array hands a host open descriptors over the host's own socket; the host binds them.
"""
