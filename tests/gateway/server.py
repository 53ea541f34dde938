"""The app behind the gateway: HTTP/1.1 with events on 8080, WebSockets on 8081, gRPC on 50051."""

import asyncio
import http.server
import json
import threading
from concurrent import futures

import grpc
import websockets.asyncio.server


SEEN = threading.Semaphore(0)


class Http(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, text, status=200):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for number in range(3):
                self.wfile.write(f"data: {number}\n\n".encode())
                self.wfile.flush()
                # The next one when the client has seen this one.
                SEEN.acquire()
            self.close_connection = True
        elif self.path == "/seen":
            SEEN.release()
            self.answer("")
        elif self.path.startswith("/zeros/"):
            size = int(self.path.rsplit("/", 1)[1])
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            while size:
                count = min(size, 1 << 20)
                self.wfile.write(bytes(count))
                size -= count
        else:
            self.answer(json.dumps({"path": self.path, "headers": [list(h) for h in self.headers.items()]}))

    def do_POST(self):
        count = 0
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                count += len(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers.get("Content-Length", 0))
            while left:
                piece = self.rfile.read(min(left, 1 << 20))
                left, count = left - len(piece), count + len(piece)
        self.answer(str(count))

    def log_message(self, *_):
        pass


async def echo(socket):
    await socket.send(json.dumps({"subprotocol": socket.subprotocol,
                                  "offered": socket.request.headers.get("Sec-WebSocket-Protocol")}))
    async for message in socket:
        await socket.send(message)


async def web_sockets():
    choose = lambda _, offered: "chat" if "chat" in offered else None
    async with websockets.asyncio.server.serve(echo, "0.0.0.0", 8081, select_subprotocol=choose, max_size=None):
        # Last of all, since it answers the lifecycle hooks, `ready` among them.
        http_server = http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Http)
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        await asyncio.get_running_loop().create_future()


def stream_stream(requests, context):
    for request in requests:
        yield request.upper()
    context.set_trailing_metadata([("x-done", "yes")])


def grpc_server():
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", {
        "Unary": grpc.unary_unary_rpc_method_handler(lambda request, _: request.upper()),
        "Client": grpc.stream_unary_rpc_method_handler(lambda requests, _: b"".join(requests)),
        "Server": grpc.unary_stream_rpc_method_handler(lambda request, _: (request[n:n + 1] for n in range(len(request)))),
        "Both": grpc.stream_stream_rpc_method_handler(stream_stream),
        "Fail": grpc.unary_unary_rpc_method_handler(
            lambda _, context: context.abort(grpc.StatusCode.NOT_FOUND, "nothing here")),
    })])
    server.add_insecure_port("0.0.0.0:50051")
    server.start()
    return server


kept = grpc_server()
asyncio.run(web_sockets())
