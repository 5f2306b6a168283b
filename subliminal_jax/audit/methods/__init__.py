"""Ways to audit a data set, one a file, each with a `METHOD`."""
