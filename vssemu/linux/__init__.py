"""One thin synchronous module a kernel facility; returns facts, raises OSError."""
