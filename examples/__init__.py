"""Models that are shown whole: each prints its loss, trains, and says what it reached.  Run them as ``python -m examples.NAME``."""
