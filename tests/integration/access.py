"""Rights of users on a cluster, given and taken: what aiokafka's admin client has no call for.

https://kafka.apache.org/protocol.html#The_Messages_CreateAcls and DeleteAcls, version 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int8, Int16, Int32, Schema, String

__all__ = ["Operation", "Resource", "give", "take"]

_LITERAL, _ALLOW = 3, 3


class Resource(IntEnum):
    """What a right is on."""

    TOPIC = 2
    GROUP = 3


class Operation(IntEnum):
    """What a right allows."""

    READ = 3
    WRITE = 4


class _CreateAclsResponse(Response):  # type: ignore[misc]  # aiokafka is untyped
    API_KEY = 30
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("results", Array(("error_code", Int16), ("error_message", String("utf-8")))),
    )


class _CreateAclsStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 30
    API_VERSION = 1
    RESPONSE_TYPE = _CreateAclsResponse
    SCHEMA = Schema(
        (
            "creations",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                ("resource_pattern_type", Int8),
                ("principal", String("utf-8")),
                ("host", String("utf-8")),
                ("operation", Int8),
                ("permission_type", Int8),
            ),
        )
    )


class _DeleteAclsResponse(Response):  # type: ignore[misc]
    API_KEY = 31
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "filter_results",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                (
                    "matching_acls",
                    Array(
                        ("error_code", Int16),
                        ("error_message", String("utf-8")),
                        ("resource_type", Int8),
                        ("resource_name", String("utf-8")),
                        ("pattern_type", Int8),
                        ("principal", String("utf-8")),
                        ("host", String("utf-8")),
                        ("operation", Int8),
                        ("permission_type", Int8),
                    ),
                ),
            ),
        ),
    )


class _DeleteAclsStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 31
    API_VERSION = 1
    RESPONSE_TYPE = _DeleteAclsResponse
    SCHEMA = Schema(
        (
            "filters",
            Array(
                ("resource_type_filter", Int8),
                ("resource_name_filter", String("utf-8")),
                ("pattern_type_filter", Int8),
                ("principal_filter", String("utf-8")),
                ("host_filter", String("utf-8")),
                ("operation", Int8),
                ("permission_type", Int8),
            ),
        )
    )


class _CreateAcls(Request[_CreateAclsStruct]):  # type: ignore[misc]
    API_KEY = 30

    def __init__(self, right: Sequence[Any]) -> None:
        self._right = tuple(right)

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([self._right])


class _DeleteAcls(Request[_DeleteAclsStruct]):  # type: ignore[misc]
    API_KEY = 31

    def __init__(self, right: Sequence[Any]) -> None:
        self._right = tuple(right)

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([self._right])


def _right(user: str, operation: Operation, resource: Resource, name: str) -> Sequence[Any]:
    return (resource, name, _LITERAL, f"User:{user}", "*", operation, _ALLOW)


async def _ask(servers: Sequence[str], request: Any) -> Any:
    client = AIOKafkaClient(bootstrap_servers=list(servers))
    await client.bootstrap()
    try:
        return await client.send(client.get_random_node(), request)
    finally:
        await client.close()


async def give(
    servers: Sequence[str], user: str, operation: Operation, resource: Resource, name: str
) -> None:
    """Give a user a right."""
    right = _right(user, operation, resource, name)
    ((code, text),) = (await _ask(servers, _CreateAcls(right))).results
    assert code == 0, text


async def take(
    servers: Sequence[str], user: str, operation: Operation, resource: Resource, name: str
) -> None:
    """Take a right away that the user has."""
    right = _right(user, operation, resource, name)
    ((code, text, matching),) = (await _ask(servers, _DeleteAcls(right))).filter_results
    assert code == 0, text
    assert len(matching) == 1
