"""A VSS service that answers what a test says, on a real socket, and notes what it is asked."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio

from vssemu.api.disks import disks
from vssemu.api.errors import encode_error, unexpected
from vssemu.api.registry import registry
from vssemu.api.requester import requester
from vssemu.rpc.interface import Interface, Method
from vssemu.rpc.server import serve_unix


class ScriptedService:
    """answers: by function name, a result, an exception, or a function of the keywords."""

    def __init__(
        self,
        path: Path,
        answers: dict[str, Any],
        interfaces: Sequence[Interface] = (disks, registry, requester),
    ) -> None:
        self.path = path
        self.answers = answers
        self.interfaces = interfaces
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def asked(self, name: str) -> list[dict[str, Any]]:
        return [keywords for called, keywords in self.calls if called == name]

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        await serve_unix(
            self.path,
            {each: self._implementation(each) for each in self.interfaces},
            vendor="t",
            product="t",
            version="1",
            url="",
            encode_error=encode_error,
            unexpected=unexpected,
            task_status=task_status,
        )

    def _implementation(self, interface: Interface) -> object:
        methods = interface.methods.values()
        return SimpleNamespace(**{each.function_name: self._method(each) for each in methods})

    def _method(self, method: Method[..., Any]) -> object:
        async def answer(caller: object, **keywords: Any) -> Any:
            for given in ("session", "reply"):
                keywords.pop(given, None)
            self.calls.append((method.function_name, keywords))
            found = self.answers.get(method.function_name)
            if isinstance(found, Exception):
                raise found
            return found(**keywords) if callable(found) else found

        names = ["caller", *(["session"] if method.scoped else []), *method.signature.parameters]
        names += ["reply"] if method.more else []
        signature = inspect.Signature(
            [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names]
        )
        answer.__dict__["__signature__"] = signature
        return answer
