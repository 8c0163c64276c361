"""Comparison of the layer weights of finished models, and minimal-pair accuracy with small weights pruned."""
