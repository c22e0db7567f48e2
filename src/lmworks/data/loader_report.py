"""What a loader is going to show of its sources: nothing lost, how much padding, how many epochs, what is repeated."""

from lmworks.data.loader import Loader
from lmworks.report import Section, Table

COLUMNS = (
    "source", "documents", "tokens", "lost", "split documents", "sequences", "padding %", "drawn", "share %", "epochs",
    "repeated",
)  # fmt: skip


def describe_loader(loader: Loader) -> Section:
    """A table with a row for each source, computed from the plans and the quotas of the run.

    lost             tokens of the source that no sequence holds: 0
    split documents  lie in more than one sequence
    sequences        of an epoch, `padding %` of whose places hold no token
    drawn            sequences in the run, `share %` of all of them; 0 is worth a look
    epochs           drawn / sequences
    repeated         sequences of the run that were shown before in it
    """
    rows = []
    for name, dataset, plan, quota in zip(
        loader.names, loader.datasets, loader.plans, loader.mixture.quotas, strict=True
    ):
        padding = 100 * plan.padding / (plan.sequences * plan.length)
        rows.append(
            (
                name, dataset.documents, dataset.tokens, dataset.tokens - plan.tokens, plan.split_documents,
                plan.sequences, padding, quota, 100 * quota / loader.mixture.total, quota / plan.sequences,
                max(0, quota - plan.sequences),
            )
        )  # fmt: skip
    config = loader.config
    text = (
        f"{loader.steps:,} steps of {config.batch} sequences of {config.length} tokens, mode {config.mode}; at no step "
        f"is a source more than {max(loader.mixture.bounds):.2f} sequences from its share."
    )
    return Section("Batches", text, (Table(COLUMNS, tuple(rows)),))


def describe_stall(loader: Loader) -> str:
    """How long the consumer has waited for batches, so far."""
    return (
        f"step {loader.step:,} of {loader.steps:,}: waited {loader.stall_seconds:.2f} s for batches, "
        f"{100 * loader.stall_share:.2f} % of {loader.seconds:.1f} s"
    )
