"""What is measured: one module a group, each with `measure(bench) -> Section`."""
