"""Skip-gram and CBOW with negative sampling: the definition, in NumPy.

For each word of the text, in order, a hidden vector h is the mean of its input rows: in skip-gram those of the word
itself, in CBOW those of the words around it. Target words o have a label y: 1 for what is to be predicted (in skip-gram
the words around, in CBOW the word itself), 0 for the noise drawn next to each of them. The loss is that of equation 4
of Mikolov et al. 2013b, with its sign turned,

    L = - sum over targets of  ln sigmoid(v_o . h)  where y = 1,   ln sigmoid(-v_o . h)  where y = 0

and one step goes down the gradient of the whole sum, as it was before the step, with the step size a:

    v_o   +=  a (y - sigmoid(v_o . h)) h
    input +=  a * sum over targets of  (y - sigmoid(v_o . h)) v_o        for every input row

For an input row that is n times the gradient of L, where h is the mean of n rows: the programs of word2vec and fastText
do so, too, and their learning rates are meant for it. A noise word that is the predicted one itself is left out.
"""

from dataclasses import dataclass

import numpy as np

from lmworks.corpus.dedup.hashes import mix
from lmworks.embeddings.corpus import END
from lmworks.embeddings.library import LANES

LEAST_RATE = 1e-4  # of the first learning rate
SIGMOID_LIMIT, SIGMOID_DENSITY = 10, 64  # the sigmoid is a table with so many values a unit, and straight lines between
SIGMOID = (1 / (1 + np.exp(-np.linspace(-10.0, 10.0, 2 * SIGMOID_LIMIT * SIGMOID_DENSITY + 1)))).astype(np.float32)
_ONE = 1 << 32  # probabilities are compared with 32 random bits
_STEP = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


# ---------------------------------------------------------------------------------------------------------------------
# Random numbers, and what is drawn by them: which words of the text are kept, and noise words


class Random:
    """SplitMix64 (Steele, Lea & Flood 2014, figure 17): few lines, the same numbers in every language."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def draw(self, number: int) -> np.ndarray:
        """(number,) uint64: the next random numbers."""
        steps = np.arange(1, number + 1, dtype=np.uint64) * np.uint64(_STEP)
        states = np.uint64(self._state) + steps  # modulo 2^64, as all arithmetic of arrays of uint64
        self._state = (self._state + number * _STEP) & _MASK
        return mix(states)


def stream_seed(*numbers: int) -> int:
    """A seed for each combination of numbers, such as the user's seed, the epoch and the part of the text."""
    seed = np.zeros(1, np.uint64)
    for number in numbers:
        seed = mix(seed + np.uint64((number + 1) * _STEP & _MASK))
    return int(seed[0])


def below(draws: np.ndarray, number: int) -> np.ndarray:
    """0 to number - 1, by the upper 32 bits of each draw."""
    return ((draws >> np.uint64(32)) * np.uint64(number)) >> np.uint64(32)


def keep_limits(counts: np.ndarray, subsample: float) -> np.ndarray:
    """(words,) uint32: an occurrence of a word is kept when 32 random bits are at most this.

    Of the word with the share f of all words, a share of 1 - sqrt(subsample / f) is left out (Mikolov et al. 2013b,
    equation 5).
    """
    if not subsample:
        return np.full(len(counts), _ONE - 1, np.uint32)
    return _limits(np.sqrt(subsample * counts.sum() / counts))


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """Draws words by their counts to a power (Mikolov et al. 2013b, section 2.2), with Walker's alias method (1977).

    Each word has a column of the same probability, which it shares with at most one other: a word that is rarer than
    the average gives the rest of its column to one that is more frequent.

    limits  (words,) uint32: a column stands for its own word up to this, for the other one above
    aliases (words,) int32: the other word of the column
    """

    limits: np.ndarray
    aliases: np.ndarray

    def draw(self, draws: np.ndarray) -> np.ndarray:
        """(n,) int32 words: the upper half of a draw is the column, the lower half says which of its two words."""
        columns = below(draws, len(self.limits)).astype(np.int32)
        is_own = (draws & np.uint64(_ONE - 1)) <= self.limits[columns]
        return np.where(is_own, columns, self.aliases[columns])


def noise(counts: np.ndarray, power: float) -> Noise:
    heights = counts.astype(np.float64) ** power
    heights *= len(counts) / heights.sum()  # 1 is the height of a column
    left, aliases = heights.tolist(), list(range(len(counts)))
    low = [word for word, height in enumerate(left) if height < 1]
    high = [word for word, height in enumerate(left) if height >= 1]
    filled = [1.0] * len(left)
    while low and high:
        small, large = low.pop(), high[-1]
        filled[small], aliases[small] = left[small], large
        left[large] -= 1 - left[small]
        if left[large] < 1:
            low.append(high.pop())
    return Noise(_limits(np.array(filled)), np.array(aliases, np.int32))


def _limits(probabilities: np.ndarray) -> np.ndarray:
    """(n,) uint32: 32 random bits are at most this with these probabilities, where 1 and more is certain."""
    return np.clip(np.ceil(probabilities * _ONE) - 1, 0, _ONE - 1).astype(np.uint32)


# ---------------------------------------------------------------------------------------------------------------------
# Learning


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Parameters of skip-gram or CBOW, and the settings of learning.

    input     (words and n-grams, width) float32: rows as in `library.zero_rows`
    output    (words, width) float32
    row_ends  (words,) int64: where the input rows of each word end in `rows`; None: a word has its own row alone
    rows      (n,) int32
    keep      (words,) uint32: see `keep_limits`
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
    learnt = 0
    for sentence in np.split(ids, np.flatnonzero(ids == END) + 1):
        words = sentence[sentence != END]
        rate = np.float32(model.learning_rate * max(LEAST_RATE, 1.0 - done / model.words))
        done += len(words)
        words = words[(random.draw(len(words)) >> np.uint64(32)) <= model.keep[words]]
        learnt += len(words)
        for position in range(len(words)):
            _learn_word(model, words, position, rate, random)
    return learnt


def _learn_word(model: Model, sentence: np.ndarray, position: int, rate: np.float32, random: Random) -> None:
    reach = 1 + int(below(random.draw(1), model.window)[0])
    around = np.concatenate(
        [sentence[max(position - reach, 0) : position], sentence[position + 1 : position + reach + 1]]
    )
    if not len(around):
        return
    predicted = around if model.skip_gram else sentence[position : position + 1]
    given = sentence[position : position + 1] if model.skip_gram else around
    inputs = np.concatenate([model.rows_of(int(word)) for word in given])
    # (targets,) words and their labels: each predicted word with the noise behind it.
    drawn = model.noise.draw(random.draw(len(predicted) * model.negative)).reshape(len(predicted), model.negative)
    targets = np.concatenate([predicted[:, None], drawn], axis=1)
    labels = np.zeros(targets.shape, np.float32)
    labels[:, 0] = 1
    chosen = (labels == 1) | (targets != predicted[:, None])
    step(model, inputs, targets[chosen], labels[chosen], rate)


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
    for group in range(1, products.shape[1]):
        sums += products[:, group]
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    return sums[:, 0]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """(n,) float32, at most 3e-6 from 1 / (1 + exp(-x)); beyond 10 on either side it is that of 10, 4.5e-5 off.

    NaN, of vectors that diverge, is taken for -10: it would be no position in the table.
    """
    limit, density = np.float32(SIGMOID_LIMIT), np.float32(SIGMOID_DENSITY)
    position = (np.minimum(np.fmax(x, -limit), limit) + limit) * density
    cell = np.minimum(position.astype(np.int32), len(SIGMOID) - 2)
    return SIGMOID[cell] + (position - cell.astype(np.float32)) * (SIGMOID[cell + 1] - SIGMOID[cell])
