"""What a run leaves behind: a folder of plain data, and tables, plots and a page drawn from it."""
