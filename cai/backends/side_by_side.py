"""Ask several backends: those on different servers at the same time, others one after the other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cai.backends.protocol import Backend, Request, Response

POLL_INTERVAL = 0.5
"""Seconds after which waiting for a response is interrupted, to look for a Ctrl-C."""


class Call(NamedTuple):
    """Requests to one backend."""

    backend: Backend
    requests: Sequence[Request]


class Answer(NamedTuple):
    """A response, with the number of its call and of its request there."""

    call: int
    request: int
    response: Response


def respond_side_by_side(calls: Sequence[Call]) -> Iterator[Answer]:
    """Yield the responses to all calls as they come in.

    Ctrl-C and an error of one backend stop all of them; responses in flight are still yielded,
    since they have to be paid for.

    Args:
        calls: The calls. Backends with a base URL in common are asked one after the other, and so
            are all if one of them is no server, since only servers wait for something else.
    """
    lanes = _lanes(calls)
    if len(lanes) == 1:
        for number in lanes[0]:
            yield from _answers(calls, number)
        return
    answers: queue.Queue[Answer | None] = queue.Queue()
    threads = [_Lane(calls, lane, answers) for lane in lanes]
    try:
        for thread in threads:
            thread.start()
        try:
            yield from _until_ended(threads, answers)
        except KeyboardInterrupt:
            _stop(threads)
            yield from _until_ended(threads, answers)
            raise
    finally:
        _stop(threads)
    for thread in threads:
        if thread.error:
            raise thread.error


def _answers(calls: Sequence[Call], number: int) -> Iterator[Answer]:
    call = calls[number]
    for index, response in call.backend.respond(call.requests):
        yield Answer(number, index, response)


def _lanes(calls: Sequence[Call]) -> list[list[int]]:
    """Numbers of calls that wait for each other."""
    lanes: list[tuple[set[str], list[int]]] = []
    for number, call in enumerate(calls):
        urls = set(getattr(call.backend, "urls", ()))
        if not urls:
            return [list(range(len(calls)))]
        if getattr(call.backend, "is_batched", False):  # their batches are in one log
            urls.add("batches")
        shared = [lane for lane in lanes if lane[0] & urls]
        lanes = [lane for lane in lanes if not lane[0] & urls]
        lanes.append((urls.union(*(lane[0] for lane in shared)), [*_numbers(shared), number]))
    return [numbers for _, numbers in lanes]


def _numbers(lanes: Sequence[tuple[set[str], list[int]]]) -> list[int]:
    return sorted(number for _, numbers in lanes for number in numbers)


class _Lane(threading.Thread):
    """Makes some calls one after the other, in a thread of its own.

    Attributes:
        error: What a backend raised.
    """

    def __init__(
        self, calls: Sequence[Call], numbers: Sequence[int], answers: queue.Queue[Answer | None]
    ) -> None:
        super().__init__(daemon=True)
        self.error: BaseException | None = None
        self._calls = calls
        self._numbers = numbers
        self._answers = answers
        self._may_send = True

    def run(self) -> None:
        """Put the answers into the queue, then None."""
        try:
            for number in self._numbers:
                if not self._may_send:
                    break
                for answer in _answers(self._calls, number):
                    self._answers.put(answer)
                    if not self._may_send:  # perhaps before the backend had begun
                        self._calls[number].backend.stop()
        except BaseException as error:  # noqa: BLE001 - it is raised where the answers are read
            self.error = error
        finally:
            self._answers.put(None)

    def stop(self) -> None:
        """Send no more requests."""
        self._may_send = False
        for number in self._numbers:
            self._calls[number].backend.stop()


def _stop(lanes: Sequence[_Lane]) -> None:
    for lane in lanes:
        lane.stop()


def _until_ended(lanes: Sequence[_Lane], answers: queue.Queue[Answer | None]) -> Iterator[Answer]:
    """Yield answers until all lanes have ended; after an error in one the others end soon.

    Python does not notice a Ctrl-C that arrives at the moment when it begins to block, so it
    never blocks for long.
    """
    while any(lane.is_alive() for lane in lanes) or not answers.empty():
        try:
            answer = answers.get(timeout=POLL_INTERVAL)
        except queue.Empty:
            continue
        if answer is not None:
            yield answer
        elif any(lane.error for lane in lanes):
            _stop(lanes)
