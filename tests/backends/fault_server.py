"""A server that speaks the OpenAI protocol and misbehaves by script."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cai.backends.server import ServerBackend, ServerSettings


class FaultServer:
    """A small chat model that counts the words of its last turn; ``script(number, fields)`` may answer in its place."""

    def __init__(self, script=lambda number, fields: None, logprobs=True, seeds=True):
        self.script, self.logprobs, self.seeds = script, logprobs, seeds
        self.requests, self.lock, self.headers = [], threading.Lock(), []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                fields = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.requests.append(fields)
                    outer.headers.append(dict(self.headers))
                    number = len(outer.requests)
                found = outer.script(number, fields)
                if found == "reset":
                    self.connection.close()
                    return
                status, headers, body = found or (200, {}, outer.body(fields, number))
                data = (
                    body
                    if isinstance(body, bytes)
                    else (body if isinstance(body, str) else json.dumps(body)).encode()
                )
                self.send_response(status)
                for name, value in {
                    "Content-Type": "application/json",
                    "Content-Length": str(len(data)),
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, address):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def body(self, fields, number):
        text = fields["messages"][-1]["content"]
        said = f"{len(text.split())} words" + ("" if self.seeds else f" {number}")
        option_logprobs = {
            "index": 0,
            "message": {"role": "assistant", "content": said},
            "finish_reason": "stop",
        }
        if fields.get("logprobs") and self.logprobs:
            option_logprobs["logprobs"] = {
                "content": [
                    {
                        "token": " Pro",
                        "logprob": -0.1,
                        "top_logprobs": [
                            {"token": " Pro", "logprob": -0.1},
                            {"token": "No", "logprob": -2.4},
                            {"token": "yes", "logprob": -9.0},
                        ],
                    }
                ]
            }
        choices = [option_logprobs] * fields.get("n", 1)
        if "n" in fields:
            choices = [
                {
                    **option_logprobs,
                    "message": {
                        "role": "assistant",
                        "content": "Problem: x" if i < 6 else "No problem." if i < 7 else "?",
                    },
                }
                for i in range(fields["n"])
            ]
        return {
            "model": "m",
            "choices": choices,
            "usage": {"prompt_tokens": 7, "completion_tokens": 2},
        }

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()

    @property
    def spec(self):
        return f"http://127.0.0.1:{self.server.server_port}/v1#m"

    def backend(self, **limits):
        return ServerBackend(
            self.spec,
            settings=ServerSettings(
                **{"first_wait": 0.01, "deadline": 5.0, "attempts": 4, **limits}
            ),
        )
