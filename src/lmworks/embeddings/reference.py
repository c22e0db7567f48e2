"""Skip-gram and CBOW with negative sampling: the definition, in NumPy.

For each word of the text, in order, a hidden vector h is the mean of its input rows: in skip-gram those of the word
itself, in CBOW those of the words around it. Target words o have a label y: 1 for what is to be predicted (in skip-gram
the words around, in CBOW the word itself), 0 for the noise drawn beside each of them. The loss is that of equation 4 of
Mikolov et al. 2013b, with its sign turned,

    L = - sum over targets of  ln sigmoid(v_o . h)  where y = 1,   ln sigmoid(-v_o . h)  where y = 0

and one step goes down the gradient of the whole sum, as it was before the step, with the step size a:

    v_o   +=  a (y - sigmoid(v_o . h)) h
    input +=  a * sum over targets of  (y - sigmoid(v_o . h)) v_o        for every input row

For an input row that is n times the gradient of L, where h is the mean of n rows: the programs of word2vec and fastText
do so, too, and their learning rates are meant for it. A noise word that is the predicted one itself is left out.
"""

from dataclasses import dataclass

import numpy as np

from lmworks.embeddings.corpus import END
from lmworks.embeddings.library import LANES
from lmworks.embeddings.negative_sampling import Noise, Random, below

LEAST_RATE = 1e-4  # of the first learning rate
SIGMOID_LIMIT, SIGMOID_DENSITY = 10, 64  # the sigmoid is a table with so many values a unit, and straight lines between
SIGMOID = (1 / (1 + np.exp(-np.linspace(-10.0, 10.0, 2 * SIGMOID_LIMIT * SIGMOID_DENSITY + 1)))).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Parameters of skip-gram or CBOW, and the settings of learning.

    input     (words and n-grams, width) float32: rows as in `library.zero_rows`
    output    (words, width) float32
    row_ends  (words,) int64: where the input rows of each word end in `rows`; None: a word has its own row alone
    rows      (n,) int32
    keep      (words,) uint32: see `drawing.keep_limits`
    words     in all epochs together, for the learning rate
    """

    input: np.ndarray
    output: np.ndarray
    row_ends: np.ndarray | None
    rows: np.ndarray | None
    keep: np.ndarray
    noise: Noise
    words: int
    learning_rate: float
    window: int
    negative: int
    skip_gram: bool

    def rows_of(self, word: int) -> np.ndarray:
        """The input rows of a word."""
        if self.row_ends is None or self.rows is None:
            return np.array([word])
        return self.rows[self.row_ends[word - 1] if word else 0 : self.row_ends[word]]


def learn(model: Model, ids: np.ndarray, seed: int, done: int) -> int:
    """Learns from a part of the text, changing `model`, and returns how many of its words were not left out.

    ids   (n,) int32: words, with `END` behind each sentence
    done  how many words of all epochs came before
    """
    random = Random(seed)
    kept = 0
    for sentence in np.split(ids, np.flatnonzero(ids == END) + 1):
        words = sentence[sentence != END]
        rate = np.float32(model.learning_rate * max(LEAST_RATE, 1.0 - done / model.words))
        done += len(words)
        words = words[(random.draw(len(words)) >> np.uint64(32)) <= model.keep[words]]
        kept += len(words)
        for place in range(len(words)):
            _learn_word(model, words, place, rate, random)
    return kept


def _learn_word(model: Model, sentence: np.ndarray, place: int, rate: np.float32, random: Random) -> None:
    reach = 1 + int(below(random.draw(1), model.window)[0])
    around = np.concatenate([sentence[max(place - reach, 0) : place], sentence[place + 1 : place + reach + 1]])
    if not len(around):
        return
    predicted = around if model.skip_gram else sentence[place : place + 1]
    given = sentence[place : place + 1] if model.skip_gram else around
    inputs = np.concatenate([model.rows_of(int(word)) for word in given])
    targets, labels = _with_noise(model, predicted, random)
    step(model, inputs, targets, labels, rate)


def _with_noise(model: Model, predicted: np.ndarray, random: Random) -> tuple[np.ndarray, np.ndarray]:
    """(targets,) words and their labels: each predicted word with the noise behind it."""
    drawn = model.noise.draw(random.draw(len(predicted) * model.negative)).reshape(len(predicted), model.negative)
    targets = np.concatenate([predicted[:, None], drawn], axis=1)
    labels = np.zeros(targets.shape, np.float32)
    labels[:, 0] = 1
    chosen = (labels == 1) | (targets != predicted[:, None])
    return targets[chosen], labels[chosen]


def step(model: Model, inputs: np.ndarray, targets: np.ndarray, labels: np.ndarray, rate: np.float32) -> None:
    """One step: `inputs` are rows of `model.input`, `targets` rows of `model.output` with a label each."""
    hidden = model.input[inputs[0]]
    if len(inputs) > 1:
        hidden = np.add.reduce(model.input[inputs], axis=0) * (np.float32(1) / np.float32(len(inputs)))
    rows = model.output[targets]  # (targets, width)
    steps = (labels - sigmoid(dot(rows, hidden))) * rate
    gradient = np.add.reduce(steps[:, None] * rows, axis=0)
    np.add.at(model.output, targets, steps[:, None] * hidden)
    np.add.at(model.input, inputs, gradient)


def dot(rows: np.ndarray, row: np.ndarray) -> np.ndarray:
    """(n,) float32: products of (n, width) rows with one, or with n; added up in the order of cpp/rows.h."""
    products = (rows * row).reshape(len(rows), -1, LANES)
    sums = products[:, 0].copy()
    for part in range(1, products.shape[1]):
        sums += products[:, part]
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    return sums[:, 0]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """(n,) float32, at most 3e-6 beside 1 / (1 + exp(-x)); beyond 10 on either side it is that of 10, 4.5e-5 off.

    NaN, of vectors that diverge, is taken for -10: it would be no place in the table.
    """
    limit, density = np.float32(SIGMOID_LIMIT), np.float32(SIGMOID_DENSITY)
    place = (np.minimum(np.fmax(x, -limit), limit) + limit) * density
    cell = np.minimum(place.astype(np.int32), len(SIGMOID) - 2)
    return SIGMOID[cell] + (place - cell.astype(np.float32)) * (SIGMOID[cell + 1] - SIGMOID[cell])
