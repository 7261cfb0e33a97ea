"""The loop fabric: a host binds descriptors that the array hands it to loop devices.

`target` is the array's half, `initiator` the host's.
"""
