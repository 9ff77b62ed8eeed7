"""Patches for moto's FIFO queues, which otherwise can deliver a message before an older one of its group. As in SQS, the
visibility of a message that is not in flight cannot be changed ("MessageNotInflight", API reference, ChangeMessageVisibility,
errors); calls are atomic; of the messages whose visibility timeouts have expired, the oldest is delivered first; and a message
with a character that SQS does not take is refused (API reference, SendMessage)."""

import functools
import re
import threading
import time

from moto.sqs.exceptions import SQSException
from moto.sqs.models import SQSBackend

# Methods that read or change a queue's messages. The batch calls use these.
LOCKED_METHODS = ["send_message", "receive_message", "delete_message", "change_message_visibility"]
# How often a receive call with a wait time polls, in seconds.
POLL_INTERVAL = 0.05
REFUSED_CHARACTER = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class InvalidMessageContents(SQSException):
    def __init__(self):
        super().__init__("InvalidMessageContents", "Invalid characters were found in the message.")


class MessageNotInflight(SQSException):
    def __init__(self):
        super().__init__("MessageNotInflight", "The specified message is not in flight.")


def lock_message_groups():
    change = SQSBackend.change_message_visibility

    def change_in_flight(self, queue_name, receipt_handle, visibility_timeout):
        for message in self.get_queue(queue_name)._messages:
            if message.had_receipt_handle(receipt_handle) and message.visible:
                raise MessageNotInflight()
        return change(self, queue_name, receipt_handle, visibility_timeout)

    SQSBackend.change_message_visibility = change_in_flight
    SQSBackend.receive_message = oldest_first(SQSBackend.receive_message)
    SQSBackend.send_message = refusing_characters(SQSBackend.send_message)
    lock = threading.RLock()
    for name in LOCKED_METHODS:
        setattr(SQSBackend, name, locked(lock, getattr(SQSBackend, name)))
    SQSBackend.receive_message = waiting_outside(SQSBackend.receive_message)


def refusing_characters(send):
    def call(self, queue_name, message_body, message_attributes=None, *arguments, **options):
        values = [attribute.get("string_value") or "" for attribute in (message_attributes or {}).values()]
        if any(map(REFUSED_CHARACTER.search, [message_body, *values])):
            raise InvalidMessageContents()
        return send(self, queue_name, message_body, message_attributes, *arguments, **options)

    return call


def oldest_first(receive):
    """Unlocks groups whose messages are visible again. moto does so message by message, and skips the messages before."""

    def call(self, queue_name, *arguments, **options):
        pending = self.get_queue(queue_name).pending_messages
        pending.difference_update([message for message in pending if message.visible])
        return receive(self, queue_name, *arguments, **options)

    return call


def waiting_outside(receive):
    """Waits without holding the lock, so that a long poll does not block other calls."""

    def call(self, queue_name, count, wait_seconds_timeout, *arguments, **options):
        until = time.monotonic() + wait_seconds_timeout
        while True:
            messages = receive(self, queue_name, count, 0, *arguments, **options)
            if messages or time.monotonic() >= until:
                return messages
            time.sleep(POLL_INTERVAL)

    return call


def locked(lock, method):
    @functools.wraps(method)
    def call(*arguments, **options):
        with lock:
            return method(*arguments, **options)

    return call
