"""Pictures: what they show and what they refuse. How they look is for eyes, not for tests."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from minitorch_ciml import viz
from minitorch_ciml.viz.style import grid_columns, montage

RNG = np.random.default_rng(0)


def texts(figure: Figure) -> list[str]:
    """Every piece of text on the figure."""
    return [t.get_text() for t in figure.findobj(Text) if isinstance(t, Text) and t.get_text()]


def pixels(figure: Figure, axes: int = 0) -> np.ndarray:
    """The array behind an axes' only image; NaN where there is paper."""
    (image,) = figure.axes[axes].images
    data = image.get_array()
    assert data is not None
    return np.ma.filled(data.astype(float), np.nan)


def test_import_leaves_matplotlib_alone() -> None:
    code = "import sys, minitorch_ciml.viz; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_global_state() -> None:
    """No pyplot, hence no window, no list of open figures, no back end."""
    code = (
        "import sys; from minitorch_ciml import viz; viz.history({'loss': [1.0]}); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


CALLS = {
    "history": lambda **k: viz.history({"loss": [2, 1], "val_loss": [2, 3]}, **k),
    "filters": lambda **k: viz.filters(RNG.normal(size=(3, 3, 2, 4)), **k),
    "feature_maps": lambda **k: viz.feature_maps(np.eye(8), [RNG.random((4, 4, 3))], **k),
    "mistakes": lambda **k: viz.mistakes(RNG.random((2, 8, 8)), [0, 1], [1, 1], **k),
    "confusion_matrix": lambda **k: viz.confusion_matrix([0, 1], [0, 0], **k),
    "images": lambda **k: viz.images(RNG.random((5, 8, 8)), "abcde", **k),
    "compare": lambda **k: viz.compare({"a": {"loss": [2, 1]}, "b": {"loss": [3]}}, **k),
    "gradient_flow": lambda **k: viz.gradient_flow(["w"], [np.ones(2)], **k),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_picture_is_a_figure_and_saves(name: str, tmp_path: Path) -> None:
    file = tmp_path / "new" / "picture.png"
    assert isinstance(CALLS[name](path=file), Figure)
    assert file.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in file.parent.iterdir()] == ["picture.png"]


def test_notebooks_show_pictures_without_pyplot() -> None:
    assert CALLS["images"]()._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_formats(tmp_path: Path) -> None:
    CALLS["images"](path=tmp_path / "a.svg")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    CALLS["images"](path=str(tmp_path / "plain"))
    assert (tmp_path / "plain").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "a.xyz").write_text("old")
    with pytest.raises(ValueError, match="'xyz' is not supported"):
        CALLS["images"](path=tmp_path / "a.xyz")
    assert (tmp_path / "a.xyz").read_text() == "old"


# Tiles


@pytest.mark.parametrize("n", [1, 2, 7, 25, 100, 512])
@pytest.mark.parametrize("ratio", [0.5, 1, 10])
def test_grid_has_no_empty_row(n: int, ratio: float) -> None:
    columns = grid_columns(n, ratio)
    assert 1 <= columns <= n
    assert -(-n // columns) * columns - n < columns


def test_montage_places_tiles() -> None:
    tiles = np.arange(5 * 2 * 3).reshape(5, 2, 3)
    whole = montage(tiles, columns=3, gaps=(1, 2))
    assert whole.shape == (5, 13)
    for i, tile in enumerate(tiles):
        row, column = i // 3 * 3, i % 3 * 5
        np.testing.assert_array_equal(whole[row : row + 2, column : column + 3], tile)
    assert np.isfinite(whole).sum() == tiles.size


# History


class FakeHistory:
    history = {"accuracy": [0.5, 0.7, 0.6], "loss": [3.0, 1.0, 2.0], "lr": [0.1, 0.1, 0.1]}


def test_history_panels_and_best_epoch() -> None:
    figure = viz.history(FakeHistory())
    assert [axes.get_title("left") for axes in figure.axes] == ["loss", "accuracy", "lr"]
    assert "best 1, epoch 2" in texts(figure)
    assert "best 0.7, epoch 2" in texts(figure)
    assert sum(text.startswith("best") for text in texts(figure)) == 2


def test_history_judges_by_validation_and_counts_from_one() -> None:
    figure = viz.history({"loss": [4, 3, 2, 1], "val_loss": [5.0, 6.0]})  # validation_freq=2
    training, validation, *_ = figure.axes[0].lines
    assert list(np.asarray(training.get_xdata())) == [1, 2, 3, 4]
    assert list(np.asarray(validation.get_xdata())) == [2, 4]
    assert "best 5, epoch 2" in texts(figure)


def test_history_with_nan() -> None:
    assert "best 1, epoch 2" in texts(viz.history({"loss": [np.nan, 1.0]}))
    assert not any(text.startswith("best") for text in texts(viz.history({"loss": [np.nan]})))


def test_history_errors() -> None:
    with pytest.raises(TypeError, match="history: got int, expected what fit returns"):
        viz.history(3)
    with pytest.raises(ValueError, match="no epoch"):
        viz.history({"loss": []})


# Filters and feature maps


@pytest.mark.parametrize("channels", [1, 3, 64])
@pytest.mark.parametrize("count", [1, 6, 512])
def test_filters_of_any_number(channels: int, count: int) -> None:
    kernel = RNG.normal(size=(3, 3, channels, count)).astype(np.float32)
    figure = viz.filters(kernel)
    figure.draw_without_rendering()
    shown = pixels(figure)
    assert np.nanmax(np.abs(shown)) == np.abs(kernel).max()
    low, high = figure.axes[0].images[0].get_clim()
    assert -low == high == np.abs(kernel).max()
    each = min(channels, 16) * 9 * count
    assert np.isfinite(shown).sum() % each == 0
    width, height = figure.get_size_inches()
    assert 2 < width <= 14 and 1 < height <= 10


def test_filters_keep_each_weight() -> None:
    kernel = np.arange(1.0, 5).reshape(2, 2, 1, 1)
    shown = pixels(viz.filters(kernel))
    half = len(shown) // 2
    assert shown[0, 0] == 1 and shown[0, half] == 2 and shown[half, 0] == 3 and shown[-1, -1] == 4


def test_filters_errors() -> None:
    with pytest.raises(ValueError, match=r"got shape \(3, 3\), expected a convolution's kernel"):
        viz.filters(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        viz.filters(np.full((3, 3, 1, 1), np.nan))


def test_constant_filters_and_maps_draw() -> None:
    viz.filters(np.zeros((3, 3, 1, 4))).draw_without_rendering()
    viz.feature_maps(np.zeros((8, 8)), [np.zeros((4, 4, 2))]).draw_without_rendering()


def test_feature_maps_layers() -> None:
    layers = {"conv": RNG.random((1, 6, 5, 512)), "dense": RNG.random(10)}
    figure = viz.feature_maps(RNG.random((1, 8, 8, 1)), layers)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["image", "conv: 6 × 5, 512 channels", "dense: 10 units"]
    assert np.nanmin(pixels(figure, 1)) == 0 and np.nanmax(pixels(figure, 1)) == 1


def test_feature_maps_errors() -> None:
    image = np.zeros((8, 8))
    with pytest.raises(ValueError, match="no activations"):
        viz.feature_maps(image, [])
    with pytest.raises(ValueError, match="1 names for 2 layers"):
        viz.feature_maps(image, [np.zeros(3), np.zeros(3)], ["a"])
    with pytest.raises(ValueError, match=r"feature_maps, a: got shape \(2, 4, 4, 3\)"):
        viz.feature_maps(image, {"a": np.zeros((2, 4, 4, 3))})
    with pytest.raises(ValueError, match="images: got shape"):
        viz.feature_maps(np.zeros((8, 8, 2)), [np.zeros(3)])


# Images and mistakes


def test_images_scales_and_captions() -> None:
    x = np.zeros((2, 4, 4), np.uint8)
    x[1] = 255
    figure = viz.images(x, ["paper", "ink"])
    assert {"paper", "ink"} <= set(texts(figure))
    shown = pixels(figure)
    assert np.nanmin(shown) == 0 and np.nanmax(shown) == 1
    raw = pixels(viz.images(np.array([np.full((4, 4), -3.0), np.full((4, 4), 5.0)])))
    assert np.nanmin(raw) == 0 and np.nanmax(raw) == 1
    assert pixels(viz.images(np.full((1, 4, 4), 0.5))).max() == 0.5
    assert pixels(viz.images(RNG.random((3, 4, 4, 3)))).shape[2] == 3
    assert "100 of 101 images" in texts(viz.images(RNG.random((101, 4, 4))))


def test_images_errors() -> None:
    for shape in ((4, 4), (2, 4, 4, 2), (0, 4, 4)):
        with pytest.raises(ValueError, match="images: got shape"):
            viz.images(np.zeros(shape))
    with pytest.raises(ValueError, match="2 labels for 3 images"):
        viz.images(np.zeros((3, 4, 4)), [1, 2])


def test_images_in_columns() -> None:
    assert pixels(viz.images(np.ones((6, 14, 14)), columns=6)).shape == (14, 6 * 14 + 5)
    with pytest.raises(ValueError, match="columns=0"):
        viz.images(np.ones((6, 14, 14)), columns=0)


def captions(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_mistakes_the_most_confident_first() -> None:
    x = RNG.random((4, 8, 8, 1))
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    predicted = probabilities.argmax(axis=1)
    figure = viz.mistakes(x, [0, 1, 0, 0], predicted, probabilities)
    assert captions(figure) == ["0 → 1 (0.80)", "0 → 1 (0.70)", "1 → 0 (0.60)"]
    assert figure.axes[0].get_title("left") == "3 mistakes in 4 (75.00%)"
    same = viz.mistakes(x, [0, 1, 0, 0], predicted, probabilities.max(axis=1), n=1)
    assert captions(same) == ["0 → 1 (0.80)"]
    assert "the 1 most confident" in same.axes[0].get_title("left")
    named = viz.mistakes(x, [0, 1, 0, 0], predicted, class_names=["cat", "dog"])
    assert captions(named) == ["dog → cat", "cat → dog", "cat → dog"]
    none = viz.mistakes(x, predicted, predicted)
    assert texts(none) == ["0 mistakes in 4 (0.00%)"]


def test_mistakes_errors() -> None:
    x = np.zeros((3, 4, 4))
    with pytest.raises(ValueError, match=r"y_true: got shape \(3, 2\).*argmax"):
        viz.mistakes(x, np.zeros((3, 2)), [0, 0, 0])
    with pytest.raises(
        ValueError, match=r"y_pred: got shape \(2,\), expected class numbers \(3,\)"
    ):
        viz.mistakes(x, [0, 0, 0], [0, 0])
    with pytest.raises(ValueError, match="y_pred: got float64 values, expected whole numbers"):
        viz.mistakes(x, [0, 0, 0], [0.5, 0, 0])
    with pytest.raises(ValueError, match=r"probabilities: got shape \(3, 2\)"):
        viz.mistakes(x, [0, 1, 2], [0, 1, 2], np.zeros((3, 2)))


# Confusion


def test_confusion_counts_against_a_loop() -> None:
    true, predicted = RNG.integers(0, 5, (2, 200))
    expected = np.zeros((7, 7), int)
    for t, p in zip(true, predicted):
        expected[t, p] += 1
    counts = viz.confusion_counts(true, predicted, 7)
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype == np.int64
    assert viz.confusion_counts([], [], 2).sum() == 0


def test_confusion_matrix_shows_counts_and_shares() -> None:
    figure = viz.confusion_matrix([0, 0, 0, 0, 1], [0, 0, 0, 1, 1], ["cat", "dog"])
    np.testing.assert_array_equal(pixels(figure), [[0.75, 0.25], [0, 1]])
    assert sorted(captions(figure)) == ["1", "1", "3"]
    assert {"cat", "dog", "4 of 5 right (80.00%)"} <= set(texts(figure))
    many = viz.confusion_matrix(np.arange(100), np.arange(100))
    assert captions(many) == []


def test_confusion_errors() -> None:
    with pytest.raises(
        ValueError, match=r"y_pred: got shape \(1,\), expected class numbers \(2,\)"
    ):
        viz.confusion_counts([0, 1], [0], 2)
    with pytest.raises(ValueError, match="got class 2, expected 0 to 1"):
        viz.confusion_matrix([0, 2], [0, 0], ["a", "b"])
    with pytest.raises(ValueError, match="expected whole numbers from 0 up"):
        viz.confusion_counts([-1], [0], 2)
    with pytest.raises(ValueError, match="got no examples"):
        viz.confusion_matrix([], [])


# Several trainings


def test_compare_draws_every_run_and_names_its_best() -> None:
    figure = viz.compare(
        {"slow": {"val_loss": [2.0, 1.5]}, "wild": {"val_loss": [900.0, 0.5, np.nan]}}, "val_loss"
    )
    axes = figure.axes[0]
    assert axes.get_legend_handles_labels()[1] == ["slow: 1.5", "wild: 0.5"]
    assert axes.get_yscale() == "log" and {"loss", "validation", "best"} <= set(texts(figure))
    up = viz.compare({i: {"accuracy": [0.1 * i, 0.0]} for i in range(1, 10)}, "accuracy").axes[0]
    assert up.get_yscale() == "linear"
    assert up.get_legend_handles_labels()[1][-1] == "9: 0.9"
    assert len({str(line.get_color()) for line in up.lines}) == 9


def test_compare_errors() -> None:
    with pytest.raises(ValueError, match="got no histories"):
        viz.compare({})
    with pytest.raises(ValueError, match="'a' has no epoch of 'val_loss'; it has .'loss'."):
        viz.compare({"a": {"loss": [1]}}, "val_loss")
    with pytest.raises(TypeError, match="'a' is a list"):
        viz.compare({"a": [1]})


# Gradients


def test_gradient_flow_rows() -> None:
    gradients = [np.array([[-4.0, 2.0]]), np.zeros(2), np.array([np.nan]), None]
    figure = viz.gradient_flow(["good", "dead", "broken", "unused"], gradients)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()][0] == "good"
    assert captions(figure) == ["zero", "NaN or infinity", "no gradient"]
    assert list(np.asarray(axes.lines[0].get_xdata())) == [3.0, 4.0]
    viz.gradient_flow(["dead"], [np.zeros(2)]).draw_without_rendering()


def test_gradient_flow_errors() -> None:
    with pytest.raises(ValueError, match="got 1 names and 2 gradients"):
        viz.gradient_flow(["a"], [np.ones(1), np.ones(1)])
    with pytest.raises(ValueError, match="got 0 names"):
        viz.gradient_flow([], [])
