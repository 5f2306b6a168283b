"""The checker of annotations in the tests: beartype, with an int where a float is asked for."""

from beartype import BeartypeConf, beartype

# PEP 484: what is annotated float takes an int too, as every static type checker has it.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
