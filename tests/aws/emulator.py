"""moto's server, on an address and port as `moto_server -H HOST -p PORT` takes them, except that its queues do not hand their
messages to functions: the tests have an event source of their own, which runs the real ones."""

from moto.awslambda.models import LambdaBackend
from moto.server import main
from moto.sqs.models import sqs_backends

create = LambdaBackend.create_event_source_mapping


def create_without_polling(self, spec):
    mapping = create(self, spec)
    for queue in sqs_backends[self.account_id][self.region_name].queues.values():
        queue.lambda_event_source_mappings.clear()
    return mapping


LambdaBackend.create_event_source_mapping = create_without_polling
main()
