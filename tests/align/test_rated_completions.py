"""Learning from a fixed set of rated completions, beside replay; and rollouts of an endpoint."""

import json
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch

from align.rl_cases import config_of, run_of
from generate.engine_cases import tiny_llama
from kit.tables import for_each
from lmworks.adapt.config import LoraConfig
from lmworks.align.completions import RatedCompletions, rollout_sequences
from lmworks.align.log_probabilities import completion_log_probabilities
from lmworks.align.online_config import GRPOConfig, PPOConfig, RemoteConfig
from lmworks.align.policy import Policy
from lmworks.align.rollout_loader import RolloutLoader
from lmworks.align.sft_replay import WithReplay
from lmworks.align.stage_online import adapted, objective_of
from lmworks.data.training_rows import group_completions
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters, UnsupportedError
from lmworks.generate.remote_engine import RemoteEngine
from lmworks.generate.rollouts import roll_out
from lmworks.records import PromptCompletion, Rated
from lmworks.tokenizer.chat_templates import chat_template
from lmworks.train.loop import train
from lmworks.train.optimizer_config import AdamW
from lmworks.train.run import Run

ROWS = [Rated(f"say {p}", f"{p * k}", float(k)) for p in "ab" for k in (1, 2, 3)]
LORA = LoraConfig(r=4, lora_alpha=8)


def rated_run(folder, algorithm, steps, rate=2e-2):
    config = config_of(
        algorithm, LORA, steps=steps, prompts=2, length=64, train={"optimizer": AdamW(rate=rate, decay=0.0)}
    )
    checkpoint = tiny_llama(chat_template("chatml"))
    completions = RatedCompletions.of(config, ROWS, checkpoint, [])
    loader = RolloutLoader(config, completions)
    objective = objective_of(config, checkpoint, folder)
    run = Run(checkpoint, objective, loader, config.train, folder, adapt=adapted(config, LORA))
    loader.policy = Policy(run.model, checkpoint.model, None)
    completions.measure(loader.policy)
    return run, completions


@for_each(
    "algorithm",
    [GRPOConfig("raft", group_size=3), GRPOConfig(group_size=3, num_iterations=2), PPOConfig(group_size=3)],
)
def test_what_is_rated_best_gets_likelier(algorithm, tmp_path):
    run, completions = rated_run(tmp_path, algorithm, 12)

    def sums():
        flat = [rollout for group in completions.completions for rollout in group]
        with torch.no_grad():
            return completion_log_probabilities(run.model, rollout_sequences(flat)).sum(-1).view(2, 3).double().numpy()

    before = sums()
    train(run)
    margin = (sums() - before)[:, 2] - (sums() - before)[:, 0]
    assert (margin > 0.1).all()


def test_ratings_of_one_value_cannot_be_compared(tmp_path):
    rows = [Rated("a", f"{n}", 1.0) for n in range(3)]
    with pytest.raises(ValueError, match="two ratings"):
        RatedCompletions.of(config_of(length=64), rows, tiny_llama(chat_template("chatml")), [])


def test_replay_is_a_second_loss_of_its_weight(tmp_path):
    run, _ = rated_run(tmp_path, GRPOConfig(group_size=3), 2)
    rows = [PromptCompletion("count", "1 2 3"), PromptCompletion("sing", "la la la la")]
    groups = group_completions(rows, run.checkpoint.chat, 64, [])
    batch, plain = next(run.loader), run.objective
    objective = WithReplay(plain, groups, 2, 0.5)
    examples = objective.examples(batch, 0)
    losses, alone = objective.losses(run.model, examples), plain.losses(run.model, batch)["policy"]
    assert float(losses["policy"].sum.detach()) == pytest.approx(float(alone.sum.detach()), abs=1e-5)
    assert objective.counts(examples)["replay"] == losses["replay"].count == int(groups.learned.sum())
    parts = [replace(objective, share=(rank, 2)).examples(batch, 0).lengths[len(batch) :] for rank in range(2)]
    assert torch.cat(parts).tolist() == examples.lengths[len(batch) :].tolist()
    assert float(losses["replay"].sum.detach()) == pytest.approx(0.5 * float(losses["replay"].metrics["nats"]))


@pytest.fixture
def endpoint():
    """An endpoint in the format of vLLM, before the local engine; `told` is what it was asked."""
    engine, told = Engine(tiny_llama(), slots=4, weights="float32"), []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.append((self.path, body))
            answer: dict = {}
            if self.path.endswith("completions"):
                sampling = SamplingParameters(body["max_tokens"], body["temperature"], seed=body["seed"])
                (found,) = engine.generate([Request(tuple(body["prompt"]), sampling=sampling)])
                choice = {"text": found.text, "finish_reason": found.finish_reason,
                          "logprobs": {"token_logprobs": found.log_probabilities}}  # fmt: skip
                if body.get("return_token_ids") and body["model"] != "old":
                    choice |= {"token_ids": found.ids, "prompt_token_ids": body["prompt"]}
                usage = {"prompt_tokens": found.prompt_tokens, "completion_tokens": found.completion_tokens}
                answer = {"choices": [choice], "usage": usage}
            sent = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1", engine, told
        server.shutdown()


def test_an_endpoint_rolls_out_what_the_engine_would(endpoint, tmp_path):
    url, engine, told = endpoint
    remote = RemoteEngine(url, "m", log_probabilities=True, token_ids=True, runtime_adapters=True, concurrency=1)
    sampling = SamplingParameters(6, temperature=1.0)
    found, own = (roll_out(each, [(65, 66)], 1, sampling, "1")[0][0] for each in (remote, engine))
    assert found.ids == own.ids
    np.testing.assert_allclose(found.log_probabilities, own.log_probabilities, atol=1e-5)
    remote.load_adapter("polite", tmp_path)
    roll_out(remote, [(65,)], 1, sampling, "2", adapter="polite")
    assert told[-2] == ("/v1/load_lora_adapter", {"lora_name": "polite", "lora_path": str(tmp_path)})
    assert told[-1][1]["model"] == "polite"
    with pytest.raises(UnsupportedError, match="sample plainly"):
        roll_out(remote, [(65, 66)], 1, SamplingParameters(6, temperature=0.5), "0")
    with pytest.raises(UnsupportedError, match="token_ids=True"):
        roll_out(RemoteEngine(url, "m", log_probabilities=True), [(65, 66)], 1, sampling, "0")
    old = RemoteEngine(url, "old", log_probabilities=True, token_ids=True)
    with pytest.raises(RuntimeError, match="return_token_ids"):
        roll_out(old, [(65, 66)], 1, sampling, "0")


def test_a_run_sends_its_own_policy_and_takes_back_the_one_before(endpoint, tmp_path):
    url, _, told = endpoint
    remote, folder = RemoteConfig(url, "m", str(tmp_path / "shared"), concurrency=1), tmp_path / "shared"
    for name in "ab":  # of one seed: their weights differ by what they learned
        algorithm, rate = GRPOConfig(group_size=4, importance_cap=2.0), {"a": 1e-3, "b": 1e-2}[name]
        config = config_of(algorithm, LORA, {"optimizer": AdamW(rate=rate, decay=0.0)}, steps=3, remote=remote)
        train(run_of(tmp_path / name, config))
    calls = [(path[4:].split("_")[0], body.get("lora_name") or body["model"]) for path, body in told]
    names = list(dict.fromkeys(name for _, name in calls))
    assert len(names) == 6 and {path.name for path in folder.iterdir()} == {names[2], names[5]}
    for n, name in enumerate(names):
        of_it = [call for call, its in dict.fromkeys(calls) if its == name]
        assert of_it == ["load", "completions", *["unload"] * (n % 3 < 2)]
