"""What stands between a LUN and its bytes when a test wants it: faults, loss of power, logs."""
