"""`kafkaesk_core.asgi.lifespan`: an application inside of a web server."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from kafkaesk_core import Application, HandlerError, Health
from kafkaesk_core.asgi import lifespan
from kafkaesk_testing import eventually
from kafkaesk_testing.properties import free_ports
from tests.programs import Program

SERVICE = """
import kafkaesk_core
from fastapi import FastAPI
from kafkaesk_core.asgi import lifespan

app = kafkaesk_core.Application("embedded://", entry_points=False)

@app.subscribe("orders", "billing")
async def bill(data: bytes) -> None:
    raise LookupError("no such customer")

@app.on("initialize")
async def publish() -> None:
    await app.raw_publish("orders", b"poison")

service = FastAPI(lifespan=lifespan(app))
"""


@pytest.mark.parametrize(
    ("server", "options"), [("uvicorn", ("--port", "{}")), ("hypercorn", ("-b", "127.0.0.1:{}"))]
)
def test_a_web_server_ends_where_a_handler_fails(
    server: str, options: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(SERVICE)
    (port,) = free_ports(1)
    command = (sys.executable, "-m", server, "shop:service", options[0], options[1].format(port))

    with Program(*command, folder=tmp_path, output=tmp_path / "output") as service:
        service.wait_for("consuming has failed; the web server is asked to end", within=60)
        exit_code = service.process.wait(60)

    printed = (tmp_path / "output").read_text()
    assert exit_code != 0 or server == "hypercorn"
    assert "LookupError: no such customer" in printed
    assert "the record is not committed and will be redelivered" in printed


def new_app() -> tuple[Application, list[bytes]]:
    app, got = Application("embedded://", entry_points=False), list[bytes]()

    @app.subscribe("orders", "billing")
    async def bill(data: bytes) -> None:
        got.append(data)
        if data == b"poison":
            raise LookupError("no such customer")

    return app, got


async def test_an_application_runs_and_consumes_while_the_server_does() -> None:
    app, got = new_app()

    async with lifespan(app)(object()):
        await app.raw_publish("orders", b"fine")
        await eventually(lambda: got == [b"fine"], within=20)
        assert app.is_consuming

    assert app.status().state == "stopped"


async def test_an_application_may_only_publish() -> None:
    app, got = new_app()

    async with lifespan(app, consume=False)(object()):
        await (await app.raw_publish("orders", b"fine"))
        assert not app.is_consuming

    assert got == []


@pytest.mark.parametrize("is_handled", [False, True])
async def test_a_failure_is_logged_at_once_and_raised_at_the_end(
    is_handled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app, _ = new_app()
    asked: list[Any] = []
    health: list[Health] = []
    if is_handled:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.append, "to end")

    async def serve() -> None:
        async with lifespan(app)(object()):
            await app.raw_publish("orders", b"poison")
            await eventually(lambda: "consuming has failed" in caplog.text, within=20)
            await eventually(lambda: asked == ["to end"] * is_handled)
            await eventually(lambda: not app.is_consuming)
            health.append(app.health())

    try:
        with pytest.raises(HandlerError, match="no such customer"):
            await serve()
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)

    assert not health[0].is_live  # a server that goes on is restarted by who asks its probe
    assert "consuming has failed: " in health[0].reasons[0]
    (record,) = [one for one in caplog.records if "consuming has failed" in one.getMessage()]
    assert record.levelno == logging.ERROR
    told = [one for one in caplog.records if one.exc_info]
    assert ["no such customer" in one.getMessage() for one in told] == [True], "one, once"
    assert ("is asked to end" if is_handled else "goes on without it") in record.getMessage()
