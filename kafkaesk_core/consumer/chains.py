"""The layers of plugins around what one group does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import CommitError
from kafkaesk_core.message import App, RebalanceEvent
from kafkaesk_core.plugins.manager import Plugins
from kafkaesk_core.router import Subscription

from .commits import Commits, Offsets, Reason
from .intake import Intake, Route

__all__ = ["Chains"]

REASONS: tuple[Reason, ...] = ("interval", "manual", "revoke", "stop")
OBSERVERS = ("partitions_assigned", "partitions_revoked")


class Chains:
    """Compiles the chains around handling and committing, and tells observers of rebalances."""

    def __init__(self, routes: Sequence[Route], intake: Intake, commits: Commits) -> None:
        self._routes = routes
        self._intake = intake
        self._commits = commits
        self._commit_chains: dict[Subscription, dict[Reason, Callable[[Offsets], Any]]] = {}
        self._observers: dict[str, list[Callable[[RebalanceEvent], None]]] = {}
        self._named: Callable[[Exception, str], Exception] = lambda error, _: error
        commits.layers = self._commit

    def compile(self, plugins: Plugins, app: App) -> None:
        """Build all chains anew; what is in flight ends on the old ones."""
        self._named = plugins.name_failure
        observers: dict[str, list[Callable[[RebalanceEvent], None]]] = {}
        for route in self._routes:
            subscription = route.handling.subscription
            constants: dict[str, Any] = {"subscription": subscription, "app": app}
            skip = subscription.skip_plugins
            handling = route.handling
            handling.layers = plugins.chain(
                handling.hook, handling.innermost, skip=skip, **constants
            )
            self._commit_chains[subscription] = {
                reason: plugins.chain(
                    "wrap_commit", self._commits.innermost, skip=skip, reason=reason, **constants
                )
                for reason in REASONS
            }
            for hook in OBSERVERS:
                notifier = plugins.notifier(hook, **constants)
                if notifier is not None:
                    observers.setdefault(hook, []).append(notifier)
        self._observers = observers

    def notify(self, event: RebalanceEvent) -> None:
        """Tell observers that partitions came or went."""
        hook = "partitions_assigned" if event.kind == "assigned" else "partitions_revoked"
        for observer in self._observers.get(hook, ()):
            observer(event)

    def _commit_error(self, error: Exception, group: str) -> Exception:
        """What a layer raised is the commit's failure (D4), with the plugin's name."""
        named = self._named(error, "wrap_commit")
        if named is error:
            return error
        failed = CommitError(f"group {group}: {named}")
        failed.__cause__ = error
        return failed

    async def _commit(self, offsets: Offsets, reason: Reason) -> None:
        """Commit through the layers of the subscription that each partition belongs to.

        One that fails does not keep those of others from being committed.
        """
        by_subscription: dict[Subscription, dict[TopicPartition, int]] = {}
        for partition, offset in offsets.items():
            route, _ = self._intake.route(partition.topic)
            part = by_subscription.setdefault(route.handling.subscription, {})
            part[partition] = offset
        errors: list[Exception] = []
        for subscription, part in by_subscription.items():
            try:
                await self._commit_chains[subscription][reason](part)
            except Exception as error:
                errors.append(self._commit_error(error, subscription.group))
        if errors:
            raise errors[0]
