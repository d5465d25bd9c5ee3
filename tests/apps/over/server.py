"""GraphQL by ariadne, JSON-RPC by jsonrpcserver, events, and what stands in for a language model, all on
aiohttp."""
import asyncio
import json
import sys

import ariadne
from aiohttp import web
from jsonrpcserver import Error, Success, dispatch, method

query = ariadne.QueryType()
mutation = ariadne.MutationType()
query.set_field("book", lambda *_, id: {"title": f"book {id}"})
mutation.set_field("add", lambda *_, title: {"title": title})


@query.field("breaks")
def breaks(*_):
    raise RuntimeError("it breaks")


schema = ariadne.make_executable_schema(
    """
    type Book { title: String }
    type Query { book(id: ID!): Book, breaks: Int }
    type Mutation { add(title: String!): Book }
    """,
    query,
    mutation,
)


async def graphql(request):
    data = await request.json()
    _, answer = await ariadne.graphql(schema, data, logger="silent")
    return web.json_response(answer)


@method(name="sum")
def total(*numbers):
    return Success(sum(numbers))


@method
def fails():
    return Error(-32001, "it fails")


@method(name="tools/call")
def tool(name):
    return Success({"content": [], "isError": name == "broken"})


async def rpc(request):
    answer = dispatch(await request.text())
    return web.Response(text=answer, content_type="application/json")


async def stream(request, events):
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    *some, last = [f"data: {event}\n\n".encode() for event in events]
    for event in some:
        await response.write(event)
        await asyncio.sleep(0.02)
    # Who has read the last event may close at once: the end comes with it.
    await response.write_eof(last)
    return response


async def events(request):
    return await stream(request, ["one", "two", "three"])


def chunk(**more):
    return json.dumps({"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "tiny-1", **more})


async def chat(request):
    ask = await request.json()
    if ask["model"] == "none":
        error = {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}
        return web.json_response({"error": error}, status=400)
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    if ask.get("stream"):
        piece = {"index": 0, "delta": {"content": "hi"}, "finish_reason": None}
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        return await stream(request, [
            chunk(choices=[piece]),
            chunk(choices=[last]),
            chunk(choices=[], usage=usage),
            "[DONE]",
        ])
    content = "hi"
    if ask["model"] == "long":
        # A long answer takes a model its time.
        await asyncio.sleep(0.5)
        content = "y" * 8192
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    answer = {"id": "chat-1", "object": "chat.completion", "created": 1, "model": "tiny-1"}
    return web.json_response({**answer, "choices": [choice], "usage": usage})


async def embeddings(request):
    await request.json()
    vector = {"object": "embedding", "index": 0, "embedding": "AAAAAAAAAAA="}
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return web.json_response({"object": "list", "data": [vector], "model": "tiny-1", "usage": usage})


app = web.Application()
app.add_routes([
    web.post("/graphql", graphql),
    web.post("/rpc", rpc),
    web.get("/events", events),
    web.post("/v1/chat/completions", chat),
    web.post("/v1/embeddings", embeddings),
])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
