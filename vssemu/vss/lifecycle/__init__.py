"""Life cycles as tables: `NEXT[state][call]`, and `after(state, call)`, the only way to move."""
