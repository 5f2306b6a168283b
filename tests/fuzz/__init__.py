"""A seeded fuzzer: damaged and odd inputs through the entries that a user calls.

    make fuzz N=3000                                # cases of all families, in turn
    python -m tests.fuzz --case rows:17             # one case again, with its traceback

A case is a family and a number; both together are the seed of all that it draws. It runs in a
worker process with limits on time and memory and has one of these outcomes:

    accepted    read, and as the reference reads it (transformers, PEFT, json, the sound input)
    refused     InputError with one line, or exit status 2 from the command line
    wrong       accepted with another meaning, or refused in more than one line
    traceback   any other exception
    crash       the worker died
    hang        over 20 seconds of processor time, or a minute by the clock
    memory      over 4 GiB

All but the first two are faults.
"""
