"""The documentation site, drawn from the AsyncAPI documents and nothing else."""
