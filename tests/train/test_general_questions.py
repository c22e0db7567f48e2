"""General questions before and after fine-tuning: what raises an alarm, and that it measures a model's own chances."""

import pytest
import torch

import lmworks
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.records import Message
from lmworks.train.general_questions import QUESTIONS, Answer, forgetting_section, general_answers

KNOWN = [Answer(0.9)] * len(QUESTIONS)


def test_what_is_as_it_was_raises_no_alarm_and_what_is_gone_does():
    assert not forgetting_section(KNOWN, KNOWN)[0].alarms
    assert not forgetting_section(KNOWN, [Answer(0.88)] * len(QUESTIONS))[0].alarms
    assert not forgetting_section(KNOWN, [Answer(0.01, 'the city of "Paris"'), *KNOWN[1:]])[0].alarms
    (alarm,) = forgetting_section(KNOWN, [Answer(0.01, "Toulouse"), *KNOWN[1:]])[0].alarms
    assert "Toulouse" in alarm and "Paris" in alarm
    section, numbers = forgetting_section(KNOWN, [Answer(0.2)] * len(QUESTIONS))
    assert len(section.alarms) == 1 and numbers["general_after"] == pytest.approx(0.2)


@pytest.fixture(scope="module")
def answers(smollm2_checkpoint):
    """As if all had been known before: where the right words are unlikely, the model's own greedy words are given."""
    return general_answers(smollm2_checkpoint.model, smollm2_checkpoint, KNOWN)


@pytest.mark.weights
def test_a_chance_is_that_of_the_words_behind_their_beginning(smollm2_checkpoint, answers):
    checkpoint, asked = smollm2_checkpoint, QUESTIONS[0]
    prompt = checkpoint.chat.render([Message("user", asked["question"])], True).ids
    start = [*prompt, *checkpoint.required_tokenizer.encode(asked["beginning"])]
    (answer,) = checkpoint.required_tokenizer.encode(asked["answer"])
    with torch.no_grad():
        chances = checkpoint.model(torch.tensor([start]))[0, -1].softmax(-1)
    assert answers[0].chance == pytest.approx(float(chances[answer]), abs=1e-4) and answers[0].chance > 0.5


@pytest.mark.weights
def test_what_seems_gone_is_said_in_whole_words(smollm2_checkpoint, answers):
    checkpoint = smollm2_checkpoint
    number = next(number for number, answer in enumerate(answers) if answer.said)
    asked, said = QUESTIONS[number], answers[number].said
    prompt = checkpoint.chat.render([Message("user", asked["question"])], True).ids
    ids = (*prompt, *checkpoint.required_tokenizer.encode(asked["beginning"]))
    greedy = SamplingParameters(max_tokens=12, temperature=0.0)
    whole = lmworks.Engine(checkpoint, weights="float32").generate([Request(prompt_ids=ids, sampling=greedy)])[0].text
    assert answers[number].chance <= 0.05 and whole.split()[: len(said.split())] == said.split()
