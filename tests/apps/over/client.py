"""gql, jsonrpcclient, openai and sseclient-py, each of a server's four protocols: does its list once a
line is read."""
import sys

import gql
import jsonrpcclient
import openai
import requests
import sseclient
from gql.transport.exceptions import TransportQueryError
from gql.transport.requests import RequestsHTTPTransport

place = f"http://127.0.0.1:{sys.argv[1]}"
books = gql.Client(transport=RequestsHTTPTransport(f"{place}/graphql"))
model = openai.OpenAI(base_url=f"{place}/v1", api_key="none", max_retries=0)
session = requests.Session()
print("ready", flush=True)
input()

with books as one:
    ask = gql.gql("query Book($id: ID!) { book(id: $id) { title } }")
    ask.variable_values = {"id": "7"}
    assert one.execute(ask)["book"]["title"] == "book 7"
    one.execute(gql.gql('mutation Add { add(title: "x") { title } }'))
    try:
        one.execute(gql.gql("{ breaks }"))
        raise SystemExit("an error was expected")
    except TransportQueryError:
        pass

for call in [
    jsonrpcclient.request("sum", [1, 2]),
    jsonrpcclient.request("fails"),
    jsonrpcclient.request("nothing"),
    jsonrpcclient.notification("sum", [3]),
    [jsonrpcclient.request("sum", [1]), jsonrpcclient.request("sum", [2])],
]:
    session.post(f"{place}/rpc", json=call)

for name in ["weather", "broken"]:
    call = jsonrpcclient.request("tools/call", {"name": name})
    session.post(f"{place}/rpc", json=call, headers={"Mcp-Session-Id": "1"})

ask = [{"role": "user", "content": "say hi"}]
model.chat.completions.create(model="tiny", messages=ask, max_tokens=5, temperature=0.5)
more = {"include_usage": True}
for _ in model.chat.completions.create(model="tiny", messages=ask, stream=True, stream_options=more):
    pass
long = [{"role": "user", "content": "x" * 8192}]
model.chat.completions.create(model="long", messages=long)
model.embeddings.create(model="tiny", input="hi")
try:
    model.chat.completions.create(model="none", messages=ask)
    raise SystemExit("an error was expected")
except openai.BadRequestError:
    pass

events = sseclient.SSEClient(session.get(f"{place}/events", stream=True)).events()
assert [event.data for event in events] == ["one", "two", "three"]
print("done", flush=True)
input()
