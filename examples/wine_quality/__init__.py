"""The example model, which rates red wines."""
