"""Claims of papers against stored results: docs/claims.md is a function of the CSV files and YAML of docs/claims."""
