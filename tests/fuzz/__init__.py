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

Accepted on purpose, where a reference refuses or reads otherwise:

* values in config.json that no forward pass reads, of any type (`use_cache`, `attention_dropout`,
  `dtype`: the weights' own formats count);
* Gemma 3's config with its image part, which is left out;
* bare texts among the parts of a message, which are joined with the others;
* a byte order mark and Windows line ends in UTF-8 files;
* a chat template that asks for the date gets a fixed one.
"""
