"""A run on a faulty server, killed again and again, ends with the records of one that was not.

The server kills the run itself, at a request that is drawn, so that no clock decides.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
import yaml
from commands import cai
from fault_server import RESET, FaultServer

from cai.backends.response_cache import ResponseCache
from cai.keys import digest

MARK = "number"
"""A word of all prompts; what the server is asked to find out what it can do has it not."""
SLOW, HANGS = "slow", "hangs"
TIMEOUT = 3
"""Seconds after which the run gives a request up."""
FAULTS = {
    0: ("500", (500, {}, "out of memory")),
    1: ("429, Retry-After: 0", (429, {"Retry-After": "0"}, "slow down")),
    2: ("no response", RESET),
    3: ("empty body", (200, {}, "")),
    4: ("HTML", (200, {"Content-Type": "text/html"}, "<html>busy</html>")),
}
"""What a server does to five of sixteen requests, by number."""
MORE_FAULTS = {
    5: ("429", (429, {}, {"error": {"message": "Rate limit reached"}})),
    6: ("truncated JSON", (200, {}, '{"choices": [{"index": 0, "mess')),
    7: ("cut body", (200, {"Content-Length": "999", "Connection": "close"}, '{"choices": [')),
    8: ("slow", SLOW),
    9: ("503 in a page", (503, {"Content-Type": "text/plain"}, "no healthy upstream")),
    10: ("error in a body", (200, {}, {"error": {"message": "Internal error", "code": 500}})),
}
MIXED = {
    number: fault
    for place, fault in enumerate([*FAULTS.values(), *MORE_FAULTS.values()])
    for number in range(11 * place, 11 * place + 11)
} | {121: ("hangs", HANGS)}
"""The same for 122 of 400 requests, one of which gets no answer in time."""


class DeadlyServer(FaultServer):
    """Answers by the content of a request; fails on three of ten; kills a process when told to.

    Attributes:
        faults: What it does instead of answering, by number, with its name.
        of: Numbers that are drawn from.
        victim: The process that is killed, and the number of answers after which.
        done: How often it did each fault.
        answered: How often each request was answered.
    """

    def __init__(self, faults=None, of=16):
        super().__init__(self.respond)
        self.faults, self.of = faults or {}, of
        self.victim, self.attempts = None, Counter()
        self.done, self.answered = Counter(), Counter()
        self.answers, self.counting = 0, threading.Lock()

    def respond(self, number, fields):
        text = json.dumps([fields["messages"], fields.get("seed")])
        if MARK not in text:
            return None
        with self.counting:
            self.answers += 1
            self.attempts[text] += 1
            attempt = self.attempts[text]
            if self.victim and self.answers >= self.victim[1]:
                self.victim[0].kill()
                self.victim = None
            drawn = int(digest([text, attempt]), 16) % self.of
            name, fault = self.faults.get(drawn, ("", None)) if attempt < 3 else ("", None)
            self.done[name] += 1
            if fault in (None, SLOW):
                self.answered[text] += 1
        if fault == SLOW:
            time.sleep(0.3)
        elif fault == HANGS:
            time.sleep(TIMEOUT + 1)
        elif fault is not None:
            return fault
        return 200, {}, self.body(fields, number) | {"choices": [self.choice(fields, text)]}

    def choice(self, fields, text):
        value = int(digest(text), 16)
        content = f"Take {value % 97} apples, {MARK} {value % 89}."
        choice = {"index": 0, "message": {"role": "assistant", "content": content}}
        if fields.get("logprobs"):
            top = [{"token": "A", "logprob": -0.1 - value % 7}, {"token": "B", "logprob": -0.7}]
            choice["logprobs"] = {"content": [top[0] | {"top_logprobs": top}]}
        return choice | {"finish_reason": "stop"}

    def kill_after(self, process, answers):
        with self.counting:
            self.victim = process, self.answers + answers


def paid(project):
    """Requests that a run has counted."""
    with ResponseCache(project / "runs/killed/responses.sqlite") as cache:
        return sum(usage.requests for usage in cache.totals().values())


KILLS = 25


@pytest.fixture
def project(tmp_path):
    write_prompts(tmp_path, 6)
    return tmp_path


def write_prompts(project, count):
    for name in ("red", "benign"):
        rows = [{"prompt": f"What of {name} {MARK} {i}?"} for i in range(count)]
        (project / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_run(project, server):
    run = {
        "constitution": "general",
        "models": {"initial": "deadly"},
        "servers": {"deadly": {"url": server.url, "model": "m", "timeout": TIMEOUT}},
        "prompts": {"red_team": "red.jsonl", "benign": "benign.jsonl"},
        "revise": {"rounds": 1},
        "audit": {"gate": False, "examples": False},
    }
    (project / "run.yaml").write_text(yaml.safe_dump(run))


def start(project, *arguments):
    """A run in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cai", "run", "run.yaml", "--run", "runs/killed", *arguments],
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ,
    )


def records(project, name):
    """The records of a run, less the port of its server."""
    paths = sorted((project / "runs" / name).glob("*/records.jsonl"))
    assert len(paths) == 5
    return {path.parent.name: path.read_bytes() for path in paths}


@pytest.mark.slow
def test_killed_on_a_faulty_server_it_ends_the_same(project):
    moments, killed = random.Random(3), 0
    with DeadlyServer() as server:
        write_run(project, server)
        cai(project, "run", "run.yaml", "--run", "runs/whole")
        server.faults = FAULTS
        for _ in range(KILLS):
            process = start(project)
            server.kill_after(process, moments.randrange(2, 60 // KILLS + 3))
            killed += process.wait() == -signal.SIGKILL
        server.victim = None
        cai(project, "run", "run.yaml", "--run", "runs/killed")
    assert killed >= min(KILLS, 10)
    assert records(project, "killed") == records(project, "whole")
    left = [p.name for p in (project / "runs/killed").rglob(".*") if p.name[1:].startswith("rec")]
    assert left == []


@pytest.mark.slow
def test_a_thousand_items_with_faults_and_kills_end_the_same(project, capsys):
    write_prompts(project, 500)
    with DeadlyServer() as server:
        write_run(project, server)
        cai(project, "run", "run.yaml", "--run", "runs/whole")
        whole = len(server.answered)
        server.faults, server.of = MIXED, 400
        for counter in (server.attempts, server.answered, server.done):
            counter.clear()
        probes = len(server.requests) - server.answers
        for _ in range(2):
            process = start(project)
            server.kill_after(process, whole // 3)
            assert process.wait() == -signal.SIGKILL
        before = paid(project)
        stopped = start(project, "--budget", f"requests={before + 200}")
        assert stopped.wait() != 0
        assert paid(project) == before + 200
        done = cai(project, "run", "run.yaml", "--run", "runs/killed")
        probes = len(server.requests) - server.answers - probes
    assert records(project, "killed") == records(project, "whole")
    assert "failed" not in done.stdout
    faults = server.done.total() - server.done[""]
    repeated = server.answered.total() - whole
    with capsys.disabled():
        print(f"\n{whole:,} calls, {server.done.total():,} requests, {faults:,} faults:")
        print(", ".join(f"{n} {name}" for name, n in server.done.most_common() if name))
        print(f"paid {paid(project):,}, probes {probes}, answered twice after kills {repeated}")
    assert len(server.answered) == whole
    assert faults > 0.25 * whole
