"""`./task model`: a bundle from an estimator and its data, without code."""
