"""Clients that others wrote, at a VM's endpoint: httpx over HTTP/1.1 and HTTP/2, an event stream, websockets, grpcio.

    clients.py WHAT ENDPOINT PORT TOKEN CA      WHAT: http, events, websockets, grpc, shell
"""

import asyncio
import json
import sys

WHAT, ENDPOINT, PORT, TOKEN, CA = sys.argv[1:]
AUTH = {"X-aws-proxy-auth": TOKEN}
# The endpoint's name leads to this machine only where the resolver knows localhost's subdomains; here it need not.
import socket

resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **named: resolve("127.0.0.1" if host == ENDPOINT else host, *rest, **named)


def http():
    import httpx
    import ssl

    trust = ssl.create_default_context(cafile=CA)
    for scheme, versions in (("http", dict(http1=True, http2=False)), ("http", dict(http1=False, http2=True)),
                             ("https", dict(http1=True, http2=False)), ("https", dict(http1=True, http2=True))):
        with httpx.Client(verify=trust, headers=AUTH, timeout=60, **versions) as client:
            base = f"{scheme}://{ENDPOINT}:{PORT}"
            answer = client.get(f"{base}/a%2Fb?c=d&e", headers=[("x-twice", "1"), ("x-twice", "2")])
            wanted = "HTTP/2" if versions["http2"] else "HTTP/1.1"
            assert (answer.status_code, answer.http_version) == (200, wanted), (answer, answer.http_version)
            seen = answer.json()
            names = [name.lower() for name, _ in seen["headers"]]
            assert seen["path"] == "/a%2Fb?c=d&e", seen
            assert ["x-twice", "1"] in seen["headers"] and ["x-twice", "2"] in seen["headers"], seen
            assert "x-amzn-requestid" in names and not any("proxy" in name for name in names), seen
            pieces = (b"x" * 65536 for _ in range(64))
            assert client.post(f"{base}/", content=pieces).text == str(4 << 20)
            assert client.get(base, headers={"X-aws-proxy-port": "9"}).status_code == 502
            denied = client.get(base, headers={"X-aws-proxy-auth": "no"})
            assert (denied.status_code, denied.text) == (403, "Request missing authentication"), denied
            with client.stream("GET", f"{base}/zeros/{32 << 20}") as answer:
                assert sum(map(len, answer.iter_bytes())) == 32 << 20


def events():
    import httpx

    address = f"http://{ENDPOINT}:{PORT}"
    with httpx.Client(headers=AUTH, timeout=60) as client, httpx.Client(headers=AUTH, timeout=60) as other:
        with client.stream("GET", f"{address}/events") as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            # The server sends the next one when it is told that this one was seen.
            for number, line in enumerate(line for line in answer.iter_lines() if line):
                assert line == f"data: {number}", line
                assert other.get(f"{address}/seen").status_code == 200
    assert number == 2


def web_sockets():
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus

    address = f"ws://{ENDPOINT}:{PORT}/"

    async def talk():
        offer = ["lambda-microvms", f"lambda-microvms.authentication.{TOKEN}", "lambda-microvms.port.8081"]
        for own, chosen in (["chat"], "chat"), ([], "lambda-microvms"):
            async with connect(address, subprotocols=offer + own, max_size=None) as socket:
                hello = json.loads(await socket.recv())
                assert hello == {"subprotocol": chosen if own else None, "offered": "chat" if own else None}, hello
                assert socket.subprotocol == chosen, socket.subprotocol
                for message in "grüße", b"\x00\xff", "x" * (1 << 20), b"y" * (4 << 20):
                    await socket.send(message)
                    assert await socket.recv() == message
                await (await socket.ping())
        headers = AUTH | {"X-aws-proxy-port": "8081"}
        async with connect(address, additional_headers=headers) as socket:
            assert json.loads(await socket.recv())["offered"] is None
        try:
            async with connect(address, subprotocols=offer[1:]):
                raise SystemExit("it opened without the marker")
        except InvalidStatus as refused:
            assert refused.response.status_code == 403, refused

    asyncio.run(talk())


def grpc_forms():
    import grpc

    with open(CA, "rb") as file:
        trust = grpc.ssl_channel_credentials(file.read())
    options = [("grpc.default_authority", ENDPOINT), ("grpc.ssl_target_name_override", ENDPOINT)]
    address = f"127.0.0.1:{PORT}"
    metadata = [(name.lower(), value) for name, value in AUTH.items()] + [("x-aws-proxy-port", "50051")]
    for channel in grpc.insecure_channel(address, options[:1]), grpc.secure_channel(address, trust, options):
        call = dict(metadata=metadata, timeout=60, wait_for_ready=True)
        assert channel.unary_unary("/test.Echo/Unary")(b"abc", **call) == b"ABC"
        assert channel.stream_unary("/test.Echo/Client")(iter([b"a", b"b"] * 500), **call) == b"ab" * 500
        assert list(channel.unary_stream("/test.Echo/Server")(b"xyz", **call)) == [b"x", b"y", b"z"]
        both = channel.stream_stream("/test.Echo/Both")(iter([b"a", b"b", b"c"]), **call)
        assert list(both) == [b"A", b"B", b"C"]
        assert ("x-done", "yes") in [tuple(pair) for pair in both.trailing_metadata()]
        try:
            channel.unary_unary("/test.Echo/Fail")(b"", **call)
            raise SystemExit("it did not fail")
        except grpc.RpcError as error:
            assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "nothing here"), error
        channel.close()


def shell():
    """As AWS's clients do it: no subprotocol of Warren's, binary both ways, resize as text."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed

    async def session(word):
        offer = ["lambda-microvms", f"lambda-microvms.authentication.{TOKEN}"]
        async with connect(f"ws://{ENDPOINT}:{PORT}/shell", subprotocols=offer) as socket:
            hello = json.loads(await socket.recv())
            assert hello["type"] == "session_init" and hello["session_id"], hello
            await socket.send('{"type":"resize","cols":133,"rows":44}')
            await socket.send(f"stty size; id -u; echo grü{word}; exit 3\n".encode())
            seen = b""
            try:
                while True:
                    seen += await socket.recv()
            except ConnectionClosed as closed:
                assert (closed.rcvd.code, closed.rcvd.reason) == (1000, "shell exited"), closed
            text = seen.decode()
            assert "44 133" in text and f"\ngrü{word}\r" in text and "\n0\r" in text, text

    async def several():
        await asyncio.gather(*(session(f"ß{number}") for number in range(4)))

    asyncio.run(several())


{"http": http, "events": events, "websockets": web_sockets, "grpc": grpc_forms, "shell": shell}[WHAT]()
