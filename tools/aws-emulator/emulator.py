"""moto's server, with the options of `moto_server -H HOST -p PORT` and three differences. Its queues do not invoke functions:
the tests have their own event source, which runs the real ones. Its queues lock message groups as SQS does (fifo_patch.py).
CloudWatch understands CBOR, which the newest clients send."""

import sys

import moto.server
import fifo_patch
from cbor_proxy import CborCloudWatch
from moto.awslambda.models import LambdaBackend
from moto.sqs.models import sqs_backends

create = LambdaBackend.create_event_source_mapping


def create_without_polling(self, spec):
    mapping = create(self, spec)
    for queue in sqs_backends[self.account_id][self.region_name].queues.values():
        queue.lambda_event_source_mappings.clear()
    return mapping


serve = moto.server.run_simple


def serve_with_cbor(host, port, application, **options):
    serve(host, port, CborCloudWatch(application, f"http://{host}:{port}"), **options)


fifo_patch.lock_message_groups()
LambdaBackend.create_event_source_mapping = create_without_polling
moto.server.run_simple = serve_with_cbor
sys.exit(moto.server.main())
