"""An example of a classification with categories and missing values: the species of penguins."""
