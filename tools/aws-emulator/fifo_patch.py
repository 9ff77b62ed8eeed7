"""What moto's queues lack to keep the order of a FIFO group: in SQS a message that is not in flight cannot be hidden
("MessageNotInflight", API reference, ChangeMessageVisibility, errors), no call sees another one half done, and where the time of
several messages is up, the oldest comes first. Without these, a message can be handed out before an older one of its group."""

import functools
import threading
import time

from moto.sqs.exceptions import SQSException
from moto.sqs.models import SQSBackend

# Those that look at a queue's messages, or change them; a batch is made of these.
ONE_AT_A_TIME = ["send_message", "receive_message", "delete_message", "change_message_visibility"]
# How often a call that waits for messages looks again, in seconds.
LOOK_EVERY = 0.05


class MessageNotInflight(SQSException):
    def __init__(self):
        super().__init__("MessageNotInflight", "The specified message is not in flight.")


def keep_groups_closed():
    change = SQSBackend.change_message_visibility

    def change_in_flight(self, queue_name, receipt_handle, visibility_timeout):
        for message in self.get_queue(queue_name)._messages:
            if message.had_receipt_handle(receipt_handle) and message.visible:
                raise MessageNotInflight()
        return change(self, queue_name, receipt_handle, visibility_timeout)

    SQSBackend.change_message_visibility = change_in_flight
    SQSBackend.receive_message = oldest_first(SQSBackend.receive_message)
    lock = threading.RLock()
    for name in ONE_AT_A_TIME:
        setattr(SQSBackend, name, locked(lock, getattr(SQSBackend, name)))
    SQSBackend.receive_message = waiting_outside(SQSBackend.receive_message)


def oldest_first(receive):
    """What is visible again holds back nothing any more. moto finds that out message by message, and skips those before."""

    def call(self, queue_name, *arguments, **options):
        pending = self.get_queue(queue_name).pending_messages
        pending.difference_update([message for message in pending if message.visible])
        return receive(self, queue_name, *arguments, **options)

    return call


def waiting_outside(receive):
    """Nobody else waits while somebody waits for messages."""

    def call(self, queue_name, count, wait_seconds_timeout, *arguments, **options):
        until = time.monotonic() + wait_seconds_timeout
        while True:
            messages = receive(self, queue_name, count, 0, *arguments, **options)
            if messages or time.monotonic() >= until:
                return messages
            time.sleep(LOOK_EVERY)

    return call


def locked(lock, method):
    @functools.wraps(method)
    def call(*arguments, **options):
        with lock:
            return method(*arguments, **options)

    return call
