"""What a loader is going to show of its sources: nothing lost, how much padding, how many epochs, what is repeated."""

from lmworks.data.loader import Loader
from lmworks.report import Section, Table


def describe_loader(loader: Loader) -> Section:
    """Two tables with a row for each source, computed from the plans and the quotas of the run.

    What a source holds: documents; tokens; `lost`, tokens that no sequence holds: 0; `split`, documents that lie in
    more than one sequence; sequences of an epoch; the percentage of their places that is padding.

    What the run shows of it: `drawn`, sequences in the run (0 is worth a look); their percentage of all; epochs;
    `repeated`, sequences that the run showed before; `off by`, the most that it is ever away from its share.
    """
    config, draws = loader.config, loader.draws
    held, shown = [], []
    for name, dataset, plan, quota, bound in zip(
        loader.names, loader.datasets, loader.plans, draws.quotas, draws.bounds, strict=True
    ):
        padding = 100 * plan.padding / (plan.sequences * plan.length)
        lost = dataset.tokens - plan.tokens
        held.append((name, dataset.documents, dataset.tokens, lost, plan.split_documents, plan.sequences, padding))
        repeated = max(0, quota - plan.sequences)
        shown.append((name, quota, 100 * quota / sum(draws.quotas), quota / plan.sequences, repeated, bound))
    text = f"{loader.steps:,} steps of {config.batch} sequences of {config.length} tokens, mode {config.mode}."
    columns = ("source", "documents", "tokens", "lost", "split", "sequences", "padding %")
    return Section(
        "Batches",
        text,
        (
            Table(columns, tuple(held), "What the sources hold"),
            Table(("source", "drawn", "share %", "epochs", "repeated", "off by"), tuple(shown), "What the run shows"),
        ),
    )
