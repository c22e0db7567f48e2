"""Constraints are tried in a process of their own before they are compiled in this one.

Some take hours or all memory to become a grammar, or to compile, and neither native code nor an expression of `re` can
be interrupted from a thread. A process can be killed, so the trial costs at most its time limit, whatever the
constraint, and a crash is an answer.
"""

import re
import time
import weakref
from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from lmworks.generate.constraint import Constraint, ConstraintError
from lmworks.generate.constraint_grammar import to_grammar
from lmworks.sandbox import Sandbox, SandboxConfig, SandboxError

MOST_MEGABYTES = 1024  # that a trial may take
START_SECONDS = 60.0  # a process that takes longer to come up is broken
_OWN_WORDS = (
    r"^(at )?\d+\(\d+\): |failed to compile JSON schema: | \(in regex\): regex parse error:"
    r"|\.? Enable '\w+' .*|json-schema://"
)
# What expressions may cost a mask: about 50 ms, where the library's own limit is 15, which some long ones need. Rules
# that fit a text in many ways may cost it a second.
LIMITS = LLParserLimits(step_lexer_fuel=1_000_000, verbose_errors=False)
MASK_SECONDS = 2.0  # of a processor, that the masks of one text may take beyond `FREE_SECONDS` each
FREE_SECONDS = 0.01
_STEPS = 16  # tokens after which a constraint is known to work


class Vocabulary:
    """A tokenizer as the library wants it: the bytes of each token, and which tokens end a text."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, spelled: Sequence[bytes], ends: Sequence[int]) -> None:
        self.tokens = list(spelled)
        self.eos_token_id = ends[0]
        self.special_token_ids: list[int] = []  # none is ever allowed: they have no bytes
        self._ends = list(ends)

    def __call__(self, text: str | bytes) -> list[int]:
        """The library asks for the tokens of a text only to fast-forward, which our grammars switch off."""
        return []

    @property
    def native(self) -> LLTokenizer:
        return LLTokenizer(self, n_vocab=len(self.tokens), eos_token=self._ends)  # pyright: ignore[reportArgumentType]


def build(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    """A matcher before the first token, with the first mask computed; ConstraintError says what is wrong with it."""
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LIMITS)
    if not matcher.is_error():
        words = np.zeros((tokenizer.vocab_size + 31) // 32, np.uint32)
        matcher.deep_copy().unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
    if matcher.is_error():
        raise ConstraintError(f"the constraint cannot be compiled: {_plain(matcher.get_error())}")
    return matcher


def _plain(error: str) -> str:
    """The library's error in one line about what was sent, without the grammar that was made of it."""
    first, _, excerpt = error.strip().partition("\n")
    reason = re.search(r"^error: .*", excerpt, re.MULTILINE)  # why an expression is none
    position = re.match(r"(?:at )?(\d+)\((\d+)\): (?!failed to compile JSON schema|invalid regex)", first)
    message = re.sub(_OWN_WORDS, "", first) + (reason[0].removeprefix("error") if reason else "")
    # Of a grammar of the client's own, which stands below a line of ours.
    return f"line {int(position[1]) - 1}, character {position[2]}: {message[:500]}" if position else message[:500]


def follow(matcher: LLMatcher, spelled: Sequence[bytes]) -> None:
    """Takes some tokens, the longest that is allowed each time; ConstraintError where that fails, or takes too long."""
    began, lengths = time.thread_time(), np.array([len(text) for text in spelled])
    for step in range(_STEPS):
        bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")[: len(lengths)]
        longest = int((lengths * bits).argmax())
        if lengths[longest] * bits[longest] == 0 and (step == 0 or not matcher.is_error()):
            return  # the text is over, or there is none, which is said elsewhere
        if not matcher.consume_token(longest) or time.thread_time() - began > MASK_SECONDS:
            reason = matcher.get_error().split("\n")[0] or "its masks take too long"
            raise ConstraintError(f"the constraint cannot be followed beyond {step} tokens ({reason}): simplify it")


class Trial:
    """A process in which constraints are tried, one at a time. It is started when it is first needed, and ends when it
    is closed, when nobody holds this object any more, or with the interpreter."""

    def __init__(self, vocabularies: Sequence[Vocabulary]) -> None:
        self._vocabularies = vocabularies
        self.sandbox = Sandbox(SandboxConfig(megabytes=MOST_MEGABYTES), "trying constraints")
        weakref.finalize(self, self.sandbox.close)

    def grammar(self, constraint: Constraint, seconds: float) -> str:
        """The matcher's grammar of a constraint, which compiles.

        ConstraintError for what cannot be honoured, or cannot be compiled in that time and memory.
        """
        if not self.sandbox.alive:
            try:
                self.sandbox.call(_prepare, self._vocabularies, START_SECONDS)
            except SandboxError as error:
                raise RuntimeError(f"the process that tries constraints does not start: {error}") from error
        try:
            grammar, problem = self.sandbox.call(_try, constraint, seconds)
        except SandboxError as error:
            raise ConstraintError(
                f"the constraint could not be compiled in {seconds:g} s and {MOST_MEGABYTES} MiB: simplify it "
                "(fewer large repetitions, fewer overlapping patterns, smaller bounds)"
            ) from error
        if problem:
            raise ConstraintError(problem)
        return grammar


# ---------------------------------------------------------------------------------------------------------------------
# In the other process

_prepared: list[tuple[LLTokenizer, Sequence[bytes]]] = []


def _prepare(vocabularies: Sequence[Vocabulary]) -> None:
    _prepared[:] = [(vocabulary.native, vocabulary.tokens) for vocabulary in vocabularies]


def _try(constraint: Constraint) -> tuple[str, str]:
    """The grammar, and what is wrong with the constraint."""
    try:
        grammar = to_grammar(constraint)
        for tokenizer, spelled in _prepared:
            follow(build(tokenizer, grammar), spelled)
    except ConstraintError as error:
        return "", str(error)
    return grammar, ""
