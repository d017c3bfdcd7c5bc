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
from collections import Counter

import pytest
import yaml
from commands import cai
from fault_server import RESET, FaultServer

from cai.keys import digest

MARK = "number"
"""A word of all prompts; what the server is asked to find out what it can do has it not."""
FAULTS = {
    0: (500, {}, "out of memory"),
    1: (429, {"Retry-After": "0"}, "slow down"),
    2: RESET,
    3: (200, {}, ""),
    4: (200, {}, "<html>busy</html>"),
}


class DeadlyServer(FaultServer):
    """Answers by the content of a request; fails on three of ten; kills a process when told to.

    Attributes:
        victim: The process that is killed, and the number of answers after which.
    """

    def __init__(self, faulty):
        super().__init__(self.respond)
        self.faulty, self.victim, self.attempts = faulty, None, Counter()
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
        drawn = int(digest([text, attempt]), 16) % 16
        if self.faulty and attempt < 3 and drawn in FAULTS:
            return FAULTS[drawn]
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


KILLS = 25


@pytest.fixture
def project(tmp_path):
    for name in ("red", "benign"):
        rows = [{"prompt": f"What of {name} {MARK} {i}?"} for i in range(6)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def write_run(project, server):
    run = {
        "constitution": "general",
        "models": {"initial": server.spec},
        "prompts": {"red_team": "red.jsonl", "benign": "benign.jsonl"},
        "revise": {"rounds": 1},
        "audit": {"gate": False, "examples": False},
    }
    (project / "run.yaml").write_text(yaml.safe_dump(run))


def records(project, name):
    """The records of a run, less the port of its server."""
    paths = sorted((project / "runs" / name).glob("*/records.jsonl"))
    assert len(paths) == 5
    return {path.parent.name: path.read_bytes() for path in paths}


@pytest.mark.slow
def test_killed_on_a_faulty_server_it_ends_the_same(project):
    moments, killed = random.Random(3), 0
    with DeadlyServer(faulty=False) as server:
        write_run(project, server)
        cai(project, "run", "run.yaml", "--run", "runs/whole")
        server.faulty = True
        for _ in range(KILLS):
            process = subprocess.Popen(
                [sys.executable, "-m", "cai", "run", "run.yaml", "--run", "runs/killed"],
                cwd=project,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ,
            )
            server.kill_after(process, moments.randrange(2, 60 // KILLS + 3))
            killed += process.wait() == -signal.SIGKILL
        server.victim = None
        cai(project, "run", "run.yaml", "--run", "runs/killed")
    assert killed >= min(KILLS, 10)
    assert records(project, "killed") == records(project, "whole")
    left = [p.name for p in (project / "runs/killed").rglob(".*") if p.name[1:].startswith("rec")]
    assert left == []
