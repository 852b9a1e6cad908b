"""Show the whole chain on a data set that comes with scikit-learn."""
