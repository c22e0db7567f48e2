"""`lmworks serve` under clients of every kind at once: it answers each as alone, logs each once, and leaks nothing.

Streams that do not mix are tested quickly in `test_api_concurrency.py`, what survives a kill in `tests/monitor`.
"""

import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from lmworks.monitor.log import Log

QUESTIONS = [f"Count from {start} in steps of {start % 3 + 1}:" for start in range(1, 6)]
GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "log_pending")
STARTED = re.compile(r"Ready at (http://[\d.:]+)")


def drawn(generator: random.Random) -> tuple[str, dict, set[int]]:
    """Path, body and the statuses that may answer it; what is completed comes from a small pool, and comes often."""
    question, hostile = generator.choice(QUESTIONS), {400, 429}
    sampling = generator.choice([{"temperature": 0}, {"temperature": 0.9, "seed": 7}]) | {"max_tokens": 12}
    chat = {"model": "tiny", "messages": [{"role": "user", "content": question}], **sampling}
    return generator.choice(
        [
            ("/v1/chat/completions", chat, {200, 429}),
            ("/v1/chat/completions", {**chat, "n": 2}, {200, 429}),
            ("/v1/chat/completions", {**chat, "response_format": {"type": "json_object"}}, {200, 429}),
            ("/v1/chat/completions", {**chat, "messages": "x"}, hostile),
            ("/v1/completions", {"model": "tiny", "prompt": QUESTIONS[:3], "logprobs": 2, **sampling}, {200, 429}),
            ("/v1/completions", {"model": "tiny", "prompt": "a" * 3000}, hostile),
            ("/v1/responses", {"model": "tiny", "input": question, "max_output_tokens": 12}, {200, 429}),
            ("/v1/score", {"model": "tiny", "text_1": question, "text_2": ["1, 2", "4"]}, {200, 429}),
            ("/v1/rerank", {"model": "embedder", "query": question, "documents": QUESTIONS}, {200}),
            ("/v1/embeddings", {"model": "embedder", "input": QUESTIONS}, {200}),
        ]
    )


def client(url: str, seed: int) -> tuple[list[str], dict[str, str]]:
    """What went wrong, and the text of each chat by its interaction."""
    generator, wrong, texts = random.Random(seed), [], {}
    with httpx.Client(base_url=url, timeout=120) as http:
        for _ in range(12):
            path, body, statuses = drawn(generator)
            if generator.random() < 0.2 and 200 in statuses and "completions" in path:
                with http.stream("POST", path, json={**body, "stream": True}) as response:
                    next(response.iter_lines(), None)  # and leaves
                continue
            answer = http.post(path, json=body)
            if answer.status_code not in statuses:
                wrong.append(f"{path} {body}: {answer.status_code} {answer.text[:200]}")
            elif answer.status_code == 200 and path == "/v1/chat/completions":
                extra = answer.json()["lmworks"]
                for choice, logged_choice in zip(answer.json()["choices"], extra.get("choices", [extra]), strict=True):
                    texts[logged_choice["interaction"]] = choice["message"]["content"]
    return wrong, texts


def idle(url: str, process: subprocess.Popen) -> tuple[int, int]:
    """Resident bytes and descriptors as soon as nothing is left to do."""
    for _ in range(10_000):
        text = httpx.get(f"{url}/metrics").text
        values = re.findall(rf"^lmworks:(?:{'|'.join(GAUGES)})(?:{{.*?}})? (\S+)$", text, re.MULTILINE)
        if len(values) > len(GAUGES) and not any(map(float, values)):
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE"), len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    raise AssertionError("the server is not idle after its clients have gone")


@pytest.mark.slow
def test_requests_of_every_kind_leave_nothing_behind(tiny_folder, tiny_embedder_folder, tmp_path):
    (tmp_path / "embedder").symlink_to(tiny_embedder_folder)
    command = [sys.executable, "-m", "lmworks", "serve", str(tiny_folder), str(tmp_path / "embedder"), "--port", "0"]
    command += ["--workspace", str(tmp_path / "w"), "--set", "slots=4", "--set", "max_waiting=8"]
    texts: dict[str, str] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            url = next(found[1] for line in process.stdout if (found := STARTED.search(line)))  # type: ignore[union-attr]
            states = []
            for number in range(8):
                with ThreadPoolExecutor(12) as clients:
                    for wrong, chat_texts in clients.map(
                        lambda seed: client(url, seed), range(12 * number, 12 * number + 12)
                    ):
                        assert wrong == []
                        texts |= chat_texts
                states.append(idle(url, process))
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert states[-1][0] < 1.1 * states[2][0] and states[-1][1] <= states[2][1]
    with Log(tmp_path / "w" / "log.sqlite") as log:
        rows = list(log.reader.interactions())
    times, by_request = Counter(row.id for row in rows), {}
    assert set(times.values()) == {1} and set(texts) <= set(times) and len(texts) > 100
    for row in rows:
        assert texts.get(row.id, row.response) == row.response
        if row.finish_reason in ("stop", "length") and row.token_ids:
            key = (row.route, row.prompt_ids, str(sorted(row.parameters.items())), row.seed)
            assert by_request.setdefault(key, row.token_ids) == row.token_ids  # whoever its neighbours were
    assert any(row.error == "client_left" for row in rows)
