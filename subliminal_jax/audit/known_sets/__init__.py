"""Data sets whose teacher is known: which there are to be, and how they are written."""
