"""Constrained decoding: which tokens may come next, so that the finished text is what a constraint asks for.

    compiler = ConstraintCompiler(tokenizer, vocabulary, eos_ids)
    matcher = compiler.compile(Regex("[0-9]{4}")).start()
    while not matcher.finished:
        matcher.advance(sample(logits, matcher.mask()))

A mask is computed by walking the tree of all tokens' bytes along the derivatives of regular expressions (Brzozowski
1964) and the states of an Earley parser (Earley 1970), which `llguidance` does; here is what a server needs around it.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from queue import Empty, LifoQueue

import numpy as np
from llguidance import LLExecutor, LLMatcher, LLTokenizer

from lmworks.generate.constraint import CompilerBusyError, Constraint, ConstraintError
from lmworks.generate.constraint_sandbox import FREE_SECONDS, MASK_SECONDS, Trial, Vocabulary, build
from lmworks.generate.unique_items import unique_reader
from lmworks.tokenizer.token_bytes import drops_first_space, token_bytes
from lmworks.tokenizer.tokenizer import Tokenizer

MOST_COMPILED = 64  # constraints that are kept; one takes kilobytes to some megabytes
MOST_TRIALS = 2  # processes that try constraints at the same time
SLOW_SECONDS = 0.05  # spent on the masks of one text: a constraint that takes more is not waited for


class ConstraintCompiler:
    """Compiles constraints for one tokenizer; any thread may call `compile`.

    vocabulary          the model's rows of logits, at least the tokenizer's tokens.
    eos_ids             the tokens that end a text; at least one.
    time_limit_seconds  what one constraint may take before it is refused. It is enforced in a process of its own
                        (`constraint_sandbox.py`), so that no constraint can hang the caller.
    """

    def __init__(
        self, tokenizer: Tokenizer, vocabulary: int, eos_ids: Sequence[int], time_limit_seconds: float = 5.0
    ) -> None:
        spelled = token_bytes(tokenizer)
        if vocabulary < len(spelled):
            raise ValueError(f"the tokenizer has {len(spelled)} tokens, but the model's vocabulary is {vocabulary}")
        if not eos_ids or not all(0 <= token < vocabulary for token in eos_ids):
            raise ValueError(f"constrained decoding needs tokens that end a text, inside [0, {vocabulary}): {eos_ids}")
        spelled += [b""] * (vocabulary - len(spelled))
        for token in eos_ids:
            spelled[token] = b""
        self.tokenizer = tokenizer
        self.time_limit_seconds = time_limit_seconds
        self._tokens = _Tokens(tokenizer, spelled, tuple(dict.fromkeys(eos_ids)))
        self._compiled: OrderedDict[Constraint, Future[Compiled]] = OrderedDict()
        self._lock = threading.Lock()
        self._trials = [Trial(self._tokens.vocabularies) for _ in range(MOST_TRIALS)]
        self._idle: LifoQueue[Trial] = LifoQueue()  # the one that was used last, whose process runs, comes first
        for trial in self._trials:
            self._idle.put(trial)

    def compile(self, constraint: Constraint) -> "Compiled":
        """The compiled constraint, from the cache where it is there. Equal constraints are compiled once at a time.

        ConstraintError, at once or within about twice the time limit, for what cannot be honoured; CompilerBusyError.
        """
        with self._lock:
            future = self._compiled.get(constraint)
            compiles_here = future is None
            if future is None:
                future = self._compiled[constraint] = Future()
            self._compiled.move_to_end(constraint)
            while len(self._compiled) > MOST_COMPILED:
                self._compiled.popitem(last=False)
        if compiles_here:
            try:
                future.set_result(self._compile(constraint))
            except BaseException as error:
                if not isinstance(error, ConstraintError) or isinstance(error, CompilerBusyError):
                    with self._lock:
                        self._compiled.pop(constraint, None)  # others are kept: what is hostile is not tried again
                future.set_exception(error)
        return future.result()

    def close(self) -> None:
        """Ends the processes that try constraints; `compile` starts them again."""
        for trial in self._trials:
            trial.sandbox.close()

    def _compile(self, constraint: Constraint) -> "Compiled":
        try:
            trial = self._idle.get(timeout=self.time_limit_seconds)
        except Empty as error:
            raise CompilerBusyError("too many constraints are being compiled: try again later") from error
        try:
            grammar = trial.grammar(constraint, self.time_limit_seconds)
        finally:
            self._idle.put(trial)
        return Compiled(self._tokens, grammar, constraint)


class _Tokens:
    """One tokenizer as the matcher sees it. `opening` is how its tokens are spelled at the beginning of a text."""

    def __init__(self, tokenizer: Tokenizer, spelled: list[bytes], ends: tuple[int, ...]) -> None:
        self.tokenizer, self.spelled, self.ends = tokenizer, spelled, ends
        self.drops_first_space = drops_first_space(tokenizer, spelled)
        self.opening = [text.removeprefix(b" ") for text in spelled] if self.drops_first_space else spelled
        self.vocabularies = [Vocabulary(text, ends) for text in (spelled, self.opening)[: 1 + self.drops_first_space]]
        self.ends_words = _words(ends, len(spelled))
        self.never = _words([token for token, text in enumerate(spelled) if not text], len(spelled))
        self.quoting = _words([token for token, text in enumerate(spelled) if b'"' in text], len(spelled))

    @cached_property
    def native(self) -> LLTokenizer:
        return self.vocabularies[0].native

    @cached_property
    def executor(self) -> LLExecutor:
        return LLExecutor(1)

    def continuation(self, text: str) -> list[int]:
        """The tokens of a text that another one goes before; [] where the tokenizer has none that spell it."""
        ids = self.tokenizer.encode(f"\n{text}" if self.drops_first_space else text)
        expected = text.encode()
        taken = b"".join(self.spelled[token] for token in ids)
        while ids and len(taken) > len(expected):  # the line break, and the space that goes before a text
            taken = taken[len(self.spelled[ids.pop(0)]) :]
        return ids if taken == expected else []


def _words(tokens: Sequence[int], vocabulary: int) -> np.ndarray:
    """A mask, (ceil(vocabulary / 32),) uint32, with the bits of the tokens set."""
    bits = np.zeros((vocabulary + 31) // 32 * 32, np.uint8)
    bits[list(tokens)] = 1
    return np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)


class Compiled:
    """A constraint for a tokenizer; any thread may start matchers of it, which share what they learn of its states."""

    def __init__(self, tokens: _Tokens, grammar: str, constraint: Constraint) -> None:
        self.tokens, self._grammar = tokens, grammar
        self.unique = unique_reader(constraint, grammar)
        self._lock = threading.Lock()
        self._fresh = build(tokens.native, grammar)
        opening = build(tokens.vocabularies[-1].native, grammar) if tokens.drops_first_space else self._fresh
        self.generation = 0  # how often the shared states had to be thrown away
        self.slow = False  # masks took long: matchers wait for each other, so all of them are slow
        self.first_mask = _mask(opening, tokens)
        if not self.first_mask.any():
            raise ConstraintError("the constraint accepts no text: it contradicts itself, or refers to itself forever")
        if tokens.drops_first_space:
            # A space alone is dropped: after it, the text is as empty as before.
            self.first_mask |= _words([i for i, text in enumerate(tokens.spelled) if text == b" "], len(tokens.spelled))

    def start(self) -> "Matcher":
        """A matcher before the first token of a text."""
        return Matcher(self, *self.fresh())

    def fresh(self) -> tuple[LLMatcher, int]:
        """The native matcher before the first token, and its generation."""
        with self._lock:
            return self._fresh.deep_copy(), self.generation

    def renew(self, generation: int) -> None:
        """Throws away the states that matchers have learnt, unless somebody has: none can continue when they become too
        many. The matchers take their texts again, which is slow."""
        fresh, self.slow = build(self.tokens.native, self._grammar), True
        with self._lock:
            if generation == self.generation:
                self._fresh, self.generation = fresh, generation + 1


def _mask(native: LLMatcher, tokens: _Tokens) -> np.ndarray:
    words = np.zeros_like(tokens.never)
    native.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
    accepting = not native.is_error() and _has(words, tokens.ends[0])  # is_accepting() might wait for another matcher
    words &= ~tokens.never
    if accepting:
        words |= tokens.ends_words
    return words


@dataclass(slots=True)
class _Spent:
    """Seconds that one text has cost beyond what is free; its copies share it."""

    seconds: float = 0.0


class Matcher:
    """The state of one text in its constraint. For one thread at a time; what takes long leaves the interpreter's lock
    free, and `advance` takes no time: its work is done with the next mask."""

    def __init__(self, compiled: Compiled, native: LLMatcher, generation: int, spent: _Spent | None = None) -> None:
        self._compiled, self._tokens = compiled, compiled.tokens
        self._native, self._generation = native, generation
        self._unique = compiled.unique and compiled.unique.copy()
        self._taken: list[list[int]] = []  # for each token, those that the native matcher takes for it
        self._consumed = 0  # of these, how many it has taken
        self._mask: np.ndarray | None = compiled.first_mask
        self._ahead: list[tuple[int, np.ndarray]] = []  # tokens that were looked at, each with the mask after it
        self._spent = spent or _Spent()
        self.finished = False  # the text was ended by an end token

    @property
    def slow(self) -> bool:
        """Masks may take seconds."""
        return self._compiled.slow

    @property
    def ready(self) -> bool:
        """The next mask is known."""
        return self._mask is not None

    def mask(self) -> np.ndarray:
        """The tokens that may come next, (ceil(vocabulary / 32),) uint32: bit i of word w is token 32 w + i. Read-only.

        Tokens that end the text are allowed exactly where it may end, and nothing else where it must. ValueError after
        the end; ConstraintError when the constraint has become too complex at this place, or has taken too long.
        """
        if self.finished:
            raise ValueError("the text has ended: no token comes after it")
        if self._mask is None:
            self._mask = self._computed()
        return self._mask

    def allows(self, token: int) -> bool:
        """Whether the token may come next, where that is `ready`."""
        return self._mask is not None and _has(self._mask, token)

    def masks(self, guesses: Sequence[int]) -> list[np.ndarray]:
        """The mask, and those after the guesses, as far as these are text that is allowed."""
        masks, ahead = [self.mask()], self
        for guess in guesses:
            if not _has(masks[-1], guess) or guess in self._tokens.ends or self._compiled.slow:
                break
            try:
                ahead = self.copy() if ahead is self else ahead
                ahead.advance(guess)
                masks.append(ahead.mask())
            except ConstraintError:  # the text may never come there
                break
        self._ahead = list(zip(guesses, masks[1:], strict=False))
        return masks

    def advance(self, token: int) -> None:
        """Takes a token; ConstraintError, with nothing changed, for one that is not allowed."""
        if not _has(self.mask(), token):
            raise ConstraintError(f"token {token} is not allowed here: choose one of mask()")
        self._taken.append([] if token in self._tokens.ends else self._spell(token))
        self.finished = token in self._tokens.ends
        if self._unique is not None:
            self._unique.read(self._tokens.spelled[token])
        self._mask = self._ahead[0][1] if self._ahead and self._ahead[0][0] == token else None
        self._ahead = [] if self._mask is None else self._ahead[1:]

    def proposal(self, most: int = 64) -> list[int]:
        """The text that comes next, where it is as good as certain, as the tokenizer writes it: for speculation.

        Other tokens may spell the same text, so these are likely and not certain. The last one is left out, for it
        might join with what comes after.
        """
        ahead, pieces = self, list[tuple[int, bytes]]()
        while not ahead.finished and len(pieces) < most and not self._compiled.slow:
            longest = _longest(ahead.mask(), ahead._spelled(), self._tokens.ends)
            if longest is None:
                break
            pieces.append((longest, ahead._spelled()[longest]))
            ahead = self.copy() if ahead is self else ahead
            ahead.advance(longest)
        # In the middle of a character, its last bytes are no text that could be encoded.
        rest = [token for token, _ in takewhile(lambda piece: piece[1][0] & 0xC0 == 0x80, pieces)]
        text = b"".join(piece for _, piece in pieces[len(rest) :]).decode("utf-8", "ignore")
        encode = self._tokens.continuation if self._taken else self._tokens.tokenizer.encode
        return [*rest, *encode(text)[:-1]][:most]

    def copy(self) -> "Matcher":
        """Another matcher at the same place, in microseconds."""
        clone = Matcher(self._compiled, self._native.deep_copy(), self._generation, self._spent)
        clone._taken, clone._consumed, clone.finished = list(self._taken), self._consumed, self.finished
        clone._mask, clone._ahead = self._mask, list(self._ahead)
        clone._unique = self._unique and self._unique.copy()
        return clone

    # -----------------------------------------------------------------------------------------------------------------

    def _computed(self) -> np.ndarray:
        if self._spent.seconds > MASK_SECONDS:
            raise ConstraintError(f"the masks of this text took more than {MASK_SECONDS:g} s: simplify the constraint")
        words = self._tried()
        if words is None and "Parser Error" not in self._native.get_error():  # that is this text's alone
            self._compiled.renew(self._generation)
            words = self._tried()
        if words is not None and self._unique is not None:
            words = self._unique.without_repeats(words, self._tokens.spelled, self._tokens.quoting)
        if words is None or not words.any():
            reason = self._native.get_error().split("\n")[0] or "no token leads on"
            raise ConstraintError(f"the constraint cannot be followed any further ({reason}): simplify it")
        return words

    def _tried(self) -> np.ndarray | None:
        """The mask, once the native matcher has taken what is new; None when it has failed, on which it stays."""
        began, compiled = time.thread_time(), self._compiled
        if self._generation != compiled.generation:  # a matcher that shared states with this one has failed
            self._native, self._generation = compiled.fresh()
            self._consumed = 0
        behind = [token for tokens in self._taken[self._consumed :] for token in tokens]
        self._consumed = len(self._taken)
        words = None
        if not behind or self._consume(behind):
            words = _mask(self._native, self._tokens)
        self._charge(time.thread_time() - began - FREE_SECONDS)
        return None if self._native.is_error() else words

    def _consume(self, tokens: list[int]) -> bool:
        """Lets the native matcher take tokens; where that may take long, with the interpreter's lock free, as the
        library does it for several matchers at once: the second one here has failed before."""
        if not self._compiled.slow:
            return self._native.consume_tokens(tokens)
        began, idle = time.perf_counter(), LLMatcher(self._tokens.native, "", log_level=0)
        execute = self._tokens.executor.consume_token_par
        taken = all(execute([(self._native, token), (idle, token)])[0] for token in tokens)
        self._charge(time.perf_counter() - began - FREE_SECONDS)
        return taken

    def _charge(self, seconds: float) -> None:
        self._spent.seconds += max(0.0, seconds)
        if self._spent.seconds > SLOW_SECONDS:
            self._compiled.slow = True

    def _spelled(self) -> list[bytes]:
        return self._tokens.spelled if self._taken else self._tokens.opening

    def _spell(self, token: int) -> list[int]:
        """The tokens that the native matcher takes for one: itself, but for a first one that loses its space."""
        text = self._tokens.spelled[token]
        if self._taken or not self._tokens.drops_first_space or not text.startswith(b" "):
            return [token]
        return self._tokens.native.greedy_tokenize(text[1:].decode("utf-8", "surrogateescape")) if text[1:] else []


def _has(mask: np.ndarray, token: int) -> bool:
    return 0 <= token < 32 * len(mask) and bool(mask[token >> 5] >> (token & 31) & 1)


def _longest(mask: np.ndarray, spelled: list[bytes], ends: tuple[int, ...]) -> int | None:
    """The longest token of a mask, if all others are beginnings of it; None else, and where the text may end."""
    tokens = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()
    if len(tokens) > 32 or any(token in ends for token in tokens):  # no token has as many beginnings
        return None
    longest = max(tokens, key=lambda token: len(spelled[token]))
    return longest if all(spelled[longest].startswith(spelled[token]) for token in tokens) else None
