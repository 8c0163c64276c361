"""How much text of which corpus is in a prepared folder, and how long its segments are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streaming_prep.reading import Prepared, open_prepared


def print_stats(place: str, picture: Path) -> None:
    """Print words and tokens a corpus and split, and draw the lengths of the segments of every output as PNG."""
    with open_prepared(place) as prepared:
        for line in corpus_table(prepared):
            print(line)
        lengths = segment_lengths(prepared)
    for name, counts in lengths.items():
        total = int(counts.sum())
        full = counts[-1] / total
        mean = float((np.arange(len(counts)) * counts).sum() / total)
        print(f"{name:<16}{total:>10,} segments of {mean:.1f} tokens in the mean, {full:.1%} of them full")
    draw(lengths, picture)
    print(f"lengths of the segments: {picture}")


def corpus_table(prepared: Prepared) -> list[str]:
    """Lines of a table: corpus, split, words, tokens, tokens a word, documents."""
    lines = [f"{'corpus':<20}{'split':<7}{'words':>13}{'tokens':>13}{'tokens/word':>13}{'documents':>11}"]
    sources = prepared.manifest["sources"]
    for source in [*sources, *(_sum(sources, split) for split in dict.fromkeys(row["split"] for row in sources))]:
        ratio = source["tokens"] / max(source["words"], 1)
        lines.append(
            f"{source['corpus']:<20}{source['split']:<7}{source['words']:>13,}{source['tokens']:>13,}{ratio:>13.3f}"
            f"{source['documents']:>11,}"
        )
    return lines


def _sum(sources: list[dict], split: str) -> dict:
    own = [source for source in sources if source["split"] == split]
    return {"corpus": "all", "split": split} | {
        name: sum(source[name] for source in own) for name in ("words", "tokens", "documents")
    }


def segment_lengths(prepared: Prepared) -> dict[str, np.ndarray]:
    """For each output how many segments have each length, int64 [seq_length - 1]."""
    found = {}
    for name in sorted(
        prepared.manifest["outputs"], key=lambda name: (name.split("/")[1], int(name.split("/")[0][4:]))
    ):
        counts = np.zeros(int(name.split("/")[0].removeprefix("seq_")) - 1, np.int64)
        for segments in prepared.segments(name):
            lengths = np.minimum([len(segment) for segment in segments], len(counts) - 1)
            counts += np.bincount(lengths, minlength=len(counts))
        found[name] = counts
    return found


def draw(lengths: dict[str, np.ndarray], picture: Path) -> None:
    """One histogram an output, logarithmic in the number of segments."""
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
