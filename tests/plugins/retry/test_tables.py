"""Dead letters as a person reads them in a terminal of 80 columns."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from kafkaesk_retry.dead.stored import StoredLetter
from kafkaesk_retry.dead.tables import Kinds
from kafkaesk_retry.places import Place

LONG = "the article is not there, and neither is the one that replaces it " * 3


def test_the_id_of_a_letter_is_on_one_line_so_that_it_can_be_copied() -> None:
    place, nothing = Place("dlq.warehouse.orders.placed", 3, 12345), Any
    letter = StoredLetter(
        place,
        Place("shop.orders.placed", 3, 0),
        *("warehouse", "LookupError", f"{LONG}[red]", "LookupError@shop.reserve", "shop.reserve"),
        *(1, 0, 0, False, "kafka", nothing),  # type: ignore[arg-type]  # no record is asked for
    )
    kinds, output = Kinds("shop."), io.StringIO()
    kinds.add(letter)

    Console(file=output, width=80).print(kinds.table())

    lines = [line.strip() for line in output.getvalue().splitlines()]
    assert lines[0] == "1 dead letter"
    assert any(line.startswith(str(place)) for line in lines)
    assert any("warehouse, orders.placed" in line for line in lines)
    assert max(map(len, output.getvalue().splitlines())) <= 80
