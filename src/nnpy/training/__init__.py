"""Training: the loop, evaluation and prediction, where a run stands, and how it is shown."""
