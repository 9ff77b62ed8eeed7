"""moto's server, on an address and port as `moto_server -H HOST -p PORT` takes them, with three differences: its queues do not
hand their messages to functions, because the tests have an event source of their own, which runs the real ones; they keep a
group closed as SQS does, see fifo_patch.py; and CloudWatch understands CBOR, which the newest clients speak."""

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


fifo_patch.keep_groups_closed()
LambdaBackend.create_event_source_mapping = create_without_polling
moto.server.run_simple = serve_with_cbor
sys.exit(moto.server.main())
