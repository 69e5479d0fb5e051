"""Attacks on semid: many hostile or random situations, counted, with what each must not do.

``make attack`` runs them all (hours) and writes ``results/*.json``; `docs/reliability.md` is rendered from those files.
A module of this package is one attack. It has a ``TITLE`` and ``attack(scale)``, which returns rows: what was tried, how
often, and how often each kind of fault was seen. ``scale`` multiplies the numbers of tries; 1 is the full attack.
"""
