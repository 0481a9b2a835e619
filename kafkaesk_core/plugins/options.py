"""Checks the plugins' options of subscriptions and schemas: each must be claimed and valid."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from kafkaesk_core.errors import InvalidSchemaError, SubscriptionError
from kafkaesk_core.router import Subscription
from kafkaesk_core.schema.registry import SchemaRegistration

from .contract import did_you_mean
from .manager import Plugins

__all__ = ["check_options", "check_schema_options"]

logger = logging.getLogger("kafkaesk.plugins")


def check_options(subscription: Subscription, plugins: Plugins) -> None:
    """Check that plugins claim the options of a subscription, and let them check the values.

    Raises:
        SubscriptionError: no plugin claims an option, or a plugin refuses one.
        PluginError: a plugin failed.
    """
    handler = f"handler {subscription.handler_name}"
    if problem := _unclaimed(subscription.options, plugins, handler):
        raise SubscriptionError(f"{handler} {problem}")
    plugins.check_subscription(subscription)


def check_schema_options(registration: SchemaRegistration, plugins: Plugins) -> None:
    """Check that plugins claim the options of a schema.

    Raises:
        InvalidSchemaError: no plugin claims an option.
    """
    if problem := _unclaimed(registration.options, plugins, f"schema {registration.key}"):
        raise InvalidSchemaError(f"schema {registration.key} {problem}", schema=registration.id)


def _unclaimed(options: Mapping[str, Any], plugins: Plugins, owner: str) -> str:
    """Describe an option that no plugin claims; "" if all are claimed.

    An option of a disabled plugin has no effect and is not an error.
    """
    claimed = plugins.claimed_options
    for name in sorted(options.keys() - claimed):
        # The owner of the option shows in its name or in the class of its value.
        package = type(options[name]).__module__.partition(".")[0]
        owners = [
            info
            for info in plugins.list()
            if name == info.name or package == info.value.partition(":")[0].partition(".")[0]
        ]
        if any(info.status == "disabled" for info in owners):
            logger.info("%s: option %r has no effect, its plugin is disabled", owner, name)
            continue
        hint = did_you_mean(name, claimed)
        if not hint and package != "builtins":
            hint = f"; its value is of the package {package}, whose plugin is not active here"
        return (
            f"has the option {name!r}, which no active plugin claims{hint} "
            f"(claimed: {', '.join(sorted(claimed)) or 'none'}); install the plugin, or remove it"
        )
    return ""
