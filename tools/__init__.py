"""What a person runs against a checkout or a running stack."""
