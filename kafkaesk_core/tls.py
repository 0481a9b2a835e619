"""TLS by configuration: the options of `kafka_settings` that name files, and the SSL context."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import ConfigurationError

__all__ = ["TLS_OPTIONS", "make_ssl_context", "tls_options_of"]

TLS_OPTIONS: Mapping[str, tuple[type, ...]] = {
    "ssl_cafile": (str, type(None)),
    "ssl_certfile": (str, type(None)),
    "ssl_keyfile": (str, type(None)),
    "ssl_password": (str, type(None)),
    "ssl_check_hostname": (bool,),
}
"""Our options, with their types; aiokafka's clients get the context made from them."""

_FILES = {
    "ssl_cafile": "the certificates of authorities, as PEM",
    "ssl_certfile": "the client's certificate, as PEM",
    "ssl_keyfile": "the client's private key, as PEM",
}


def tls_options_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the TLS options of `kafka_settings` that are not None."""
    return {name: settings[name] for name in TLS_OPTIONS if settings.get(name) is not None}


def make_ssl_context(settings: Mapping[str, Any]) -> ssl.SSLContext:
    """Return the TLS context; without `ssl_cafile` the system's authorities are trusted.

    Raises:
        ConfigurationError: a file is missing or invalid; the error names the option.
    """
    options = tls_options_of(settings)
    for name in _FILES:
        if name in options:
            _check_readable(name, options[name])
    for name in ("ssl_keyfile", "ssl_password"):
        if name in options and "ssl_certfile" not in options:
            raise ConfigurationError(
                f"{name} is set without ssl_certfile; set {name}'s certificate"
            )
    with _naming("ssl_cafile", options):
        context = ssl.create_default_context(cafile=options.get("ssl_cafile"))
    if "ssl_certfile" in options:
        # Without a text in its place OpenSSL would ask for the password on the terminal.
        password = options.get("ssl_password", "")
        with _naming("ssl_keyfile" if "ssl_keyfile" in options else "ssl_certfile", options):
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"), password)
    context.check_hostname = options.get("ssl_check_hostname", True)
    return context


def _check_readable(name: str, path: str) -> None:
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise ConfigurationError(
            f"{name}={path!r} cannot be read: {error.strerror}; give a file with {_FILES[name]}"
        ) from error


@contextmanager
def _naming(name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Name the option whose file OpenSSL refuses."""
    try:
        yield
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        remedy = f"it must be {_FILES[name]}"
        if name != "ssl_cafile":
            remedy += ", belong to ssl_certfile, and open with ssl_password"
        raise ConfigurationError(
            f"{name}={options.get(name)!r} cannot be used: {reason}; {remedy}"
        ) from error
