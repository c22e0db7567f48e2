"""Words on a plane."""

import numpy as np
import pytest
from matplotlib.text import Text
from sklearn.decomposition import PCA

from kit.tables import for_each
from lmworks.embeddings.vector_map import draw_map, principal_components, project, write_picture
from slow_cases import slow


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.concatenate([generator.normal(centre, 0.3, (15, 8)) for centre in (-1, 0, 2)])


def test_pca_is_that_of_scikit_learn(rows):
    points = principal_components(rows)
    theirs = PCA(2)
    expected = theirs.fit_transform(rows)
    expected *= np.sign((expected * points).sum(axis=0))  # a direction has no sign
    np.testing.assert_allclose(points, expected, atol=1e-9)
    assert (points.max(axis=0) >= -points.min(axis=0)).all()  # ours has one


def test_tsne_keeps_neighbours_together(rows):
    points = project(rows.astype(np.float32), "tsne", seed=1)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    # The groups 0 and 2 point away from the origin in opposite directions: angles tell them apart.
    outer = [*range(15), *range(30, 45)]
    assert all(distances[i].argmin() // 15 != (0 if i >= 30 else 2) for i in outer)
    assert np.array_equal(points, project(rows.astype(np.float32), "tsne", seed=1))


@for_each("suffix", [".svg", ".png"])
def test_a_picture_is_the_same_for_the_same_words(tmp_path, suffix):
    words = ["king", "$x_1$", "<b>", "日本"]  # nothing in a word is markup
    points = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], float)
    paths = [tmp_path / f"{name}{suffix}" for name in ("one", "two")]
    for path in paths:
        write_picture(draw_map(points, words, {"king": "royal"}), path)
    content = paths[0].read_bytes()
    assert content == paths[1].read_bytes() and len(list(tmp_path.iterdir())) == 2
    if suffix == ".svg":
        text = content.decode()
        assert all(word in text for word in ("king", "$x_1$", "&lt;b&gt;", "royal"))


@pytest.mark.parametrize("seed", [0, 1, *slow(2, 3, 4)])
def test_words_hide_no_other_and_stay_in_the_frame(seed):
    generator = np.random.default_rng(seed)
    words = ["ironpython"[: 3 + number % 8] + str(number) for number in range(36)]
    points = np.concatenate([generator.normal(centre, 0.2, (12, 2)) for centre in ((0, 0), (1, 1), (0.1, 0))])
    figure = draw_map(points, words, dict.fromkeys(words, words[0]))
    renderer, (axes,) = figure.canvas.get_renderer(), figure.axes
    figure.draw_without_rendering()
    frame, labels = axes.get_window_extent(renderer), axes.texts
    # The line to its point is no part of a word.
    boxes = [Text.get_window_extent(label, renderer) for label in labels]
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)
    hidden = [(a, b) for a in range(36) for b in range(a) if boxes[a].overlaps(boxes[b])]
    assert len(hidden) <= 1, hidden  # with nothing done it is dozens
    assert [label.get_text() for label in labels if label.get_weight() == "bold"] == [words[0]]
    (points_drawn,) = (child.get_offsets() for child in axes.collections)
    np.testing.assert_array_equal(points_drawn, points)  # labels move, points do not


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least three words"):
        project(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="pca, tsne"):
        project(np.zeros((5, 4)), "umap")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\.svg, \.png"):
        write_picture(draw_map(np.zeros((1, 2)), ["a"]), tmp_path / "map.gif")
