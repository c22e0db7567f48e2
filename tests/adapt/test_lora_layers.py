"""LoRA beside the weights. That PEFT has the same gradients, tests/parity proves."""

import pytest
import torch
from small_models import MIXTRAL, TIED, build, random_ids, random_lora

from kit.tables import for_each
from lmworks.adapt import LoraConfig, lora_of, merge, merge_adapter, trainable_lora
from lmworks.adapt.task_head import with_further_tokens
from lmworks.train.losses import token_log_probabilities


@for_each(
    ("config", "excluded"),
    [(TIED, ()), (MIXTRAL, ("router",)), (with_further_tokens(TIED), ("embedding.tokens",))],
)
def test_it_computes_what_the_merged_model_does(config, excluded):
    lora = random_lora(config, 1, LoraConfig(r=4, exclude_modules=excluded, target_modules=r".*"))
    model, ids = build(config), random_ids(2, 9)
    adapted = trainable_lora(model, lora)
    merged = merge(model, lora)
    torch.testing.assert_close(adapted(ids), merged(ids), rtol=1e-4, atol=1e-4)
    hidden, targets = adapted.hidden(ids)[0], ids[0]
    projection = adapted.head.projection_to_vocabulary(adapted.tokens)
    found = token_log_probabilities(adapted.head.features(hidden), projection, targets)
    expected = merged.logits(hidden).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert lora_of(adapted).fingerprint == lora.fingerprint
    assert torch.equal(merge_adapter(adapted)(ids), merged(ids))


def test_a_router_is_refused():
    lora = random_lora(MIXTRAL, 1, LoraConfig(target_modules=("router",)))
    with pytest.raises(ValueError, match=r"router is a Router.* exclude_modules"):
        trainable_lora(build(MIXTRAL), lora)
