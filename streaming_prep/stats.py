"""Print words and tokens of each corpus in a prepared folder, and draw the segment lengths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from elc_composer.common.errors import ConfigError
from elc_composer.prepared.layout import parse_dataset_name
from streaming_prep.corpus_files import SPLITS
from streaming_prep.manifest import SourceEntry
from streaming_prep.reading import Prepared, open_prepared
from streaming_prep.transfer import is_remote

PICTURE = "segment_lengths.png"


def print_stats(place: str, picture: Path | None = None) -> None:
    """Print words and tokens of each corpus and split, and draw a histogram of the segment lengths of every output.

    Args:
        place: path or URL of a prepared folder.
        picture: the PNG to write; by default `segment_lengths.png` in the folder, none for a URL.

    Raises:
        DataError: no prepared folder, or a damaged one.
        ConfigError: the picture has another suffix than .png.
        OSError: the picture cannot be written.
    """
    if picture is None and not is_remote(place):
        picture = Path(place) / PICTURE
    if picture is not None and picture.suffix.lower() != ".png":
        raise ConfigError(f"--out is {picture}, must end in .png")
    with open_prepared(place) as prepared:
        for line in corpus_table(prepared.manifest.sources):
            print(line)
        lengths = segment_lengths(prepared)
    for name, counts in lengths.items():
        total = max(int(counts.sum()), 1)
        full = counts[-1] / total
        mean = float((np.arange(len(counts)) * counts).sum() / total)
        print(f"{name:<16}{total:>10,} segments, {mean:.1f} tokens on average, {full:.1%} full")
    if picture is not None:
        draw(lengths, picture)
        print(f"segment lengths: {picture}")


def corpus_table(sources: Sequence[SourceEntry]) -> list[str]:
    """Lines of a table: corpus, split, words, tokens, tokens a word, documents; with a total of each split."""
    lines = [f"{'corpus':<20}{'split':<7}{'words':>13}{'tokens':>13}{'tokens/word':>13}{'documents':>11}"]
    lines += [_row(source.corpus, source.split, [source]) for source in sources]
    for split in SPLITS:
        own = [source for source in sources if source.split == split]
        if own:
            lines.append(_row("all", split, own))
    return lines


def _row(corpus: str, split: str, sources: Sequence[SourceEntry]) -> str:
    words = sum(source.words for source in sources)
    tokens = sum(source.tokens for source in sources)
    documents = sum(source.documents for source in sources)
    return f"{corpus:<20}{split:<7}{words:>13,}{tokens:>13,}{tokens / max(words, 1):>13.3f}{documents:>11,}"


def segment_lengths(prepared: Prepared) -> dict[str, np.ndarray]:
    """The number of segments of each length by output, int64 [seq_length - 1], ordered by split and sequence length."""
    outputs = {}
    for name in prepared.manifest.outputs:
        parsed = parse_dataset_name(name)
        assert parsed is not None, "the manifest was checked"
        outputs[name] = parsed
    found = {}
    for name in sorted(outputs, key=lambda name: (outputs[name][1], outputs[name][0])):
        counts = np.zeros(outputs[name][0] - 1, np.int64)
        for segments in prepared.segments(name):
            lengths = np.minimum([len(segment) for segment in segments], len(counts) - 1)
            counts += np.bincount(lengths, minlength=len(counts))
        found[name] = counts
    return found


def draw(lengths: dict[str, np.ndarray], picture: Path) -> None:
    """Write a PNG with a histogram for each output; the number of segments is on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(lengths), 1, figsize=(7, 2.2 * len(lengths)), squeeze=False)
    for axis, (name, counts) in zip(axes[:, 0], lengths.items()):
        step = -(-len(counts) // 64)
        edges = np.arange(0.5, len(counts) + step, step)
        axis.hist(np.arange(len(counts)), bins=edges, weights=counts)
        axis.set(title=name, xlabel="tokens in a segment", ylabel="segments", yscale="log")
    figure.tight_layout()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)
