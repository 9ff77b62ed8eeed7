"""CloudWatch in the protocol that its newest clients speak (Smithy RPC v2 CBOR), in front of an emulator that knows only the
older ones. A call is decoded, repeated in the older protocol, and its response encoded as CBOR, by botocore's own code."""

import io

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import RpcV2CBORParser
from botocore.serialize import RpcV2CBORSerializer

HEADERS = [("Content-Type", "application/cbor"), ("smithy-protocol", "rpc-v2-cbor")]


class CborCloudWatch:
    """WSGI middleware."""

    def __init__(self, application, endpoint):
        self.application = application
        self.endpoint = endpoint

    def __call__(self, environ, start_response):
        _, _, operation = environ["PATH_INFO"].partition("/operation/")
        if environ.get("HTTP_SMITHY_PROTOCOL") != "rpc-v2-cbor" or not operation:
            return self.application(environ, start_response)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        region = environ["HTTP_AUTHORIZATION"].split("Credential=")[1].split("/")[2]
        status, response = self.call(region, operation, body)
        start_response(status, [*HEADERS, ("Content-Length", str(len(response)))])
        return [response]

    def call(self, region, operation, body):
        parser, serializer = RpcV2CBORParser(), RpcV2CBORSerializer()
        options = {"endpoint_url": self.endpoint, "config": Config(proxies={}), "region_name": region}
        client = boto3.client("cloudwatch", aws_access_key_id="test", aws_secret_access_key="test", **options)
        parameters = parser.parse_data_item(io.BufferedReader(io.BytesIO(body))) if body else {}
        written = bytearray()
        try:
            # The client's methods have other names; each of them calls this.
            response = client._make_api_call(operation, parameters)  # noqa: SLF001
        except ClientError as error:
            for text in ("__type", error.response["Error"]["Code"]):
                serializer._serialize_type_string(written, text, None, None)  # noqa: SLF001
            return "400 Bad Request", bytes([0xA1]) + bytes(written)
        shape = client.meta.service_model.operation_model(operation).output_shape
        response.pop("ResponseMetadata", None)
        if shape is not None:
            serializer._serialize_type_structure(written, response, shape, None)  # noqa: SLF001
        return "200 OK", bytes(written)
