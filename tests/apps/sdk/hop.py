"""PORT NEXT EXPORTER: answers each request with what the next port answers to the same, under the
OpenTelemetry SDK, which exports as the variables say, by `http` or `grpc`."""

import sys

import requests
from flask import Flask, request
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

port, following, exporter = sys.argv[1:]
if exporter == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
RequestsInstrumentor().instrument()

app = Flask(__name__)
FlaskInstrumentor().instrument_app(app)


@app.get("/<path:path>")
def hop(path):
    answer = requests.get(f"http://127.0.0.1:{following}/{path}", timeout=10)
    return answer.content, answer.status_code


app.run("127.0.0.1", int(port), threaded=True)
