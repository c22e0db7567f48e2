"""What an n-gram model has learned, and which perplexities texts of the same sort have, as a section of a report."""

from lmworks.data.annotate.ngram_training import SUGGESTED, LearnedNgrams
from lmworks.records import Scored
from lmworks.report import Section, Table


def section_of(learned: LearnedNgrams) -> Section:
    """One section: what it learned from, what to set, and the quantiles to choose another threshold by."""
    model = learned.model
    symbols = "bytes" if model.words is None else f"{len(model.words):,} different words"
    text = (
        f"Learned {model.tables.order}-grams of {symbols} from {learned.documents:,} documents with "
        f"{learned.characters:,} characters. A symbol of the {learned.held_out:,} documents held out costs "
        f"{learned.nats} nats. {_suggestion(learned)}"
    )
    rows = tuple((f"{each.share:.0%}", str(each.perplexity)) for each in learned.quantiles)
    caption = "Perplexities of the documents held out: such a share of them has this one or a lower one"
    return Section("The model", text, (Table(("share", "perplexity, interval, n"), rows, caption),))


def _suggestion(learned: LearnedNgrams) -> str:
    best = learned.suggested
    if not isinstance(best, Scored):
        return (
            f"No threshold is suggested, as {best.reason}: give more documents, a text a row rather than a text a "
            "book, or hold out a larger share."
        )
    return (
        f"Suggested: `limits = {{ perplexity = {{ at_most = {best.value:.4g} }} }}`, which {SUGGESTED:.0%} of the "
        "documents held out meet. Another corpus may need another one: look at the perplexities that data.annotate "
        "reports. A very low one is a sign of text that repeats itself."
    )
