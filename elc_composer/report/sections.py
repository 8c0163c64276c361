"""Titles, notes and hints of the page's sections."""

TITLES = {
    "overview": "Overview",
    "loss": "Loss and accuracy",
    "pairs": "Minimal pairs",
    "weights": "What each layer reads",
    "mixed": "What each layer's input consists of",
    "distributions": "Weights and gradients by part",
    "speed": "Throughput",
    "gradients": "Gradients",
    "learning-rate": "Learning rate",
    "events": "Events",
    "data": "Data",
    "config": "Config",
}
"""Key of a section (its id on the page) -> title, in the order of the page."""
NOTES = {
    "weights": "Rows are layers, columns are sources: emb is the embedding, n the output of layer n. The number is the "
    "source's share of what the layer reads, the softmax of the layer's weights.",
    "mixed": "As above, with each weight multiplied by the mean norm of the source's vectors.",
    "distributions": "Histograms at the step of the slider. Heights are square roots of shares, so that tails are "
    "visible.",
    "pairs": "Share of pairs in which the acceptable sentence has the higher score; chance is one half.",
}
HINTS = {
    "loss": "no loss is logged yet.",
    "pairs": "no minimal pairs are scored yet; evaluators.minimal_pairs names sets to score during training.",
    "weights": "no layer_weights.jsonl; callbacks.layer_weight_monitor writes it (on by default) for models with "
    "learned layer weights.",
    "mixed": "no mixed_inputs.jsonl; switch it on with callbacks.mixed_input_monitor.interval=250ba.",
    "distributions": "no weight distributions; switch them on with "
    "callbacks.weight_distribution_monitor.interval=100ba.",
    "speed": "no throughput yet; callbacks.speed_monitor logs it once its window of batches is full.",
    "gradients": "no gradient norms; callbacks.gradient_norm=true logs them at every step (on by default), "
    "callbacks.weight_distribution_monitor.interval=100ba at intervals.",
    "learning-rate": "no learning rate; callbacks.lr_monitor=true logs it.",
}
"""What to switch on, for a run without data for the section."""
