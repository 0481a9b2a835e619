"""What the README shows works, and its table is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import kafkaesk_headers
from kafkaesk_headers.filter import DEFAULT_EXCLUDE

README = (Path(kafkaesk_headers.__file__).parents[1] / "README.md").read_text()
EXAMPLE = re.search(r"<!-- run: billing.py -->\n```python\n(.*?)```", README, flags=re.DOTALL)

DRIVE = """
import asyncio
from aiokafka.structs import ConsumerRecord
from billing import app

app.configure(["embedded://?topics=orders,invoices&partitions=1"])
seen = []

@app.subscribe("invoices", "test")
async def see(record: ConsumerRecord) -> None:
    seen.append(record.headers)

async def main() -> None:
    async with app:
        await app.raw_publish("orders", b"7", headers=[("tenant", b"t1")])
        await app.consume_for(2, seconds=20)
    print(seen)

asyncio.run(main())
"""


def test_the_example_hands_a_tenant_on(tmp_path: Path) -> None:
    assert EXAMPLE is not None
    (tmp_path / "billing.py").write_text(EXAMPLE[1])

    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", DRIVE],
        cwd=tmp_path,
        env={**os.environ, "KAFKAESK_PLUGINS": "headers"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert result.stdout == "[(('tenant', b't1'),)]\n", result.stderr


def test_the_readme_names_what_is_excluded() -> None:
    assert [pattern for pattern in DEFAULT_EXCLUDE if f"`{pattern}`" not in README] == []
