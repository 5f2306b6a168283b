"""Audits of data sets: which candidate do the rows push a model towards, by which method?"""
