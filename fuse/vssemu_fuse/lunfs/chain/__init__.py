"""An origin with its snapshots: copy before write, into dm-snapshot's exception stores."""
