"""Words as points on a plane, and the plane as a picture.

PCA (Pearson 1901; Hotelling 1933) keeps directions and says how much of the variance is seen; t-SNE (van der Maaten &
Hinton 2008) keeps who is near to whom, but distances between groups mean nothing there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from lmworks.artefact import new_file
from lmworks.embeddings.word_vectors import unit

Projection = Literal["pca", "tsne"]
PROJECTIONS = get_args(Projection)
PICTURES = (".svg", ".png")
# Of a label from its point: (24, 1) in typographic points, and (24, 2) to the right and up.
_DISTANCES = np.repeat([3, 14, 28], 8)[:, None]
_DIRECTIONS = np.tile([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)], (3, 1))


def project(vectors: np.ndarray, projection: Projection = "pca", seed: int = 0) -> np.ndarray:
    """(n, dimensions) vectors, at length 1 so that angles count → (n, 2) float64.

    ValueError for fewer than three vectors, or an unknown projection.
    """
    if projection not in PROJECTIONS:
        raise ValueError(f"projection must be one of {', '.join(PROJECTIONS)}, got {projection!r}")
    if len(vectors) < 3:
        raise ValueError(f"a map needs at least three words, got {len(vectors)}")
    rows = unit(vectors.astype(np.float64))
    if projection == "pca":
        return principal_components(rows)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(rows) - 1) / 3)
    return TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=seed).fit_transform(rows)


def principal_components(rows: np.ndarray) -> np.ndarray:
    """(n, dimensions) → (n, 2) along the two directions of largest variance.

    Of each direction the sign is chosen that makes its largest coordinate positive, so that pictures do not flip.
    """
    left, values, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    points = left[:, :2] * values[:2]
    return points * np.sign(points[np.abs(points).argmax(axis=0), np.arange(points.shape[1])])


def draw_map(points: np.ndarray, words: Sequence[str], groups: Mapping[str, str] | None = None, title: str = "") -> Any:
    """A figure of matplotlib with each word next to its point, where there is room. `groups` gives a word the name of
    its colour; a word that is such a name stands out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots()
    names = [(groups or {}).get(word, "") for word in words]
    for name in dict.fromkeys(names):
        chosen = np.array([name_of_word == name for name_of_word in names])
        axes.scatter(points[chosen, 0], points[chosen, 1], s=14, label=name or "other words")
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": "#a0a3b0", "shrinkA": 0, "shrinkB": 2}
    labels = []
    for point, word in zip(points.tolist(), words, strict=True):
        weight = "bold" if word in (groups or {}).values() else "normal"
        labels.append(
            axes.annotate(
                word, point, xytext=(0, 0), textcoords="offset points", fontsize=8, weight=weight, arrowprops=line
            )
        )
    axes.margins(0.08)
    if groups:
        axes.legend(frameon=False)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#e0e1e6")
    FigureCanvasAgg(figure)  # which knows how large a word is
    _place(axes, labels)
    return figure


def _place(axes: Any, labels: Sequence[Any]) -> None:
    """Moves each label to where it hides least of the points and of the labels before it, and leaves the axes least:
    next to its point, above, below, and a line's length away."""
    figure = axes.figure
    figure.draw_without_rendering()  # after this, the layout stays as it is
    figure.set_layout_engine("none")
    renderer = figure.canvas.get_renderer()
    scale = figure.dpi / 72  # pixels of a typographic point
    points = axes.transData.transform([label.xy for label in labels])
    frame = axes.get_window_extent(renderer).extents
    taken = np.concatenate([points - 2 * scale, points + 2 * scale], axis=1)  # (n, 4): left, lower, right, upper
    for label in labels:
        size = label.get_window_extent(renderer).size
        corners = _DISTANCES * scale * _DIRECTIONS + (_DIRECTIONS - 1) / 2 * size  # lower left, as seen from the point
        lower = axes.transData.transform(label.xy) + corners
        boxes = np.concatenate([lower, lower + size], axis=1)
        inside = _overlaps(boxes, frame[None])[:, 0]
        costs = _overlaps(boxes, taken).sum(axis=1) + 10 * (size.prod() - inside)
        best = int(costs.argmin())  # the first of equals, the nearest
        label.set_position(tuple(corners[best] / scale))
        taken = np.concatenate([taken, boxes[best : best + 1]])


def _overlaps(boxes: np.ndarray, other_boxes: np.ndarray) -> np.ndarray:
    """(n, 4) and (m, 4) → (n, m) areas that each shares with each."""
    lower = np.maximum(boxes[:, None, :2], other_boxes[None, :, :2])
    upper = np.minimum(boxes[:, None, 2:], other_boxes[None, :, 2:])
    return np.clip(upper - lower, 0, None).prod(axis=2)


def write_picture(figure: Any, path: Path) -> None:
    """Write .svg or .png, whole or not at all; the same figure gives the same file. FileExistsError for one that is
    there."""
    import matplotlib

    if path.suffix not in PICTURES:
        raise ValueError(f"a picture is one of {', '.join(PICTURES)}, got {path.name}")
    settings: Any = {"svg.hashsalt": "lmworks", "svg.fonttype": "none", "text.parse_math": False}
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with matplotlib.rc_context(settings), new_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=150, metadata=metadata)
