"""Evaluation of minimal pairs during training with Composer."""
