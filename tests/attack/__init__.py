"""Attacks on semid: many hostile or random situations, counted, with what each must not do.

``make attack`` runs them all (hours) and writes ``results/*.json``, from which the tables of docs/reliability.md are
made. Each module that `page.NAMES` lists is one attack. It has a ``TITLE`` and ``attack(scale)``, which returns rows:
what was tried, how often, and how often each kind of fault was seen. ``scale`` multiplies the numbers of tries.
"""
