"""What the server does by itself, on a real Prefect API."""

import asyncio
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.events.schemas.automations import AutomationCore

from flows.ops.automations import automations, definition
from flows.settings import read_settings

pytestmark = pytest.mark.usefixtures("prefect_api")


def test_an_automation_that_is_read_back_is_the_one_that_was_made():
    """Else each `make ui` would update it, and the server would forget which runs it waits for.

    The order in which JSON gives a set is another one in each process.
    """
    wanted = automations(read_settings(), uuid4(), [uuid4(), uuid4()])

    async def read_back(automation: AutomationCore) -> AutomationCore:
        async with get_client() as client:
            made = await client.create_automation(automation)
            found = await client.read_automation(made)
            await client.delete_automation(made)
            return found

    dead = next(automation for automation in wanted if "dead" in automation.name)
    found = asyncio.run(read_back(dead))

    assert definition(found) == definition(dead)
    turned = dead.model_dump(mode="json")
    for name in ("after", "expect"):
        turned["trigger"][name].reverse()
    assert definition(AutomationCore.model_validate(turned)) == definition(dead)
    turned["trigger"]["within"] += 1
    assert definition(AutomationCore.model_validate(turned)) != definition(dead)
