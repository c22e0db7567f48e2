"""`lmworks up` as a user meets it: a folder of documents in, a page and an API out, one log, and an end by Ctrl-C."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import openai
import pytest

from command_line import lmworks, refused

pytestmark = pytest.mark.weights

CLUB = {
    "rules.md": "# Rules\n\nMembers return borrowed boats before sunset. Guests may row twice a season.\n\n"
    "## Keys\n\nThe key of the boathouse hangs behind the red door.\n",
    "fees.md": "# Fees\n\nThe yearly fee is eighty euros and is due in March. Students pay half of it.\n",
}

CAUTION = "set questions.gold"  # two files give too few questions to calibrate on


class Process:
    """A command whose output is collected; `address` is where it says that it serves."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.lines: list[str] = []
        self.ready = threading.Event()
        self.address = ""
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "lmworks", *arguments],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as output:
            for line in output:
                self.lines.append(line)
                if found := re.search(r"Ready at (http://\S+)", line):
                    self.address = found[1]
                    self.ready.set()
        self.ready.set()

    def stop(self) -> int:
        self.popen.send_signal(signal.SIGINT)
        return self.popen.wait(60)


@pytest.fixture(scope="module")
def club(tmp_path_factory, smollm2, minilm) -> Path:
    root = tmp_path_factory.mktemp("club")
    (root / "club").mkdir()
    for name, text in CLUB.items():
        (root / "club" / name).write_text(text, "utf-8")
    return root


def test_a_folder_becomes_a_served_system_with_one_log(club):
    up = Process("up", "--docs", "club", "--set", "serve.port=0", cwd=club)
    try:
        assert up.ready.wait(300) and up.address, "".join(up.lines)
        client = openai.OpenAI(base_url=f"{up.address}/v1", api_key="none", max_retries=0)
        question = [{"role": "user", "content": "Where does the key of the boathouse hang?"}]
        answer = client.chat.completions.create(model="assistant", messages=question)
        assert "behind the red door" in answer.choices[0].message.content
        assert answer.model_extra["lmworks"]["citations"][0]["uri"].endswith("rules.md")
        spoken = client.chat.completions.create(model="smollm2-135m-instruct", messages=question, max_tokens=4)
        assert client.embeddings.create(model="all-minilm-l6-v2", input="boats").data[0].embedding
        page = httpx.get(up.address)
        assert page.status_code == 200 and "lmworks" in page.text
        assert CAUTION in page.text and CAUTION in " ".join("".join(up.lines).split())
        # The evaluation is made meanwhile, and shown without a restart.
        until = time.monotonic() + 300
        while 'Stage <a href="/system#stage-evaluation">' not in (text := httpx.get(f"{up.address}/evaluation").text):
            assert time.monotonic() < until, text + "".join(up.lines)
            time.sleep(0.5)
        assert "Still running" not in text
    finally:
        status = up.stop()
    assert status == 0, "".join(up.lines)
    assert not any("Traceback" in line for line in up.lines)

    asked = lmworks("ask", "How much is the yearly fee?", "--json", cwd=club)
    assert asked.returncode == 0 and CAUTION in asked.stderr
    identifiers = [json.loads(asked.stdout)["id"], answer.model_extra["lmworks"]["interaction"]]
    identifiers.append(spoken.model_extra["lmworks"]["interaction"])
    shown = lmworks("log", "show", cwd=club).stdout
    assert all(identifier in shown for identifier in identifiers)
    assert "rules.md" in lmworks("lineage", identifiers[1], cwd=club).stdout


def test_a_taken_port_is_an_error_before_anything_is_built(club, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "--port" in refused("up", "--docs", str(club / "club"), "--set", f"serve.port={port}", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
