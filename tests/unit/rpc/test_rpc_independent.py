"""The service against the client of the independent `varlink` package."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import varlink

from tests.unit.rpc.example import SHOP
from vssemu.rpc.idl import describe


async def with_varlink(path: Path, use: Callable[[varlink.Client], None]) -> None:
    def run() -> None:
        with varlink.Client(f"unix:{path}") as client:
            use(client)

    with trio.fail_after(20):
        await trio.to_thread.run_sync(run)


async def test_another_client_learns_what_the_service_is(path: Path) -> None:
    def use(client: varlink.Client) -> None:
        with client.open("org.varlink.service") as service:
            info = service.GetInfo()
            assert info["vendor"] == "v"
            assert info["interfaces"] == ["org.varlink.service", "org.example.Shop"]
            text = service.GetInterfaceDescription("org.example.Shop")["description"]
            assert text == describe(SHOP)
            with pytest.raises(varlink.InterfaceNotFound):
                service.GetInterfaceDescription("org.example.None")

    await with_varlink(path, use)


async def test_another_client_calls(path: Path) -> None:
    def use(client: varlink.Client) -> None:
        with client.open("org.example.Shop") as shop:
            session = shop.OpenSession()["session"]
            assert shop.Add(session, "F:", 2)["answer"] == "session-1 F: <Mask.TWO: 2> None"
            assert shop.Add(session=session, volume="G:")["answer"].startswith("session-1 G:")
            assert shop.Flat(4) == {"number": 4, "text": "flat"}
            assert not shop.Note("silence", _oneway=True)
            assert shop.Flat(5)["number"] == 5

    await with_varlink(path, use)


async def test_another_client_gets_the_errors(path: Path) -> None:
    def use(client: varlink.Client) -> None:
        with client.open("org.example.Shop") as shop:
            with pytest.raises(varlink.VarlinkError) as caught:
                shop.Fail(0x80042301, "wrong state")
            error: Any = caught.value
            assert error.error() == "org.example.Shop.Failed"
            assert error.parameters()["hresult"] == 0x80042301
            with pytest.raises(varlink.InvalidParameter):
                shop.Fail(1)

    await with_varlink(path, use)


async def test_another_client_reads_a_stream(path: Path) -> None:
    def use(client: varlink.Client) -> None:
        with client.open("org.example.Shop") as shop:
            replies = list(shop.Count(3, _more=True))
            assert replies == [{"number": 1}, {"number": 2}, {"number": 3}, {}]
            assert list(shop.Count(2, True, _more=True)) == [{"number": 1}, {"number": 2}]

    await with_varlink(path, use)
