"""A real run as a process of its own, watched in a browser by a server that is killed and restarted."""

import json
import os
import socket
import subprocess
import sys

import pytest
import yaml
from browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

MODELS = '''
"""Scripted models; the judge waits until it may go on."""
import time
from pathlib import Path

from cai.backends.scripted import ScriptedBackend


def policy():
    def reply(messages, seed):
        return f"Answer {seed % 1000} to {messages[0].content}"
    return ScriptedBackend(reply, name="policy")


def judge():
    def score(messages, options):
        while not Path(__file__).with_name("go").exists():
            time.sleep(0.02)
        return [-0.1 if "Answer 1" in messages[-1].content else -1.0, -0.7]
    return ScriptedBackend(score_options=score, name="judge")
'''
CONFIG = {
    "constitution": "reference",
    "models": {"initial": "scripted_run:policy", "judge": "scripted_run:judge"},
    "prompts": {"red_team": "red.jsonl", "benign": "benign.jsonl"},
    "revise": {"rounds": 1},
    "judge": {"principles": 1},
}


def start(folder, *command):
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "cai", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
    )


def serve(folder, port):
    """Start the studio; return the process and the address that it prints."""
    server = start(folder, "studio", "runs/live", "--port", str(port))
    line = server.stdout.readline()
    assert line.startswith("open http"), line + server.stdout.read()
    return server, line.split()[1]


@pytest.fixture
def project(tmp_path):
    (tmp_path / "scripted_run.py").write_text(MODELS)
    (tmp_path / "live.yaml").write_text(yaml.safe_dump(CONFIG))
    for name in ("red", "benign"):
        rows = [json.dumps({"prompt": f"{name} prompt {n}"}) for n in range(8)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    return tmp_path


def label(browser, count, total):
    """Label by keys until so many are stored."""
    for number in range(count, total):
        browser.wait_for_text(f"ann: {number} label")
        browser.press("1")


def test_a_run_is_watched_and_no_label_is_lost_or_doubled_by_a_kill(project, tmp_path_factory):
    run = start(project, "run", "live.yaml", "--until", "judge")
    while "judge" not in (line := run.stdout.readline()):  # all stages before it are done
        assert line, "the run has ended"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server, address = serve(project, port)
    browser = Browser(tmp_path_factory.mktemp("profile"))
    try:
        browser.open(address)
        browser.wait_for_text("The run is going on")
        browser.wait_for_text("Newest records of compare")
        browser.wait("document.querySelectorAll('#progress .list li').length == 5")
        assert "benign prompt 7" in browser.ask(
            "document.querySelector('#progress .list').textContent"
        )
        (project / "go").touch()
        assert run.wait(timeout=120) == 0
        browser.wait("!document.body.textContent.includes('The run is going on')")
        assert browser.ask("document.querySelector('[hx-trigger]') == null")

        labels = "/run/live/judge/label?rater=ann"
        browser.open(labels)
        label(browser, 0, 4)
        server.kill()  # while it may be storing the last label
        server.communicate()
        server, address = serve(project, port)
        browser.open(address)  # the token is a new one
        browser.open(labels)
        browser.wait_for_text("ann: ")
        stored = int(browser.ask("document.body.textContent.match(/ann: (\\d+) label/)[1]"))
        assert stored in (3, 4)
        label(browser, stored, 7)
        browser.wait_for_text("ann: 7 labels")
        rows = (project / "runs/live/human_labels.jsonl").read_text().splitlines()
        assert len({json.loads(row)["pair"] for row in rows}) == len(rows) == 7
        assert browser.errors == []
    finally:
        browser.close()
        for process in (server, run):
            process.kill()
            process.communicate()
