"""How fast probflow is, as ratios to hand-written PyTorch: ``python -m benchmarks`` (see ``--help``)."""
