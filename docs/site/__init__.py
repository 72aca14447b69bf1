"""The documentation site. `python -m docs.site` assembles its pages from docs/ and from the sources."""
