"""A reward model in use: the score of a completion to a prompt, by a model whose head reads the last token (Ouyang et
al. 2022, section 3.5).

    judged = RewardModel(lmworks.load("judged"))
    judged.score([("What is 6 times 7?", "42"), ("What is 6 times 7?", "41")])   # the first is to be the higher
"""

from collections.abc import Sequence

import numpy as np

from lmworks.data.conversations import as_messages
from lmworks.data.training_rows import STEP_END, step_ends
from lmworks.generate.encoder_states import SequenceEncoder, WeightFormat, map_states
from lmworks.generate.protocol import UnsupportedError
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.heads import ScoreHead
from lmworks.records import TextOrMessages
from lmworks.tokenizer.chat import Rendered


class RewardModel(SequenceEncoder):
    """A checkpoint with a head for one score, in float32 by default.

    A conversation that is longer than the model was made for loses its end; `truncated` counts these. UnsupportedError
    for another head.
    """

    def __init__(self, checkpoint: Checkpoint, weights: WeightFormat = "float32") -> None:
        head = checkpoint.model.head
        if not isinstance(head, ScoreHead):
            raise UnsupportedError(
                f"{checkpoint.source} gives no scores: name a reward model, as `lmworks align MODEL --method reward` "
                "makes one"
            )
        super().__init__(checkpoint, weights)
        self.checkpoint = checkpoint
        self._projection = head.projection.weight.detach().float().numpy()[0]  # (width,)
        self._bias = 0.0 if head.projection.bias is None else float(head.projection.bias)

    def score(self, answers: Sequence[tuple[TextOrMessages, TextOrMessages]]) -> np.ndarray:
        """(answers,) float64, of (prompt, completion) each."""
        sequences = [self._rendered(prompt, completion).ids for prompt, completion in answers]
        return np.array([scores[-1] for scores in self._scores(sequences)], np.float64)

    def steps(self, prompt: TextOrMessages, steps: Sequence[str]) -> np.ndarray:
        """(steps,) float64 scores behind each step, σ of which is the probability that it is right, of a model that
        learned from steps. NaN behind where the model's length ends."""
        solution = STEP_END.join(steps)
        whole = self._rendered(prompt, solution)
        ends = step_ends(whole, solution, steps)
        scores = self._scores([whole.ids])[0]
        return np.array([scores[end] if end < len(scores) else np.nan for end in ends], np.float64)

    def _rendered(self, prompt: TextOrMessages, completion: TextOrMessages) -> Rendered:
        return self.checkpoint.chat.render([*as_messages(prompt, "user"), *as_messages(completion, "assistant")])

    def _scores(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """The score at every token of each."""
        longest = self.checkpoint.config.context_length
        self.truncated += sum(len(ids) > longest for ids in sequences)
        cut = [list(ids[:longest]) for ids in sequences]
        scores = map_states(self.model, cut, lambda _, states: states @ self._projection + self._bias)
        return [scores[row] for row in range(len(cut))]
