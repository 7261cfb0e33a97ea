"""A writer's configuration as the TOML that its runner reads."""

import json
from collections.abc import Mapping, Sequence


def toml(config: Mapping[str, object]) -> str:
    """Return the arguments of a writer's class as TOML, a line each; those that are None lack.

    Values: str, bool, int, float, sequences and tables of them.
    """
    given = {key: value for key, value in config.items() if value is not None}
    return "".join(f"{toml_value(key)} = {toml_value(value)}\n" for key, value in given.items())


def toml_value(value: object) -> str:
    """Return a TOML value on one line. value: str, bool, int, float, sequences, tables."""
    if isinstance(value, str):
        # JSON's strings are TOML's basic strings, but for one character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        pairs = (f"{toml_value(str(key))} = {toml_value(one)}" for key, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, Sequence):
        return f"[{', '.join(toml_value(one) for one in value)}]"
    if isinstance(value, float) and value.is_integer():
        return f"{value:.1f}"
    return str(value)
