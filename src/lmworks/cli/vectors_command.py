"""The verb `vectors`: static word vectors, trained, asked, evaluated and drawn."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmworks.artefact import check_new
from lmworks.cli.options import SettingsOption, TextsArgument
from lmworks.cli.output import check_choice, new_console, say, say_rejected, show_sections
from lmworks.cli.verb_settings import VerbCommand, settings_help, with_settings
from lmworks.config import assigned, from_mapping
from lmworks.embeddings.config import GloveConfig, Subwords, WordVectorsConfig
from lmworks.progress import stage_progress
from lmworks.records import RejectedRecord, Score
from lmworks.report import Section, Table

if TYPE_CHECKING:
    from lmworks.embeddings.analogy_evaluation import Result
    from lmworks.embeddings.word_vectors import Neighbour, WordVectors

KINDS = {"skip-gram": WordVectorsConfig, "cbow": WordVectorsConfig, "glove": GloveConfig}
FILES = (".bin", ".txt", ".vec")  # of word2vec's program; anything else is a folder
app = typer.Typer(no_args_is_help=True, help="Word vectors: train them, ask for neighbours and analogies, draw a map.")

VectorsOption = Annotated[
    str,
    typer.Option(
        "--vectors",
        help="A folder that `train` made, a file of word2vec's (.bin, .txt, .vec), or a model: its token embedding.",
    ),
]
MethodOption = Annotated[str, typer.Option(help="`add` (3CosAdd) or `multiply` (3CosMul).")]
NumberOption = Annotated[int, typer.Option(min=1, help="Words to show.")]
RestrictOption = Annotated[int, typer.Option(min=0, help="Look among so many of the most frequent words only; 0: all.")]


def train(
    sources: TextsArgument,
    out: Annotated[Path, typer.Option(help="Folder to make, or a file of word2vec's (.bin, .txt, .vec); no old one.")],
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.")] = "skip-gram",
    settings: SettingsOption = None,
) -> None:
    """Learn a vector for each frequent word of a text, so that words used alike lie near to each other.

    Files are read as they are (`lmworks stage embeddings.words` learns from extracted documents instead), once, in
    memory that follows the different words. One thread, the default, learns the same every time, bit by bit;
    `--set threads=0` takes all cores and does not.

    Examples: `lmworks vectors train books --out vectors --set epochs=10` ·
    `lmworks vectors train books --kind cbow --set learning_rate=0.05 --set threads=0 --out vectors.bin` ·
    `lmworks vectors train books --set 'subwords={}' --out with-subwords` (words made of character n-grams, fastText) ·
    `lmworks vectors train books --kind glove --set count_limit=20 --out glove`
    """
    from lmworks.data.plain_texts import required_texts
    from lmworks.embeddings.stage import section
    from lmworks.embeddings.vector_files import save_word_vectors, write_word2vec

    trainer, config = _trainer(kind, settings)
    _make_place(out)
    console = new_console()
    if out.suffix in FILES and getattr(config, "subwords", None) is not None:
        say(f"{out} will hold whole words alone, without their subwords; --out {out.with_suffix('')} keeps both")
    rejected: list[RejectedRecord] = []
    with stage_progress(console, f"learning {kind}") as progress:
        vectors = trainer(required_texts(sources, rejected=rejected), config, progress)
    if out.suffix in FILES:
        write_word2vec(vectors, out)
    else:
        save_word_vectors(vectors, out)
    show_sections([section(vectors)])
    say_rejected(rejected)
    console.print(f"vectors -> {out}\nask them: lmworks vectors neighbours {vectors.words[0]} --vectors {out}")


@app.command()
def neighbours(
    word: Annotated[str, typer.Argument(help="A word; with subwords, one that was not in the text, too.")],
    vectors: VectorsOption,
    number: NumberOption = 10,
    restrict: RestrictOption = 0,
) -> None:
    """Show the words nearest to one, by the cosine between their vectors.

    Examples: `lmworks vectors neighbours king --vectors vectors` ·
    `lmworks vectors neighbours ' king' --vectors smollm2-135m-instruct` (a token, with the space it begins with)
    """
    _show(_open(vectors).neighbours(word, number, restrict or None))


@app.command()
def analogy(
    words: Annotated[list[str], typer.Argument(help="Three words a b c: what is to c as b is to a?")],
    vectors: VectorsOption,
    method: MethodOption = "add",
    number: NumberOption = 10,
    restrict: RestrictOption = 0,
) -> None:
    """Answer "a is to b as c is to …". The three words themselves are never the answer, as is the custom.

    3CosAdd looks for the word nearest to b - a + c; 3CosMul for one that is near to b and c and far from a, where no
    single one of the three can outweigh the others.

    Example: `lmworks vectors analogy man woman king --vectors vectors --method multiply`
    """
    if len(words) != 3:
        raise ValueError(f"an analogy needs three words a b c, got {len(words)}")
    from lmworks.embeddings.word_vectors import METHODS

    check_choice("method", method, METHODS)
    _show(_open(vectors).analogy(*words, method=method, number=number, restrict=restrict or None))  # type: ignore[arg-type]


@app.command()
def evaluate(
    vectors: VectorsOption,
    analogies: Annotated[
        list[Path] | None, typer.Option(help="A file like questions-words.txt (or .gz); may be repeated.")
    ] = None,
    similarity: Annotated[
        list[Path] | None, typer.Option(help="A file of two words and a number a line (or .gz); may be repeated.")
    ] = None,
    method: MethodOption = "add",
    restrict: Annotated[int, typer.Option(min=1, help="Look among so many of the most frequent words only.")] = 300_000,
) -> None:
    """Score vectors by analogies and by similarity as people see it, with 95 % intervals.

    Analogies: the share answered rightly. Similarity: Spearman's rank correlation. Questions with a word that has no
    vector are left out, and the table says how many are left; scores over other questions cannot be compared.

    Example: `lmworks vectors evaluate --vectors vectors --analogies questions-words.txt --similarity wordsim353.tsv`
    """
    from lmworks.embeddings.analogy_evaluation import read_analogies, read_pairs, score_analogies, score_similarity
    from lmworks.embeddings.word_vectors import METHODS

    if not analogies and not similarity:
        raise ValueError("name a file to evaluate on: --analogies FILE, --similarity FILE")
    check_choice("method", method, METHODS)
    questions = [(path, read_analogies(path)) for path in analogies or []]
    pairs = [(path, read_pairs(path)) for path in similarity or []]
    found = _open(vectors)
    tables: list[Table] = []
    for path, sections in questions:
        results = score_analogies(found, sections, method, restrict)  # type: ignore[arg-type]
        rows = tuple(_row(name, result) for name, result in results.items())
        tables.append(Table((path.name, "accuracy [95 % interval]", "of"), rows))
    if pairs:
        rows = tuple(_row(path.name, score_similarity(found, each, restrict)) for path, each in pairs)
        tables.append(Table(("similarity", "correlation [95 % interval]", "of"), rows))
    show_sections([Section("Scores", tables=tuple(tables))])


@app.command(name="map")
def map_(
    vectors: VectorsOption,
    out: Annotated[Path, typer.Option(help="The picture: .svg or .png.")],
    words: Annotated[list[str] | None, typer.Argument(help="Words to draw; none: the most frequent ones.")] = None,
    near: Annotated[int, typer.Option(min=0, help="Draw so many neighbours of each word, too.")] = 0,
    top: Annotated[int, typer.Option(min=1, help="How many of the most frequent words, where none are named.")] = 200,
    projection: Annotated[str, typer.Option(help="`pca` keeps directions, `tsne` keeps who is near to whom.")] = "pca",
    seed: Annotated[int, typer.Option(help="Of t-SNE.")] = 0,
) -> None:
    """Draw words as points on a plane.

    Examples: `lmworks vectors map king queen man woman --vectors vectors --out royal.svg` ·
    `lmworks vectors map paris python king --near 15 --projection tsne --vectors vectors --out near.png`
    """
    import numpy as np

    from lmworks.embeddings.vector_map import PICTURES, PROJECTIONS, draw_map, project, write_picture

    if out.suffix not in PICTURES:
        raise ValueError(f"--out must end in one of {', '.join(PICTURES)}, got {out.name}")
    check_choice("projection", projection, PROJECTIONS)
    _make_place(out)
    found = _open(vectors)
    groups = {word: word for word in words or []}
    for word in words or []:
        near_words = found.neighbours(word, near) if near else []
        groups |= {each.word: word for each in near_words if each.word not in groups}
    shown = list(groups) or list(found.words[:top])
    points = project(np.stack([found.vector(word) for word in shown]), projection, seed)  # type: ignore[arg-type]
    write_picture(draw_map(points, shown, groups if near else None), out)
    new_console().print(f"{len(shown):,} words -> {out}")


app.command(
    cls=VerbCommand,
    epilog="\n\n".join(
        settings_help(f"What `--set NAME=VALUE` takes for {name}, or `--NAME VALUE`, with the defaults:", config)
        for name, config in (("skip-gram and cbow", WordVectorsConfig), ("glove", GloveConfig))
    )
    + settings_help("\n\nWhat `subwords` takes, of which `subwords={}` takes the defaults:", Subwords),
)(with_settings(train, WordVectorsConfig, GloveConfig))


def _trainer(kind: str, settings: list[str] | None) -> tuple[Any, Any]:
    from lmworks.embeddings.glove import train_glove
    from lmworks.embeddings.word2vec import train_word_vectors

    check_choice("kind", kind, list(KINDS))
    if kind == "glove":
        return train_glove, from_mapping(GloveConfig, assigned(settings))
    return train_word_vectors, from_mapping(WordVectorsConfig, assigned(settings, {"objective": kind}))


def _make_place(out: Path) -> None:
    """The folder that `out` will lie in, made before the work whose result would find none."""

    check_new(out)
    out.parent.mkdir(parents=True, exist_ok=True)


def _open(source: str) -> "WordVectors":
    """Word vectors, or the token embedding of a model."""
    from lmworks.embeddings.vector_files import VECTORS, load_word_vectors
    from lmworks.model.download import MODELS

    path = Path(source)
    is_model = source in MODELS or path.suffix == ".gguf" or (path / "config.json").is_file()
    if is_model and not (path / VECTORS).is_file():
        from lmworks.embeddings.contextual_embeddings import token_vectors
        from lmworks.model.checkpoint import load

        return token_vectors(load(source))
    return load_word_vectors(path)


def _show(found: "list[Neighbour]") -> None:

    rows = tuple((each.word, each.score) for each in found)
    show_sections([Section("Nearest", tables=(Table(("word", "score"), rows),))])


def _row(name: str, result: "Result") -> "tuple[str, Score, str]":
    return name, result.score, f"{result.covered:,} of {result.asked:,}"
