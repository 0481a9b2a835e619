"""A schema registry with Confluent's API: registers contracts, or tests them."""

from __future__ import annotations

import json
from base64 import b64encode
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from kafkaesk_core import KafkaeskError

from .contract import Contract
from .describing import export_document

__all__ = [
    "Registry",
    "RegistryDownError",
    "RegistryRefusedError",
    "check_subject",
    "check_url",
]

# Source: https://docs.confluent.io/platform/current/schema-registry/develop/api.html
_CONTENT = "application/vnd.schemaregistry.v1+json"
_SECONDS = 5.0
_NO_SUBJECT, _NO_VERSION = 40401, 40402

# Any below: JSON.


class RegistryDownError(KafkaeskError):
    """The registry did not answer, or reported that it is unavailable."""


class RegistryRefusedError(KafkaeskError):
    """The registry refused a request."""


def check_url(url: str) -> str:
    """Return the address of a registry.

    Raises:
        ValueError: the text is not an address, or contains a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"registry_url is {url!r}; write its address, as in https://registry.example.com"
        )
    if "@" in parts.netloc:
        raise ValueError(
            "registry_url has a user in it, which logs would show; give it as "
            "registry_credentials, as in 'user:password'"
        )
    return url.rstrip("/")


class Registry:
    """A client of a registry; it blocks, for at most five seconds per answer.

    `subject` is a template with {name} and {version}. `credentials` are "user:password".
    """

    def __init__(self, url: str, *, subject: str = "{name}", credentials: str = "") -> None:
        self.url = url
        self._subject = subject
        self._headers = {"Accept": _CONTENT, "Content-Type": _CONTENT}
        if credentials:
            self._headers["Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"

    def subject_of(self, contract: Contract) -> str:
        """Return a contract's subject in the registry."""
        return self._subject.replace("{name}", contract.id).replace(
            "{version}", str(contract.version)
        )

    def register(self, contract: Contract) -> int:
        """Register a contract, and return its id; a registered contract keeps its id.

        Raises:
            RegistryDownError: the registry did not answer.
            RegistryRefusedError: the registry refused the contract or the credentials.
        """
        path = f"/subjects/{quote(self.subject_of(contract), safe='')}/versions"
        status, answer = self._post(path, contract)
        found = answer.get("id")
        if status != 200 or not isinstance(found, int):
            raise self._refused(contract, "register", status, answer)
        return found

    def problems(self, contract: Contract) -> list[str]:
        """Return why the registry would refuse a contract; empty if it would accept it.

        Raises:
            RegistryDownError: the registry did not answer.
            RegistryRefusedError: the registry refused the request.
        """
        subject = quote(self.subject_of(contract), safe="")
        path = f"/compatibility/subjects/{subject}/versions/latest?verbose=true"
        status, answer = self._post(path, contract)
        if answer.get("error_code") in (_NO_SUBJECT, _NO_VERSION):
            return []  # the first one
        if status != 200 or not isinstance(answer.get("is_compatible"), bool):
            raise self._refused(contract, "compare", status, answer)
        if answer["is_compatible"]:
            return []
        return [str(each) for each in answer.get("messages") or ["it is not compatible"]]

    def _post(self, path: str, contract: Contract) -> tuple[int, dict[str, Any]]:
        document = {k: v for k, v in export_document(contract).items() if k != "examples"}
        body = {"schemaType": "JSON", "schema": json.dumps(document, sort_keys=True)}
        request = Request(self.url + path, json.dumps(body).encode(), self._headers, method="POST")
        try:
            with urlopen(request, timeout=_SECONDS) as response:
                return response.status, _parsed(response.read())
        except HTTPError as error:
            answer = _parsed(error.read())
            if error.code >= 500 or error.code == 429:
                raise RegistryDownError(
                    f"the schema registry {self.url} answers {error.code}: "
                    f"{answer.get('message', error.reason)}"
                ) from error
            return error.code, answer
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise RegistryDownError(
                f"the schema registry {self.url} does not answer: {reason}"
            ) from error

    def _refused(
        self, contract: Contract, verb: str, status: int, answer: dict[str, Any]
    ) -> RegistryRefusedError:
        said = answer.get("message", f"{status}, which is no answer of Confluent's API")
        remedies = {
            401: "give registry_credentials",
            403: "let this user write the subject",
            404: "check registry_url, with the path under which the API lies",
            409: "run kafkaesk schemas check, and publish a break as another schema; or loosen the "
            "compatibility of the subject",
        }
        remedy = remedies.get(status, "check registry_url and the version of the registry")
        return RegistryRefusedError(
            f"the schema registry {self.url} refuses to {verb} {contract.key} as "
            f"{self.subject_of(contract)}: {said}; {remedy}"
        )


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def check_subject(template: str) -> str:
    """Check and return the template of subjects.

    Raises:
        ValueError: all schemas would have one subject.
    """
    if "{name}" not in template:
        raise ValueError(
            f"registry_subject is {template!r}, so all schemas would share a subject; write "
            "{name} in it, and {version} for a subject per version"
        )
    return template
