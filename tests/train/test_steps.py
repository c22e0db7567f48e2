"""Steps that are split, that are left out, and that end a run."""

import pytest

from lmworks.data.loader import Loader
from lmworks.train.config import AdamW, GuardConfig, TrainConfig
from lmworks.train.guards import Guard, TrainingStoppedError
from lmworks.train.loop import Run, train
from lmworks.train.objectives.causal import CausalLanguageModel
from training_cases import loader_config, new_checkpoint, write_text_dataset


@pytest.fixture(scope="module")
def text_dataset(tmp_path_factory):
    return write_text_dataset(tmp_path_factory.mktemp("text") / "tokens")


def run_of(folder, dataset, steps=20, **settings):
    config = TrainConfig(**({"log": 1, "validate": None, "optimizer": AdamW(rate=3e-3)} | settings))
    loader = Loader(loader_config(dataset, steps=steps))
    return Run(new_checkpoint(), CausalLanguageModel(), loader, config, folder)


def test_a_loss_that_has_moved_for_good_ends_the_run(text_dataset, tmp_path):
    """From batch 11 on the loss is 9 nats higher: nine steps are left out, and the tenth ends the run."""
    guard = GuardConfig(action="skip", deviations=6, memory=5)
    run = run_of(tmp_path, text_dataset, steps=60, guard=guard)
    objective = run.objective

    class Shifted(CausalLanguageModel):
        def losses(self, model, examples):
            found = objective.losses(model, examples)
            if run.position.cursor >= 11:
                found["next_token"].metrics["nats"] += 9 * found["next_token"].count
            return found

    run.objective = Shifted()
    with pytest.raises(TrainingStoppedError, match="for 10 steps in a row"):
        train(run)
    assert (run.position.step, run.position.cursor) == (11, 21)


def test_jumps_that_are_no_row_do_not_end_it():
    guard = Guard(GuardConfig(action="skip", deviations=6, memory=5))
    found = [guard.objection(9.0 if number % 7 == 0 else 1.0, 1.0) is not None for number in range(1, 150)]
    assert sum(found) == 21
    assert guard.jumps == 0
