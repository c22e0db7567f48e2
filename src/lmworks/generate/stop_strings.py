"""Stop strings in a stream of text whose pieces end anywhere.

A stop string may begin in one token and end in another, so a tail of the text that could still become a stop string is
held back until it is decided. The result does not depend on how the text was cut into pieces.
"""

from collections.abc import Sequence


class StopMatcher:
    """Passes text on up to the first stop string, and never any part of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self.stopped = False
        self._held = ""

    def feed(self, piece: str) -> str:
        """Take the next piece and return the text that is safe to show; empty after a stop string was found."""
        if self.stopped:
            return ""
        text = self._held + piece
        match = self._first_match(text)
        if match is not None:
            self.stopped, self._held = True, ""
            return text[:match]
        keep = self._longest_beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """No more text comes: what was held back is no stop string."""
        text, self._held = self._held, ""
        return text

    def _first_match(self, text: str) -> int | None:
        """Start of the stop string that is complete first; of those that end together, the longest."""
        matches = [(text.find(stop) + len(stop), text.find(stop)) for stop in self.stops if stop in text]
        return min(matches)[1] if matches else None

    def _longest_beginning(self, text: str) -> int:
        """Length of the longest end of the text that is the beginning of a stop string."""
        longest = max((len(stop) for stop in self.stops), default=1) - 1
        lengths = range(min(longest, len(text)), 0, -1)
        return next((n for n in lengths if any(stop.startswith(text[len(text) - n :]) for stop in self.stops)), 0)
