"""An event loop whose clock jumps to the next event, and a server inside it."""

import asyncio
import json
import selectors

import httpx2 as httpx

from cai.backends.capabilities import Capabilities
from cai.backends.endpoint import Endpoint
from cai.backends.served_model import EndpointState, ServedModel, ServerSettings
from cai.config.servers import Address, Server


class VirtualSelector(selectors.DefaultSelector):
    """Moves a clock instead of waiting."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        self.now += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs hours of waiting at once."""

    def __init__(self):
        self.clock = VirtualSelector()
        super().__init__(self.clock)

    def time(self):
        return self.clock.now


def run(work):
    """Run a coroutine to its end, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


class SlowServer(httpx.AsyncBaseTransport):
    """Answers a number of requests at a time, each in some seconds; the others wait.

    Like llama.cpp, it gives up a request whose client is gone.
    """

    def __init__(self, slots=1, seconds=25.0, answer=None):
        self.slots = asyncio.Semaphore(slots)
        self.seconds, self.answer = seconds, answer
        self.received = self.active = self.most = 0

    async def handle_async_request(self, request):
        self.received += 1
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            if self.answer is not None and (found := self.answer(self.received)) is not None:
                status, headers, body = found
                return httpx.Response(status, headers=headers, json=body)
            async with self.slots:
                await asyncio.sleep(self.seconds)
        finally:
            self.active -= 1
        message = {"message": {"content": "fine"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 50, "completion_tokens": 100}
        body = {"model": "m", "choices": [message], "usage": usage}
        return httpx.Response(200, content=json.dumps(body).encode())


def endpoint(transport, url="http://slow/v1", server=None, **settings):
    """An endpoint that was probed before."""
    model = ServedModel("m", "chat", enable_thinking=False)
    http = httpx.AsyncClient(transport=transport, timeout=None)
    state = EndpointState(capabilities=Capabilities(thinking_switch=False))
    address = Address(url, server or Server())
    one = Endpoint(address, http, model, ServerSettings(**settings), lambda: False, state)
    one._client._platform = "Unknown"  # or the client asks a thread, which takes real time
    return one
