"""One flow of calls of the client pyloops, unchanged: pyloops_flows.py FLOW BASE_URL TOKEN.

Each flow is run against a relay of its own, so that ten calls a second are enough.
"""

import asyncio
import sys

import pyloops

CONFIRMATION = "cll42l54f20i1la0lfooe3z12"
RECEIPT = "cm5r9d0w700b4l80jq2k6xtne"
LIST = "cm06f5v0e45nf0ml5754o9cix"


async def contacts(client: pyloops.LoopsClient) -> None:
    created = await client.create_contact("ada@example.com", user_id="u1", first_name="Ada", seats=5)
    try:
        await client.create_contact("ada@example.com")
        raise AssertionError("a contact was created twice")
    except pyloops.LoopsContactExistsError:
        pass
    updated = await client.upsert_contact(user_id="u1", last_name="Lovelace", mailing_lists={LIST: True})
    assert updated.id == created.id, (updated, created)
    [found] = await client.find_contact(email="ada@example.com")
    assert (found.id, found.first_name, found.last_name) == (created.id, "Ada", "Lovelace"), found
    assert found.additional_properties["seats"] == 5, found
    assert await client.delete_contact(user_id="u1") is True
    assert await client.delete_contact(user_id="u1") is False
    assert await client.find_contact(user_id="u1") == []


async def reads(client: pyloops.LoopsClient) -> None:
    assert await client.health() is True
    await client.upsert_contact("ada@bounces.example", favoriteColor="blue")
    keys = [one.key for one in await client.list_contact_properties()]
    assert "email" in keys and "favoriteColor" in keys, keys
    assert [one.name for one in await client.list_mailing_lists()] == ["Product updates", "Beta testers"]
    emails = await client.list_transactional_emails(per_page=10)
    assert [one.id for one in emails.data] == [CONFIRMATION, RECEIPT], emails
    assert (emails.pagination.per_page, emails.pagination.next_cursor) == (10, None), emails
    suppression = await client.get_contact_suppression(email="ada@bounces.example")
    assert suppression.is_suppressed is True, suppression


async def sends(client: pyloops.LoopsClient) -> None:
    event = await client.send_event("signup", email="ada@example.com", event_properties={"plan": "pro"}, seats=5)
    assert event.success is True, event
    items = [{"name": "Book", "price": 12.5}]
    email = await client.send_transactional_email(RECEIPT, "ada@example.com", {"name": "Ada", "items": items})
    assert email.success is True, email
    for transactional_id, status, message in [
        (CONFIRMATION, 400, "Missing required data variable(s): confirmationUrl"),
        ("cl0000", 404, "Transactional email not found."),
    ]:
        try:
            await client.send_transactional_email(transactional_id, "ada@example.com")
            raise AssertionError(f"{transactional_id} was sent")
        except pyloops.LoopsError as error:
            assert error.status_code == status and message in error.message, error


if __name__ == "__main__":
    flow, base_url, token = sys.argv[1:]
    asyncio.run(globals()[flow](pyloops.LoopsClient(token, base_url)))
