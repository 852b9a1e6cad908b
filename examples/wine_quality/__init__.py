"""The example model: rates red wines. Nothing else in the service knows about wine."""
