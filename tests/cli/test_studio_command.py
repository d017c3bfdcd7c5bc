"""``cai studio``: what it prints, what it refuses, and how it ends."""

import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from http.cookiejar import CookieJar

import pytest


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_the_extra_one_line_says_what_to_install(package, cai, run_folder, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("cai.studio", f"{package}."))]:
        monkeypatch.delitem(sys.modules, name)  # an earlier test may have imported them
    monkeypatch.setitem(sys.modules, package, None)
    error = cai("studio", run_folder, code=1).exception
    assert error.exit_code == 3
    assert str(error) == (
        f"cai studio needs {package}, which is not installed: pip install 'cai[studio]'"
    )


def test_a_folder_that_is_no_run_is_refused(cai, tmp_path):
    assert "is not the folder of a run" in str(cai("studio", tmp_path, code=1).exception)


def test_a_port_in_use_is_refused(cai, run_folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = cai("studio", run_folder, "--port", port, code=1).exception
    assert "--port: port" in str(error)
    assert "choose another" in str(error)


def test_it_serves_until_ctrl_c(run_folder):
    command = [sys.executable, "-m", "cai", "studio", str(run_folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    address = process.stdout.readline().removeprefix("open ").strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", address)
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    assert b"judge" in browser.open(address).read()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(address.partition("?")[0])
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
