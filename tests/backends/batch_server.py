"""A server with a batch API that does what a test scripts."""

import json
import re
import urllib.parse

from fault_server import FAST, FaultServer

from cai.backends.server import ServerBackend, ServerSettings
from cai.config.servers import Server


def ok(name, body):
    return {"custom_id": name, "response": {"status_code": 200, "body": body}, "error": None}


def refused(name, status, error):
    response = {"status_code": status, "body": {"error": error}}
    return {"custom_id": name, "response": response, "error": None}


class BatchServer(FaultServer):
    """Keeps files and batches.

    Args:
        line: From the id, the body and the number of the batch of a line to its row of the result;
            None for the usual answer. A row without status 200 is in the file of errors.
        status: From the number of a batch and of the look at it to its status.
        refuse: From the method and the path of a call to a status and a body; None to answer it.
        wrap: Changes what is said of a batch.
        keys: The path of batches, and the names of the files in it.
    """

    def __init__(
        self,
        line=lambda name, body, batch: None,
        status=lambda batch, look: "completed",
        refuse=lambda method, path: None,
        wrap=lambda job: job,
        keys=("batches", "input_file_id", "output_file_id", "error_file_id"),
        **options,
    ):
        super().__init__(**options)
        self.line, self.status, self.refuse, self.wrap, self.keys = line, status, refuse, wrap, keys
        self.files, self.orders, self.looks, self.purposes, self.uploads = {}, [], {}, [], []
        self.server.RequestHandlerClass = _handler(self, self.server.RequestHandlerClass)

    @property
    def lines(self):
        """The lines of each batch."""
        return [self.files[order["file"]] for order in self.orders]

    def batch_backend(self, **settings):
        settings = ServerSettings(**{**FAST, "batch_wait": 0.01, **settings})
        servers = {"mine": Server(url=self.url, batch=True)}
        return ServerBackend("mine#m", settings=settings, servers=servers)

    def upload(self, content):
        text = content.decode()
        self.purposes += re.findall(r'name="purpose"\r\n\r\n(.*)\r\n', text)
        name = f"file-{len(self.files)}"
        self.files[name] = [json.loads(row) for row in text.splitlines() if row.startswith("{")]
        return {"id": name}

    def create(self, order):
        given = order[self.keys[1]]
        file = given[0] if isinstance(given, list) else given
        self.orders.append({"id": f"b{len(self.orders)}", "file": file, "order": order})
        return self.job(len(self.orders) - 1)

    def job(self, number):
        """What is said of a batch that was only created."""
        order = self.orders[number]
        _, key, _, _ = self.keys
        given = [order["file"]] if key.endswith("s") else order["file"]
        return self.wrap({"id": order["id"], key: given, "status": "validating"})

    def look(self, number):
        order = self.orders[number]
        self.looks[number] = self.looks.get(number, 0) + 1
        status = self.status(number, self.looks[number])
        rows = self.files[order["file"]]
        job = {"id": order["id"], "status": status, self.keys[1]: order["file"]}
        job["request_counts"] = {"total": len(rows), "completed": self.looks[number], "failed": 0}
        if status.lower() not in ("in_progress", "running"):
            self._finish(number, rows, job)
        return job

    def _finish(self, number, rows, job):
        made = [
            self.line(row["custom_id"], row["body"], number)
            or ok(row["custom_id"], self.body(row["body"], number))
            for row in reversed(rows)
        ]
        made = [row for row in made if row != "none"]
        good = [row for row in made if (row["response"] or {}).get("status_code") == 200]
        for key, part in ((self.keys[2], good), (self.keys[3], [r for r in made if r not in good])):
            if part:
                self.files[f"{job['id']}-{key}"] = part
                job[key] = f"{job['id']}-{key}"

    def get(self, path):
        if path.endswith("/content"):
            rows = self.files[path.split("/")[-2]]
            return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        if path.endswith(self.keys[0]):
            return {"data": [self.job(i) for i in reversed(range(len(self.orders)))]}
        return self.look(int(path.rpartition("/b")[2]))


def _handler(server, base):
    """The handler of a fault server, with files and batches."""

    class Handler(base):
        outer = server

        def do_POST(self):  # noqa: N802
            path = urllib.parse.urlsplit(self.path).path
            if path.endswith("completions"):
                super().do_POST()
                return
            content = self.rfile.read(int(self.headers["Content-Length"]))
            _reply(self, "POST", path, content)

        def do_GET(self):  # noqa: N802
            path = urllib.parse.urlsplit(self.path).path
            if path.endswith("/models"):
                _send(self, 200, {"data": []})
            else:
                _reply(self, "GET", path, b"")

    return Handler


def _reply(handler, method, path, content):
    outer = handler.outer
    refusal = outer.refuse(method, path)
    if refusal == "lost":  # it is done, but nobody hears of it
        outer.create(json.loads(content))
        handler.close_connection = True
    elif refusal:
        _send(handler, *refusal)
    elif method == "GET":
        _send(handler, 200, outer.get(path))
    else:
        is_file = "/files" in path
        outer.uploads += [path] if is_file else []
        done = outer.upload(content) if is_file else outer.create(json.loads(content))
        _send(handler, 200, done)


def _send(handler, status, body):
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
