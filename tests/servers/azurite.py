"""Azurite: Microsoft's emulator of Azure Blob Storage."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .process import free_ports, listening, program, running
from .store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACCOUNT_NAME = "devstoreaccount1"
# The emulator's only key, which is printed in its documentation.
ACCOUNT_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@contextmanager
def serve(folder: Path) -> Iterator[Store]:
    """Run azurite with one container."""
    azurite = program("azurite-blob", "npm install azurite")
    folder.mkdir(parents=True)
    [port] = free_ports(1)

    def store(port: int) -> Store:
        def put(name: str, data: bytes) -> None:
            _container(port).upload_blob(name, data, overwrite=True)

        return Store(
            lambda name: f"abfs://container/{name}",
            _options(port),
            put,
            port,
            store,
            (ACCOUNT_KEY,),
        )

    command = [azurite, "--blobHost", "127.0.0.1", "--blobPort", f"{port}"]
    quietly = ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"]
    with running([*command, *quietly], folder / "log", lambda: listening(port)):
        _container(port).create_container()
        yield store(port)


def _container(port: int) -> Any:
    from azure.storage.blob import BlobServiceClient

    connection = _options(port)["connection_string"]
    return BlobServiceClient.from_connection_string(connection).get_container_client("container")


def _options(port: int) -> dict[str, str]:
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT_NAME}"
    return {
        "account_name": ACCOUNT_NAME,
        "connection_string": f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT_NAME};"
        f"AccountKey={ACCOUNT_KEY};BlobEndpoint={endpoint};",
    }
