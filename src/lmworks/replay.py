"""An interaction, made again with the same seed: does the same come out, and if not, what has changed since?"""

from pathlib import Path

import lmworks
from lmworks.adapt.adapter import load
from lmworks.artefact import CURRENT
from lmworks.generate.engine import Engine
from lmworks.ground.answer_record import to_answer
from lmworks.monitor.token_replay import Replay, replay
from lmworks.records import Interaction
from lmworks.workspace import read_current


def replay_interaction(workspace: Path, interaction: Interaction) -> Replay:
    """Replay with what is in the workspace now.

    Raises ValueError for what cannot be replayed (embeddings, redacted texts, failures), FileNotFoundError when no
    model of the workspace is the one that answered.
    """
    if interaction.redacted:
        raise ValueError(f"{interaction.id} was redacted ({', '.join(interaction.redacted)}): its texts are not known")
    if interaction.confidence is not None:
        # An answer from documents is the same when its text, its citations and its confidence are.
        system = lmworks.open(workspace)
        before = to_answer(interaction)
        after, _ = system.respond(before.question, earlier=[message.content for message in interaction.messages[:-1]])
        changed = [name for name, digest in before.lineage.items() if system.lineage.get(name) != digest]
        parts = {
            "text": after.text == before.text,
            "citations": [c.evidence for c in after.citations] == [c.evidence for c in before.citations],
            "confidence": abs(after.confidence - before.confidence) < 1e-6,
        }
        different = [name for name, equal in parts.items() if not equal]
        since = f"changed since then: {', '.join(changed)}" if changed else "made from the same artefacts"
        compared = f"{', '.join(different)} of the answer" if different else "text, citations and confidence"
        return Replay(not different, model_same=not changed, reason=f"{compared}; {since}")
    current = read_current(workspace) if (workspace / CURRENT).exists() else None
    sources = list(current.models.values()) if current else [interaction.route]
    for source in sources:
        checkpoint = load(source)
        if checkpoint.fingerprint == interaction.model:
            return replay(interaction, Engine(checkpoint), checkpoint)
    raise FileNotFoundError(
        f"{interaction.id} was made by weights {interaction.model[:12]}, which are not among the models here"
    )
