"""The message of all contestants: about 200 bytes in its envelope."""

import warnings
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

__all__ = ["Envelope", "Item", "Order", "order"]


class Item(BaseModel):
    """A part of an order."""

    sku: str
    quantity: int


class Order(BaseModel):
    """Five fields, one of them a time, and one a list of two models."""

    model_config = ConfigDict(frozen=True)

    id: int
    customer: str
    placed: datetime
    items: list[Item]
    note: str = ""


with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # BaseModel's own `schema` is deprecated

    class Envelope(BaseModel):
        """The envelope on the wire, for contestants without schemas."""

        model_config = ConfigDict(extra="ignore", populate_by_name=True)

        schema: str  # type: ignore[assignment]  # the name on the wire, as a field of pydantic's too
        data: Order


def order(id: int = 1, *, padding: int = 0) -> Order:  # noqa: A002 (the field's name)
    """Return an order; `padding` is the length of its note, in bytes."""
    return Order(
        id=id,
        customer="Ada Lovelace, 12 St James's Square",
        placed=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        items=[Item(sku="sku-0001", quantity=2), Item(sku="sku-0002", quantity=1)],
        note="x" * padding,
    )
