"""What is read, and what is left out on purpose."""

from dataclasses import dataclass

PYTHON_DOCS = "python-docs"  # the one source that is a name: the documentation that this Python carries


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """Sources of documents.

    A source is a folder, a file, a glob such as `notes/**/*.md`, or the name `python-docs`; a relative path starts at
    the folder of the recipe. `exclude` holds glob patterns: one with a slash is matched against the path inside the
    source, one without against the name of each file and folder. A file of more than `max_bytes` bytes is left out.
    """

    sources: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ("node_modules", "__pycache__", "site-packages")
    max_bytes: int = 20_000_000

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes must be positive, got {self.max_bytes}")
